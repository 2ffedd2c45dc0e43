"""The renderer is exact and legible, and its landmarks lie on the features."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from studio.pocket.renderer import words
from studio.pocket.renderer.people import FACE_TRAITS, sample_identity, sample_scene, twin
from studio.pocket.renderer.portrait import MIN_SIZE_PX, landmarks, render

FACE_VALUES = {
    "face_shape": words.FACE_SHAPES,
    "eyes": words.EYES,
    "eye_colour": words.EYE_COLOURS,
    "brows": words.BROWS,
    "nose": words.NOSES,
    "mouth": words.MOUTHS,
    "ears": words.EARS,
    "mark": words.MARKS,
    "glasses": words.GLASSES,
}
LOOK_VALUES = {
    "skin": words.SKIN_NAMES,
    "age": words.AGES,
    "hair_style": words.HAIR_STYLES,
    "hair_colour": words.HAIR_COLOURS,
    "fringe": words.FRINGES,
    "beard": words.BEARDS,
    "class_noun": words.CLASS_NOUNS,
}
SCENE_VALUES = {
    "background": words.BACKGROUNDS,
    "accessory": words.ACCESSORIES,
    "style": words.STYLES,
    "clothes": words.CLOTHES,
    "clothing_colour": words.CLOTHING_COLOURS,
    "expression": words.EXPRESSIONS,
    "gaze": words.GAZES,
    "light": words.LIGHTS,
}
# An iris is about 9 x 9 pixels at 128 pixels; a mole, the smallest feature, 4 x 4.
LEAST_CHANGED = {"mark": 12, "eye_colour": 24, "age": 24, "ears": 24, "fringe": 60}


def box_px(box: tuple[float, float, float, float], size_px: int, margin: float) -> tuple[slice, slice]:
    top, left, bottom, right = box
    rows = slice(max(0, int((top - margin) * size_px)), int((bottom + margin) * size_px) + 1)
    return rows, slice(max(0, int((left - margin) * size_px)), int((right + margin) * size_px) + 1)


def test_the_same_seeds_give_identical_bytes():
    first, again = (render(sample_identity(5), sample_scene(9)) for _ in range(2))
    assert first.dtype == np.uint8 and first.shape == (128, 128, 3)
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("style", words.STYLES)
def test_every_size_shows_the_same_picture(style, person, scene):
    shown = scene(background="city", style=style)
    large = render(person(), shown, 512).reshape(128, 4, 128, 4, 3).mean(axis=(1, 3))
    # Filters measure their lengths in shares of the frame, but a slope is as steep as the pixels let it be.
    bound = 3.0 if style in ("photo", "black and white", "sepia") else 8.0
    assert np.abs(large - render(person(), shown, 128)).mean() < bound


@pytest.mark.parametrize("field", FACE_VALUES | LOOK_VALUES)
def test_every_trait_of_a_person_is_seen_at_128_pixels(field, person, scene, changed):
    noun = "man" if field == "beard" else "woman"
    pictures = {
        value: render(person(noun, **({} if field == "class_noun" else {field: value})), scene())
        if field != "class_noun"
        else render(person(value), scene())
        for value in (FACE_VALUES | LOOK_VALUES)[field]
    }
    for one, other in combinations(pictures, 2):
        assert changed(pictures[one], pictures[other]) >= LEAST_CHANGED.get(field, 40), (one, other)


@pytest.mark.parametrize("field", SCENE_VALUES)
def test_every_value_of_a_scene_is_seen_at_128_pixels(field, person, scene, changed):
    pictures = {value: render(person(), scene(**{field: value})) for value in SCENE_VALUES[field]}
    for one, other in combinations(pictures, 2):
        assert changed(pictures[one], pictures[other]) >= 60, (one, other)


@pytest.mark.parametrize("expression", words.EXPRESSIONS)
@pytest.mark.parametrize("field", ["face_shape", "brows", "nose", "mouth"])
def test_a_person_is_still_seen_in_every_expression(field, expression, person, scene, changed):
    pictures = {v: render(person(**{field: v}), scene(expression=expression)) for v in FACE_VALUES[field]}
    for one, other in combinations(pictures, 2):
        assert changed(pictures[one], pictures[other]) >= 24, (one, other)


@pytest.mark.parametrize("seed", range(12))
def test_twins_differ_inside_the_face_and_hardly_outside(seed, scene, changed):
    who = sample_identity(words.HELD_OUT_SEED + seed)
    other = twin(who, seed)
    one, two = render(who, scene()), render(other, scene())
    boxes = [landmarks(p, scene()).face_box_yxyx for p in (who, other)]
    both = (
        min(boxes[0][0], boxes[1][0]),
        min(boxes[0][1], boxes[1][1]),
        max(boxes[0][2], boxes[1][2]),
        max(boxes[0][3], boxes[1][3]),
    )
    inside = np.zeros((128, 128), bool)
    inside[box_px(both, 128, 0.08)] = True  # the margin holds the ears and the hair that lies against the face
    differs = np.abs(one.astype(int) - two.astype(int)).max(axis=2) > 24
    assert differs[inside].mean() > 0.05
    assert differs[~inside].mean() < 0.05


@pytest.mark.parametrize("seed", range(20))
def test_landmarks_lie_on_the_features(seed, person):
    """Where the pixels change when one feature is another, there its landmark is."""
    where = sample_scene(seed, accessory="none", style="photo", light="neutral", expression="neutral")
    who = sample_identity(seed, "woman")
    marks = landmarks(who, where)
    base = render(who, where, 256).astype(int)
    for name, changes in (
        ("left_eye", {"eye_colour": "blue" if who.eye_colour != "blue" else "brown"}),
        ("right_eye", {"eye_colour": "blue" if who.eye_colour != "blue" else "brown"}),
        ("nose", {"nose": "wide" if who.nose != "wide" else "button"}),
        ("mouth", {"mouth": "full" if who.mouth != "full" else "small"}),
    ):
        moved = np.abs(render(replace(who, **changes), where, 256).astype(int) - base).max(axis=2) > 16
        rows, columns = np.nonzero(moved)
        y, x = getattr(marks, name)
        if name.endswith("eye"):
            half = columns < (marks.nose[1] * 256) if name == "left_eye" else columns > (marks.nose[1] * 256)
            rows, columns = rows[half], columns[half]
        assert abs(rows.mean() / 256 - y) < 0.035 and abs(columns.mean() / 256 - x) < 0.035, name


@pytest.mark.parametrize("seed", range(60))
def test_features_lie_in_the_face_and_the_face_fills_the_frame(seed):
    marks = landmarks(sample_identity(seed), sample_scene(seed))
    top, left, bottom, right = marks.face_box_yxyx
    assert 0.05 < top < bottom < 0.97 and 0 < left < right < 1
    assert 0.52 <= bottom - top <= 0.72
    for y, x in (marks.left_eye, marks.right_eye, marks.nose, marks.mouth):
        assert top < y < bottom and left < x < right
    assert marks.left_eye[1] < marks.nose[1] < marks.right_eye[1]
    assert max(marks.left_eye[0], marks.right_eye[0]) < marks.nose[0] < marks.mouth[0]


def test_landmarks_name_the_eyes_that_something_covers(person, scene):
    assert landmarks(person(), scene()).hidden == frozenset()
    assert landmarks(person(), scene(accessory="sunglasses")).hidden == {"left_eye", "right_eye"}
    assert landmarks(person(), scene(accessory="eye patch")).hidden == {"left_eye"}


def test_an_eye_that_is_not_hidden_shows_its_colour(person, scene):
    for accessory in words.ACCESSORIES:
        marks = landmarks(person(), scene(accessory=accessory))
        pictures = [render(person(eye_colour=c), scene(accessory=accessory)).astype(int) for c in ("blue", "brown")]
        for name in ("left_eye", "right_eye"):
            y, x = (round(place * 128) for place in getattr(marks, name))
            seen = np.abs(pictures[0] - pictures[1])[y - 6 : y + 7, x - 8 : x + 9].max() > 60
            assert seen == (name not in marks.hidden), (accessory, name)


def test_background_clothes_and_face_all_find_room():
    for seed in range(24):
        who = sample_identity(seed)
        fixed = {"style": "photo", "light": "neutral"}
        white, blue = (
            render(who, sample_scene(seed, **fixed, background=b)).astype(int) for b in ("plain white", "plain blue")
        )
        assert (np.abs(white - blue).max(axis=2) > 60).mean() >= 0.25
        red, green = (
            render(who, sample_scene(seed, **fixed, clothing_colour=c, accessory="none")).astype(int)
            for c in ("red", "green")
        )
        assert (np.abs(red - green).max(axis=2) > 40).mean() >= 0.03


def test_a_picture_too_small_to_show_a_face_is_refused():
    with pytest.raises(ValueError, match="16"):
        render(sample_identity(1), sample_scene(1), MIN_SIZE_PX - 1)


def test_the_face_traits_of_the_tests_are_all_of_them():
    assert set(FACE_VALUES) == set(FACE_TRAITS)
