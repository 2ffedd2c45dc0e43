from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file, save_file

from studio.core.errors import InputError
from studio.families.registry import family

CPU = torch.device("cpu")


def test_the_mean_latent_is_scaled_as_the_autoencoder_says(tiny_base_kl: Path) -> None:
    sd = family("sd")
    parts = sd.load(tiny_base_kl, dtype=torch.float32, device=CPU)
    pixels = torch.zeros(1, 3, 64, 64)
    assert parts.vae is not None
    with torch.no_grad():
        expected = parts.vae.encode(pixels).latent_dist.mean * parts.vae.config.scaling_factor
        torch.testing.assert_close(sd.encode_images(parts, pixels), expected)


def test_a_generator_draws_from_the_latent_distribution(tiny_base_kl: Path) -> None:
    sd = family("sd")
    parts = sd.load(tiny_base_kl, dtype=torch.float32, device=CPU)
    pixels = torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        drawn = [sd.encode_images(parts, pixels, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_prompts_are_encoded_as_the_pipeline_encodes_them(tiny_base: Path) -> None:
    sd = family("sd")
    parts = sd.load(tiny_base, dtype=torch.float32, device=CPU)
    with torch.no_grad():
        expected = sd.pipeline(parts).encode_prompt("photo of a dog", CPU, 1, False)[0]
        assert torch.equal(sd.encode_prompts(parts, ["photo of a dog"])["prompt_embeds"], expected)


def test_pickle_weights_are_never_read(tiny_base: Path, tmp_path: Path) -> None:
    folder = copytree(tiny_base, tmp_path / "pickled")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        family("sd").load(folder, dtype=torch.float32, device=CPU)


def test_a_damaged_weight_file_is_reported_in_words(tiny_base: Path, tmp_path: Path) -> None:
    folder = copytree(tiny_base, tmp_path / "damaged")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"not a tensor")
    with pytest.raises(InputError, match="base damaged: cannot be read"):
        family("sd").load(folder, dtype=torch.float32, device=CPU)


@pytest.mark.parametrize("fault", ["another shape", "missing"])
@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
    ],
)
def test_weights_that_are_missing_or_of_other_shapes_are_reported_in_words(
    part: str, file: str, fault: str, tiny_base: Path, tmp_path: Path
) -> None:
    path = copytree(tiny_base, tmp_path / "strange") / part / file
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith("weight"))
    tensors = {key: tensor for key, tensor in tensors.items() if key != name}
    save_file(tensors | ({name: torch.zeros(3, 3)} if fault == "another shape" else {}), path, {"format": "pt"})
    with pytest.raises(InputError, match=f"base strange: cannot be read .*{name}"):
        family("sd").load(tmp_path / "strange", dtype=torch.float32, device=CPU)
