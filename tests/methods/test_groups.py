from types import SimpleNamespace

import pytest
from torch import nn

from studio.core.train_config import TrainConfig
from studio.methods.groups import TEXT_ENCODER_RATE, TOKEN_PART, encoder_names, optimizer_groups, parameters_of


def test_text_encoders_have_the_names_that_diffusers_gives_them() -> None:
    parts = SimpleNamespace(text_encoders=["a", "b", "c"])
    assert encoder_names(parts) == {"text_encoder": "a", "text_encoder_2": "b", "text_encoder_3": "c"}  # type: ignore[arg-type]


def test_parameters_are_found_by_part_and_name_and_a_foreign_name_is_refused() -> None:
    pipeline = SimpleNamespace(unet=nn.Linear(2, 3))
    assert parameters_of(pipeline, ["unet.bias"])[0] is pipeline.unet.bias
    for name in ("unet.conv.weight", "transformer.bias"):
        with pytest.raises(ValueError, match="for another family"):
            parameters_of(pipeline, [name])


def test_every_part_learns_at_its_own_rate() -> None:
    names = ("unet.a", "unet.b", "text_encoder.a", f"{TOKEN_PART}.sks")
    trainable = {name: nn.Parameter() for name in names}
    config = TrainConfig.parse({"learning_rate": 1e-3, "token_learning_rate": 1e-2, "weight_decay": 0.1})
    found = {group["part"]: group for group in optimizer_groups(trainable, config)}
    assert [len(group["params"]) for group in found.values()] == [2, 1, 1]  # type: ignore[arg-type]
    assert found["unet"]["lr"] == 1e-3 and found["text_encoder"]["lr"] == 1e-3 * TEXT_ENCODER_RATE
    assert found[TOKEN_PART]["lr"] == 1e-2 and found[TOKEN_PART]["weight_decay"] == 0.0


def test_prodigy_gets_one_rate_for_all_weights() -> None:
    trainable = {name: nn.Parameter() for name in ("unet.a", "text_encoder.a")}
    config = TrainConfig.parse({"optimizer": "prodigy", "learning_rate": 1.0})
    assert {group["lr"] for group in optimizer_groups(trainable, config)} == {1.0}
