"""The fallback steps, in order, when the device runs out of memory: changed settings and a description of each.

First fewer photos at once (the same result, a little slower), then recomputed activations (the same result, slower),
then blocks that wait in main memory (the same result, much slower; on a GPU), then smaller pictures (another result,
and the user is told). The fallback steps of a run are kept in ``ladder.json``, so that it
stays where it stood after a kill. Called by ``studio.train`` and ``studio.plan``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from studio.core.train_config import TrainConfig

LADDER_NAME = "ladder.json"

_SMALLEST_PX = 256


@dataclass(frozen=True, slots=True)
class MemoryFallback:
    """One fallback step: settings that need less memory."""

    changes: Mapping[str, Any]
    """Settings of TrainConfig that take other values."""
    words: str
    """The change in words, with its effect on the result."""


def next_fallback(config: TrainConfig, resolution_px: int, multiple_px: int, *, on_gpu: bool) -> MemoryFallback | None:
    """Return what to try next; None if no fallback step is left.

    Args:
        config: the settings that did not fit.
        resolution_px: side of a square of the training pictures' area.
        multiple_px: what sides of pictures are multiples of.
        on_gpu: True where the device has memory of its own, separate from main memory.
    """
    at_once = config.pictures_at_once()
    smaller = [size for size in range(1, at_once) if config.batch_size % size == 0]
    if smaller:
        size = max(smaller)
        return MemoryFallback(
            {"micro_batch_size": size},
            f"{size} instead of {at_once} pictures at a time, gradients accumulated: the same result",
        )
    if not config.gradient_checkpointing:
        return MemoryFallback({"gradient_checkpointing": True}, "gradient checkpointing: the same result, slower")
    movable = config.method.name != "full" and config.quantization == "none" and not config.compile_blocks
    if on_gpu and movable and not config.block_offload:
        words = "the base in main memory, one block at a time on the GPU: the same result, much slower"
        return MemoryFallback({"block_offload": True}, words)
    lower_px = resolution_px * 3 // 4 // multiple_px * multiple_px
    if lower_px >= _SMALLEST_PX:
        words = f"pictures of {lower_px} px instead of {resolution_px} px: less detail"
        return MemoryFallback({"resolution_px": lower_px}, words)
    return None


def with_changes(config: TrainConfig, changes: Mapping[str, Any]) -> TrainConfig:
    """Return ``config`` with the changes of all fallback steps so far."""
    return TrainConfig.parse({**config.model_dump(mode="json"), **changes})


def read(run_dir: Path) -> dict[str, Any]:
    """Return the changed settings of a run; empty if it never ran out of memory."""
    try:
        return dict(json.loads((run_dir / LADDER_NAME).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means out of memory; only CUDA has a class of its own for that."""
    text = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
    )
