"""Networks from files: read without running anything, told by their keys, refused kindly."""

import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from studio.core.errors import InputError
from studio.finishing.networks.read import build, mix, read_weights


def test_a_pth_file_is_read_without_running_it(tmp_path, tiny_upscaler):
    path = tmp_path / "net.pth"
    torch.save({"params_ema": {k: torch.from_numpy(v) for k, v in load_file(tiny_upscaler).items()}}, path)
    read, expected = read_weights(path), load_file(tiny_upscaler)
    assert set(read) == set(expected)
    assert all(np.array_equal(read[name].numpy(), values) for name, values in expected.items())
    assert build(read, "net").scale == 4


def test_a_pth_file_that_holds_code_is_refused_and_nothing_runs(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "hacked"),)

    path = tmp_path / "net.pth"
    path.write_bytes(pickle.dumps({"params": Evil()}))
    with pytest.raises(InputError, match="more than tensors"):
        read_weights(path)
    torch.save({"params": Evil()}, path)
    with pytest.raises(InputError, match="more than tensors"):
        read_weights(path)
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize("name", ["net.safetensors", "net.pth", "missing.pth"])
def test_damaged_and_missing_files_are_refused(tmp_path, name):
    (tmp_path / "net.safetensors").write_bytes(b"damaged")
    (tmp_path / "net.pth").write_bytes(b"damaged")
    with pytest.raises(InputError, match=name):
        read_weights(tmp_path / name)


def test_a_layout_that_nobody_knows_is_refused():
    with pytest.raises(InputError, match="no network that is known"):
        build({"layer.weight": torch.zeros(3, 3)}, "odd")


def test_mixing_two_networks_mixes_their_weights():
    first, second = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 6.0])}
    assert mix(first, second, 1.0)["w"].tolist() == [1.0, 2.0]
    assert mix(first, second, 0.25)["w"].tolist() == [2.5, 5.0]
