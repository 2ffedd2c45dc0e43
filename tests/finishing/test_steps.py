import numpy as np
import pytest

from studio.core.finish_config import UpscaleStep
from studio.finishing.steps import _passes, _target_hw, alpha_of, on_white


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"factor": 2.0}, (200, 300)),
        ({"long_side_px": 600}, (400, 600)),
        ({"long_side_px": 100}, (100, 150)),  # never made smaller
        ({}, (400, 600)),  # the network's own factor
    ],
)
def test_the_target_of_an_enlargement_keeps_the_picture_and_its_shape(settings, wanted):
    assert _target_hw((100, 150), UpscaleStep(**settings), 4) == wanted


@pytest.mark.parametrize(
    ("target_hw", "exact", "passes"),
    [
        ((200, 300), False, [(100, 150)]),  # the only pass gets all there is
        ((200, 300), True, [(50, 75)]),  # unless it must not overshoot
        ((800, 1200), False, [(100, 150), (200, 300)]),  # two passes; the last gets what it needs
    ],
)
def test_a_network_is_given_no_more_than_the_target_needs(target_hw, exact, passes):
    assert _passes((100, 150), target_hw, 4, exact=exact) == passes


def test_a_picture_that_hides_nothing_has_no_alpha_and_lies_on_white_as_it_is():
    grey = np.full((2, 2, 3), 100, np.uint8)
    assert alpha_of(grey) is None
    assert np.array_equal(on_white(grey, None), grey)
    half = np.full((2, 2), 0.5, np.float32)
    assert np.unique(on_white(grey, half)).tolist() in ([177], [178])
    assert (on_white(grey, np.zeros((2, 2), np.float32)) == 255).all()
