"""Bases that stay loaded from one job to the next, within a limit of bytes, without a trace of the jobs before.

A process that makes the pictures of one job after another has one ``WarmBases``. What belongs to a job, its adapter, is
taken out when the job has ended; so adapters are read anew for each job, which takes less time than a picture. Called
by ``studio.infer``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.bases.resolve import Base, resolve_base
from studio.bases.tensorfile import read_header
from studio.compute.device import Placement, free_to_keep_bytes, give_back, pick_device, pick_dtype, room_bytes
from studio.core.adapters import AdapterInfo
from studio.core.fit import keepable_bytes
from studio.core.settings import load_settings
from studio.families.loading import part_bytes, place
from studio.pictures.render import load_adapter, load_base
from studio.pictures.swapper import AdapterSwapper

_Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Kept:
    swapper: AdapterSwapper
    size_bytes: int


class WarmBases:
    """Bases of which the least recently used goes first.

    Args:
        keepable: bytes that are kept -> bytes that may be kept, asked anew each time; None looks at the device.
    """

    def __init__(self, keepable: Callable[[int], int] | None = None) -> None:
        self._keepable = keepable or _keepable
        self._kept: dict[_Key, _Kept] = {}
        """The least recently used first."""
        self._in_use: tuple[_Key | None, Base] | None = None
        """Never evicted; the base's files stay in the cache on the disk, too."""

    @property
    def kept_bytes(self) -> int:
        """What is kept now."""
        return sum(kept.size_bytes for kept in self._kept.values())

    def open(self, info: AdapterInfo, adapter: Path | None, scale: float) -> tuple[Any, Placement]:
        """Put an adapter into its base, loading the base if it is not here; an ``Opener``.

        Whether the job may have the base is asked each time, as where it is loaded anew.

        Raises: as ``studio.pictures.render.open_base``.
        """
        self._put_back()
        base = resolve_base(info.base, info.revision)
        key = _key_of(base)
        kept = self._kept.pop(key, None)
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
        self._evict(0)
        give_back()

    def _put_back(self) -> None:
        if self._in_use is not None:
            key, _ = self._in_use
            self._in_use = None
            if key is not None:
                self._kept[key].swapper.use_adapter(None)

    def _evict(self, wanted_bytes: int) -> None:
        """Let bases go until so much more may be kept."""
        while self._kept and self.kept_bytes + wanted_bytes > self._keepable(self.kept_bytes):
            self._evict_one()

    def _evict_one(self) -> bool:
        """Let the least recently used base go; False if there is none."""
        key = next(iter(self._kept), None)
        if key is None:
            return False
        del self._kept[key]
        give_back()
        return True


def _keepable(kept_bytes: int) -> int:
    settings = load_settings()
    device = pick_device(settings.device)
    free = free_to_keep_bytes(device)
    room = room_bytes(device) or free  # a device that does not say shares the machine's memory
    return keepable_bytes(room, free, kept_bytes, settings.warm_max_bytes)


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
