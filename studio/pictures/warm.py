"""Bases that stay loaded from one job to the next, within a limit of bytes, without a trace of the jobs before.

A process that makes the pictures of one job after another has one ``WarmBases``. What belongs to a job, its adapter, is
taken out when the job has ended; so adapters are read anew for each job, which takes less time than a picture. Called
by ``studio.infer``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from studio.bases.resolve import Base, resolve_base
from studio.bases.tensorfile import read_header
from studio.compute.device import (
    Placement,
    choose_placement,
    free_bytes,
    free_to_keep_bytes,
    give_back,
    pick_device,
    pick_dtype,
    room_bytes,
)
from studio.core.adapters import AdapterInfo
from studio.core.fit import keepable_bytes
from studio.core.settings import load_settings
from studio.families.loading import move_parts, part_bytes, place
from studio.pictures.render import load_adapter, load_base
from studio.pictures.swapper import AdapterSwapper

_Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    swapper: AdapterSwapper
    size_bytes: int


Keepable = Callable[[int], int]
"""Bytes that are kept in a memory -> bytes that may be kept there now."""


class WarmBases:
    """Bases of which the least recently used goes first: from a GPU to main memory, and from there for good.

    Args:
        on_device: asked anew each time; None looks at the device.
        in_main: likewise, of what a device with a memory of its own has no room for; None looks at the machine.
        move: puts a pipeline that is whole on one device onto another.
    """

    def __init__(
        self,
        on_device: Keepable | None = None,
        in_main: Keepable | None = None,
        move: Callable[[Any, torch.device], None] = move_parts,
    ) -> None:
        self._on_device = on_device or _on_device
        self._in_main = in_main or _in_main
        self._move = move
        self._kept: dict[_Key, _Kept] = {}
        """On the device, the least recently used first."""
        self._aside: dict[_Key, _Kept] = {}
        """In main memory, where the device has one of its own; the least recently used first."""
        self._in_use: tuple[_Key | None, Base] | None = None
        """Never evicted; the base's files stay in the cache on the disk, too."""

    @property
    def kept_bytes(self) -> int:
        """What is kept on the device now."""
        return _sum_of(self._kept)

    @property
    def aside_bytes(self) -> int:
        """What is kept in main memory now."""
        return _sum_of(self._aside)

    def open(self, info: AdapterInfo, adapter: Path | None, scale: float) -> tuple[Any, Placement]:
        """Put an adapter into its base, loading the base if it is not here; an ``Opener``.

        Whether the job may have the base is asked each time, as where it is loaded anew.

        Raises: as ``studio.pictures.render.open_base``.
        """
        self._put_back()
        base = resolve_base(info.base, info.revision)
        key = _key_of(base)
        self._forget_former(key)
        kept = self._kept.pop(key, None) or self._brought_back(key)
        if kept is None:
            self._evict(_bytes_of(base))
            pipeline, placement = load_base(base, self._evict_one)
            if placement != "device":  # an adapter must go in before the parts begin to move: of no use to the next job
                self._in_use = None, base
                if adapter is not None:
                    load_adapter(pipeline, adapter, scale=scale)
                place(pipeline, pick_device(load_settings().device), placement)
                return pipeline, placement
            kept = _Kept(AdapterSwapper(pipeline), sum(part_bytes(pipeline).values()))
        self._kept[key] = kept
        self._in_use = key, base
        kept.swapper.use_adapter(adapter, scale=scale)
        return kept.swapper.pipeline, "device"

    def rest(self) -> None:
        """Forget the job, keep the bases that may be kept, and give back the memory of everything else."""
        self._put_back()
        give_back()  # what drawing took counts as free from here on
        self._evict(0)
        self._trim_main(0)
        give_back()

    def _put_back(self) -> None:
        if self._in_use is not None:
            key, _ = self._in_use
            self._in_use = None
            if key is not None:
                self._kept[key].swapper.use_adapter(None)

    def _forget_former(self, key: _Key) -> None:
        """Let go what lay in a base's folder before it was changed."""
        for kept in (self._kept, self._aside):
            for other in [other for other in kept if other[:2] == key[:2] and other != key]:
                del kept[other]
                give_back()

    def _brought_back(self, key: _Key) -> _Kept | None:
        """Return a base from main memory to the device; None if it is not there, or does not fit."""
        kept = self._aside.pop(key, None)
        if kept is None:
            return None
        self._evict(kept.size_bytes)
        device = pick_device(load_settings().device)
        while choose_placement(part_bytes(kept.swapper.pipeline), free_bytes(device)) != "device":
            if not self._evict_one():
                del kept
                give_back()
                return None
        self._move(kept.swapper.pipeline, device)
        return kept

    def _evict(self, wanted_bytes: int) -> None:
        """Let bases go from the device until so much more may be kept there."""
        while self._kept and self.kept_bytes + wanted_bytes > self._on_device(self.kept_bytes):
            self._evict_one()

    def _evict_one(self) -> bool:
        """Let the least recently used base go from the device; False if there is none."""
        key = next(iter(self._kept), None)
        if key is None:
            return False
        kept = self._kept.pop(key)
        self._trim_main(kept.size_bytes)
        if self.aside_bytes + kept.size_bytes <= self._in_main(self.aside_bytes):
            self._move(kept.swapper.pipeline, torch.device("cpu"))
            self._aside[key] = kept
        del kept  # else it would be there still when its memory is given back
        give_back()
        return True

    def _trim_main(self, wanted_bytes: int) -> None:
        while self._aside and self.aside_bytes + wanted_bytes > self._in_main(self.aside_bytes):
            del self._aside[next(iter(self._aside))]


def _sum_of(bases: Mapping[_Key, _Kept]) -> int:
    return sum(kept.size_bytes for kept in bases.values())


def _on_device(kept_bytes: int) -> int:
    settings = load_settings()
    device = pick_device(settings.device)
    free = free_to_keep_bytes(device)
    room = room_bytes(device) or free  # a device that does not say shares the machine's memory
    return keepable_bytes(room, free, kept_bytes, settings.warm_max_bytes)


def _in_main(kept_bytes: int) -> int:
    settings = load_settings()
    if pick_device(settings.device).type != "cuda":  # the device's memory is main memory
        return 0
    cpu = torch.device("cpu")
    return keepable_bytes(room_bytes(cpu) or 0, free_to_keep_bytes(cpu), kept_bytes, settings.warm_max_bytes)


def _bytes_of(base: Base) -> int:
    """Return what a base will take on the device, by the headers of its files."""
    files = [path for path in base.folder.rglob("*.safetensors") if path.is_file()]
    numbers = sum(math.prod(shape) for path in files for shape in read_header(path, path.name).shapes.values())
    return numbers * pick_dtype("auto", pick_device(load_settings().device)).itemsize


def _key_of(base: Base) -> _Key:
    """Return what tells a base from every other one, also from what lay in the same folder before."""
    folder = base.folder.resolve()
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    looks = ((path, path.stat()) for path in files)
    return folder, base.revision, *((str(path), look.st_size, look.st_mtime_ns) for path, look in looks)
