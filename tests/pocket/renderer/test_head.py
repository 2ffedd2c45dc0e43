"""Faces: outlines that are symmetric, closed and of different widths."""

import numpy as np
import pytest

from studio.pocket.renderer.head import CHIN, CROWN, outline, width_at
from studio.pocket.renderer.words import FACE_SHAPES


@pytest.mark.parametrize("shape", FACE_SHAPES)
def test_a_face_reaches_from_the_crown_to_its_chin_and_is_symmetric(shape):
    face = outline(shape)
    assert face[:, 1].min() == pytest.approx(CROWN, abs=0.02)
    assert face[:, 1].max() == pytest.approx(CHIN[shape], abs=0.02)
    assert face[:, 0].min() == pytest.approx(-face[:, 0].max(), abs=1e-6)


@pytest.mark.parametrize("shape", FACE_SHAPES)
def test_the_width_of_a_face_is_that_of_its_outline(shape):
    face = outline(shape)
    near = face[np.abs(face[:, 1] - 0.12) < 0.08]
    assert width_at(shape, 0.12) == pytest.approx(near[:, 0].max(), abs=0.03)


def test_no_two_faces_have_the_same_widths():
    heights = (-0.5, 0.1, 0.55, 0.85)
    rows = {shape: np.array([width_at(shape, y) for y in heights]) for shape in FACE_SHAPES}
    for place, one in enumerate(FACE_SHAPES):
        for other in FACE_SHAPES[:place]:
            assert np.abs(rows[one] - rows[other]).max() > 0.08, (one, other)
