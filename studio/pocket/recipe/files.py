"""Files of a work folder that survive kill -9: JSON, JSON lines, checkpoints."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from studio.core.files import replacing

log = logging.getLogger(__name__)

_STATE = "state"  # key of a checkpoint's JSON in the header of its safetensors file


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then put it in place of ``path``; a reader sees the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        write(temporary)


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line with the time (seconds since 1970)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"time": round(time.time(), 1), **record}) + "\n")


def write_json(path: Path, value: Any, indent: int | None = None) -> None:
    """Write a JSON file in one piece."""
    text = json.dumps(value, indent=indent) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    write_atomic(path, write)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from."""

    step: int
    """Finished steps."""
    elapsed_s: float
    """Seconds of training so far, over all runs."""
    net: dict[str, Tensor]
    """Trained weights."""
    ema: dict[str, Tensor]
    """Their moving average."""
    begun: int = 0
    """The step at which the optimizers knew nothing."""
    optimizers: list[dict[str, Any]] | None = None
    """State dicts of the optimizers; ``None`` for weights that were adopted from an exported model."""
    rng: Tensor | None = None
    """State of torch's generator on the CPU."""
    rng_cuda: Tensor | None = None
    """State of torch's generator on the GPU."""


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Write ``step-XXXXXXXX.safetensors`` in one piece and delete all but the newest ``keep``.

    Args:
        folder: of one stage's checkpoints.
        checkpoint: what to write; on any device.
        keep: how many checkpoints stay.

    Returns:
        The checkpoint's path. Numbers that are no tensors stand as JSON in the file's header.
    """
    tensors = {f"net.{k}": v for k, v in checkpoint.net.items()} | {f"ema.{k}": v for k, v in checkpoint.ema.items()}
    tensors |= {k: v for k in ("rng", "rng_cuda") if (v := getattr(checkpoint, k)) is not None}
    state = {k: getattr(checkpoint, k) for k in ("step", "elapsed_s", "begun")}
    if checkpoint.optimizers is not None:
        state["optimizers"] = []
        for number, optimizer in enumerate(checkpoint.optimizers):
            for parameter, values in optimizer["state"].items():
                tensors |= {f"optimizer.{number}.{parameter}.{name}": value for name, value in values.items()}
            state["optimizers"].append(optimizer["param_groups"])
    # safetensors refuses tensors that share memory, as a shared weight's entries do.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    path = folder / f"step-{checkpoint.step:08d}.safetensors"
    write_atomic(path, lambda temporary: save_file(tensors, temporary, {_STATE: json.dumps(state)}))
    for old in sorted(folder.glob("step-*.safetensors"))[:-keep]:
        old.unlink()
    return path


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest checkpoint that can be read, on the CPU; ``None`` if there is none.

    Half-written files (``.tmp``, or cut off by a full disk) are passed over.
    """
    for path in sorted(folder.glob("step-*.safetensors"), reverse=True):
        try:
            return _read_checkpoint(path)
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            log.warning("%s cannot be read and is passed over: %s", path, error)
    return None


def _read_checkpoint(path: Path) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        state = json.loads(file.metadata()[_STATE])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    groups = state.pop("optimizers", None)
    optimizers: list[dict[str, Any]] | None = None
    if groups is not None:
        optimizers = [{"state": {}, "param_groups": group} for group in groups]
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, number, parameter, key = name.split(".", 3)
                optimizers[int(number)]["state"].setdefault(int(parameter), {})[key] = value
    parts = {
        part: {name.removeprefix(f"{part}."): v for name, v in tensors.items() if name.startswith(f"{part}.")}
        for part in ("net", "ema")
    }
    return Checkpoint(
        state["step"],
        state["elapsed_s"],
        parts["net"],
        parts["ema"],
        state["begun"],
        optimizers,
        tensors.get("rng"),
        tensors.get("rng_cuda"),
    )


def load_averaged(folder: Path, net: nn.Module) -> nn.Module:
    """Fill ``net`` with the averaged weights of the newest checkpoint, in evaluation mode.

    Raises:
        FileNotFoundError: the stage has no checkpoint yet.
    """
    checkpoint = newest_checkpoint(folder)
    if checkpoint is None:
        raise FileNotFoundError(f"{folder} holds no checkpoint; run the {folder.name} stage first")
    net.load_state_dict(checkpoint.ema)
    return net.eval().requires_grad_(False)


def fitting(weights: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Return the net's own state with every tensor of ``weights`` that has the name and the shape of one of it."""
    own: dict[str, Any] = net.state_dict()
    return own | {name: value for name, value in weights.items() if name in own and value.shape == own[name].shape}


def as_float(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in float32."""
    return {name: value.to(torch.float32) for name, value in weights.items()}
