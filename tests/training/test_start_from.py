"""Going on from a LoRA: what it was is what the first step trains, and what cannot be is refused in words."""

import json
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from studio.bases.resolve import resolve_base
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME
from studio.core.errors import InputError
from studio.core.train_config import TrainConfig
from studio.families.base import Parts
from studio.families.registry import family
from studio.methods.formats import to_kohya
from studio.methods.registry import method
from studio.training.start_from import apply_start, read_start

SD, LORA = family("sd"), method("lora")
RANK_4: dict[str, Any] = {"rank": 4, "alpha": 8, "text_encoder": True}


def config(**lora: Any) -> TrainConfig:
    return TrainConfig.parse({"method": {**RANK_4, **lora}, "class_noun": "woman"})


def attached(base: Path, wanted: TrainConfig) -> Parts:
    parts = SD.load(base, dtype=torch.float32, device=torch.device("cpu"))
    LORA.attach(parts, SD.spec, wanted)
    return parts


def predict(parts: Parts) -> torch.Tensor:
    with torch.no_grad():
        conditioning = SD.encode_prompts(parts, ["photo of a woman"])
        return SD.predict(parts, torch.ones(1, 4, 8, 8), torch.tensor([500]), conditioning)


def settings_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["lora_adapter_metadata"])


@pytest.fixture(scope="module")
def trained(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """A LoRA of rank 4, alpha 8, in diffusers' names, and what the model with it predicts."""
    parts = attached(tiny_base, config())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in LORA.trainable(parts).values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    folder = tmp_path_factory.mktemp("lora")
    LORA.write(parts, SD, folder)
    return folder / WEIGHTS_NAME, predict(parts)


@pytest.fixture(scope="module")
def kohya(trained: tuple[Path, torch.Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kohya") / "ada.safetensors"
    save_file(to_kohya(load_file(trained[0]), settings_of(trained[0]), "sd"), path, {"ss_base_model_version": "sd_v1"})
    return path


def start(base: Path, path: Path, **lora: Any) -> Any:
    return read_start(config(start_from=str(path), **lora), resolve_base(str(base)), SD.spec)


@pytest.mark.parametrize("made_by", ["diffusers", "kohya", "folder"])
@pytest.mark.parametrize("lora", [{}, {"rank": 6, "alpha": 3}])
def test_the_first_step_trains_the_model_that_the_file_describes(
    tiny_base: Path, trained: tuple[Path, torch.Tensor], kohya: Path, made_by: str, lora: dict[str, Any]
) -> None:
    path = {"diffusers": trained[0], "kohya": kohya, "folder": trained[0].parent}[made_by]
    parts = attached(tiny_base, config(**lora))
    untrained = predict(parts)
    found = start(tiny_base, path, **lora)
    assert found is not None
    apply_start(found, SD, LORA, parts)
    assert torch.allclose(predict(parts), trained[1], atol=1e-5)
    assert not torch.allclose(untrained, trained[1], atol=1e-2)


def test_a_larger_target_keeps_the_file_and_starts_the_other_layers_anew(
    tiny_base: Path, trained: tuple[Path, torch.Tensor]
) -> None:
    parts = attached(tiny_base, config(target="attention+conv"))
    apply_start(start(tiny_base, trained[0], target="attention+conv"), SD, LORA, parts)
    assert torch.allclose(predict(parts), trained[1], atol=1e-5)


def test_without_the_setting_there_is_no_start(tiny_base: Path) -> None:
    assert read_start(config(), resolve_base(str(tiny_base)), SD.spec) is None


def test_a_file_without_alpha_has_the_scale_one(tiny_base: Path, kohya: Path, tmp_path: Path) -> None:
    bare = {name: tensor for name, tensor in load_file(kohya).items() if not name.endswith(".alpha")}
    save_file(bare, tmp_path / "bare.safetensors")
    without, with_alpha = start(tiny_base, tmp_path / "bare.safetensors"), start(tiny_base, kohya)
    for name, (_, up) in without.layers.items():
        assert torch.allclose(2 * up, with_alpha.layers[name][1])


def refused(base: Path, path: Path, **lora: Any) -> str:
    with pytest.raises(InputError) as caught:
        start(base, path, **lora)
    assert str(path.parent) not in str(caught.value)
    return str(caught.value)


def test_everything_that_the_settings_would_leave_out_is_said_at_once(
    tiny_base: Path, trained: tuple[Path, torch.Tensor]
) -> None:
    said = refused(tiny_base, trained[0], rank=2, text_encoder=False)
    assert "set method.rank=4" in said and "set method.text_encoder=true" in said


def test_a_lora_of_another_model_is_named_as_such(tiny_base: Path, tmp_path: Path) -> None:
    path = tmp_path / "xl.safetensors"
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    tensors = {f"{key}.lora_down.weight": torch.zeros(4, 2048), f"{key}.lora_up.weight": torch.zeros(32, 4)}
    save_file(tensors, path, {"ss_base_model_version": "sdxl_base_v1-0<b>"})
    said = refused(tiny_base, path)
    assert "LoRA of another model (it says sdxl_base_v1-0b): 1 of its 1 layers" in said

    flux = {f"transformer.single_transformer_blocks.0.attn.to_q.lora_{x}.weight": torch.zeros(4, 4) for x in "AB"}
    save_file(flux, path)
    assert "of another model" in refused(tiny_base, path)


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"unet.conv_in.weight": torch.zeros(2, 2)}, "is no LoRA"),
        ({"lora_unet_conv_in.hada_w1_a": torch.zeros(2, 2)}, "is a LoHa"),
        ({"lora_unet_conv_in.dora_scale": torch.zeros(2)}, "is a DoRA"),
        ({"lora_unet_conv_in.lora_down.weight": torch.zeros(2, 2)}, "cannot be understood"),
        ({"lora_unet_conv_in.lora_down.weight": torch.zeros(2, 2), "extra": torch.zeros(1)}, "cannot be understood"),
        ({"unet.conv_in.lora_A.weight": torch.zeros(2, 4)}, "a layer is not whole"),
        (
            {"unet.conv_in.lora_A.weight": torch.zeros(2, 4), "unet.conv_in.lora_B.weight": torch.zeros(4, 3)},
            "different ranks",
        ),
    ],
)
def test_what_is_no_whole_lora_is_refused(
    tiny_base: Path, tmp_path: Path, tensors: dict[str, torch.Tensor], words: str
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    assert words in refused(tiny_base, tmp_path / "x.safetensors")


def test_numbers_that_are_none_are_refused(tiny_base: Path, trained: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    tensors = load_file(trained[0])
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors", {"lora_adapter_metadata": json.dumps(settings_of(trained[0]))})
    assert "holds NaN or infinity" in refused(tiny_base, tmp_path / "nan.safetensors")


def test_damaged_files_and_pickles_are_refused(
    tiny_base: Path, trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    whole = trained[0].read_bytes()
    for content in (b"", whole[:-4], b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}", b"\x02\0\0\0\0\0\0\0{}"):
        (tmp_path / "x.safetensors").write_bytes(content)
        assert "download it again" in refused(tiny_base, tmp_path / "x.safetensors")
    assert "is a pickle" in refused(tiny_base, tmp_path / "x.ckpt")
    assert "there is no file" in refused(tiny_base, tmp_path / "nothing.safetensors")


def test_a_trained_token_goes_on_with_as_many_vectors_as_it_has(
    tiny_base: Path, trained: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder = copytree(trained[0].parent, tmp_path / "adapter")
    save_file({"sks": torch.ones(2, 32)}, folder / EMBEDS_NAME)
    settings = {"method": {**RANK_4, "start_from": str(folder)}, "class_noun": "woman"}
    base = resolve_base(str(tiny_base))
    with pytest.raises(InputError) as caught:
        read_start(TrainConfig.parse(settings), base, SD.spec)
    assert {problem.where for problem in caught.value.problems} == {"token_vectors", "token_learning_rate"}
    wanted = TrainConfig.parse({**settings, "token_learning_rate": 1e-3, "token_vectors": 2})
    found = read_start(wanted, base, SD.spec)
    assert found is not None
    parts = attached(tiny_base, wanted)
    apply_start(found, SD, LORA, parts)
    assert torch.equal(LORA.adapter_state(parts)["token_embedding.sks"], torch.ones(2, 32))
