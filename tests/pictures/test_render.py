from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file

from studio.core.errors import ResourceError
from studio.pictures import render

SETTINGS: dict[str, Any] = {"size_hw": (64, 64), "num_inference_steps": 3, "guidance_scale": 4.0}


PROMPTS = ["photo of sks woman", "photo of sks woman at the beach", "pop art portrait of sks woman"]


@pytest.fixture(scope="session")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    write_lora(tiny_base, folder, seed=1)
    return folder


def write_lora(base: Path, folder: Path, seed: int, strength: float = 0.3) -> None:
    unet = render.load_pipeline(str(base)).unet
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    generator = torch.Generator().manual_seed(seed)
    state = get_peft_model_state_dict(unet)
    layers = {name: torch.randn(tensor.shape, generator=generator) * strength for name, tensor in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)


def pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


def test_a_picture_is_the_same_alone_and_in_any_batch(tiny_base_kl: Path, adapter: Path) -> None:
    pipeline = render.load_pipeline(str(tiny_base_kl))
    render.load_adapter(pipeline, adapter)
    alone = pixels(render.render_prompts(pipeline, PROMPTS, [5, 6, 7], batch_size=1, **SETTINGS))
    together = pixels(render.render_prompts(pipeline, PROMPTS, [5, 6, 7], batch_size=3, **SETTINGS))
    other_order = pixels(render.render_prompts(pipeline, PROMPTS[::-1], [7, 6, 5], batch_size=2, **SETTINGS))[::-1]
    assert abs(alone - together).max() <= 1
    assert abs(alone - other_order).max() <= 1
    assert abs(alone[0] - alone[1]).mean() > 2  # the bound above is far below what a seed changes


def test_adapter_changes_pictures_and_its_scale_sets_how_much(tiny_base: Path, adapter: Path) -> None:
    def pictures(scale: float) -> np.ndarray:
        pipeline = render.load_pipeline(str(tiny_base))
        if scale:
            render.load_adapter(pipeline, adapter, scale=scale)
        return pixels(render.render_prompts(pipeline, PROMPTS[:1], [5], **SETTINGS))

    base, half, whole = pictures(0), pictures(0.5), pictures(1)
    assert 0 < abs(half - base).mean() < abs(whole - base).mean()


def test_learned_token_is_loaded_for_its_word_only(tiny_base: Path, adapter: Path, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    for path in adapter.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    pipeline = render.load_pipeline(str(tiny_base))
    render.load_adapter(pipeline, folder)
    prompts = ["photo of zwx woman", "photo of a woman"]
    before = pixels(render.render_prompts(pipeline, prompts, [1, 1], **SETTINGS))
    width = pipeline.text_encoder.get_input_embeddings().weight.shape[1]
    save_file({"zwx": torch.full((width,), 3.0)}, folder / "learned_embeds.safetensors")
    pipeline = render.load_pipeline(str(tiny_base))
    render.load_adapter(pipeline, folder)
    after = pixels(render.render_prompts(pipeline, prompts, [1, 1], **SETTINGS))
    assert len(pipeline.tokenizer.tokenize("zwx")) == 1
    assert abs(after[0] - before[0]).max() > 1
    assert abs(after[1] - before[1]).max() <= 1


def test_negative_prompt_changes_the_picture_only_with_guidance(tiny_base: Path) -> None:
    pipeline = render.load_pipeline(str(tiny_base))

    def picture(guidance_scale: float, negative_prompt: str) -> np.ndarray:
        settings = {**SETTINGS, "guidance_scale": guidance_scale}
        made = render.render_prompts(pipeline, PROMPTS[:1], [5], negative_prompt=negative_prompt, **settings)
        return pixels(made)

    assert (picture(4.0, "at the beach") != picture(4.0, "")).any()
    assert (picture(1.0, "at the beach") == picture(1.0, "")).all()


def test_batch_is_halved_when_memory_gives_out(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = render.load_pipeline(str(tiny_base))
    expected = pixels(render.render_prompts(pipeline, PROMPTS, [1, 2, 3], **SETTINGS))
    whole, sizes = render._render, []

    def little_memory(
        pipeline: Any, picture_requests: Sequence[render.PictureRequest], *rest: Any
    ) -> list[Image.Image]:
        sizes.append(len(picture_requests))
        if len(picture_requests) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(pipeline, picture_requests, *rest)

    monkeypatch.setattr(render, "_render", little_memory)
    assert abs(pixels(render.render_prompts(pipeline, PROMPTS, [1, 2, 3], **SETTINGS)) - expected).max() <= 1
    assert sizes == [3, 2, 1, 1, 1]


def test_no_memory_for_one_picture_is_said_with_its_size(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any) -> list[Image.Image]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(render, "_render", no_memory)
    with pytest.raises(ResourceError, match="64 x 64 px"):
        render.render_prompts(render.load_pipeline(str(tiny_base)), PROMPTS[:1], [1], **SETTINGS)
