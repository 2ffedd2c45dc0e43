"""Safetensors files: headers read with distrust, contents written so that they depend on nothing but the tensors.

A file that somebody downloaded may be cut, swapped or hostile; ``read_header`` looks at its first bytes only and says
what is wrong in words before any loader touches it. Called by ``studio.bases.resolve``, ``studio.export`` and the
methods.
"""

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from studio.core.errors import InputError, Problem
from studio.core.files import replacing

_MAX_HEADER_BYTES = 16 * 2**20  # of 100 that the library takes; a header of 1 MB names 10,000 tensors
_NAME_CHARACTERS = 120
_PICKLE_SUFFIXES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_BITS: dict[str, int] = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "F64": 64, "I64": 64, "U64": 64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says of itself."""

    shapes: Mapping[str, tuple[int, ...]]
    """Shape by tensor name."""
    metadata: Mapping[str, str]
    main_dtype: str = "F32"
    """Type of most tensors, in safetensors' words: F32, F16, BF16 ..."""


def read_header(path: Path, where: str) -> Header:
    """Read the header of a safetensors file and check it against the file's length.

    Args:
        path: the file.
        where: the setting that named it, for the error.

    Raises:
        InputError: there is no such file, it is a pickle, cut off, or not safetensors at all.
    """
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        raise _bad(where, f"{path.name} is a pickle, which can run malicious code", "use a .safetensors file", "pickle")
    try:
        with path.open("rb") as file:
            file_bytes = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            if file_bytes < 8 or length > _MAX_HEADER_BYTES or length > file_bytes - 8:
                raise _bad(where, f"{path.name} is truncated or not a safetensors file", "download it again")
            text = file.read(length)
    except (FileNotFoundError, NotADirectoryError):
        raise _bad(where, f"{path.name} does not exist", "give the path of a .safetensors file", "no_file") from None
    except OSError as error:
        raise _bad(where, f"{path.name} cannot be read ({error.strerror})", "choose another file") from None
    try:
        rows: dict[str, Any] = json.loads(text)
        metadata = rows.pop("__metadata__", None) or {}
        shapes = {name: _checked_row(row, file_bytes - 8 - length) for name, row in rows.items()}
        if not shapes or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _bad(where, f"{path.name} has a damaged header", "download it again") from None
    return Header(shapes, metadata, Counter(row["dtype"] for row in rows.values()).most_common(1)[0][0])


def _checked_row(row: Mapping[str, Any], data_bytes: int) -> tuple[int, ...]:
    """Return a tensor's shape; raises ValueError, KeyError or TypeError where the row cannot be true."""
    begin, end = row["data_offsets"]
    shape = tuple(row["shape"])
    if not all(type(size) is int and size >= 0 for size in (*shape, begin, end)):
        raise ValueError
    if not begin <= end <= data_bytes or (end - begin) * 8 != math.prod(shape) * _BITS[row["dtype"]]:
        raise ValueError
    return shape


def read_tensors(path: Path, where: str) -> dict[str, Tensor]:
    """Read every tensor of a safetensors file that somebody else may have made.

    Args:
        path: the file.
        where: the setting that named it, for the error.

    Returns:
        The tensors by name, on the CPU, in the file's own precision; every number is finite.

    Raises:
        InputError: as ``read_header``; or a tensor is empty, or holds NaN or infinity.
    """
    header = read_header(path, where)
    empty = [name for name, shape in header.shapes.items() if 0 in shape]
    if empty:
        raise _bad(where, f"{path.name}: the tensor {plain(empty[0])} is empty", "use another file")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError):
        raise _bad(where, f"{path.name} is damaged", "download it again") from None
    if broken := first_not_finite(tensors):
        message = f"{path.name}: the tensor {plain(broken)} contains NaN or infinity"
        raise _bad(where, message, "use another file", "not_finite")
    return tensors


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor with NaN or infinity in it, None where all are numbers."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            # Numbers of 8 bits have no isfinite.
            values = tensor.float() if tensor.element_size() == 1 else tensor
            if not bool(torch.isfinite(values).all()):
                return name
    return None


def plain(name: str) -> str:
    """Return a name out of somebody else's file as it may be shown: short, and nothing but letters, digits and dots."""
    return re.sub(r"[^\w./ -]", "", name, flags=re.ASCII)[:_NAME_CHARACTERS]


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, hash_key: str | None = None
) -> None:
    """Write tensors under a temporary name, flush them to the disk and rename.

    Equal tensors and metadata make equal bytes; safetensors alone writes the metadata in a random order.

    Args:
        path: the file; its folder must exist.
        tensors: on the CPU, contiguous.
        metadata: strings for the file's ``__metadata__``.
        hash_key: name of a further string: "0x" and the SHA-256 of the tensors' bytes, as ModelSpec has it.
    """
    data = save(dict(tensors), metadata=dict(metadata))
    length = int.from_bytes(data[:8], "little")
    content = memoryview(data)[8 + length :]
    header = json.loads(data[8 : 8 + length])
    strings = dict(metadata)
    if hash_key:
        strings[hash_key] = f"0x{hashlib.sha256(content).hexdigest()}"
    header["__metadata__"] = dict(sorted(strings.items()))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    with replacing(path) as part, part.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(content)


def _bad(where: str, message: str, cure: str, code: str = "bad_safetensors") -> InputError:
    return InputError.of([Problem(where, message, cure, code)])
