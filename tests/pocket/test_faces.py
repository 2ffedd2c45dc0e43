"""Landmarks, the aligned crop, and what counts as a face."""

from pathlib import Path

import pytest
import torch

from studio.pocket.faces import FaceDetector, aligned, expected_points, load_detector, plausible, save_detector

POINTS = torch.tensor([[[0.5, 0.38], [0.5, 0.62], [0.59, 0.5], [0.69, 0.5]]])


def test_detector_survives_saving_and_takes_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = FaceDetector(32, (8, 8, 16, 16), threshold=0.25)
    save_detector(detector, tmp_path, torch.float32)
    pixels = torch.rand(2, 3, 50, 40) * 2 - 1
    before, after = detector.find(pixels), load_detector(tmp_path).find(pixels)
    assert torch.equal(before.points, after.points) and torch.equal(before.face, after.face)
    assert after.points.shape == (2, 4, 2) and after.confidence.shape == (2, 4)
    assert load_detector(tmp_path).config["threshold"] == 0.25


def test_expected_point_is_where_the_heat_is_between_pixels_too() -> None:
    maps = torch.full((1, 2, 8, 8), -20.0)
    maps[0, 0, 2, 5] = 0
    maps[0, 1, 4, 3] = maps[0, 1, 4, 4] = 0
    found = expected_points(maps)[0]
    assert found[0].tolist() == pytest.approx([2.5 / 8, 5.5 / 8], abs=1e-4)
    assert found[1].tolist() == pytest.approx([4.5 / 8, 4 / 8], abs=1e-4)


def test_second_peak_far_away_does_not_pull_the_point() -> None:
    maps = torch.full((1, 1, 16, 16), -20.0)
    maps[0, 0, 3, 3], maps[0, 0, 13, 13] = 0.0, -0.1
    assert expected_points(maps)[0, 0].tolist() == pytest.approx([3.5 / 16] * 2, abs=1e-3)


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, True),
        ({0: (0.5, 0.62), 1: (0.5, 0.38)}, False),  # eyes swapped
        ({2: (0.4, 0.5)}, False),  # the nose above the eyes
        ({3: (0.55, 0.5)}, False),  # the mouth above the nose
        ({0: (0.8, 0.38)}, False),  # one eye on the cheek
    ],
)
def test_landmarks_must_lie_as_in_a_face(changed: dict[int, tuple[float, float]], wanted: bool) -> None:
    points = POINTS.clone()
    for place, yx in changed.items():
        points[0, place] = torch.tensor(yx)
    assert plausible(points).tolist() == [wanted]


def test_aligned_crop_undoes_turn_shift_and_scale() -> None:
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), (64, 64), mode="bicubic")
    crop = aligned(smooth, POINTS, 32, 11.0)
    # The same picture turned by a quarter, landmarks and all.
    turned = torch.rot90(smooth, 1, (2, 3))
    points = torch.stack([1 - POINTS[..., 1], POINTS[..., 0]], -1)
    assert torch.allclose(aligned(turned, points, 32, 11.0), crop, atol=1e-4)
    shifted = torch.roll(smooth, (4, 8), (2, 3))
    moved = POINTS + torch.tensor([4 / 64, 8 / 64])
    assert torch.allclose(aligned(shifted, moved, 32, 11.0)[..., 8:24, 8:24], crop[..., 8:24, 8:24], atol=1e-4)


def test_eyes_of_the_crop_are_as_far_apart_as_asked() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    mean_face = torch.tensor([[[0.475, 0.375], [0.475, 0.625], [0.575, 0.5], [0.6875, 0.5]]])
    for y, x in (mean_face[0, :2] * 64).tolist():
        picture[..., round(y - 1) : round(y + 1), round(x - 1) : round(x + 1)] = 1
    columns = aligned(picture, mean_face, 40, 16.0)[0, 0].amax(0)
    left, right = columns[:20].argmax().item(), 20 + columns[20:].argmax().item()
    assert right - left == pytest.approx(16, abs=1.5)
