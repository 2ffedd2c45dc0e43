from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PNDMScheduler
from safetensors.torch import load_file, save_file

from studio.bases import hub as sources
from studio.bases import single_file
from studio.bases.resolve import resolve_base
from studio.bases.tensorfile import Header
from studio.core.errors import InputError, MissingExtraError
from studio.families.registry import family


def test_a_single_file_becomes_the_same_base_and_is_converted_once(
    configured: Any, checkpoint: Path, tiny_base_clip: Path
) -> None:
    base = resolve_base(str(checkpoint))
    assert (base.spec.name, base.revision, base.family) == (str(checkpoint), None, "sd")
    for part in ("unet", "vae"):
        file = f"{part}/diffusion_pytorch_model.safetensors"
        made, original = load_file(base.folder / file), load_file(tiny_base_clip / file)
        assert made.keys() == original.keys()
        assert all(torch.equal(made[name], original[name].half()) for name in made)
    assert not any(path.endswith(".safetensors") for path in configured.paths()), "only its configuration is downloaded"
    configured.asked.clear()
    assert resolve_base(str(checkpoint)).folder == base.folder
    assert configured.asked == []


@pytest.mark.parametrize(
    ("marks", "metadata", "prediction", "zero_snr"),
    [
        ((), {}, "epsilon", False),
        (("v_pred",), {}, "v_prediction", False),
        (("v_pred", "ztsnr"), {}, "v_prediction", True),
        ((), {"modelspec.prediction_type": "v"}, "v_prediction", False),
        ((), {"modelspec.prediction_type": "epsilon"}, "epsilon", False),
    ],
)
def test_a_single_file_is_trained_and_drawn_as_it_says_that_it_predicts(
    configured: Any,
    checkpoint: Path,
    tmp_path: Path,
    marks: tuple[str, ...],
    metadata: dict[str, str],
    prediction: str,
    zero_snr: bool,
) -> None:
    tensors = load_file(checkpoint) | {name: torch.empty(0) for name in marks}
    save_file(tensors, tmp_path / "x.safetensors", metadata)
    parts = family("sd").load(
        resolve_base(str(tmp_path / "x.safetensors")).folder, dtype=torch.float32, device=torch.device("cpu")
    )
    assert parts.schedule.objective.name == prediction == parts.scheduler.config.prediction_type
    last = parts.schedule.snr(torch.tensor([999])).item()
    assert (last < 1e-6) == zero_snr
    assert parts.scheduler.config.get("rescale_betas_zero_snr", False) == zero_snr
    if zero_snr:
        parts.scheduler.set_timesteps(4)
        assert parts.scheduler.timesteps[0] == 999


def test_a_scheduler_that_cannot_end_in_noise_gives_way_to_one_that_can() -> None:
    made = sources.scheduler(PNDMScheduler(beta_schedule="scaled_linear"), "v_prediction", True)
    assert made.config.rescale_betas_zero_snr and made.config.prediction_type == "v_prediction"
    assert made.config.beta_schedule == "scaled_linear"


@pytest.mark.parametrize(("answer", "prediction"), [(0.5, "epsilon"), (-2.5, "v_prediction")])
def test_a_net_of_stable_diffusion_2_that_says_nothing_is_asked(
    tiny_base: Path, answer: float, prediction: str
) -> None:
    unet: Any = family("sd").load(tiny_base, dtype=torch.float16, device=torch.device("cpu")).denoiser
    with torch.no_grad():
        unet.conv_out.weight.zero_()
        unet.conv_out.bias.fill_(answer)
    assert sources.probed(unet) == prediction
    assert unet.dtype == torch.float16


def test_the_architecture_of_stable_diffusion_2_tells_what_it_predicts() -> None:
    for words, prediction in (("v2-512", "epsilon"), ("v2-768-v", "v_prediction"), ("v1", None)):
        header = Header({"a": (1,)}, {"modelspec.architecture": f"stable-diffusion-{words}"})
        assert sources.prediction(header) == prediction


def test_a_checkpoint_of_the_edm_schedule_is_refused(configured: Any, checkpoint: Path, tmp_path: Path) -> None:
    save_file(load_file(checkpoint) | {"edm_vpred.sigma_max": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match="EDM noise schedule"):
        resolve_base(str(tmp_path / "x.safetensors"))


def test_a_single_file_wants_its_configuration_once(checkpoint: Path) -> None:
    with pytest.raises(MissingExtraError, match=r"stable-diffusion-v1-5.*connect once"):
        resolve_base(str(checkpoint))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"a": torch.zeros(1)}, "not a checkpoint of a supported kind"),
        ({"lora_unet_x.lora_down.weight": torch.zeros(1, 1)}, "is a LoRA, not a base"),
        ({single_file._UNET_MARK: torch.zeros(4, 9, 3, 3)}, "not a checkpoint of a supported kind"),  # inpainting
        ({single_file._UNET_MARK: torch.zeros(4, 4, 3, 3)}, "not a complete Stable Diffusion"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(
    configured: Any, tmp_path: Path, tensors: dict[str, torch.Tensor], words: str
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=words):
        resolve_base(str(tmp_path / "x.safetensors"))


def test_a_checkpoint_with_numbers_that_are_none_is_refused(configured: Any, checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoint)
    tensors[single_file._UNET_MARK][0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(InputError, match="NaN or infinity in its unet"):
        resolve_base(str(tmp_path / "nan.safetensors"))


def test_pickles_damage_and_missing_files_are_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt").write_bytes(b"\x80\x04")
    for name in ("x.ckpt", "missing.pt", "gone.bin"):
        with pytest.raises(InputError, match="can run malicious code"):
            resolve_base(str(tmp_path / name))
    (tmp_path / "cut.safetensors").write_bytes(b"\xff" * 9)
    with pytest.raises(InputError, match="truncated or not a safetensors file"):
        resolve_base(str(tmp_path / "cut.safetensors"))
    with pytest.raises(InputError, match="does not exist"):
        resolve_base(str(tmp_path / "missing.safetensors"))
