"""ncnn's two files: the same tensors come out that went in, and nothing else is taken for them."""

import struct

import numpy as np
import pytest

from studio.core.errors import InputError
from studio.finishing.networks.ncnn import read_ncnn

RANDOM = np.random.default_rng(0)
FIRST = RANDOM.normal(size=(5, 3, 3, 3)).astype(np.float32)
SLOPES = RANDOM.normal(size=5).astype(np.float32)
LAST = RANDOM.normal(size=(3, 5, 3, 3)).astype(np.float16)
BIAS = RANDOM.normal(size=5).astype(np.float32)
PARAM = """7767517
5 5
Input                    data                     0 1 data
Convolution              conv_0                   1 1 data a 0=5 1=3 4=1 5=1 6=135
PReLU                    prelu_1                  1 1 a b 0=5
Convolution              conv_2                   1 1 b c 0=3 1=3 4=1 6=135
PixelShuffle             out                      1 1 c output 0=1 1=2.000000e+00
"""


def write(folder, data, param=PARAM):
    path = folder / "net.bin"
    path.write_bytes(data)
    path.with_suffix(".param").write_text(param)
    return path


def network(flag=0x01306B47):
    half = LAST.tobytes()
    return b"".join(
        [
            struct.pack("<I", 0) + FIRST.tobytes() + BIAS.tobytes(),
            SLOPES.tobytes(),
            struct.pack("<I", flag) + half + b"\0" * (-len(half) % 4),
        ]
    )


def test_single_and_half_precision_and_slopes_come_out_under_their_names(tmp_path):
    tensors = read_ncnn(write(tmp_path, network()))
    assert list(tensors) == ["body.0.weight", "body.0.bias", "body.1.weight", "body.2.weight"]
    assert np.array_equal(tensors["body.0.weight"], FIRST) and np.array_equal(tensors["body.0.bias"], BIAS)
    assert np.array_equal(tensors["body.1.weight"], SLOPES)
    assert np.array_equal(tensors["body.2.weight"], LAST.astype(np.float32))
    assert all(values.dtype == np.float32 for values in tensors.values())


@pytest.mark.parametrize(
    ("data", "param", "words"),
    [
        (network()[:-8], PARAM, "cannot be read"),
        (network() + b"0000", PARAM, "4 bytes are left over"),
        (network(flag=7), PARAM, "unknown way"),
        (network(), PARAM.replace("7767517", "1"), "no ncnn file"),
        (network(), "", "cannot be read"),
    ],
)
def test_what_is_no_such_network_is_refused(tmp_path, data, param, words):
    with pytest.raises(InputError, match=words):
        read_ncnn(write(tmp_path, data, param))
