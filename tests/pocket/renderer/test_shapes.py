"""Outlines pass through the points that they are made of and have the size that is asked for."""

import numpy as np
import pytest

from studio.pocket.renderer import shapes


def area(outline: shapes.Points) -> float:
    x, y = outline[:, 0], outline[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def nearest(outline: shapes.Points, x: float, y: float) -> float:
    return float(np.hypot(outline[:, 0] - x, outline[:, 1] - y).min())


@pytest.mark.parametrize("tilt", [0.0, 0.7])
def test_an_ellipse_has_the_area_of_its_radii(tilt):
    assert area(shapes.ellipse(0.3, -0.2, 0.5, 0.2, tilt, count=200)) == pytest.approx(np.pi * 0.1, rel=1e-3)


def test_a_box_keeps_its_sides_and_loses_its_corners_to_the_radius():
    assert area(shapes.box(1, 2, 0.5, 0.25)) == pytest.approx(0.5)
    rounded = shapes.box(1, 2, 0.5, 0.25, 0.1)
    assert (rounded.min(axis=0), rounded.max(axis=0)) == (
        pytest.approx((0.5, 1.75)),
        pytest.approx((1.5, 2.25)),
    )
    assert 0.48 < area(rounded) < 0.5


def test_smooth_lines_pass_through_their_points():
    corners = [(0.0, 0.0), (1.0, 0.2), (1.2, 1.0), (0.1, 0.9)]
    for line in (shapes.smooth(corners), shapes.curve(corners)):
        assert max(nearest(line, x, y) for x, y in corners) < 1e-9
    assert tuple(shapes.curve(corners)[-1]) == corners[-1]


def test_scallops_swell_out_of_the_ellipse_and_never_into_it():
    rim = shapes.scallops(0, 0, 1, 1, 9, 0.2)
    reach = np.hypot(rim[:, 0], rim[:, 1])
    assert reach.min() == pytest.approx(1, abs=1e-9) and reach.max() == pytest.approx(1.2, abs=0.02)


def test_a_ribbon_is_as_wide_as_asked_along_its_line():
    line = shapes.points([(x, 0.0) for x in np.linspace(0, 1, 11)])
    assert area(shapes.ribbon(line, 0.1)) == pytest.approx(0.2)
    assert area(shapes.ribbon(line, (0.0, 0.1, 0.0))) == pytest.approx(0.1)


def test_a_mirrored_outline_is_symmetric():
    outline = shapes.mirrored([(0.0, -1.0), (0.5, 0.0), (0.0, 1.0)])
    assert {(-x + 0.0, y) for x, y in outline} == {(x + 0.0, y) for x, y in outline}


def test_a_moved_outline_keeps_its_shape():
    outline = shapes.ellipse(0, 0, 1, 2)
    assert np.allclose(shapes.moved(outline, 0.5, -1) - outline, (0.5, -1))
