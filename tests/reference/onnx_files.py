"""Writes small ONNX files without the package ``onnx``: nets of the right shape where the real weights need a download.

Used by a fixture of conftest.py.

Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, of which a dozen fields are enough.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_INT, _INTS = 2, 7
_FLOAT, _INT64 = 1, 7


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def tensor(name: str, values: NDArray[np.generic]) -> bytes:
    kind = _INT64 if values.dtype == np.int64 else _FLOAT
    dims = b"".join(number(1, size) for size in values.shape)
    return dims + number(2, kind) + block(8, name) + block(9, values.tobytes())


def node(kind: str, inputs: Sequence[str], output: str, **attributes: int | Sequence[int]) -> bytes:
    body = b"".join(block(1, name) for name in inputs) + block(2, output) + block(3, output) + block(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            body += block(5, block(1, name) + number(3, value) + number(20, _INT))
        else:
            body += block(5, block(1, name) + b"".join(number(8, one) for one in value) + number(20, _INTS))
    return body


def value_info(name: str, shape: Sequence[int]) -> bytes:
    dims = b"".join(block(1, number(1, size)) for size in shape)
    return block(1, name) + block(2, block(1, number(1, _FLOAT) + block(2, dims)))


def write(
    path: Path,
    nodes: Sequence[bytes],
    weights: dict[str, NDArray[np.generic]],
    inputs: dict[str, Sequence[int]],
    outputs: dict[str, Sequence[int]],
) -> Path:
    graph = b"".join(block(1, one) for one in nodes) + block(2, "stand-in")
    graph += b"".join(block(5, tensor(name, values)) for name, values in weights.items())
    graph += b"".join(block(11, value_info(name, shape)) for name, shape in inputs.items())
    graph += b"".join(block(12, value_info(name, shape)) for name, shape in outputs.items())
    path.write_bytes(number(1, 7) + block(7, graph) + block(8, block(1, "") + number(2, 11)))
    return path


def sface(path: Path) -> Path:
    """A net of SFace's shape, ``(1, 3, 112, 112)`` to ``(1, 128)``: random filters tell faces apart a bit."""
    kernels = np.random.default_rng(0).normal(size=(2, 3, 14, 14)).astype(np.float32)
    kernels -= kernels.mean((2, 3), keepdims=True)
    nodes = [
        node("Conv", ["data", "kernels"], "maps", kernel_shape=[14, 14], strides=[14, 14]),
        node("Flatten", ["maps"], "fc1", axis=1),
    ]
    return write(path, nodes, {"kernels": kernels}, {"data": (1, 3, 112, 112)}, {"fc1": (1, 128)})


def yunet(path: Path) -> Path:
    """A net of YuNet's shape that sees a face of 128 px around every 32 pixels, however the picture looks."""
    # Offsets in strides of 32 pixels from a cell's corner: a box's middle and the logarithm of its size; five points
    # of a face as SFace's alignment expects it.
    box = [0.5, 0.5, np.log(4), np.log(4)]
    points = [1.27, 0.35, -0.27, 0.35, 0.5, 1.0, 1.13, 1.65, -0.13, 1.65]
    nodes, weights, outputs = [], {}, {}
    for stride in (8, 16, 32):
        cells = (320 // stride) ** 2
        score = 0.95 if stride == 32 else 0.05
        for what, values in {"cls": [score], "obj": [score], "bbox": box, "kps": points}.items():
            name = f"{what}_{stride}"
            weights[f"w_{name}"] = np.zeros((len(values), 3, stride, stride), np.float32)
            weights[f"b_{name}"] = np.array(values, np.float32)
            weights[f"s_{name}"] = np.array([1, -1, len(values)], np.int64)
            nodes += [
                node(
                    "Conv",
                    ["input", f"w_{name}", f"b_{name}"],
                    f"m_{name}",
                    kernel_shape=[stride, stride],
                    strides=[stride, stride],
                ),
                node("Transpose", [f"m_{name}"], f"t_{name}", perm=[0, 2, 3, 1]),
                node("Reshape", [f"t_{name}", f"s_{name}"], name),
            ]
            outputs[name] = (1, cells, len(values))
    return write(path, nodes, weights, {"input": (1, 3, 320, 320)}, outputs)
