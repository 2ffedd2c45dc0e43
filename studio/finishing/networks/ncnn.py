"""Reading the two files of an ncnn network back into the tensors of the PyTorch network that it was made from.

The layers of these networks stand in the order of their definition, and their weights are already PyTorch's
``(out, in, k, k)``; half precision is widened to single.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from studio.core.errors import InputError, Problem

_MAGIC = "7767517"
_HALF, _SINGLE = 0x01306B47, 0
_TAIL = ("conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class _Layer:
    weight: NDArray[np.float32]
    bias: NDArray[np.float32] | None


def read_ncnn(weights: Path) -> Tensors:
    """Return the tensors of an RRDBNet or an SRVGGNetCompact by their official names, float32.

    Args:
        weights: the ``.bin`` file; the ``.param`` file lies beside it.

    Raises:
        InputError: the files are something else, or damaged.
    """
    try:
        lines = weights.with_suffix(".param").read_text(encoding="ascii").splitlines()
        data = weights.read_bytes()
        if lines[0].strip() != _MAGIC:
            raise ValueError("it is no ncnn file")
        kinds, layers = _layers([line.split() for line in lines[2:] if line.strip()], data)
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        problem = Problem(weights.name, f"cannot be read as a network ({error})", "fetch it again", "bad_weights")
        raise InputError.of([problem]) from None
    compact = "PReLU" in kinds
    names = [f"body.{index}" for index in range(len(layers))] if compact else list(_rrdb_names(len(layers)))
    tensors: Tensors = {}
    for name, layer in zip(names, layers, strict=True):
        tensors[f"{name}.weight"] = layer.weight
        if layer.bias is not None:
            tensors[f"{name}.bias"] = layer.bias
    return tensors


def _rrdb_names(count: int) -> Iterator[str]:
    yield "conv_first"
    for block in range((count - 6) // 15):
        for dense in (1, 2, 3):
            for conv in (1, 2, 3, 4, 5):
                yield f"body.{block}.rdb{dense}.conv{conv}"
    yield from _TAIL


def _layers(rows: list[list[str]], data: bytes) -> tuple[set[str], list[_Layer]]:
    """Return the kinds of layers with weights, and these layers in order."""
    kinds, layers, at = set(), [], 0
    for row in rows:
        kind = row[0]
        if kind not in ("Convolution", "PReLU"):
            continue
        start = 4 + int(row[2]) + int(row[3])
        values = {key: int(value) for key, value in re.findall(r"(\d+)=(\d+)(?![\d.])", " ".join(row[start:]))}
        kinds.add(kind)
        if kind == "PReLU":
            slopes, at = _floats(data, at, values["0"])
            layers.append(_Layer(slopes, None))
            continue
        flag = int.from_bytes(data[at : at + 4], "little")
        at += 4
        out, kernel, count = values["0"], values["1"], values["6"]
        if flag == _HALF:
            weight = np.frombuffer(data, "<f2", count, at).astype(np.float32)
            at += (count * 2 + 3) // 4 * 4
        elif flag == _SINGLE:
            weight, at = _floats(data, at, count)
        else:
            raise ValueError(f"weights are stored in an unknown way ({flag:#x})")
        bias, at = _floats(data, at, out) if values.get("5") else (None, at)
        layers.append(_Layer(weight.reshape(out, count // (out * kernel * kernel), kernel, kernel), bias))
    if at != len(data):
        raise ValueError(f"{len(data) - at} bytes are left over")
    return kinds, layers


def _floats(data: bytes, at: int, count: int) -> tuple[NDArray[np.float32], int]:
    return np.frombuffer(data, "<f4", count, at).astype(np.float32), at + 4 * count
