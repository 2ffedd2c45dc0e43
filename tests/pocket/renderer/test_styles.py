"""Lights and styles do to a picture what their names say."""

import numpy as np
import pytest

from studio.pocket.renderer.portrait import landmarks, render
from studio.pocket.renderer.styles import lit, styled
from studio.pocket.renderer.words import COLOURLESS_STYLES, STYLES


def grey(size_px: int = 32) -> np.ndarray:
    return np.full((size_px, size_px, 3), 0.5, np.float32)


def test_light_from_a_side_brightens_that_side():
    left, right = lit(grey(), "left"), lit(grey(), "right")
    assert left[:, :8].mean() > left[:, -8:].mean() + 0.1
    assert np.allclose(left, right[:, ::-1], atol=1e-6)


def test_warm_cold_and_dim_light_shift_colour_and_brightness():
    warm, cold, dim = (lit(grey(), name).mean(axis=(0, 1)) for name in ("warm", "cold", "dim"))
    assert warm[0] > warm[2] + 0.1 and cold[2] > cold[0] + 0.1 and dim.max() < 0.4
    assert np.array_equal(lit(grey(), "neutral"), grey())


@pytest.mark.parametrize("style", sorted(COLOURLESS_STYLES - {"pop art"}))
def test_colourless_styles_hide_the_hue(style):
    rng = np.random.default_rng(0)
    shown = styled(rng.random((32, 32, 3), dtype=np.float32), style, 0)
    hues = shown - shown.mean(axis=2, keepdims=True)
    assert np.abs(hues - hues.mean(axis=(0, 1))).max() < 0.08


@pytest.mark.parametrize("style", STYLES)
def test_features_stay_readable_in_every_style(style, person, scene):
    for skin in ("pale", "dark"):
        who, where = person(skin=skin, mouth="full"), scene(style=style)
        picture = render(who, where).astype(float).mean(axis=2)
        marks = landmarks(who, where)
        for y, x in (marks.left_eye, marks.right_eye, marks.mouth):
            row, column = round(y * 128), round(x * 128)
            patch = picture[row - 5 : row + 6, column - 9 : column + 10]
            assert patch.max() - patch.min() > 28, (skin, style)
