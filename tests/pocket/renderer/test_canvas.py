"""Shapes land where the frame says, cover what they cover and no more."""

import numpy as np
import pytest

from studio.pocket.renderer.canvas import Canvas, Frame, darker, lighter, luminance, mix
from studio.pocket.renderer.shapes import box, ellipse

RED, BLUE = (200.0, 0.0, 0.0), (0.0, 0.0, 200.0)


def blank(size_px: int = 100, frame: Frame | None = None) -> Canvas:
    return Canvas(np.zeros((size_px, size_px, 3), np.uint8), frame or Frame(50, 50, 50, 0.0, 0.0))


def test_a_filled_shape_covers_its_area():
    canvas = blank()
    canvas.fill(ellipse(0, 0, 0.5, 0.5, count=100), RED)
    assert canvas.rgb[:, :, 0].sum() / 200 == pytest.approx(np.pi * 25**2, rel=0.08)
    assert tuple(canvas.rgb[50, 50]) == (200, 0, 0) and not canvas.rgb[:, :, 1:].any()


def test_opacity_mixes_with_what_lies_below():
    canvas = blank()
    canvas.fill(box(0, 0, 0.9, 0.9), RED)
    canvas.fill(box(0, 0, 0.4, 0.4), BLUE, opacity=0.25)
    assert tuple(canvas.rgb[50, 50]) == (150, 0, 50) and tuple(canvas.rgb[10, 10]) == (200, 0, 0)


def test_nothing_is_painted_outside_the_clip():
    canvas = blank()
    canvas.fill(box(0, 0, 0.8, 0.8), RED, clip=box(-0.5, 0, 0.5, 1))
    assert canvas.rgb[50, 30, 0] == 200 and not canvas.rgb[:, 53:].any()


def test_a_shape_outside_the_picture_changes_nothing():
    canvas = blank()
    canvas.fill(box(5, 5, 0.5, 0.5), RED, opacity=0.5)
    canvas.fill(box(-5, 5, 0.5, 0.5), RED)
    assert not canvas.rgb.any()


def test_a_line_is_as_thick_as_asked():
    canvas = blank()
    canvas.line([(-0.5, 0.0), (0.5, 0.0)], RED, 0.2)
    assert canvas.rgb[:, 50, 0].sum() / 200 == pytest.approx(10, abs=1.5)


def test_a_turn_moves_the_middle_of_the_face_and_not_its_rim():
    turned = Frame(0, 0, 1, 0.0, 0.1)
    assert turned.map([(0.0, 0.3)])[0] == pytest.approx((0.1, 0.3))
    assert turned.map([(1.0, 0.3)])[0] == pytest.approx((1.0, 0.3))


def test_a_roll_turns_clockwise():
    assert Frame(0, 0, 2, np.pi / 2, 0.0).map([(1.0, 0.0)])[0] == pytest.approx((0.0, 2.0))


def test_shades_are_darker_and_lighter_than_their_colour():
    colour = (120.0, 90.0, 160.0)
    assert luminance(darker(colour, 0.3)) < luminance(colour) < luminance(lighter(colour, 0.3))
    assert mix(colour, RED, 0.0) == colour and mix(colour, RED, 1.0) == pytest.approx(RED)
