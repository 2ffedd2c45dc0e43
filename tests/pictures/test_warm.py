"""Bases that stay loaded: what is kept, what goes first, and that nothing of a job is there for the next one."""

import dataclasses
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studio.bases.resolve import Base, resolve_base
from studio.core.adapters import AdapterInfo
from studio.core.errors import NotFoundError
from studio.core.train_config import TrainConfig
from studio.families.registry import family
from studio.methods.registry import method
from studio.pictures import render, warm
from studio.pictures.render import load_adapter, load_pipeline, render_prompts
from studio.pictures.warm import WarmBases

SD = family("sd")


def info_of(base: Path) -> AdapterInfo:
    return AdapterInfo(str(base), None, "sd", "Ada", "woman", "sks", 64, 3.0, 2, None, None, 1)


@pytest.fixture
def adapter(tiny_base: Path, tmp_path: Path) -> Path:
    learns = method("lora")
    parts = SD.load(tiny_base, dtype=torch.float32, device=torch.device("cpu"))
    learns.attach(parts, SD.spec, TrainConfig.parse({"method": {"name": "lora", "rank": 4}, "class_noun": "woman"}))
    for parameter in learns.trainable(parts).values():
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    folder = tmp_path / "adapter"
    folder.mkdir()
    learns.write(parts, SD, folder)
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders that are loaded from now on."""
    names: list[str] = []

    def load(base: Any, *more: Any) -> Any:
        names.append(base.folder.name)
        return render.load_base(base, *more)

    monkeypatch.setattr(warm, "load_base", load)
    return names


def drawn(pipeline: Any) -> np.ndarray:
    made = render_prompts(
        pipeline, ["photo of sks woman"], [1], size_hw=(64, 64), num_inference_steps=2, guidance_scale=3.0
    )
    return np.asarray(made[0])


def copy_of(base: Path, folder: Path) -> Path:
    for path in base.rglob("*"):
        if path.is_file():
            (folder / path.relative_to(base)).parent.mkdir(parents=True, exist_ok=True)
            os.link(path, folder / path.relative_to(base))
    return folder


def test_a_base_is_loaded_once_and_draws_for_every_job_as_a_fresh_one(
    tiny_base: Path, adapter: Path, loads: list[str]
) -> None:
    bases = WarmBases(lambda kept: 10**12)
    fresh = load_pipeline(str(tiny_base))
    untouched = drawn(fresh)
    load_adapter(fresh, adapter)
    wanted = drawn(fresh)
    for _ in range(2):
        pipeline, placement = bases.open(info_of(tiny_base), adapter, 1.0)
        assert placement == "device"
        assert (drawn(pipeline) == wanted).all()
        bases.rest()
        assert (drawn(pipeline) == untouched).all()  # the job's adapter is out, whether another job comes or not
    pipeline, _ = bases.open(info_of(tiny_base), None, 0.0)
    assert (drawn(pipeline) == untouched).all()
    assert len(loads) == 1


@pytest.mark.whole
def test_the_least_recently_used_goes_and_what_is_used_stays(
    tiny_base: Path, adapter: Path, tmp_path: Path, loads: list[str]
) -> None:
    a, b, c = (copy_of(tiny_base, tmp_path / name) for name in "abc")
    bases = WarmBases(lambda kept: 10**12)
    bases.open(info_of(a), None, 1.0)
    bases.rest()
    size = bases.kept_bytes
    assert size > 10**5
    bases = WarmBases(lambda kept: int(2.5 * size))
    loads.clear()
    for base in (a, b, a, c, a):
        bases.open(info_of(base), None, 1.0)
        bases.rest()
        assert bases.kept_bytes <= 2.5 * size
    assert loads == ["a", "b", "c"]

    small = WarmBases(lambda kept: size // 2)
    pipeline, _ = small.open(info_of(a), adapter, 1.0)
    assert small.kept_bytes == size  # while a job uses it, whatever the limit
    drawn(pipeline)
    small.rest()
    assert small.kept_bytes == 0


def test_where_the_device_is_too_small_kept_bases_go_and_what_still_does_not_fit_is_not_kept(
    tiny_base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = (copy_of(tiny_base, tmp_path / name) for name in "ab")
    bases = WarmBases(lambda kept: 10**12)
    bases.open(info_of(a), adapter, 1.0)
    bases.rest()
    size = bases.kept_bytes
    monkeypatch.setattr(render, "free_bytes", lambda device: 2 * size if bases.kept_bytes == 0 else size // 2)
    _, placement = bases.open(info_of(b), adapter, 1.0)
    assert placement == "device" and bases.kept_bytes == size  # a made room
    bases.rest()
    monkeypatch.setattr(render, "free_bytes", lambda device: size // 2)
    placed: list[str] = []
    monkeypatch.setattr(warm, "place", lambda pipeline, device, placement: placed.append(placement))
    _, placement = bases.open(info_of(a), adapter, 1.0)
    assert placement != "device" and placed == [placement] and bases.kept_bytes == 0
    bases.rest()


def test_a_base_that_has_changed_or_gone_is_not_drawn_with(
    tiny_base: Path, adapter: Path, tmp_path: Path, loads: list[str]
) -> None:
    base = copy_of(tiny_base, tmp_path / "mine")
    bases = WarmBases(lambda kept: 10**12)
    bases.open(info_of(base), adapter, 1.0)
    bases.rest()
    size = bases.kept_bytes
    weights = next(base.rglob("*.safetensors"))
    data = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(data)
    bases.open(info_of(base), adapter, 1.0)
    assert loads == ["mine", "mine"] and bases.kept_bytes == size  # what lay there before is not kept
    base.rename(tmp_path / "away")
    with pytest.raises(NotFoundError):
        bases.open(info_of(base), adapter, 1.0)


@pytest.mark.whole
def test_what_a_gpu_has_no_room_for_waits_in_main_memory_and_what_that_has_none_for_goes(
    tiny_base: Path, adapter: Path, tmp_path: Path, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A made-up GPU: its weights lie in main memory, and what would be moved is noted."""
    a, b, c, d = (copy_of(tiny_base, tmp_path / name) for name in "abcd")
    one = WarmBases(lambda kept: 10**12)
    one.open(info_of(a), None, 1.0)
    one.rest()
    size = one.kept_bytes
    loads.clear()
    moves: list[str] = []
    bases = WarmBases(
        lambda kept: int(1.5 * size),
        lambda kept: int(2.5 * size),
        lambda pipeline, device: moves.append(next(name for name, base in names.items() if base is pipeline)),
    )
    names: dict[str, Any] = {}
    fresh = load_pipeline(str(tiny_base))
    load_adapter(fresh, adapter)
    wanted = drawn(fresh)
    for number, base in enumerate((a, b, c, d, b, a)):
        pipeline, _ = bases.open(info_of(base), adapter, 1.0)
        names[base.name] = pipeline
        assert number < 4 or (drawn(pipeline) == wanted).all()
        bases.rest()
        assert bases.kept_bytes <= 1.5 * size and bases.aside_bytes <= 2.5 * size
    assert loads == ["a", "b", "c", "d", "a"]  # a went for good when c was put aside
    assert moves == ["a", "b", "c", "d", "b", "b"]  # b comes back in the place of d, and makes room for a


def test_the_files_of_a_base_are_pinned_on_the_disk_only_while_a_job_uses_it(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pin:
        """As the lock of an entry of the cache."""

    pins: list[weakref.ref[Pin]] = []

    def resolve(name: str, revision: str | None) -> Base:
        pin = Pin()
        pins.append(weakref.ref(pin))
        return dataclasses.replace(resolve_base(name, revision), pin=pin)

    monkeypatch.setattr(warm, "resolve_base", resolve)
    bases = WarmBases(lambda kept: 10**12)
    bases.open(info_of(tiny_base), None, 1.0)
    assert pins[0]() is not None
    bases.rest()
    assert pins[0]() is None and bases.kept_bytes > 0


@pytest.mark.parametrize(("limit", "expected"), [(None, True), (0, False)])
def test_the_setting_limits_what_is_kept(
    tiny_base: Path, adapter: Path, limit: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if limit is not None:
        monkeypatch.setenv("STUDIO_WARM_MAX_BYTES", str(limit))
    monkeypatch.setattr(warm, "free_to_keep_bytes", lambda device: 10**12)
    bases = WarmBases()
    bases.open(info_of(tiny_base), adapter, 1.0)
    bases.rest()
    assert (bases.kept_bytes > 0) is expected
