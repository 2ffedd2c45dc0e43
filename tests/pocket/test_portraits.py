"""The renderer is exact, legible and truthful: what a picture shows is what its caption may say."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from studio.pocket import portraits
from studio.pocket.portraits import (
    ACCESSORIES,
    ATTRIBUTE_PHRASES,
    BACKGROUNDS,
    CLOTHES,
    CLOTHING_COLOURS,
    EXPRESSIONS,
    HAIR_COLOURS,
    HAIR_STYLES,
    LIGHTS,
    STYLES,
    Identity,
    Scene,
    caption,
    prompt_for,
    render,
    sample_identity,
    sample_scene,
)

PLAIN = {
    "style": "photo",
    "light": "neutral",
    "background": "plain grey",
    "accessory": "none",
    "expression": "neutral",
    "clothes": "t-shirt",
    "clothing_colour": "blue",
    "yaw": 0.2,
    "roll": 0.0,
    "zoom": 0.95,
    "shift_yx": (0.0, 0.0),
}


def plain_scene(**changes: object) -> Scene:
    return sample_scene(1, **(PLAIN | changes))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(np.float32) - b.astype(np.float32)).mean())


def test_same_seeds_give_identical_bytes():
    first = render(sample_identity(5), sample_scene(9))
    again = render(sample_identity(5), sample_scene(9))
    assert first.dtype == np.uint8 and first.shape == (64, 64, 3)
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("style", STYLES)
def test_every_size_shows_the_same_picture(style):
    who, scene = sample_identity(8, "woman"), plain_scene(background="city", style=style)
    large = render(who, scene, 256).reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    # Pixel art snaps to whole pixels and halftone dots alias, hence the looser bound where a style has texture.
    assert distance(large, render(who, scene, 64)) < (3.0 if style == "photo" else 14.0)


def test_two_people_differ_more_than_one_person_turned_the_other_way():
    left, right = plain_scene(yaw=-0.6), plain_scene(yaw=0.6)
    people = [sample_identity(seed, "woman") for seed in range(8)]
    turned = np.mean([distance(render(who, left), render(who, right)) for who in people])
    others = np.mean([distance(render(a, left), render(b, left)) for a, b in pairwise(people)])
    assert others > 1.3 * turned


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("background", BACKGROUNDS),
        ("accessory", ACCESSORIES),
        ("style", STYLES),
        ("clothes", CLOTHES),
        ("clothing_colour", CLOTHING_COLOURS),
        ("expression", EXPRESSIONS),
        ("light", LIGHTS),
    ],
)
def test_every_scene_value_gives_a_picture_of_its_own(field, names):
    who = sample_identity(3, "woman")
    pictures = [render(who, plain_scene(**{field: name})) for name in names]
    for i, one in enumerate(pictures):
        for other in pictures[:i]:
            # A pixel counts as changed from 20 levels on; an eye, a lens or an earring is at least 12 pixels.
            changed = np.abs(one.astype(int) - other.astype(int)).max(axis=2) > 20
            assert changed.sum() >= 12


@pytest.mark.parametrize(("field", "names"), [("hair_style", HAIR_STYLES), ("hair_colour", HAIR_COLOURS)])
def test_every_hair_gives_a_picture_of_its_own(field, names):
    who = replace(sample_identity(3, "woman"), hair_style="short", hair_colour="brown")
    pictures = [render(replace(who, **{field: name}), plain_scene()) for name in names]
    assert min(distance(one, other) for i, one in enumerate(pictures) for other in pictures[:i]) > 0.8


@pytest.mark.parametrize("accessory", ["hat", "cap", "santa hat"])
@pytest.mark.parametrize("style", [name for name in HAIR_STYLES if name != "bald"])
def test_hair_colour_stays_visible_under_a_hat(accessory, style):
    who = replace(sample_identity(11, "woman"), hair_style=style)
    black, green = (
        render(replace(who, hair_colour=c), plain_scene(accessory=accessory)).astype(int) for c in ("black", "green")
    )
    assert (np.abs(black - green).max(axis=2) > 40).sum() >= 25


def test_background_covers_a_third_of_the_frame_and_clothing_stays_legible():
    for seed in range(24):
        who, scene = sample_identity(seed), sample_scene(seed, **{k: PLAIN[k] for k in ("style", "light")})
        white, blue = (render(who, replace(scene, background=b)).astype(int) for b in ("plain white", "plain blue"))
        assert (np.abs(white - blue).max(axis=2) > 60).mean() >= 0.35
        red, green = (render(who, replace(scene, clothing_colour=c)).astype(int) for c in ("red", "green"))
        assert (np.abs(red - green).max(axis=2) > 40).mean() >= 0.04


def true_phrases(who: Identity, scene: Scene) -> set[str]:
    facts = {
        ATTRIBUTE_PHRASES["background"][scene.background],
        ATTRIBUTE_PHRASES["accessory"][scene.accessory],
        ATTRIBUTE_PHRASES["expression"][scene.expression],
        ATTRIBUTE_PHRASES["light"][scene.light],
        ATTRIBUTE_PHRASES["style"][scene.style],
        ATTRIBUTE_PHRASES["hair_colour"][who.hair_colour],
        ATTRIBUTE_PHRASES["beard"][who.beard],
        ATTRIBUTE_PHRASES["eye_colour"][who.eye_colour],
        ATTRIBUTE_PHRASES["skin"][who.skin],
    }
    return facts - {""}


def test_captions_mention_only_what_is_there():
    fixed = ("background", "accessory", "expression", "light", "hair_colour", "beard", "eye_colour", "skin")
    vocabulary = {phrase for kind in fixed for phrase in ATTRIBUTE_PHRASES[kind].values() if phrase}
    for seed in range(400):
        who, scene = sample_identity(seed), sample_scene(seed)
        text = caption(who, scene, seed)
        padded = f" {text.replace(',', ' ,')} "
        facts = true_phrases(who, scene)
        mentioned = {phrase for phrase in vocabulary if f" {phrase} " in padded}
        # "a shirt" is not "a t-shirt", and "a hat" is not said of a "santa hat": phrases start with their article.
        assert mentioned <= facts, text
        assert len(text.split()) <= 32, text
        assert who.class_noun in text.split() or f"{who.class_noun}," in text.split()
        clothes = [name for name in CLOTHES if f" {name} " in padded]
        assert clothes in ([], [scene.clothes]), text
        for name, phrase in ATTRIBUTE_PHRASES["hair_style"].items():
            spoken = any(phrase.format(colour=c) in text for c in ("", f"{who.hair_colour} "))
            assert not spoken or name == who.hair_style, text
        styles = [name for name in STYLES[1:] if name in text]
        assert styles == ([] if scene.style == "photo" else [scene.style]), text
        assert "freckles" not in text or who.freckles
        if clothes:
            colours = [c for c in CLOTHING_COLOURS if f" {c} {scene.clothes} " in padded]
            assert colours in ([], [scene.clothing_colour]), text


def test_subject_caption_hides_every_identity_trait():
    for seed in range(150):
        text = caption(sample_identity(seed), sample_scene(seed), seed, subject="sks woman")
        assert "sks woman" in text
        for word in ("hair", "skin", "eyes", "freckles", "bald", "moustache", "beard", "goatee", "stubble"):
            assert word not in text.split(), text


def test_prompts_speak_the_words_of_the_captions():
    prompt = prompt_for("woman", background="beach", hair_colour="red", clothing_colour="orange", accessory="crown")
    assert prompt == "photo of a woman with red hair, wearing an orange t-shirt and a crown, at the beach"
    assert prompt_for("sks man", style="comic") == "comic portrait of sks man"
    assert prompt_for("man", background="brick wall") == "photo of a man in front of a brick wall"


def test_fixed_scene_fields_leave_the_others_as_sampled():
    assert sample_scene(4, background="space") == replace(sample_scene(4), background="space")


def test_unknown_scene_field_is_refused_with_the_valid_names():
    with pytest.raises(ValueError, match="unknown scene field unknown") as caught:
        sample_scene(1, unknown=1)
    assert all(name in str(caught.value) for name in Scene.__slots__)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="beach"):
        sample_scene(1, background="moon base")
    with pytest.raises(ValueError, match="woman, man"):
        sample_identity(1, "teapot")


def test_render_refuses_a_picture_too_small_to_show_a_face():
    with pytest.raises(ValueError, match="16"):
        render(sample_identity(1), sample_scene(1), portraits.MIN_SIZE_PX - 1)
