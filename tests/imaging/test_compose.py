"""Backgrounds: exact colours, gradients from edge to edge, no glow of the subject in a blur."""

import cv2
import numpy as np
from PIL import Image

from studio.imaging import compose


def test_a_colour_is_exactly_that_colour():
    made = compose.plain((3, 5), "#0180ff")
    assert made.shape == (3, 5, 3) and np.all(made == (1, 128, 255))


def test_a_gradient_runs_from_one_colour_to_the_other():
    made = compose.gradient((64, 2), "#ff0000", "#0000ff")
    assert tuple(made[0, 0]) == (255, 0, 0) and tuple(made[-1, 1]) == (0, 0, 255)
    assert np.all(np.diff(made[:, 0, 2].astype(int)) >= 0)


def test_a_blurred_background_holds_nothing_of_the_subject():
    alpha = np.zeros((120, 120), np.float32)
    cv2.circle(alpha, (60, 60), 35, 1.0, -1)
    original = np.where(alpha[..., None] > 0, 255, 60).astype(np.uint8).repeat(3, axis=2)
    behind = compose.blurred(original, alpha, 8.0)
    assert behind.shape == (120, 120, 3)
    assert np.all(np.abs(behind[alpha == 0].astype(int) - 60) <= 2), "a plain blur would glow round the subject"


def test_a_subject_that_fills_the_picture_does_not_break_the_blur():
    full = np.ones((20, 20), np.float32)
    assert np.all(np.isfinite(compose.blurred(np.full((20, 20, 3), 200, np.uint8), full, 4.0)))


def test_a_picture_covers_the_whole_background_without_being_bent():
    picture = Image.fromarray(np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3)))
    made = compose.covering(picture, (100, 50))
    assert made.shape == (100, 50, 3)
    assert 70 <= made[50, 0, 0] <= 80 and 120 <= made[50, -1, 0] <= 130, "the middle of it, at its own scale"


def test_laying_over_mixes_by_the_matte():
    subject, behind = np.full((1, 3, 3), 200, np.uint8), np.full((1, 3, 3), 100, np.uint8)
    made = compose.over(subject, np.array([[1.0, 0.5, 0.0]], np.float32), behind)
    assert made[0, :, 0].tolist() == [200, 150, 100]
