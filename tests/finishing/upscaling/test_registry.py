"""Upscalers by name or file, and what is refused."""

import pytest
import torch
from safetensors.numpy import load_file, save_file

from studio.bases.weight_files import VerifiedWeights
from studio.core.errors import InputError, MissingExtraError
from studio.finishing.upscaling import registry

CPU = torch.device("cpu")


def test_a_file_counts_by_its_path_and_by_its_name_in_the_weights_folder(tiny_upscaler, tmp_path):
    assert registry.open_upscaler(str(tiny_upscaler), tmp_path, device=CPU).scale == 4
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mine.safetensors").write_bytes(tiny_upscaler.read_bytes())
    assert registry.open_upscaler("mine.safetensors", tmp_path, device=CPU).name == "mine.safetensors"


def test_an_unknown_model_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"x4plus, x4plus-anime, animevideov3, general-x4v3, sd-x4"):
        registry.open_upscaler("x8minus", tmp_path, device=CPU)


def test_weights_that_cannot_be_had_are_refused_kindly(tmp_path):
    with pytest.raises(MissingExtraError, match=r"realesr-general-x4v3\.pth"):
        registry.open_upscaler("general-x4v3", tmp_path, device=CPU)


def test_denoise_mixes_the_pair_and_is_refused_where_there_is_none(tmp_path, tiny_upscaler, monkeypatch):
    with pytest.raises(InputError, match="no second version"):
        registry.open_upscaler("x4plus", tmp_path, device=CPU, denoise=0.5)
    other = {name: values + 1 for name, values in load_file(tiny_upscaler).items()}
    save_file(other, tmp_path / "noisy.safetensors")
    files = {"general-x4v3": tiny_upscaler, "general-wdn-x4v3": tmp_path / "noisy.safetensors"}
    asked = []

    def resolve(name, home, on_bytes):
        asked.append(name)
        return VerifiedWeights(files[name], "pth")

    monkeypatch.setattr(registry, "resolve", resolve)
    registry.open_upscaler("general-x4v3", tmp_path, device=CPU)
    registry.open_upscaler("general-x4v3", tmp_path, device=CPU, denoise=1.0)
    assert asked == ["general-x4v3"] * 2
    mixed = registry.open_upscaler("general-x4v3", tmp_path, device=CPU, denoise=0.25)
    assert asked[2:] == ["general-x4v3", "general-wdn-x4v3"]
    first = next(iter(mixed._model.model.state_dict().values()))
    plain = next(iter(registry.open_upscaler(str(tiny_upscaler), tmp_path, device=CPU)._model.model.parameters()))
    assert torch.allclose(first, plain + 0.75)


def test_face_networks_come_from_a_file_and_nothing_else_is_taken_for_one(tmp_path, tiny_upscaler):
    with pytest.raises(InputError, match="GFPGAN or RestoreFormer"):
        registry.open_face_restorer("gfpgan", tmp_path, device=CPU)
    with pytest.raises(InputError, match="restores no faces"):
        registry.open_face_restorer(str(tiny_upscaler), tmp_path, device=CPU)


def test_networks_of_both_kinds_may_lie_on_the_hub(tmp_path, tiny_upscaler, monkeypatch):
    asked = []

    def from_hub(name, settings):
        asked.append(name)
        return tiny_upscaler

    monkeypatch.setattr(registry, "from_hub", from_hub)
    assert registry.open_upscaler("hf:ada/nets/x4.safetensors", tmp_path, device=CPU).scale == 4
    with pytest.raises(InputError, match="restores no faces"):
        registry.open_face_restorer("hf:ada/nets/face.pth", tmp_path, device=CPU)
    assert asked == ["hf:ada/nets/x4.safetensors", "hf:ada/nets/face.pth"]
