"""Networks from files: read without running anything, told by their keys, refused kindly."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

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


def packed(path, content):
    """Write a .pth file again with its entries compressed."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as smaller:
        for entry in archive.infolist():
            smaller.writestr(entry.filename, archive.read(entry))


def test_a_small_pth_file_cannot_fill_the_memory(tmp_path, monkeypatch):
    torch.save({"w": torch.zeros(2**20)}, tmp_path / "stored.pth")
    packed(tmp_path / "stored.pth", tmp_path / "packed.pth")
    torch.save({"w": torch.zeros(1).expand(2**30)}, tmp_path / "repeated.pth")
    torch.save(
        {"w": {"v": torch.zeros(4)[:1].expand(2**20)}}, tmp_path / "old.pth", _use_new_zipfile_serialization=False
    )
    assert (tmp_path / "packed.pth").stat().st_size < 20_000
    real = torch.load
    loaded = []

    def load(path, map_location, **given):
        loaded.append(map_location)
        return real(path, map_location=map_location, **given)

    monkeypatch.setattr(torch, "load", load)
    for name in ("packed.pth", "repeated.pth", "old.pth"):
        with pytest.raises(InputError, match=rf"{name}.*(is packed|says that it holds more)"):
            read_weights(tmp_path / name)
    assert set(loaded) <= {"meta"}, "nothing of them was read into the memory"
    assert read_weights(tmp_path / "stored.pth")["w"].shape == (2**20,)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_network_of_nan_is_refused(tmp_path, name):
    tensors = {"conv.weight": torch.tensor([1.0, float("nan")])}
    torch.save(tensors, tmp_path / "net.pth")
    save_file(tensors, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="NaN"):
        read_weights(tmp_path / name)
