"""The measuring nets survive saving, take pictures of any size, and weigh face and head as they say."""

from pathlib import Path

import pytest
import torch

from studio.pocket.identity import AttributeClassifier, IdentityEncoder, load_classifier, load_encoder, save

POINTS = torch.tensor([[0.5, 0.38], [0.5, 0.62], [0.59, 0.5], [0.69, 0.5]]).expand(2, 4, 2)


def small_encoder(**changes: object) -> IdentityEncoder:
    settings: dict[str, object] = {"size_px": 32, "face_px": 32, "eyes_px": 11.0, "channels": (8, 16), "embedding": 16}
    torch.manual_seed(0)
    return IdentityEncoder(**settings | changes).eval()  # type: ignore[arg-type]


def test_encoder_survives_saving_and_takes_any_size(tmp_path: Path) -> None:
    calibration = {"woman": {"other": 0.2, "same": 0.6, "borders": [0.1, 0.4, 0.9]}}
    encoder = small_encoder(calibration=calibration, version="5")
    save(encoder, tmp_path, torch.float32)
    again = load_encoder(tmp_path)
    pixels = torch.rand(2, 3, 50, 40) * 2 - 1
    assert torch.equal(again.embed(pixels, POINTS), encoder.embed(pixels, POINTS))
    assert again.embed(pixels, POINTS).shape == (2, 32)
    assert again.embed(pixels, POINTS).norm(dim=1).tolist() == pytest.approx([1.0, 1.0])
    assert torch.allclose(again.embed(pixels[:1], POINTS[:1]), again.embed(pixels, POINTS)[:1], atol=1e-5)
    assert again.calibration == calibration and again.config["version"] == "5"
    assert again.likeness(0.2, "woman") == 0.0 and again.likeness(0.6, "woman") == pytest.approx(1.0)


def test_cosine_is_the_weighted_mean_of_face_and_head() -> None:
    encoder = small_encoder(face_weight=0.75)
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    rows = encoder.embed(pixels, POINTS)
    with torch.no_grad():
        faces = encoder.face_vector(encoder.face_features(pixels, POINTS))
        heads = encoder.head_vector(pixels)
    wanted = 0.75 * (faces[0] @ faces[1]) + 0.25 * (heads[0] @ heads[1])
    assert (rows[0] @ rows[1]).item() == pytest.approx(wanted.item(), abs=1e-5)


def test_face_part_sees_nothing_outside_the_face() -> None:
    encoder = small_encoder(eyes_px=20.0)
    pixels = torch.rand(1, 3, 32, 32) * 2 - 1
    repainted = pixels.clone()
    repainted[..., :4, :] = 1.0
    with torch.no_grad():
        before, after = (encoder.face_features(p, POINTS[:1]) for p in (pixels, repainted))
        assert torch.equal(before, after)
        assert not torch.equal(encoder.head_vector(pixels), encoder.head_vector(repainted))


def test_encoder_without_calibration_refuses_to_put_numbers_on_a_scale() -> None:
    with pytest.raises(ValueError, match="no calibration"):
        small_encoder().likeness(0.5)


def test_classifier_survives_saving_and_names_its_values(tmp_path: Path) -> None:
    classifier = AttributeClassifier({"hat": ("none", "cap")}, size_px=32, channels=(8, 16), features=8)
    save(classifier, tmp_path, torch.float32)
    pixels = torch.rand(2, 3, 50, 40) * 2 - 1
    names = load_classifier(tmp_path).classify(pixels)
    assert names == classifier.classify(pixels)
    assert set(names) == {"hat"} and set(names["hat"]) <= {"none", "cap"}
    assert classifier.features(pixels).shape == (2, 8)
