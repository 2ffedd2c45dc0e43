"""What this machine has for training, found without torch, and the default base and preset that follow.

The one place where a default is chosen: page, endpoints, command line and demo ask here. It runs before the first
page is shown; the verbs ask torch (``studio.compute.device``). Ground level.
"""

import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil

from studio.core.catalog import BASES
from studio.core.errors import InputError, Problem
from studio.core.names import nearest
from studio.core.presets import TrainPreset, list_presets, load_preset
from studio.core.settings import DeviceName
from studio.core.train_config import OPTIONAL_PACKAGES, TrainConfig

Kind = Literal["cpu", "cuda", "mps"]

DEMO_TIME = "three to six minutes on two idle CPU cores"
"""How long the demo takes, wherever it is said: 198 to 311 s were measured, more where others take from the machine.
Measure again when base or preset change."""

_GPU_DEVICES = ("/dev/nvidia0", "/dev/dxg", "/dev/kfd")
"""Made by the drivers: NVIDIA on Linux, any GPU below Windows' Linux, AMD on Linux."""
_NVIDIA = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
_NVIDIA_NOW = ("nvidia-smi", "--query-gpu=name,memory.used,memory.total", "--format=csv,noheader,nounits")
_NVIDIA_TIMEOUT_S = 10.0
_AMD = ("/sys/class/drm", "card*/device/mem_info_vram_total")
_APPLE_SHARE = 2 / 3  # of the memory that all share, as Metal recommends for the smaller machines
_CUDA_ONLY = frozenset({"bitsandbytes", "xformers"})  # diffusers refuses it elsewhere
_GPU_BASE = "sd15"
_CPU_BASE = "pocket"
# A GPU is called by decimal gigabytes and counts in binary ones, but its driver keeps some to itself.
_GB = 0.97 * 10**9


@dataclass(frozen=True, slots=True)
class Machine:
    """What a default depends on."""

    kind: Kind
    memory_bytes: int | None
    """Of the GPU, or of the machine where there is none; None if unknown."""
    packages: frozenset[str]
    """Optional packages that can be used here."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """How a GPU stands now, as its driver says."""

    name: str
    used_bytes: int
    total_bytes: int


def gpus() -> tuple[Gpu, ...]:
    """Return the NVIDIA GPUs of this machine; none where the driver's program is missing or does not answer."""
    try:
        said = subprocess.run(_NVIDIA_NOW, capture_output=True, text=True, timeout=_NVIDIA_TIMEOUT_S, check=True).stdout
        rows = [[part.strip() for part in line.rsplit(",", 2)] for line in said.splitlines()]
        return tuple(Gpu(name, int(used) * 2**20, int(total) * 2**20) for name, used, total in rows)
    except (OSError, subprocess.SubprocessError, ValueError):
        return ()


@cache
def look(device: DeviceName = "auto") -> Machine:
    """Look for GPU, memory and packages; ``device`` is that of the settings.

    Looks for the drivers' device files and for Apple silicon, and asks the driver's own program for the memory.
    """
    kind = _kind() if device == "auto" else device
    here = {package for package in OPTIONAL_PACKAGES.values() if find_spec(package) is not None}
    return Machine(kind, _memory_bytes(kind), frozenset(here if kind == "cuda" else here - _CUDA_ONLY))


def has_room(memory_bytes: int, gb: float) -> bool:
    """Return whether a GPU with this memory counts as one that is sold with ``gb`` gigabytes, or as a larger one."""
    return memory_bytes >= gb * _GB


def default_base(machine: Machine) -> str:
    """Return the base that is offered first: the embedded one where there is no GPU, or one that is too small."""
    small = machine.memory_bytes is not None and not has_room(machine.memory_bytes, BASES[_GPU_BASE].vram_gb)
    return _CPU_BASE if machine.kind == "cpu" or small else _GPU_BASE


def default_preset(base: str, machine: Machine, presets: Iterable[TrainPreset]) -> TrainPreset | None:
    """Return the preset that a run on ``base`` takes if none is named; None where the base has no preset.

    Of the usual presets that fit the GPU and whose packages are here, the one that wants the most memory. Then one that
    fits and is refused in seconds, with the name of the package to install. Then the smallest: without a GPU, or where
    its memory is not known.
    """
    mine = [preset for preset in presets if preset.base == base and preset.variant == "usual"]
    gpu_bytes = (machine.memory_bytes or 0) if machine.kind != "cpu" else 0

    def order(preset: TrainPreset) -> tuple[bool, bool, int]:
        fits = has_room(gpu_bytes, preset.memory_gb)
        runs = fits and needed_packages(preset.config) <= machine.packages
        return fits, runs, preset.memory_gb if fits else -preset.memory_gb

    return max(mine, key=order, default=None)


def choose(base: str | None, preset: str | None, machine: Machine, presets_dir: Path) -> tuple[str, TrainPreset]:
    """Return base and preset of a run that names both, one or neither.

    Raises:
        NotFoundError: no such preset.
        InputError: a base that no preset is made for, without a preset.
    """
    if preset:
        named = load_preset(preset, presets_dir)
        return base or named.base, named
    base = base or default_base(machine)
    found = default_preset(base, machine, list_presets(presets_dir))
    if found is None:
        near = nearest(base, BASES)
        hint = f"did you mean {near!r}? Otherwise " if near else ""
        cure = f"{hint}name a preset, or take one of: {', '.join(BASES)}"
        raise InputError.of([Problem("preset", f"no preset is made for base {base!r}", cure, "no_preset")])
    return base, found


def needed_packages(config: TrainConfig) -> set[str]:
    """Return the optional packages that a run with these settings imports."""
    given = (f"{name}={getattr(config, name)}" for name in ("optimizer", "quantization", "attention"))
    return {OPTIONAL_PACKAGES[setting] for setting in given if setting in OPTIONAL_PACKAGES}


def _kind() -> Kind:
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "mps"
    return "cuda" if any(Path(device).exists() for device in _GPU_DEVICES) else "cpu"


def _memory_bytes(kind: Kind) -> int | None:
    main = int(psutil.virtual_memory().total)
    if kind == "cuda":
        return _gpu_bytes()
    return main if kind == "cpu" else int(main * _APPLE_SHARE)


def _gpu_bytes() -> int | None:
    """Return the memory of the largest GPU, which is the one that computes where nobody says otherwise."""
    try:
        said = subprocess.run(_NVIDIA, capture_output=True, text=True, timeout=_NVIDIA_TIMEOUT_S, check=True).stdout
        return max(int(line) for line in said.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):  # no NVIDIA GPU, or one that does not answer
        pass
    folder, pattern = _AMD
    try:
        return max((int(path.read_text()) for path in Path(folder).glob(pattern)), default=None)
    except (OSError, ValueError):
        return None
