"""Backgrounds fill the frame, and their details move with the jitter."""

import numpy as np
import pytest

from studio.pocket.renderer.backgrounds import draw_background
from studio.pocket.renderer.words import BACKGROUNDS


@pytest.mark.parametrize("name", BACKGROUNDS)
def test_a_background_is_the_same_picture_for_the_same_jitter(name):
    one, again = (draw_background(name, 96, 7) for _ in range(2))
    assert one.shape == (96, 96, 3) and one.dtype == np.uint8
    assert one.tobytes() == again.tobytes()


@pytest.mark.parametrize("name", [name for name in BACKGROUNDS if not name.startswith("plain")])
def test_details_move_with_the_jitter_and_the_colours_stay(name):
    pictures = [draw_background(name, 96, jitter).astype(float) for jitter in range(6)]
    assert max(np.abs(pictures[0] - other).max() for other in pictures[1:]) > 10
    means = np.array([picture.mean(axis=(0, 1)) for picture in pictures])
    assert np.ptp(means, axis=0).max() < 25


def test_backgrounds_differ_at_the_sides_where_the_head_leaves_room():
    strips = {}
    for name in BACKGROUNDS:
        picture = draw_background(name, 64, 3).astype(float)
        strips[name] = np.concatenate((picture[:44, :12], picture[:44, -12:]), axis=1)
    names = list(strips)
    for place, one in enumerate(names):
        for other in names[:place]:
            assert np.abs(strips[one] - strips[other]).mean() > 8, (one, other)
