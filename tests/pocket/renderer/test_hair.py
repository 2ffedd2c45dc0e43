"""Hair keeps its colour under every hat and leaves the features free."""

import numpy as np
import pytest

from studio.pocket.renderer import words
from studio.pocket.renderer.portrait import landmarks, render


@pytest.mark.parametrize("accessory", sorted(words.HATS))
@pytest.mark.parametrize("style", [name for name in words.HAIR_STYLES if name != "bald"])
def test_hair_colour_stays_visible_under_a_hat(accessory, style, person, scene):
    black, green = (
        render(person(hair_style=style, hair_colour=c), scene(accessory=accessory)).astype(int)
        for c in ("black", "green")
    )
    assert (np.abs(black - green).max(axis=2) > 40).sum() >= 40


@pytest.mark.parametrize("fringe", words.FRINGES)
@pytest.mark.parametrize("style", words.HAIR_STYLES)
def test_hair_never_covers_eyes_nose_or_mouth(style, fringe, person, scene):
    for shape in words.FACE_SHAPES:
        black, pink = (
            render(person(hair_style=style, fringe=fringe, hair_colour=c, face_shape=shape), scene()).astype(int)
            for c in ("black", "pink")
        )
        differs = np.abs(black - pink).max(axis=2) > 40
        marks = landmarks(person(face_shape=shape), scene())
        for y, x in (marks.left_eye, marks.right_eye, marks.nose, marks.mouth):
            row, column = round(y * 128), round(x * 128)
            assert not differs[row - 4 : row + 5, column - 5 : column + 6].any()
