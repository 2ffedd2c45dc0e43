from pathlib import Path

import pytest
import torch

from studio.core.errors import InputError
from studio.core.train_config import MethodConfig, TrainConfig
from studio.families.base import Parts
from studio.families.registry import family
from studio.methods.lora import Lora

CPU = torch.device("cpu")


SD = family("sd")


METHOD = Lora()


def config(**changes: object) -> TrainConfig:
    given = {"method": MethodConfig(rank=4), "class_noun": "woman", "seed": 3}
    return TrainConfig.parse({**given, **changes})


def attached(base: Path, wanted: TrainConfig, *, scramble: bool = False) -> Parts:
    """Load and attach; ``scramble`` moves every trainable number, as training would."""
    parts = SD.load(base, dtype=torch.float32, device=CPU)
    METHOD.attach(parts, SD.spec, wanted)
    if scramble:
        generator = torch.Generator().manual_seed(0)
        for parameter in METHOD.trainable(parts).values():
            with torch.no_grad():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return parts


def test_the_token_starts_as_its_class_noun_and_only_its_prompts_learn(tiny_base: Path) -> None:
    parts = attached(tiny_base, config(token_learning_rate=1e-2))
    embeds = SD.encode_prompts(parts, ["photo of sks", "photo of woman"])["prompt_embeds"]
    torch.testing.assert_close(embeds[0], embeds[1])
    assert METHOD.learns_from(parts, "photo of sks woman")
    assert not METHOD.learns_from(parts, "photo of a woman")


def test_gradients_reach_the_token_and_no_other_row(tiny_base: Path) -> None:
    parts = attached(tiny_base, config(token_learning_rate=1e-2))
    SD.encode_prompts(parts, ["photo of sks woman"])["prompt_embeds"].square().sum().backward()
    vector = METHOD.trainable(parts)["token_embedding.sks"]
    assert vector.grad is not None and vector.grad.abs().sum() > 0
    assert all(p.grad is None for p in parts.text_encoders[0].parameters() if p is not vector)


def test_a_token_that_is_a_piece_of_the_vocabulary_is_refused(tiny_base: Path) -> None:
    with pytest.raises(InputError, match=r"'wo'.*choose a rarer word"):
        attached(tiny_base, config(token_learning_rate=1e-2, instance_token="wo"))
