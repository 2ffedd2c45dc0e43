"""Every name of a colour has one, and the tones that lie side by side can be told apart."""

import pytest

from studio.pocket.renderer import palette, words
from studio.pocket.renderer.canvas import luminance


def test_every_name_of_a_colour_has_one():
    assert set(palette.SKIN_RGB) == set(words.SKIN_NAMES)
    assert set(palette.HAIR_RGB) == set(words.HAIR_COLOURS)
    assert set(palette.EYE_RGB) == set(words.EYE_COLOURS)
    assert set(palette.CLOTH_RGB) == set(words.CLOTHING_COLOURS)


@pytest.mark.parametrize("skin", words.SKIN_NAMES)
@pytest.mark.parametrize("hair", words.HAIR_COLOURS)
def test_brows_stand_out_from_every_skin(hair, skin):
    skin_rgb = palette.SKIN_RGB[skin]
    brow = palette.brow_colour(palette.HAIR_RGB[hair], skin_rgb)
    assert abs(luminance(brow) - luminance(skin_rgb)) >= 30


@pytest.mark.parametrize("skin", words.SKIN_NAMES)
def test_the_second_tone_of_a_skin_is_darker_and_its_light_lighter(skin):
    rgb = palette.SKIN_RGB[skin]
    assert luminance(palette.skin_shade(rgb)) < luminance(rgb) - 12
    assert luminance(palette.skin_light(rgb)) > luminance(rgb) + 2
