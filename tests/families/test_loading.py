"""Where a pipeline's parts lie changes no picture; on the CPU the offloading hooks run as they do on a GPU."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch

from studio.bases.resolve import resolve_base
from studio.core.errors import InputError
from studio.core.train_config import TrainConfig
from studio.families import loading
from studio.families.registry import family, opened
from studio.methods.registry import method
from studio.pictures import render

Bases = Callable[[str], Path]


def write_adapter(name: str, base: Path, folder: Path) -> Path:
    """Write a LoRA whose numbers were all moved, as training would."""
    speaks, learns = family(name), method("lora")
    parts = speaks.load(base, dtype=torch.float32, device=torch.device("cpu"))
    learns.attach(parts, speaks.spec, TrainConfig.parse({"method": {"rank": 4}}))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in learns.trainable(parts).values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    folder.mkdir()
    learns.write(parts, speaks, folder)
    return folder


def draw(pipeline: Any) -> np.ndarray:
    settings: dict[str, Any] = {"size_hw": (64, 64), "num_inference_steps": 2, "guidance_scale": 3.0}
    made = render.render_prompts(pipeline, ["photo of a woman", "a dog"], [1, 2], batch_size=1, **settings)
    return np.stack([np.asarray(picture, dtype=int) for picture in made])


@pytest.mark.parametrize("name", ["sd", "flux", "qwen_image"])
def test_parts_that_take_turns_draw_the_same_picture(
    name: str, tiny_bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = resolve_base(str(tiny_bases(name)))
    adapter = write_adapter(name, base.folder, tmp_path / "adapter")
    pipeline, placement = render.open_pipeline(base, adapter)
    assert placement == "device"
    wanted = draw(pipeline)
    assert abs(wanted - draw(render.open_pipeline(base)[0])).max() > 3, "the adapter shows"
    sizes = loading.part_bytes(pipeline)
    assert sizes["vae"] == sum(tensor.nbytes for tensor in pipeline.vae.state_dict().values())

    largest = max(sizes.values())
    for free, placement in ((round(largest / 0.79), "model_offload"), (largest, "group_offload")):
        monkeypatch.setattr(render, "free_bytes", lambda _, free=free: free)
        offloaded, found = render.open_pipeline(base, adapter)
        assert found == placement
        hook = "_hf_hook" if placement == "model_offload" else "_diffusers_hook"
        hooked = {part for part in sizes for layer in offloaded.components[part].modules() if hasattr(layer, hook)}
        assert hooked == set(sizes)
        assert opened(offloaded)[1].device.type == "cpu"
        assert abs(draw(offloaded) - wanted).max() <= 1


def latents_said(source: Path, folder: Path) -> Path:
    copytree(source, folder)
    path = folder / "vae" / "config.json"
    said = {"latents_mean": [0.5, -0.5, 0.0, 1.0], "latents_std": [2.0, 1.0, 0.5, 4.0]}
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    return folder


def test_an_autoencoder_that_says_its_mean_and_deviation_is_trained_as_the_pipeline_draws_it(
    tiny_bases: Callable[[str], Path], tmp_path: Path
) -> None:
    sdxl, cpu = family("sdxl"), torch.device("cpu")
    parts = sdxl.load(latents_said(tiny_bases("sdxl"), tmp_path / "xl"), dtype=torch.float32, device=cpu)
    with torch.no_grad():
        found = sdxl.encode_images(parts, torch.zeros(1, 3, 64, 64))
        assert parts.vae is not None
        raw = parts.vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mean
    mean, deviation = (torch.tensor(parts.vae.config[f"latents_{name}"]).view(1, 4, 1, 1) for name in ("mean", "std"))
    # What StableDiffusionXLPipeline does before it decodes.
    torch.testing.assert_close(found * deviation / parts.vae.config.scaling_factor + mean, raw)


def test_a_mean_that_the_pipeline_would_ignore_is_refused(tiny_base_kl: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="latents_mean and latents_std, which StableDiffusionPipeline ignores"):
        family("sd").load(latents_said(tiny_base_kl, tmp_path / "kl"), dtype=torch.float32, device=torch.device("cpu"))


def test_all_weights_of_a_pipeline_move_also_to_where_it_could_not_draw(tiny_base: Path) -> None:
    pipeline = render.load_pipeline(str(tiny_base))
    loading.move_parts(pipeline, torch.device("meta"))
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {weight.device.type for part in parts for weight in part.parameters()} == {"meta"}
