"""Mouths bend with the expression and keep the width that tells people apart."""

from itertools import pairwise

import pytest

from studio.pocket.renderer.features import MOUTHS, lips
from studio.pocket.renderer.words import EXPRESSIONS
from studio.pocket.renderer.words import MOUTHS as NAMES


def test_every_name_of_a_mouth_has_a_shape():
    assert set(MOUTHS) == set(NAMES)


@pytest.mark.parametrize("expression", EXPRESSIONS)
@pytest.mark.parametrize("mouth", NAMES)
def test_the_lines_of_a_mouth_keep_their_order(mouth, expression, person, scene):
    rows = [line[:, 1] for line in lips(person(mouth=mouth), scene(expression=expression))]
    for above, below in pairwise(rows):
        assert (above <= below + 1e-9).all()


@pytest.mark.parametrize("mouth", NAMES)
def test_corners_go_up_in_a_smile_and_down_in_sadness(mouth, person, scene):
    def lift(expression: str) -> float:
        line = lips(person(mouth=mouth), scene(expression=expression))[1]
        return float(line[10, 1] - line[0, 1])

    assert lift("smiling") > lift("neutral") + 0.03 > 0.03 > 0 > lift("angry")
    assert lift("sad") < -0.04


@pytest.mark.parametrize("mouth", NAMES)
def test_only_open_expressions_open_the_mouth(mouth, person, scene):
    for expression in EXPRESSIONS:
        _, upper, lower, _ = lips(person(mouth=mouth), scene(expression=expression))
        gap = float((lower - upper)[:, 1].max())
        assert (gap > 0.05) == (expression in ("smiling", "laughing", "surprised", "angry"))


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_wide_mouth_stays_wider_than_a_small_one(expression, person, scene):
    wide, small = (lips(person(mouth=m), scene(expression=expression))[1][-1, 0] for m in ("wide", "small"))
    assert wide > small + 0.04
