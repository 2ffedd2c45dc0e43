"""Accessories: one look for all people, and glasses that belong to a person give way to what covers the eyes."""

import numpy as np
import pytest

from studio.pocket.renderer import words
from studio.pocket.renderer.portrait import render


@pytest.mark.parametrize("accessory", ["glasses", "sunglasses", "eye patch"])
def test_what_covers_the_eyes_takes_the_place_of_own_glasses(accessory, person, scene):
    bare, own = (render(person(glasses=g), scene(accessory=accessory)) for g in ("none", "round"))
    assert np.array_equal(bare, own)


def test_own_glasses_stay_on_under_every_other_accessory(person, scene, changed):
    for accessory in set(words.ACCESSORIES) - {"glasses", "sunglasses", "eye patch"}:
        bare, own = (render(person(glasses=g), scene(accessory=accessory)) for g in ("none", "round"))
        assert changed(bare, own) > 60, accessory


@pytest.mark.parametrize("accessory", ["hat", "cap", "crown", "santa hat", "party hat"])
@pytest.mark.parametrize("zoom", [0.94, 1.06])
def test_headgear_stays_inside_the_frame(accessory, zoom, person, scene, changed):
    at = {"zoom": zoom, "shift_yx": (-0.02, 0.0)}
    for hair in ("bald", "afro"):
        plain = render(person(hair_style=hair), scene(**at))
        worn = render(person(hair_style=hair), scene(accessory=accessory, **at))
        # At most a tip may touch the upper edge.
        assert changed(plain[:1], worn[:1]) <= 20


@pytest.mark.parametrize("accessory", [name for name in words.ACCESSORIES if name != "none"])
def test_an_accessory_is_seen_on_every_hair_style(accessory, person, scene, changed):
    for style in words.HAIR_STYLES:
        bare, worn = (render(person(hair_style=style), scene(accessory=a)) for a in ("none", accessory))
        assert changed(bare, worn) >= 60, style
