"""The tables of names: one phrase for each name, and every word that a pack may use."""

import pytest

from studio.pocket.renderer import words

TABLES = {
    "background": words.BACKGROUNDS,
    "accessory": words.ACCESSORIES,
    "clothes": words.CLOTHES,
    "hair_style": words.HAIR_STYLES,
    "hair_colour": words.HAIR_COLOURS,
    "beard": words.BEARDS,
    "eye_colour": words.EYE_COLOURS,
    "skin": words.SKIN_NAMES,
    "face_shape": words.FACE_SHAPES,
    "eyes": words.EYES,
    "brows": words.BROWS,
    "nose": words.NOSES,
    "mouth": words.MOUTHS,
    "mark": words.MARKS,
    "glasses": words.GLASSES,
    "expression": words.EXPRESSIONS,
    "gaze": words.GAZES,
    "light": words.LIGHTS,
    "style": words.STYLES,
}


def test_every_table_has_its_phrases():
    assert set(TABLES) == set(words.ATTRIBUTE_PHRASES)


@pytest.mark.parametrize("kind", TABLES)
def test_every_name_has_a_phrase_of_its_own(kind):
    phrases = words.ATTRIBUTE_PHRASES[kind]
    assert set(phrases) == set(TABLES[kind])
    spoken = [phrase for name, phrase in phrases.items() if phrase and not name.startswith("mole")]
    assert len(set(spoken)) == len(spoken)


def test_no_two_tables_share_a_phrase():
    spoken = [p for phrases in words.ATTRIBUTE_PHRASES.values() for p in set(phrases.values()) if p]
    assert len(set(spoken)) == len(spoken)


def test_hats_and_colourless_styles_are_names_of_their_tables():
    assert set(words.ACCESSORIES) > words.HATS
    assert set(words.STYLES) > words.COLOURLESS_STYLES
