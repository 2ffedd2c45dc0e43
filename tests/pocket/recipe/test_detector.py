"""What the face detector is taught."""

import numpy as np
import pytest
import torch

from studio.pocket.faces import FaceDetector, load_detector
from studio.pocket.recipe.data import open_pictures
from studio.pocket.recipe.detector import detector_loss, heat, measure_detector, spoilt_batch
from studio.pocket.recipe.loop import TrainingContext

POINTS = torch.tensor([[[0.5, 0.375], [0.5, 0.625], [0.59, 0.5], [0.6875, 0.5]]])


def test_target_heat_maps_have_their_peak_at_the_landmarks() -> None:
    target = heat(POINTS, 32)
    assert target.sum(-1).tolist() == [pytest.approx([1.0] * 4)]
    y, x = divmod(int(target[0, 0].argmax()), 32)
    assert abs((y + 0.5) / 32 - 0.5) <= 1 / 32 and abs((x + 0.5) / 32 - 0.375) <= 1 / 32


def test_spoilt_faces_show_no_landmark_and_erased_features_are_a_matter_of_opinion() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(60, 3, 64, 64)
    points, hidden = POINTS.expand(60, 4, 2), torch.zeros(60, 4, dtype=torch.bool)
    made, seen, face = spoilt_batch(pixels, points, hidden)
    assert made.shape == pixels.shape
    assert {*face.tolist()} == {-1.0, 0.0, 1.0}
    assert (seen[face == 0] == 0).all()
    assert (seen[face == -1].sum(1) == 3).all()
    assert torch.equal(made[face == 1], pixels[face == 1])


def test_faces_that_are_a_matter_of_opinion_do_not_move_the_judgement() -> None:
    maps, seen = torch.zeros(2, 4, 8, 8), torch.zeros(2, 4)
    points, labels = POINTS.expand(2, 4, 2), torch.ones(2, 4)
    losses = [
        detector_loss((maps, seen, torch.tensor([0.0, doubtful])), points, labels, torch.tensor([1.0, -1.0]))[0]
        for doubtful in (-5.0, 5.0)
    ]
    assert losses[0] == losses[1]


def test_measured_detector_reports_shares(trained: TrainingContext) -> None:
    detector = load_detector(trained.work / "nets" / "faces")
    assert isinstance(detector, FaceDetector)
    result = measure_detector(detector, open_pictures(trained.work, "held"), trained, count=4)
    assert set(result["refused"]) == {"mosaic", "blur", "flat", "noise", "jumbled", "turned"}
    assert 0 <= result["readable"] <= 1
    assert np.isfinite(result["error_px"])
