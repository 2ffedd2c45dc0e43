from __future__ import annotations

from pathlib import Path

import pytest
import torch

from studio.pocket.identity import AttributeClassifier, IdentityEncoder, load_classifier, load_encoder, save


def test_measuring_nets_survive_saving_and_take_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = IdentityEncoder(size_px=32, channels=(8, 16), calibration={"woman": {"other": 0.2, "same": 0.6}})
    classifier = AttributeClassifier({"hat": ("none", "cap")}, size_px=32, channels=(8, 16), features=8)
    save(encoder, tmp_path / "identity", torch.float32)
    save(classifier, tmp_path / "attributes", torch.float32)
    pixels = torch.rand(2, 3, 50, 40) * 2 - 1
    again = load_encoder(tmp_path / "identity")
    assert torch.equal(again.embed(pixels), encoder.embed(pixels))
    assert again.embed(pixels).shape == (2, 64)
    assert again.embed(pixels).norm(dim=1).tolist() == pytest.approx([1.0, 1.0])
    assert torch.allclose(again.embed(pixels[:1]), again.embed(pixels)[:1], atol=1e-5)
    assert again.likeness(0.2, "woman") == 0.0 and again.likeness(0.6, "woman") == pytest.approx(1.0)
    names = load_classifier(tmp_path / "attributes").classify(pixels)
    assert set(names) == {"hat"} and set(names["hat"]) <= {"none", "cap"}
