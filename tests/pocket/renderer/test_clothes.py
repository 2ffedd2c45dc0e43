"""Clothes: every garment shows its colour, in every colour, on both builds."""

from itertools import combinations

import pytest

from studio.pocket.renderer import words
from studio.pocket.renderer.portrait import render


@pytest.mark.parametrize("noun", words.CLASS_NOUNS)
@pytest.mark.parametrize("clothes", words.CLOTHES)
def test_a_garment_shows_its_colour(clothes, noun, person, scene, changed):
    red, green = (render(person(noun), scene(clothes=clothes, clothing_colour=c)) for c in ("red", "green"))
    assert changed(red, green) >= 350


@pytest.mark.parametrize("colour", words.CLOTHING_COLOURS)
def test_garments_are_told_apart_in_every_colour(colour, person, scene, changed):
    pictures = {c: render(person(), scene(clothes=c, clothing_colour=colour)) for c in words.CLOTHES}
    for one, other in combinations(pictures, 2):
        assert changed(pictures[one], pictures[other]) >= 100, (one, other)
