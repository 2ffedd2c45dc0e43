"""Mattes: edges follow the picture, and the old background does not shine through."""

import cv2
import numpy as np
import pytest

from studio.imaging import matte

SIZE = 96
TRUE = np.zeros((SIZE, SIZE), np.float32)
cv2.circle(TRUE, (48, 48), 30, 1.0, -1)
RED, BLUE = np.array([200, 40, 40], np.float32), np.array([40, 60, 210], np.float32)


def scene(alpha):
    return (alpha[..., None] * RED + (1 - alpha[..., None]) * BLUE).round().astype(np.uint8)


def test_a_soft_matte_gets_the_edge_of_its_picture():
    soft = cv2.GaussianBlur(TRUE, (0, 0), 5)
    refined = matte.guided(soft, scene(TRUE), radius_px=6)
    assert np.abs(refined - TRUE).mean() < np.abs(soft - TRUE).mean() / 2
    assert refined.dtype == np.float32 and refined.min() >= 0 and refined.max() <= 1


def test_what_the_network_was_sure_of_stays_as_it_is():
    refined = matte.guided(TRUE, np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8), radius_px=4)
    assert np.array_equal(refined, TRUE)


def test_the_subjects_own_colour_is_found_where_it_was_mixed_with_the_background():
    alpha = cv2.GaussianBlur(TRUE, (0, 0), 3)
    mixed = (alpha > 0.2) & (alpha < 0.9)
    picture = scene(alpha)
    found = matte.foreground(picture, alpha)
    before = np.abs(picture[mixed] - RED).mean()
    assert np.abs(found[mixed] - RED).mean() < before / 5
    assert np.array_equal(found[alpha == 1], picture[alpha == 1])


def test_strips_leave_no_seams(monkeypatch):
    alpha = cv2.GaussianBlur(TRUE, (0, 0), 3)
    noisy = np.clip(scene(alpha) + np.random.default_rng(1).normal(0, 9, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    whole = matte.foreground(noisy, alpha)
    monkeypatch.setattr(matte, "_STRIP_PX", 17)
    assert np.abs(matte.foreground(noisy, alpha).astype(int) - whole).max() <= 1


@pytest.mark.slow  # pymatting compiles itself for a minute when it is first imported
@pytest.mark.filterwarnings("default")
def test_closed_form_solves_the_band_between_and_leaves_the_rest():
    soft = cv2.GaussianBlur(TRUE, (0, 0), 4)
    solved = matte.closed_form(soft, scene(TRUE))
    assert solved.shape == TRUE.shape and solved.dtype == np.float32
    assert np.abs(solved - TRUE).mean() < np.abs(soft - TRUE).mean() / 3
    nothing_known = np.full_like(TRUE, 0.5)
    assert np.array_equal(matte.closed_form(nothing_known, scene(TRUE)), nothing_known)


def test_one_pixel_is_a_matte_too():
    one = np.full((1, 1), 0.5, np.float32)
    picture = np.full((1, 1, 3), 90, np.uint8)
    assert matte.guided(one, picture).shape == (1, 1)
    assert matte.foreground(picture, one).shape == (1, 1, 3)
