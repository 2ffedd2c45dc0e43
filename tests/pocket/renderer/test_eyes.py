"""Eyes: lids that never cross, gazes that move the iris, expressions that keep the shape of the eye."""

import numpy as np
import pytest

from studio.pocket.renderer.eyes import EYE_X, SHAPES, opening
from studio.pocket.renderer.portrait import landmarks, render
from studio.pocket.renderer.words import EXPRESSIONS, EYES


def test_every_name_of_an_eye_has_a_shape():
    assert set(SHAPES) == set(EYES)


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("eyes", EYES)
def test_lids_never_cross_and_both_eyes_mirror_each_other(eyes, expression, person, scene):
    left, right = (opening(person(eyes=eyes), scene(expression=expression), side) for side in (-1, 1))
    assert (left[0][:, 1] <= left[1][:, 1] + 1e-9).all()
    for one, other in zip(left, right, strict=True):
        assert np.allclose(one * (-1, 1), other)


@pytest.mark.parametrize("expression", [name for name in EXPRESSIONS if name != "winking"])
@pytest.mark.parametrize("eyes", EYES)
def test_eyes_stay_open_in_every_expression_but_a_wink(eyes, expression, person, scene):
    upper, lower = opening(person(eyes=eyes), scene(expression=expression), 1)
    assert (lower[:, 1] - upper[:, 1]).max() > 0.045


@pytest.mark.parametrize("eyes", EYES)
def test_surprise_opens_an_eye_and_laughing_narrows_it(eyes, person, scene):
    heights = []
    for expression in ("laughing", "neutral", "surprised"):
        upper, lower = opening(person(eyes=eyes), scene(expression=expression), 1)
        heights.append((lower[:, 1] - upper[:, 1]).max())
    assert heights[0] < heights[1] < heights[2]


@pytest.mark.parametrize("eyes", EYES)
def test_a_gaze_moves_the_iris_to_the_side_it_is_called_after(eyes, person, scene):
    """Where blue and brown irises differ, there the iris is."""
    centres = {}
    for gaze in ("left", "straight", "right"):
        blue, brown = (
            render(person(eyes=eyes, eye_colour=c), scene(gaze=gaze), 256).astype(int) for c in ("blue", "brown")
        )
        _, columns = np.nonzero(np.abs(blue - brown).max(axis=2) > 40)
        centres[gaze] = columns.mean() / 256
    middle = landmarks(person(), scene()).nose[1]
    assert centres["left"] < middle - 0.010 and centres["right"] > middle + 0.010
    assert abs(centres["straight"] - middle) < 0.005
    assert 0 < EYE_X < 1
