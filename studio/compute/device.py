"""Which device computes, how precisely, and what of a model lies there. Used by the verbs that run a base."""

import ctypes
import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import psutil
import torch

from studio.core.errors import InputError, MissingExtraError, Problem
from studio.core.settings import DeviceName
from studio.core.strict import Dtype

Placement = Literal["device", "model_offload", "group_offload"]
"""All of a pipeline on the device; one part at a time, as it is needed; one layer at a time."""

_SHARE_OF_ROOM = 0.8  # the rest is for what drawing itself needs
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h
_GLIBC_DEFAULTS = {_M_TRIM_THRESHOLD: 128 * 1024, _M_MMAP_MAX: 65536}


def pick_device(name: DeviceName = "auto") -> torch.device:
    """Return the device that ``name`` (a setting, see ``Settings.device``) means on this machine.

    Raises:
        InputError: a device is asked for that is not here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        there = ", ".join(kind for kind, found in available.items() if found)
        problem = Problem(
            "STUDIO_DEVICE", f"{name} is not available on this machine", f"use auto or one of: {there}", "no_device"
        )
        raise InputError.of([problem])
    return torch.device(name)


def pick_dtype(name: Dtype, device: torch.device) -> torch.dtype:
    """Return the precision that ``name`` (a setting, see ``TrainConfig.dtype``) means on ``device``.

    ``auto`` is float32 except on a GPU with bfloat16: half precision is slower on a CPU without units for it.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


@contextmanager
def cpu_threads(count: int | None) -> Iterator[None]:
    """Compute with ``count`` CPU threads inside the block; None leaves torch's own choice."""
    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Let the process keep the memory it frees inside the block; does nothing without glibc.

    glibc returns every tensor of over 32 MB to the system when it is freed, and the system clears the pages of the
    next one: a seventh of a training step of Stable Diffusion's true shape. The most memory held stays the same.

    Source: mallopt(3).
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):
        yield
        return
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        for parameter, value in _GLIBC_DEFAULTS.items():
            libc.mallopt(parameter, value)
        libc.malloc_trim(0)


def room_bytes(device: torch.device) -> int | None:
    """Return how much memory the device has; None where it does not say."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return int(psutil.virtual_memory().total) if device.type == "cpu" else None


def free_bytes(device: torch.device) -> int | None:
    """Return how much memory of a GPU is free; None where the device shares the machine's own."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else None


def free_to_keep_bytes(device: torch.device) -> int:
    """Return how much is free where a device keeps weights: its own memory, or the machine's that it shares."""
    free = free_bytes(device)
    return int(psutil.virtual_memory().available) if free is None else free


def give_back() -> None:
    """Give memory that this process has freed back to the device and to the system."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)


def choose_placement(part_bytes: Mapping[str, int], free: int | None) -> Placement:
    """Return the fastest way to run a pipeline that fits.

    Args:
        part_bytes: size of each part's weights, by name.
        free: free memory of the device, bytes; None where parts cannot be moved out of the way.
    """
    if free is None or sum(part_bytes.values()) <= _SHARE_OF_ROOM * free:
        return "device"
    return "model_offload" if max(part_bytes.values()) <= _SHARE_OF_ROOM * free else "group_offload"


def require_compiler(wanted: bool, device: torch.device) -> None:
    """Compile one small function and call it, where compiling is wanted, before anything large is loaded.

    Raises:
        MissingExtraError: it cannot be compiled on this machine.
    """
    if not wanted:
        return
    try:
        torch.compile(lambda values: values * 2 + 1)(torch.ones(8, device=device))
    except Exception as error:  # torch has dozens of classes for this, and compilers say what they like
        reason = " ".join(str(error).split())[:200]
        raise MissingExtraError(
            f"compile_blocks does not run here ({reason}); install a C++ compiler (and triton on a GPU), or set "
            "compile_blocks=false."
        ) from error


def xformers_fault(device: torch.device) -> str | None:
    """Call xformers' attention and its gradient; return why they do not run on the device, or None."""
    try:
        from xformers.ops import memory_efficient_attention

        # Not by diffusers' is_xformers_available(), which says yes wherever the wheel is installed.
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        query = torch.zeros(1, 16, 2, 32, device=device, dtype=dtype, requires_grad=True)
        memory_efficient_attention(query, query, query).sum().backward()
    except Exception as error:  # of a broken wheel anything may come
        return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return None


def require_xformers(wanted: bool, device: torch.device) -> None:
    """Try xformers' attention, where it is wanted, before anything large is loaded.

    Raises:
        MissingExtraError: it does not run here.
    """
    if wanted and (fault := xformers_fault(device)):
        raise MissingExtraError(
            f"attention=xformers does not run here ({fault}); install the extra xformers on a machine with an NVIDIA "
            "GPU, or set attention=torch."
        )


def used_bytes(device: torch.device) -> int:
    """Return the most memory that was taken from a GPU, or what this process holds now elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(device))
    return int(psutil.Process().memory_info().rss)


def device_name(device: torch.device) -> str:
    """Return the device's name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
