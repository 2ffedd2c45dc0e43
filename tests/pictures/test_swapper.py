"""Adapters of every method on one resident base: each draws as on a fresh one, and none leaves a trace."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from studio.core.errors import InputError
from studio.core.train_config import TrainConfig
from studio.families.registry import family
from studio.methods.registry import method
from studio.pictures.render import load_adapter, load_pipeline, render_prompts
from studio.pictures.swapper import AdapterSwapper

SD = family("sd")
SHAPES: dict[str, dict[str, Any]] = {
    "lora": {"method": {"name": "lora", "rank": 4}},
    "text-tokens": {
        "method": {"name": "lora", "rank": 4, "text_encoder": True}, "token_learning_rate": 1e-2, "token_vectors": 2,
    },
    "dora": {"method": {"name": "lora", "rank": 4, "dora": True, "target": "attention+conv"}},
    "lokr-token": {"method": {"name": "lokr", "rank": 64, "factor": 4, "alpha": 32}, "token_learning_rate": 1e-2},
    "full": {"method": {"name": "full"}},
}  # fmt: skip


def write_adapter(base: Path, folder: Path, shape: str) -> Path:
    """Write an adapter in which every trainable number was moved, as training would."""
    wanted = TrainConfig.parse({**SHAPES[shape], "class_noun": "woman"})
    learns, generator = method(wanted.method.name), torch.Generator().manual_seed(len(shape))
    parts = SD.load(base, dtype=torch.float32, device=torch.device("cpu"))
    learns.attach(parts, SD.spec, wanted)
    for parameter in learns.trainable(parts).values():
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    folder.mkdir()
    learns.write(parts, SD, folder)
    return folder


@pytest.fixture(scope="module")
def adapters(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return {shape: write_adapter(tiny_base, folder / shape, shape) for shape in SHAPES}


def drawn(pipeline: Any) -> np.ndarray:
    prompts = ["photo of sks woman", "a woman at the beach"]
    made = render_prompts(pipeline, prompts, [1, 2], size_hw=(64, 64), num_inference_steps=2, guidance_scale=3.0)
    return np.stack([np.asarray(picture) for picture in made])


def test_each_adapter_draws_as_on_a_fresh_base_and_leaves_no_trace(tiny_base: Path, adapters: dict[str, Path]) -> None:
    resident = AdapterSwapper(str(tiny_base))
    untouched = drawn(resident.pipeline)
    state = {name: tensor.clone() for name, tensor in resident.pipeline.unet.state_dict().items()}
    for shape in (*SHAPES, *reversed(SHAPES)):
        resident.use_adapter(adapters[shape])
        fresh = load_pipeline(str(tiny_base))
        load_adapter(fresh, adapters[shape])
        found = drawn(resident.pipeline)
        assert (found == drawn(fresh)).all(), shape
        assert (found != untouched).any(), shape
    resident.use_adapter(None)
    assert (drawn(resident.pipeline) == untouched).all()
    after = resident.pipeline.unet.state_dict()
    assert list(after) == list(state) and all(torch.equal(after[name], state[name]) for name in state)


def test_an_adapter_that_does_not_fit_leaves_the_base_bare(
    tiny_base: Path, tiny_bases: Callable[[str], Path], adapters: dict[str, Path], tmp_path: Path
) -> None:
    resident = AdapterSwapper(str(tiny_base))
    untouched = drawn(resident.pipeline)
    resident.use_adapter(adapters["dora"])
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    whole = next(adapters["lora"].glob("*.safetensors"))
    (damaged / whole.name).write_bytes(whole.read_bytes()[:200])
    for folder in (damaged, tmp_path / "nothing"):
        with pytest.raises(InputError, match="does not load into this base"):
            resident.use_adapter(folder)
        assert (drawn(resident.pipeline) == untouched).all()
    other = AdapterSwapper(str(tiny_bases("flux")))
    with pytest.raises(InputError, match="another family"):
        other.use_adapter(adapters["lora"])


def tensors_alive() -> tuple[int, int]:
    """Return how many tensors there are, and their bytes."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    return len(found), sum(tensor.numel() * tensor.element_size() for tensor in found)


def test_swapping_keeps_no_tensors(tiny_base: Path, adapters: dict[str, Path]) -> None:
    resident = AdapterSwapper(str(tiny_base))
    counts = []
    for _ in range(3):
        for folder in adapters.values():
            resident.use_adapter(folder)
        resident.use_adapter(None)
        counts.append(tensors_alive())
    assert counts[1] == counts[2]


@pytest.mark.slow
def test_two_hundred_swaps_take_no_more_memory(tiny_base: Path, adapters: dict[str, Path]) -> None:
    resident, folders = AdapterSwapper(str(tiny_base)), list(adapters.values())
    process, taken = psutil.Process(), []
    for number in range(200):
        resident.use_adapter(folders[number % len(folders)])
        if number % 20 == 19:
            drawn(resident.pipeline)
            gc.collect()
            taken.append(process.memory_info().rss)
    assert max(taken[2:]) <= 1.02 * taken[1]
