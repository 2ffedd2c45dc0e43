"""Who is pictured and how: identities and scenes drawn from seeds, and the twins that test a likeness.

Every trait of a person is a name from a short list, so that two people differ in features that can be seen at 128
pixels, never by a fraction of one. Importing this module draws nothing.
"""

import random
from dataclasses import dataclass, fields, replace

from studio.pocket.renderer import words


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is pictured; every trait but the seed and the parting is a name from a list of ``words``."""

    seed: int
    class_noun: str
    skin: str
    age: str
    hair_style: str
    hair_colour: str
    fringe: str
    part_side: int  # -1 or 1: the side of the picture on which the hair is parted or tied
    beard: str
    face_shape: str
    eyes: str
    eye_colour: str
    brows: str
    nose: str
    mouth: str
    ears: str
    mark: str
    glasses: str


LOOK_TRAITS = ("class_noun", "skin", "age", "hair_style", "hair_colour", "fringe", "part_side", "beard")
"""Fields of :class:`Identity` that a twin shares."""
FACE_TRAITS = ("face_shape", "eyes", "eye_colour", "brows", "nose", "mouth", "ears", "mark", "glasses")
"""Fields of :class:`Identity` that make the face."""
BOLD_TRAITS = ("face_shape", "eyes", "brows", "nose", "mouth")
"""The face traits that everybody has and no hair style hides."""

_FACE_VALUES: dict[str, tuple[str, ...]] = {
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


@dataclass(frozen=True, slots=True)
class Scene:
    """How the person is pictured. ``jitter`` seeds the details of the background."""

    expression: str
    gaze: str
    clothes: str
    clothing_colour: str
    accessory: str
    background: str
    light: str
    style: str
    yaw: float  # -1 .. 1, turns the face by about 8 degrees at most
    roll: float  # radians
    zoom: float  # 1 makes the face 59 % of the height of the frame
    shift_yx: tuple[float, float]  # of the head, in shares of the frame
    jitter: int


_SCENE_NAMES: dict[str, tuple[str, ...]] = {
    "expression": words.EXPRESSIONS,
    "gaze": words.GAZES,
    "clothes": words.CLOTHES,
    "clothing_colour": words.CLOTHING_COLOURS,
    "accessory": words.ACCESSORIES,
    "background": words.BACKGROUNDS,
    "light": words.LIGHTS,
    "style": words.STYLES,
}


def sample_identity(seed: int, class_noun: str | None = None) -> Identity:
    """Draw one person; the same seed and class noun give the same person for ever.

    Args:
        seed: any int >= 0; below ``HELD_OUT_SEED`` for training, from it on for evaluation.
        class_noun: one of ``CLASS_NOUNS``, or None to draw it too.

    Returns:
        The identity.

    Raises:
        ValueError: ``class_noun`` is not one of ``CLASS_NOUNS``.
    """
    rng = random.Random(f"identity {seed}")
    drawn_noun = rng.choice(words.CLASS_NOUNS)
    noun = drawn_noun if class_noun is None else class_noun
    if noun not in words.CLASS_NOUNS:
        raise ValueError(f"class_noun {noun!r}: use one of {', '.join(words.CLASS_NOUNS)}")
    woman = noun == "woman"
    hair_weights = (
        (0.3, 0.4, 1, 1, 0.5, 0.5, 1, 1.5, 1.8, 2, 2, 1.8, 1.6, 1.2)
        if woman
        else (1.5, 1.4, 1.8, 1.6, 1.4, 1.1, 1, 1.2, 0.4, 0.8, 0.8, 0.6, 0.5, 0.15)
    )
    return Identity(
        seed=seed,
        class_noun=noun,
        skin=rng.choice(words.SKIN_NAMES),
        age=rng.choices(words.AGES, (3, 1))[0],
        hair_style=rng.choices(words.HAIR_STYLES, hair_weights)[0],
        hair_colour=rng.choices(words.HAIR_COLOURS, (1.6, 1.6, 1.6, 1.6, 1, 1, 1, 1, 1, 1))[0],
        fringe=rng.choice(words.FRINGES),
        part_side=rng.choice((-1, 1)),
        beard="none" if woman else rng.choices(words.BEARDS, (3, 1, 1, 1, 1))[0],
        face_shape=rng.choice(words.FACE_SHAPES),
        eyes=rng.choice(words.EYES),
        eye_colour=rng.choice(words.EYE_COLOURS),
        brows=rng.choices(words.BROWS, (1, 1, 0.5, 1, 1, 1) if woman else (0.5, 1, 1, 1, 1, 1))[0],
        nose=rng.choice(words.NOSES),
        mouth=rng.choice(words.MOUTHS),
        ears=rng.choices(words.EARS, (2, 2, 1))[0],
        mark=rng.choices(words.MARKS, (3, 1, 1, 1, 1, 1, 1))[0],
        glasses=rng.choices(words.GLASSES, (9, 1, 1, 1))[0],
    )


def sample_scene(seed: int, **fixed: object) -> Scene:
    """Draw one scene, with the named fields held at the given values.

    Args:
        seed: any int >= 0; below ``HELD_OUT_SEED`` for training, from it on for evaluation.
        **fixed: values of :class:`Scene` fields that override the sampled ones; the other fields do not change.

    Returns:
        The scene.

    Raises:
        ValueError: a name is not a field of ``Scene``, or a value is not in that field's list of names.
    """
    valid = tuple(field.name for field in fields(Scene))
    unknown = sorted(set(fixed) - set(valid))
    if unknown:
        raise ValueError(f"unknown scene field {', '.join(unknown)}: use {', '.join(valid)}")
    for name, value in fixed.items():
        if name in _SCENE_NAMES and value not in _SCENE_NAMES[name]:
            raise ValueError(f"{name} {value!r}: use one of {', '.join(_SCENE_NAMES[name])}")
    rng = random.Random(f"scene {seed}")
    chosen: dict[str, object] = {
        "expression": rng.choices(words.EXPRESSIONS, (2, 2, 1, 1, 1, 1, 1))[0],
        "gaze": rng.choices(words.GAZES, (2, 1, 1))[0],
        "clothes": rng.choice(words.CLOTHES),
        "clothing_colour": rng.choice(words.CLOTHING_COLOURS),
        "accessory": rng.choices(words.ACCESSORIES, (5,) + (1,) * (len(words.ACCESSORIES) - 1))[0],
        "background": rng.choice(words.BACKGROUNDS),
        "light": rng.choices(words.LIGHTS, (5, 1, 1, 1, 1, 1))[0],
        "style": rng.choices(words.STYLES, (0.7,) + (0.3 / (len(words.STYLES) - 1),) * (len(words.STYLES) - 1))[0],
        "yaw": rng.triangular(-1, 1, 0),
        "roll": rng.triangular(-0.08, 0.08, 0),
        "zoom": rng.uniform(0.94, 1.06),
        "shift_yx": (rng.uniform(-0.02, 0.02), rng.uniform(-0.03, 0.03)),
        "jitter": rng.randrange(2**31),
    }
    return Scene(**(chosen | fixed))  # type: ignore[arg-type]


def twin(identity: Identity, seed: int) -> Identity:
    """Draw another face under the same skin, hair, beard and age.

    Args:
        identity: the person.
        seed: chooses the other face; any int >= 0.

    Returns:
        A person with the ``LOOK_TRAITS`` of ``identity`` and all ``FACE_TRAITS`` of another one, who differs in at
        least four of ``BOLD_TRAITS``.
    """
    rng = random.Random(f"twin {identity.seed} {seed}")
    while True:
        other = sample_identity(rng.randrange(2**31), identity.class_noun)
        if sum(getattr(other, name) != getattr(identity, name) for name in BOLD_TRAITS) >= 4:
            return replace(identity, seed=other.seed, **{name: getattr(other, name) for name in FACE_TRAITS})


def near_twin(identity: Identity, seed: int, changes: int = 1) -> Identity:
    """Change a few features of a face and keep all the others.

    Args:
        identity: the person.
        seed: chooses which features change and to what; any int >= 0.
        changes: number of ``BOLD_TRAITS`` that change, 1 to 5.

    Returns:
        The altered person.

    Raises:
        ValueError: ``changes`` is out of range.
    """
    if not 1 <= changes <= len(BOLD_TRAITS):
        raise ValueError(f"changes {changes}: use 1 to {len(BOLD_TRAITS)}")
    rng = random.Random(f"near twin {identity.seed} {seed} {changes}")
    altered: dict[str, str] = {}
    for name in rng.sample(BOLD_TRAITS, changes):
        altered[name] = rng.choice([value for value in _FACE_VALUES[name] if value != getattr(identity, name)])
    return replace(identity, seed=rng.randrange(2**31), **altered)  # type: ignore[arg-type]
