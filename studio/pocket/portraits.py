"""Procedural portraits: the training pictures of the small base model ``pocket`` and of its identity encoder.

An :class:`Identity` (who: skin, hair, face, eyes, ...) and a :class:`Scene` (how: expression, clothes, accessory,
background, light, style, pose, framing) are each drawn from one integer seed. :func:`render` paints the pair at any
size and :func:`caption` says in words what is to be seen. Called by the pocket training scripts, by the tests of the
trainer (as stand-in photos of a subject) and by the likeness encoder; it depends on numpy alone.

    picture = render(sample_identity(7), sample_scene(3, background="beach"), size_px=64)

How it draws: every shape is a signed distance evaluated inside its bounding box only, turned into coverage over one
pixel, and laid over the picture. Positions are in normalised units, so each size shows the same picture. The world
spans [-1, 1] on both axes (y down); the head frame has its origin between the eyes and the face is about 1 unit high
above and below it. Seeds from ``HELD_OUT_SEED`` on are never trained on.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]
Region = tuple[slice, slice]
Rgb = tuple[float, float, float]

HELD_OUT_SEED = 1_000_000
MIN_SIZE_PX = 16

CLASS_NOUNS = ("woman", "man")
STYLES = (
    "photo",
    "pencil sketch",
    "black and white",
    "pop art",
    "pixel art",
    "oil painting",
    "watercolour",
    "comic",
    "sepia",
)
EXPRESSIONS = ("neutral", "smiling", "laughing", "sad", "surprised", "angry", "winking")
LIGHTS = ("neutral", "warm", "cold", "dim", "left", "right")
CLOTHES = (
    "t-shirt",
    "shirt",
    "suit",
    "hoodie",
    "dress",
    "striped sweater",
    "lab coat",
    "armour",
    "turtleneck",
    "overalls",
)
ACCESSORIES = (
    "none",
    "glasses",
    "sunglasses",
    "hat",
    "cap",
    "crown",
    "headphones",
    "scarf",
    "earrings",
    "flower",
    "eye patch",
    "santa hat",
    "party hat",
    "headband",
)
HAIR_STYLES = (
    "bald",
    "buzz cut",
    "short",
    "side-parted",
    "spiky",
    "mohawk",
    "afro",
    "curly",
    "bob",
    "long straight",
    "long wavy",
    "ponytail",
    "bun",
    "pigtails",
)
BEARDS = ("none", "stubble", "moustache", "goatee", "full beard")
FRINGES = ("none", "straight", "swept")

_HAIR_RGB: dict[str, Rgb] = {
    "black": (0.08, 0.07, 0.08),
    "brown": (0.38, 0.21, 0.10),
    "blonde": (0.95, 0.79, 0.40),
    "red": (0.80, 0.25, 0.07),
    "grey": (0.52, 0.52, 0.55),
    "white": (0.94, 0.94, 0.93),
    "blue": (0.12, 0.36, 0.92),
    "pink": (0.99, 0.45, 0.72),
    "green": (0.14, 0.66, 0.25),
    "purple": (0.52, 0.18, 0.78),
}
_CLOTH_RGB: dict[str, Rgb] = {
    "red": (0.84, 0.12, 0.12),
    "orange": (0.96, 0.52, 0.10),
    "yellow": (0.97, 0.85, 0.15),
    "green": (0.13, 0.58, 0.24),
    "blue": (0.13, 0.32, 0.84),
    "purple": (0.48, 0.18, 0.70),
    "pink": (0.97, 0.52, 0.73),
    "white": (0.95, 0.95, 0.94),
    "black": (0.09, 0.09, 0.11),
    "grey": (0.52, 0.53, 0.55),
    "brown": (0.44, 0.27, 0.15),
}
_EYE_RGB: dict[str, Rgb] = {
    "brown": (0.36, 0.19, 0.07),
    "blue": (0.16, 0.46, 0.92),
    "green": (0.18, 0.62, 0.25),
    "grey": (0.52, 0.56, 0.60),
}
_SKIN_RAMP: tuple[tuple[str, Rgb], ...] = (
    ("pale", (1.00, 0.89, 0.83)),
    ("light", (0.96, 0.78, 0.65)),
    ("tan", (0.84, 0.62, 0.45)),
    ("brown", (0.60, 0.39, 0.26)),
    ("dark", (0.34, 0.21, 0.15)),
)
HAIR_COLOURS = tuple(_HAIR_RGB)
CLOTHING_COLOURS = tuple(_CLOTH_RGB)
EYE_COLOURS = tuple(_EYE_RGB)
SKIN_NAMES = tuple(name for name, _ in _SKIN_RAMP)

_BACKGROUND_PHRASES = {
    "plain white": "on a plain white background",
    "plain grey": "on a plain grey background",
    "plain blue": "on a plain blue background",
    "plain pink": "on a plain pink background",
    "plain yellow": "on a plain yellow background",
    "studio": "in a studio",
    "beach": "at the beach",
    "forest": "in a forest",
    "city": "in a city",
    "snow": "in the snow",
    "mountains": "in the mountains",
    "night sky": "under a night sky",
    "space": "in space",
    "sunset": "at sunset",
    "office": "in an office",
    "library": "in a library",
    "garden": "in a garden",
    "brick wall": "in front of a brick wall",
    "desert": "in the desert",
    "underwater": "underwater",
}
BACKGROUNDS = tuple(_BACKGROUND_PHRASES)

# One phrase per attribute value; `{colour}` stands for "red " or for nothing. Captions, evaluation prompts and packs
# all speak through this table, so the text encoder meets one vocabulary.
ATTRIBUTE_PHRASES: dict[str, dict[str, str]] = {
    "background": _BACKGROUND_PHRASES,
    "accessory": {
        "none": "",
        "glasses": "glasses",
        "sunglasses": "sunglasses",
        "hat": "a hat",
        "cap": "a cap",
        "crown": "a crown",
        "headphones": "headphones",
        "scarf": "a scarf",
        "earrings": "earrings",
        "flower": "a flower",
        "eye patch": "an eye patch",
        "santa hat": "a santa hat",
        "party hat": "a party hat",
        "headband": "a headband",
    },
    "clothes": {
        "t-shirt": "a {colour}t-shirt",
        "shirt": "a {colour}shirt",
        "suit": "a {colour}suit",
        "hoodie": "a {colour}hoodie",
        "dress": "a {colour}dress",
        "striped sweater": "a {colour}striped sweater",
        "lab coat": "a {colour}lab coat",
        "armour": "{colour}armour",
        "turtleneck": "a {colour}turtleneck",
        "overalls": "{colour}overalls",
    },
    "hair_style": {
        "bald": "a bald head",
        "buzz cut": "{colour}hair in a buzz cut",
        "short": "short {colour}hair",
        "side-parted": "side-parted {colour}hair",
        "spiky": "spiky {colour}hair",
        "mohawk": "{colour}hair in a mohawk",
        "afro": "{colour}hair in an afro",
        "curly": "curly {colour}hair",
        "bob": "{colour}hair in a bob",
        "long straight": "long straight {colour}hair",
        "long wavy": "long wavy {colour}hair",
        "ponytail": "{colour}hair in a ponytail",
        "bun": "{colour}hair in a bun",
        "pigtails": "{colour}hair in pigtails",
    },
    "hair_colour": {name: f"{name} hair" for name in HAIR_COLOURS},
    "beard": {
        "none": "",
        "stubble": "stubble",
        "moustache": "a moustache",
        "goatee": "a goatee",
        "full beard": "a full beard",
    },
    "eye_colour": {name: f"{name} eyes" for name in EYE_COLOURS},
    "skin": {name: f"{name} skin" for name in SKIN_NAMES},
    "expression": {name: "" if name == "neutral" else name for name in EXPRESSIONS},
    "light": {
        "neutral": "",
        "warm": "in warm light",
        "cold": "in cold light",
        "dim": "in dim light",
        "left": "with light from the left",
        "right": "with light from the right",
    },
    "style": {
        "photo": "photo of",
        "pencil sketch": "pencil sketch of",
        "black and white": "black and white photo of",
        "pop art": "pop art portrait of",
        "pixel art": "pixel art portrait of",
        "oil painting": "oil painting of",
        "watercolour": "watercolour of",
        "comic": "comic portrait of",
        "sepia": "sepia photo of",
    },
}

#: Styles in which neither hair nor clothes keep their colour.
COLOURLESS_STYLES = frozenset({"pencil sketch", "black and white", "sepia", "pop art"})
_HATS = frozenset({"hat", "cap", "santa hat"})
_STYLES_UNDER_A_HAT = frozenset({"mohawk", "bun", "spiky", "side-parted", "buzz cut", "bald"})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is pictured. Lengths are in head units (half a face height), angles in radians, tones in [0, 1]."""

    seed: int
    class_noun: str
    skin_tone: float  # 0 palest .. 1 darkest
    undertone: float  # -1 rosy .. 1 golden
    hair_style: str
    hair_colour: str
    hair_shade: float  # -1 darker .. 1 lighter, within the colour's name
    hair_volume: float  # 0 .. 1
    hairline: float  # height of the hairline above the eyes
    fringe: str
    part_side: int  # -1 or 1
    face_width: float  # half width
    face_height: float  # half height
    jaw_width: float  # 0 pointed .. 1 square
    chin: float  # 0 round .. 1 long
    eye_spacing: float  # half the distance between the pupils
    eye_size: float  # half width of one eye
    eye_shape: float  # height over width
    eye_tilt: float
    eye_colour: str
    brow_thickness: float
    brow_angle: float
    brow_height: float
    nose_length: float
    nose_width: float
    mouth_width: float  # half width
    lip_fullness: float
    lip_redness: float  # 0 .. 1
    ear_size: float
    beard: str
    freckles: bool
    mole: int  # 0 none, -1 and 1: on that cheek
    blush: float  # 0 .. 1
    age_lines: float  # 0 .. 1

    @property
    def skin(self) -> str:
        """Name of the skin tone, one of ``SKIN_NAMES``."""
        return SKIN_NAMES[round(self.skin_tone * (len(SKIN_NAMES) - 1))]


@dataclass(frozen=True, slots=True)
class Scene:
    """How the person is pictured. ``jitter`` seeds the details of background, accessory and style."""

    expression: str
    clothes: str
    clothing_colour: str
    accessory: str
    background: str
    light: str
    style: str
    yaw: float  # -1 .. 1
    roll: float  # radians
    zoom: float  # 0.72 half-body .. 1.3 close-up
    shift_yx: tuple[float, float]  # of the head, in world units
    jitter: int


_SCENE_NAMES: dict[str, tuple[str, ...]] = {
    "expression": EXPRESSIONS,
    "clothes": CLOTHES,
    "clothing_colour": CLOTHING_COLOURS,
    "accessory": ACCESSORIES,
    "background": BACKGROUNDS,
    "light": LIGHTS,
    "style": STYLES,
}


def sample_identity(seed: int, class_noun: str | None = None) -> Identity:
    """Draw one person; the same seed and class noun give the same person for ever.

    Args:
        seed: any int >= 0; below ``HELD_OUT_SEED`` for training, from it on for evaluation.
        class_noun: one of ``CLASS_NOUNS``, or None to draw it too.

    Returns:
        The identity, every trait a plain field.

    Raises:
        ValueError: ``class_noun`` is not one of ``CLASS_NOUNS``.
    """
    rng = random.Random(f"identity {seed}")
    drawn_noun = rng.choice(CLASS_NOUNS)
    noun = drawn_noun if class_noun is None else class_noun
    if noun not in CLASS_NOUNS:
        raise ValueError(f"class_noun {noun!r}: use one of {', '.join(CLASS_NOUNS)}")
    woman = noun == "woman"
    weights = (
        (0.3, 0.4, 1, 1, 0.5, 0.5, 1, 1.5, 1.8, 2, 2, 1.8, 1.6, 1.2)
        if woman
        else (1.5, 1.4, 1.8, 1.6, 1.4, 1.1, 1, 1.2, 0.4, 0.8, 0.8, 0.6, 0.5, 0.15)
    )
    return Identity(
        seed=seed,
        class_noun=noun,
        skin_tone=rng.random(),
        undertone=rng.uniform(-1, 1),
        hair_style=rng.choices(HAIR_STYLES, weights)[0],
        hair_colour=rng.choices(HAIR_COLOURS, (1.6, 1.6, 1.6, 1.6, 1, 1, 1, 1, 1, 1))[0],
        hair_shade=rng.uniform(-1, 1),
        hair_volume=rng.random(),
        hairline=rng.uniform(0.42, 0.62),
        fringe=rng.choices(FRINGES, (1, 1, 1))[0],
        part_side=rng.choice((-1, 1)),
        face_width=rng.uniform(0.62, 0.84) if woman else rng.uniform(0.68, 0.92),
        face_height=rng.uniform(0.92, 1.08),
        jaw_width=rng.uniform(0.0, 0.65) if woman else rng.uniform(0.3, 1.0),
        chin=rng.random(),
        eye_spacing=rng.uniform(0.28, 0.41),
        eye_size=rng.uniform(0.17, 0.27) if woman else rng.uniform(0.14, 0.23),
        eye_shape=rng.uniform(0.5, 0.95),
        eye_tilt=rng.uniform(-0.28, 0.28),
        eye_colour=rng.choice(EYE_COLOURS),
        brow_thickness=rng.uniform(0.025, 0.06) if woman else rng.uniform(0.04, 0.10),
        brow_angle=rng.uniform(-0.22, 0.22),
        brow_height=rng.uniform(0.24, 0.36),
        nose_length=rng.uniform(0.20, 0.42),
        nose_width=rng.uniform(0.07, 0.20),
        mouth_width=rng.uniform(0.20, 0.40),
        lip_fullness=rng.uniform(0.05, 0.12) if woman else rng.uniform(0.025, 0.085),
        lip_redness=rng.uniform(0.35, 1.0) if woman else rng.uniform(0.0, 0.4),
        ear_size=rng.uniform(0.12, 0.25),
        beard="none" if woman else rng.choices(BEARDS, (2, 1, 1, 1, 1.5))[0],
        freckles=rng.random() < 0.2,
        mole=rng.choices((0, -1, 1), (4, 1, 1))[0],
        blush=max(0.0, rng.uniform(-0.7, 1.0)),
        age_lines=max(0.0, rng.uniform(-1.2, 1.0)),
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
        "expression": rng.choices(EXPRESSIONS, (2.5, 2, 1, 1, 1, 1, 1))[0],
        "clothes": rng.choice(CLOTHES),
        "clothing_colour": rng.choice(CLOTHING_COLOURS),
        "accessory": rng.choices(ACCESSORIES, (5,) + (1,) * (len(ACCESSORIES) - 1))[0],
        "background": rng.choice(BACKGROUNDS),
        "light": rng.choices(LIGHTS, (5, 1, 1, 1, 1, 1))[0],
        "style": rng.choices(STYLES, (0.7,) + (0.3 / (len(STYLES) - 1),) * (len(STYLES) - 1))[0],
        "yaw": rng.triangular(-0.85, 0.85, 0),
        "roll": rng.uniform(-0.14, 0.14),
        "zoom": rng.uniform(0.94, 1.22),
        "shift_yx": (rng.uniform(-0.06, 0.03), rng.uniform(-0.09, 0.09)),
        "jitter": rng.randrange(2**31),
    }
    return Scene(**(chosen | fixed))  # type: ignore[arg-type]


def render(identity: Identity, scene: Scene, size_px: int = 64) -> npt.NDArray[np.uint8]:
    """Paint one portrait; the same arguments give the same bytes.

    Args:
        identity: who.
        scene: how.
        size_px: side of the square picture in pixels, >= 16.

    Returns:
        The picture, ``(size_px, size_px, 3)``, uint8, RGB in [0, 255].

    Raises:
        ValueError: ``size_px`` is below 16.
    """
    if size_px < MIN_SIZE_PX:
        raise ValueError(f"size_px {size_px}: a portrait needs at least {MIN_SIZE_PX} pixels")
    rng = random.Random(scene.jitter)
    rgb = np.array(_BACKGROUND_PAINTERS[scene.background](size_px, rng), dtype=np.float32)  # (3, H, W)
    portrait = _Portrait(identity, scene, rgb, rng)
    portrait.draw_back_hair()
    portrait.draw_body()
    portrait.draw_head()
    portrait.draw_features()
    portrait.draw_front_hair()
    portrait.draw_accessory()
    rgb = _lit(rgb, scene)
    rgb = _STYLE_FILTERS[scene.style](rgb, random.Random(scene.jitter + 1))
    return np.ascontiguousarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0))


# ---------------------------------------------------------------------------------------------------------- captions


def prompt_for(
    class_noun: str,
    *,
    background: str | None = None,
    accessory: str | None = None,
    hair_colour: str | None = None,
    clothing_colour: str | None = None,
    style: str | None = None,
    expression: str | None = None,
    clothes: str | None = None,
    hair_style: str | None = None,
    light: str | None = None,
) -> str:
    """Write one prompt in the words of the training captions.

    Args:
        class_noun: one word such as "woman", which gets the article "a", or a subject such as "sks woman", kept as is.
        background: one of ``BACKGROUNDS``; this and every other attribute is left out when None.
        accessory: one of ``ACCESSORIES``.
        hair_colour: one of ``HAIR_COLOURS``.
        clothing_colour: one of ``CLOTHING_COLOURS``; without ``clothes`` it colours a t-shirt.
        style: one of ``STYLES``; None means "photo".
        expression: one of ``EXPRESSIONS``.
        clothes: one of ``CLOTHES``.
        hair_style: one of ``HAIR_STYLES``.
        light: one of ``LIGHTS``.

    Returns:
        A prompt such as "photo of a woman with red hair, wearing a blue hoodie and a crown, at the beach".

    Raises:
        KeyError: a value is not in its list of names.
    """
    subject = class_noun if " " in class_noun else f"a {class_noun}"
    if clothing_colour is not None and clothes is None:
        clothes = "t-shirt"
    traits = [] if hair_colour is None and hair_style is None else [_hair_phrase(hair_style, hair_colour)]
    worn = [] if clothes is None else [_clothes_phrase(clothes, clothing_colour)]
    worn += [] if accessory is None else [ATTRIBUTE_PHRASES["accessory"][accessory]]
    rest = [
        "" if value is None else ATTRIBUTE_PHRASES[kind][value]
        for kind, value in (("expression", expression), ("background", background), ("light", light))
    ]
    return _sentence(ATTRIBUTE_PHRASES["style"][style or "photo"], subject, traits, worn, rest)


def caption(identity: Identity, scene: Scene, seed: int = 0, subject: str | None = None) -> str:
    """Describe the picture truly, in varied words: each attribute is mentioned or left out by chance.

    Args:
        identity: who is pictured.
        scene: how.
        seed: chooses what is mentioned and in which order.
        subject: noun phrase of a DreamBooth caption, such as "sks woman"; it replaces the person's description, so
            that no identity trait is put into words.

    Returns:
        One lower-case sentence without a full stop, at most about 30 words.
    """
    rng = random.Random(f"caption {seed} {identity.seed} {scene.jitter}")
    phrases = ATTRIBUTE_PHRASES
    colourless = scene.style in COLOURLESS_STYLES
    noun = f"a {identity.class_noun}" if subject is None else subject
    plain_photo = scene.style == "photo"
    opening = rng.choice(("photo of", "photo of", "portrait of", "")) if plain_photo else phrases["style"][scene.style]
    # A plain colour cannot be seen in a colourless style; warm and cold light cannot either.
    background = "" if colourless and scene.background.startswith("plain") else phrases["background"][scene.background]
    if rng.random() < 0.08:
        return _sentence(opening, noun, [], [], [background] if rng.random() < 0.4 else [])

    traits: list[str] = []
    if subject is None:
        traits = _spoken_traits(identity, scene, rng)
    worn = []
    if rng.random() < 0.75:
        colour = None if colourless or rng.random() < 0.1 else scene.clothing_colour
        worn.append(_clothes_phrase(scene.clothes, colour))
    if rng.random() < 0.78:
        worn.append(phrases["accessory"][scene.accessory])
    if rng.random() < 0.25:
        worn.reverse()
    rest = []
    if rng.random() < 0.4:
        rest.append(phrases["expression"][scene.expression])
    if rng.random() < 0.75:
        rest.append(background)
    if rng.random() < 0.3 and not (colourless and scene.light in ("warm", "cold")):
        rest.append(phrases["light"][scene.light])
    if rng.random() < 0.3:
        rng.shuffle(rest)
    return _sentence(opening, noun, traits, worn, rest, scene_first=rng.random() < 0.15)


def _spoken_traits(identity: Identity, scene: Scene, rng: random.Random) -> list[str]:
    colourless = scene.style in COLOURLESS_STYLES
    traits = []
    if rng.random() < 0.5:
        bald = identity.hair_style == "bald"
        colour = None if colourless or bald or rng.random() < 0.1 else identity.hair_colour
        hidden = scene.accessory in _HATS and identity.hair_style in _STYLES_UNDER_A_HAT
        style = None if hidden or (not bald and rng.random() < 0.2) else identity.hair_style
        if style is not None or colour is not None:
            traits.append(_hair_phrase(style, colour))
    minor = [ATTRIBUTE_PHRASES["beard"][identity.beard]]
    if identity.freckles and scene.style not in ("pixel art", "pop art"):
        minor.append("freckles")
    if not colourless:
        minor.append(ATTRIBUTE_PHRASES["skin"][identity.skin])
        if scene.accessory != "sunglasses" and scene.expression != "laughing" and scene.style != "pixel art":
            minor.append(ATTRIBUTE_PHRASES["eye_colour"][identity.eye_colour])
    traits += [phrase for phrase in minor if phrase and rng.random() < 0.25][:2]
    rng.shuffle(traits)
    return traits


def _hair_phrase(style: str | None, colour: str | None) -> str:
    spoken = "" if colour is None else f"{colour} "
    return (f"{spoken}hair" if style is None else ATTRIBUTE_PHRASES["hair_style"][style]).format(colour=spoken)


def _clothes_phrase(clothes: str, colour: str | None) -> str:
    spoken = "" if colour is None else f"{colour} "
    phrase = ATTRIBUTE_PHRASES["clothes"][clothes].format(colour=spoken)
    return phrase.replace("a orange", "an orange")


def _joined(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _sentence(
    opening: str, noun: str, traits: list[str], worn: list[str], rest: list[str], scene_first: bool = False
) -> str:
    traits, worn, rest = ([phrase for phrase in group if phrase] for group in (traits, worn, rest))
    head = f"{opening} {noun}".strip()
    if traits:
        head += f" with {_joined(traits)}"
    parts = [f"wearing {_joined(worn)}"] if worn else []
    parts = rest + parts if scene_first else parts + rest
    if len(parts) == 1 and not traits:
        return f"{head} {parts[0]}"
    return ", ".join([head, *parts])


# ------------------------------------------------------------------------------------------------------------ drawing


@lru_cache(maxsize=16)
def _axis(size_px: int) -> Array:
    return ((np.arange(size_px, dtype=np.float32) + 0.5) * (2.0 / size_px) - 1).astype(np.float32)


@lru_cache(maxsize=512)
def _rgb(colour: Rgb) -> Array:
    return np.array(colour, dtype=np.float32).reshape(3, 1, 1)


def _mix(a: Rgb, b: Rgb, t: float) -> Rgb:
    return (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t, a[2] + (b[2] - a[2]) * t)


def _dimmed(colour: Rgb, factor: float) -> Rgb:
    return (min(1.0, colour[0] * factor), min(1.0, colour[1] * factor), min(1.0, colour[2] * factor))


class _Frame:
    """A rotated, scaled coordinate frame over the picture, and the shapes measured in it.

    Every shape method returns the picture region it may touch and its coverage there, ``(h, w)`` in [0, 1].
    """

    def __init__(self, size_px: int, cx: float, cy: float, scale: float, roll: float) -> None:
        self.size_px, self.cx, self.cy, self.scale = size_px, cx, cy, scale
        self.cos, self.sin = math.cos(roll), math.sin(roll)
        x = (_axis(size_px)[None, :] - cx) / scale
        y = (_axis(size_px)[:, None] - cy) / scale
        self.u: Array = self.cos * x + self.sin * y  # (H, W)
        self.v: Array = self.cos * y - self.sin * x
        self.per_px = scale * size_px / 2  # pixels in one unit

    def region(self, cx: float, cy: float, hx: float, hy: float) -> Region:
        x = self.cx + self.scale * (self.cos * cx - self.sin * cy)
        y = self.cy + self.scale * (self.sin * cx + self.cos * cy)
        ex = self.scale * (abs(self.cos) * hx + abs(self.sin) * hy)
        ey = self.scale * (abs(self.sin) * hx + abs(self.cos) * hy)
        half, n = self.size_px / 2, self.size_px
        x0, x1 = int((x - ex + 1) * half) - 1, int((x + ex + 1) * half) + 2
        y0, y1 = int((y - ey + 1) * half) - 1, int((y + ey + 1) * half) + 2
        return (slice(min(max(y0, 0), n), min(max(y1, 0), n)), slice(min(max(x0, 0), n), min(max(x1, 0), n)))

    def coverage(self, distance: Array) -> Array:
        return np.clip(0.5 - distance * self.per_px, 0, 1)

    def ellipse(
        self, cx: float, cy: float, rx: float, ry: float, angle: float = 0.0, region: Region | None = None
    ) -> tuple[Region, Array]:
        if region is None:
            reach = max(rx, ry)
            region = self.region(cx, cy, reach, reach) if angle else self.region(cx, cy, rx, ry)
        x, y = self.u[region] - cx, self.v[region] - cy
        if angle:
            c, s = math.cos(angle), math.sin(angle)
            x, y = c * x + s * y, c * y - s * x
        x, y = x * (1 / rx), y * (1 / ry)
        # First-order distance f / |grad f|: exact enough over the one pixel where coverage changes.
        f = x * x + y * y - 1
        x *= 1 / rx
        y *= 1 / ry
        return region, np.clip(0.5 - f / (2 * np.sqrt(x * x + y * y) + 1e-4) * self.per_px, 0, 1)

    def soft(self, cx: float, cy: float, rx: float, ry: float) -> tuple[Region, Array]:
        region = self.region(cx, cy, 2 * rx, 2 * ry)
        x, y = (self.u[region] - cx) * (1 / rx), (self.v[region] - cy) * (1 / ry)
        return region, np.exp(-(x * x + y * y))

    def stroke(self, x0: float, y0: float, x1: float, y1: float, width: float) -> tuple[Region, Array]:
        dx, dy = x1 - x0, y1 - y0
        region = self.region((x0 + x1) / 2, (y0 + y1) / 2, abs(dx) / 2 + width, abs(dy) / 2 + width)
        x, y = self.u[region] - x0, self.v[region] - y0
        t = np.clip((x * dx + y * dy) * (1 / (dx * dx + dy * dy + 1e-9)), 0, 1)
        x, y = x - t * dx, y - t * dy
        return region, self.coverage(np.sqrt(x * x + y * y) - width)

    def arc(
        self, cx: float, cy: float, half: float, bend: float, width: float, angle: float = 0.0
    ) -> tuple[Region, Array]:
        """Stroke along a parabola whose middle lies ``bend`` below its ends, thin at the ends."""
        reach = half + width
        tall = abs(bend) / 2 + width + abs(math.sin(angle)) * reach
        region = self.region(cx, cy, reach, tall)
        x, y = self.u[region] - cx, self.v[region] - cy
        if angle:
            c, s = math.cos(angle), math.sin(angle)
            x, y = c * x + s * y, c * y - s * x
        t2 = x * x * (1 / (half * half))
        slope2 = t2 * (4 * bend * bend / (half * half))
        distance = np.abs(y - bend * (0.5 - t2)) / np.sqrt(1 + slope2) - width * np.sqrt(np.clip(1.15 - t2, 0, 1))
        return region, self.coverage(np.maximum(distance, np.abs(x) - reach))

    def box(
        self, cx: float, cy: float, hx: float, hy: float, radius: float = 0.0, angle: float = 0.0
    ) -> tuple[Region, Array]:
        reach = math.hypot(hx, hy)
        region = self.region(cx, cy, reach, reach) if angle else self.region(cx, cy, hx, hy)
        x, y = self.u[region] - cx, self.v[region] - cy
        if angle:
            c, s = math.cos(angle), math.sin(angle)
            x, y = c * x + s * y, c * y - s * x
        x, y = np.abs(x) - (hx - radius), np.abs(y) - (hy - radius)
        if not radius:
            return region, self.coverage(np.maximum(x, y))
        ox, oy = np.maximum(x, 0), np.maximum(y, 0)
        return region, self.coverage(np.sqrt(ox * ox + oy * oy) + np.minimum(np.maximum(x, y), 0) - radius)

    def polygon(self, points: Sequence[tuple[float, float]]) -> tuple[Region, Array]:
        """Convex polygon, corners in clockwise order on the screen."""
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        hx, hy = (max(xs) - min(xs)) / 2, (max(ys) - min(ys)) / 2
        region = self.region(min(xs) + hx, min(ys) + hy, hx, hy)
        u, v = self.u[region], self.v[region]
        distance: Array | None = None
        for (ax, ay), (bx, by) in zip(points, [*points[1:], points[0]], strict=True):
            ex, ey = bx - ax, by - ay
            norm = 1 / math.hypot(ex, ey)
            side = u * (ey * norm) - v * (ex * norm) + (ay * ex - ax * ey) * norm
            distance = side if distance is None else np.maximum(distance, side)
        assert distance is not None
        return region, self.coverage(distance)

    def oval(
        self, cx: float, cy: float, rx: float, ry: float, power: float, taper: float, region: Region | None = None
    ) -> tuple[Region, Array, Array]:
        """Superellipse narrowing downwards; also returns its radius field, 1 on the rim and 0 in the middle."""
        region = self.region(cx, cy, rx * (1 + abs(taper) / 3), ry) if region is None else region
        x, y = self.u[region] - cx, self.v[region] - cy
        wide = rx * (1 - taper * np.clip(y * (1 / ry), -0.3, 1)) if taper else rx
        if power == 2:
            k = np.sqrt(np.square(x / wide) + np.square(y * (1 / ry)))
        else:
            k = (np.abs(x / wide) ** power + np.abs(y * (1 / ry)) ** power) ** (1 / power)
        distance = np.sqrt(x * x + y * y) * (1 - 1 / np.maximum(k, 1e-3))
        return region, self.coverage(distance), k


class _Portrait:
    """One picture in the making: the layers, drawn back to front into ``rgb``, ``(3, H, W)`` in [0, 1]."""

    def __init__(self, identity: Identity, scene: Scene, rgb: Array, rng: random.Random) -> None:
        self.who, self.scene, self.rgb, self.rng = identity, scene, rgb, rng
        size_px = rgb.shape[1]
        scale = 0.47 * scene.zoom
        cy = -0.32 + 0.27 * (scene.zoom - 0.72) / 0.48 + scene.shift_yx[0]
        cx = scene.shift_yx[1]
        self.head = _Frame(size_px, cx, cy, scale, scene.roll)
        self.body = _Frame(size_px, cx, cy, scale, scene.roll * 0.25)
        self.rx, self.ry = identity.face_width, identity.face_height
        self.turn = 0.55 * scene.yaw
        position = min(identity.skin_tone, 0.9999) * (len(_SKIN_RAMP) - 1)
        lower = int(position)
        skin = _mix(_SKIN_RAMP[lower][1], _SKIN_RAMP[lower + 1][1], position - lower)
        self.skin: Rgb = (skin[0], skin[1] * (1 + 0.03 * identity.undertone), skin[2] * (1 - 0.08 * identity.undertone))
        self.hair = _dimmed(_HAIR_RGB[identity.hair_colour], 1 + 0.14 * identity.hair_shade)

    def paint(self, shape: tuple[Region, Array], colour: Rgb | Array, opacity: float = 1.0) -> None:
        region, cover = shape
        target = self.rgb[:, region[0], region[1]]
        if opacity != 1.0:
            cover = cover * opacity
        target += cover * ((colour if isinstance(colour, np.ndarray) else _rgb(colour)) - target)

    def around(self, x: float, depth: float = 1.0) -> tuple[float, float]:
        """Where a feature at ``x`` on the unturned face lies after the turn, and how much it narrows."""
        radius = self.rx * depth
        angle = math.asin(max(-0.99, min(0.99, x / radius))) + self.turn
        return radius * math.sin(angle), max(0.35, math.cos(angle) / max(0.3, math.cos(angle - self.turn)))

    # ------------------------------------------------------------------------------------------------ hair

    def strands(self, frame: _Frame, region: Region, wave: float = 0.0) -> Array:
        """Hair colour with strands and a highlight band, ``(3, h, w)``."""
        u, v = frame.u[region], frame.v[region]
        along = np.sin((u + (wave * np.sin(v * 5.0) if wave else 0)) * 15 + v * 2 * self.who.part_side)
        band = np.exp(-np.square((v + 0.78 + 0.25 * np.square(u)) * 4.5))
        light = 1.0 - 0.11 * np.clip(v + 0.6, 0, 1.5) + 0.08 * along
        # Black hair needs an added gleam: a factor alone leaves it a flat hole.
        return _rgb(self.hair) * light + (0.05 + 0.16 * max(self.hair)) * band

    def tail(self, points: Sequence[tuple[float, float]], width: float) -> None:
        for (x0, y0), (x1, y1) in pairwise(points):
            region, cover = self.head.stroke(x0, y0, x1, y1, width)
            self.paint((region, cover), self.strands(self.head, region))

    def bumpy(
        self, cx: float, cy: float, rx: float, ry: float, bumps: int, depth: float, sharp: bool = False
    ) -> tuple[Region, Array]:
        f = self.head
        region = f.region(cx, cy, rx * (1 + depth), ry * (1 + depth))
        x, y = f.u[region] - cx, f.v[region] - cy
        angle = np.arctan2(x, -y) * (bumps / 2) + self.who.hair_volume * 3
        wave = np.abs(np.cos(angle)) if not sharp else np.abs(np.mod(angle * (1 / math.pi), 1) * 2 - 1)
        k = np.sqrt(np.square(x * (1 / rx)) + np.square(y * (1 / ry))) / (1 + depth * (wave - 0.3))
        return region, f.coverage(np.sqrt(x * x + y * y) * (1 - 1 / np.maximum(k, 1e-3)))

    def draw_back_hair(self) -> None:
        style, f, rx, volume = self.who.hair_style, self.head, self.rx, self.who.hair_volume
        side, back = self.who.part_side, -0.12 * self.scene.yaw
        hatted = self.scene.accessory in _HATS
        if style in ("long straight", "long wavy"):
            wave = 0.10 if style == "long wavy" else 0.0
            width, low = rx + 0.24 + 0.14 * volume, 1.75 + 0.3 * volume
            region = f.region(back, (low - 1) / 2, width + 0.15, (low + 1) / 2)
            u, v = f.u[region] - back, f.v[region]
            if wave:
                u = u + wave * np.sin(v * 5.5)
            spread = width + 0.10 * np.clip(v - 0.2, 0, 2) - 0.5 * np.square(np.clip(-v - 0.2, 0, 1))
            cover = f.coverage(np.maximum(np.abs(u) - spread, v - low))
            self.paint((region, cover), self.strands(f, region, wave) * 0.78)
        elif style == "bob":
            region, cover = f.box(back, 0.05, rx + 0.28 + 0.12 * volume, 0.88, 0.34)
            self.paint((region, cover), self.strands(f, region) * 0.72)
        elif style == "ponytail":
            start = (side * 0.45 + back, -0.85)
            x = side * (rx + 0.42 + 0.15 * volume)
            self.tail([start, (x, -0.55), (x + side * 0.1, 0.3), (x - side * 0.05, 1.25)], 0.22 + 0.08 * volume)
            self.paint(f.ellipse(side * (rx + 0.02) + back, -0.72, 0.14, 0.2), (0.85, 0.2, 0.3))
        elif style == "bun":
            size = 0.36 + 0.12 * volume
            place = (side * (rx + 0.2), -0.35) if hatted else (back * 1.5, -1.22)
            region, cover = f.ellipse(place[0], place[1], size, size * 0.9)
            self.paint((region, cover), self.strands(f, region))
            self.paint(f.arc(place[0], place[1] + size * 0.7, size * 0.8, 0.15, 0.05), _dimmed(self.hair, 0.55))
        elif style == "pigtails":
            for s in (-1, 1):
                x = s * (rx + 0.38) + back
                self.tail([(s * rx, -0.35), (x, -0.1), (x + s * 0.08, 1.0)], 0.22 + 0.06 * volume)
                self.paint(f.ellipse(s * (rx + 0.2) + back, -0.26, 0.12, 0.15), (0.95, 0.75, 0.2))
        elif style == "afro":
            region, cover = self.bumpy(back, -0.25, rx + 0.52 + 0.2 * volume, 1.12 + 0.18 * volume, 22, 0.08)
            self.paint((region, cover), self.curls(region))
        elif style == "curly":
            region, cover = self.bumpy(back, -0.08, rx + 0.30 + 0.15 * volume, 1.12 + 0.08 * volume, 13, 0.16)
            self.paint((region, cover), self.curls(region) * 0.85)

    def curls(self, region: Region) -> Array:
        u, v = self.head.u[region], self.head.v[region]
        curl = np.sin(u * 13 + 1.5 * np.sin(v * 7)) * np.sin(v * 13 + 1.5 * np.sin(u * 7))
        light = 1.0 + 0.16 * curl - 0.12 * np.clip(v + 0.5, -0.6, 1)
        return _rgb(self.hair) * light + (0.03 + 0.08 * max(self.hair)) * np.clip(curl, 0, 1)

    def draw_front_hair(self) -> None:
        who, f, style = self.who, self.head, self.who.hair_style
        if style == "bald":
            self.paint(f.soft(-0.2 + 0.2 * self.scene.yaw, -0.72 * self.ry, 0.22, 0.13), (1.0, 1.0, 1.0), 0.35)
            return
        tight = style in ("buzz cut", "mohawk", "ponytail", "bun", "pigtails")
        grow = 0.03 if tight else 0.08 + 0.10 * who.hair_volume
        low = {
            "buzz cut": -0.15,
            "mohawk": -0.15,
            "short": 0.0,
            "side-parted": 0.05,
            "spiky": -0.1,
            "afro": 0.2,
            "curly": 0.35,
            "bob": 0.85,
            "long straight": 0.6,
            "long wavy": 0.6,
        }.get(style, 0.05)
        front = 0.10 * self.scene.yaw
        rx, ry = self.rx + 0.05 + grow, self.ry + grow * 1.6
        if style == "spiky":
            region, cover = self.bumpy(0, -0.1, rx + 0.05, ry + 0.05, 15, 0.30, sharp=True)
        else:
            region, cover, _ = f.oval(0, -0.08, rx, ry, 2.3, 0.0)
        u, v = f.u[region], f.v[region]
        cover = cover * np.clip(0.5 - (v - low) * f.per_px * 0.6, 0, 1)
        fringe = who.fringe
        if style == "side-parted":
            fringe = "swept"
        elif style == "short" and fringe == "swept":
            fringe = "straight"
        elif tight or style in ("spiky", "afro"):
            fringe = "none"
        half = self.rx * 0.97
        if fringe == "straight":
            top = -0.36
            x, y = (u - front * 1.5) * (1 / half), (v - 0.7) * (1 / (0.7 - top))
            k = (x * x) ** 2 + (y * y) ** 2
        elif fringe == "swept":
            c, s = math.cos(0.42), math.sin(0.42) * who.part_side
            x0, y0 = u - front * 2 - 0.14 * who.part_side, v - 0.42
            x, y = (c * x0 + s * y0) * (1 / (half * 1.02)), (c * y0 - s * x0) * (1 / (0.34 + who.hairline))
            k = x * x + y * y
        else:
            top = -who.hairline
            x, y = (u - front * 2) * (1 / half), (v - 0.42) * (1 / (0.42 - top))
            k = x * x + y * y
            k = k * np.sqrt(k)
        rim = np.clip(0.5 + (k - 1) * 0.33 * f.per_px * half, 0, 1)
        # Below the eyes the opening has vertical sides, so that hair frames the cheeks and never covers the chin.
        sides = np.clip(0.5 + (np.abs(u - front) - half * 0.97) * f.per_px, 0, 1)
        cover = cover * np.where(v > 0.42, sides, rim)
        if style == "buzz cut":
            self.paint((region, cover), self.strands(f, region), 0.70)
        elif style == "mohawk":
            self.paint((region, cover), self.strands(f, region), 0.45)
            middle = 0.3 * self.turn
            fin, fin_cover = self.bumpy(middle, -0.95, 0.24, 0.52 + 0.12 * who.hair_volume, 9, 0.22, sharp=True)
            self.paint((fin, fin_cover), self.strands(f, fin))
        elif style in ("afro", "curly"):
            self.paint((region, cover), self.curls(region))
        else:
            self.paint((region, cover), self.strands(f, region, 0.05 if style == "long wavy" else 0.0))
        if style == "side-parted":
            s = who.part_side
            lift, lift_cover = f.ellipse(-s * 0.22 + front, -ry * 0.86, rx * 0.72, 0.30, -0.25 * s)
            self.paint((lift, lift_cover), self.strands(f, lift))
            self.paint(f.stroke(s * 0.30 + front, -0.60, s * 0.34 + front, -ry * 0.98, 0.035), _dimmed(self.skin, 0.85))
        if style in ("long straight", "long wavy"):
            self.draw_locks(0.09 if style == "long wavy" else 0.0)

    def draw_locks(self, wave: float) -> None:
        f, volume = self.head, self.who.hair_volume
        for s in (-1, 1):
            x, low = s * (self.rx + 0.12), 1.55 + 0.25 * volume
            region = f.region(x + s * 0.1, (low - 0.2) / 2, 0.36, (low + 0.2) / 2)
            u, v = f.u[region] - x - s * 0.12 * np.clip(f.v[region] - 0.6, 0, 1), f.v[region]
            if wave:
                u = u + wave * np.sin(v * 5.5)
            width = (0.17 + 0.05 * volume) * np.clip((low - v) * 2.5, 0, 1)
            cover = f.coverage(np.maximum(np.abs(u) - width, -0.2 - v))
            self.paint((region, cover), self.strands(f, region, wave))

    # ------------------------------------------------------------------------------------------------ body

    def draw_body(self) -> None:
        f, scene, woman = self.body, self.scene, self.who.class_noun == "woman"
        neck = 0.30 if woman else 0.42
        wide = 1.28 if woman else 1.62
        colour = _CLOTH_RGB[scene.clothing_colour]
        dark, light = _dimmed(colour, 0.62), _mix(colour, (1, 1, 1), 0.35)
        if scene.clothing_colour == "black":
            light = (0.34, 0.34, 0.38)
        kind = scene.clothes
        lean = 0.06 * scene.yaw

        if kind == "hoodie":
            self.paint(f.ellipse(0, 1.05, 0.82, 0.5), dark)
        region, cover = f.box(0, 1.0, neck, 0.55, 0.1)
        v = f.v[region]
        shade = 0.72 + 0.22 * np.clip((v - 0.95) * 2, 0, 1) - 0.10 * f.u[region]
        self.paint((region, cover), _rgb(self.skin) * shade)

        bottom = (1 - f.cy) / f.scale + 0.4
        top = 1.28
        region = f.region(0, (bottom + top) / 2, wide, (bottom - top) / 2)
        region, cover, _ = f.oval(0, 4.0, wide, 4.0 - top, 3.2, 0.0, region)
        u, v = f.u[region] - lean, f.v[region]

        def shaded(rgb: Rgb) -> Array:
            folds = 1.04 - 0.10 * np.clip(v - 1.4, 0, 2) - 0.10 * u * u / (wide * wide) - 0.05 * u
            return _rgb(rgb) * folds + (0.03 if scene.clothing_colour == "black" else 0.0)

        def below(curve: Array | float) -> Array:
            return np.clip(0.5 + (v - curve) * f.per_px, 0, 1)

        def within(half: Array | float) -> Array:
            return np.clip(0.5 - (np.abs(u) - half) * f.per_px, 0, 1)

        def lay(mask: Array, rgb: Rgb | Array, opacity: float = 1.0) -> None:
            self.paint((region, cover * mask), rgb, opacity)

        cloth = shaded(colour)
        if kind in ("dress", "overalls"):
            lay(np.ones_like(v), shaded(self.skin))
        if kind == "dress":
            neckline = 1.78 - 0.16 * np.cos(u * 4)
            straps = within(wide * 0.52) * (1 - within(wide * 0.36))
            lay(np.maximum(below(neckline) * within(wide * 0.78), straps), cloth)
            lay(within(wide * 0.78) * below(2.35) * (1 - below(2.5)), light)
        elif kind == "overalls":
            lay(
                below(1.30 + 0.3 * np.clip(1 - np.square(u / 0.5), 0, 1)),
                shaded((0.93, 0.93, 0.90) if scene.clothing_colour != "white" else (0.35, 0.42, 0.6)),
            )
            bib = within(0.68) * below(1.85)
            straps = within(0.66) * (1 - within(0.40))
            lay(np.maximum(bib, straps), cloth)
            lay(within(0.30) * below(2.1) * (1 - below(2.17)), dark)
            for s in (-1, 1):
                self.paint(f.ellipse(lean + s * 0.53, 1.93, 0.09, 0.09), (0.95, 0.8, 0.25))
        elif kind == "armour":
            plate = cloth * (0.75 + 0.55 * np.exp(-np.square((u + 0.45) * 2.2)))
            lay(np.ones_like(v), plate)
            for level in (1.9, 2.3, 2.7):
                curve = level - 0.18 * u * u
                lay(below(curve) * (1 - below(curve + 0.07)), dark)
            for s in (-1, 1):
                shape = f.ellipse(s * wide * 0.78, 1.72, 0.46, 0.36)
                self.paint(shape, dark)
                inner, inner_cover = f.ellipse(s * wide * 0.78, 1.68, 0.40, 0.28)
                self.paint((inner, inner_cover), _rgb(colour) * (1.15 - 0.5 * np.clip(f.v[inner] - 1.5, 0, 1)) + 0.12)
            self.paint(f.box(lean, 1.33, neck + 0.16, 0.14, 0.06), light)
        else:
            lay(np.ones_like(v), cloth)
        arms = within(wide * 0.80) * (1 - within(wide * 0.77)) * below(2.05)
        lay(arms, dark, 0.8)

        if kind == "t-shirt":
            opening = 1.30 + 0.30 * np.clip(1 - np.square(u / (neck + 0.14)), 0, 1)
            lay(1 - below(opening + 0.07), dark)
            lay(1 - below(opening), shaded(self.skin))
        elif kind == "striped sweater":
            stripe = np.clip(0.5 + np.sin((v + 0.06 * u * u) * 15) * 1.6, 0, 1)
            accent = (
                (0.98, 0.98, 0.96) if scene.clothing_colour not in ("white", "yellow", "pink") else (0.15, 0.2, 0.4)
            )
            lay(stripe * below(1.55), accent)
            self.paint(f.box(lean, 1.36, neck + 0.12, 0.13, 0.08), dark)
        elif kind == "turtleneck":
            region_neck, cover_neck = f.box(lean * 0.5, 1.18, neck + 0.08, 0.28, 0.1)
            ribs = 0.86 + 0.12 * np.sin(f.u[region_neck] * 28)
            self.paint(
                (region_neck, cover_neck), _rgb(colour) * ribs + (0.05 if scene.clothing_colour == "black" else 0)
            )
            self.paint(f.arc(lean * 0.5, 1.47, neck + 0.1, 0.08, 0.03), dark)
        elif kind in ("suit", "lab coat"):
            half = np.clip((2.55 if kind == "suit" else 2.75) - v, 0, 2) * 0.42
            under: Rgb = (0.96, 0.96, 0.97) if scene.clothing_colour != "white" else (0.55, 0.70, 0.92)
            lay(within(half + 0.16), light if kind == "lab coat" else dark)
            lay(within(half), shaded(under))
            if kind == "suit":
                tie: Rgb = (0.12, 0.12, 0.16) if scene.clothing_colour == "red" else (0.75, 0.08, 0.12)
                lay(within(0.09 + 0.05 * np.clip(v - 1.5, 0, 1)) * within(half), tie)
                self.paint(f.box(lean, 1.45, 0.12, 0.08, 0.03), _dimmed(tie, 0.8))
            else:
                lay(within(half) * (1 - below(1.40 + 0.35 * np.clip(1 - np.square(u / 0.3), 0, 1))), shaded(self.skin))
                self.paint(f.box(0.72 + lean, 2.2, 0.22, 0.03), dark)
                self.paint(f.stroke(0.66 + lean, 2.05, 0.66 + lean, 2.3, 0.035), (0.1, 0.3, 0.9))
                lay(within(0.02) * below(2.7), dark)
        elif kind == "shirt":
            lay(within(0.03) * below(1.55), dark)
            for level in (1.75, 2.1, 2.45):
                self.paint(
                    f.ellipse(lean, level, 0.055, 0.055),
                    (0.98, 0.98, 0.98) if scene.clothing_colour != "white" else (0.4, 0.4, 0.45),
                )
            self.paint(f.polygon([(-0.2 + lean, 1.1), (0.2 + lean, 1.1), (lean, 1.55)]), _dimmed(self.skin, 0.85))
            for s in (-1, 1):
                corners = [
                    (s * 0.22 + lean, 1.08),
                    (s * (neck + 0.22) + lean, 1.22),
                    (s * 0.42 + lean, 1.66),
                    (lean, 1.46),
                ]
                self.paint(
                    f.polygon(corners if s > 0 else corners[::-1]),
                    light if scene.clothing_colour != "white" else (0.82, 0.84, 0.88),
                )
        elif kind == "hoodie":
            self.paint(f.arc(lean, 1.42, neck + 0.34, 0.42, 0.17), dark)
            for s in (-1, 1):
                self.paint(
                    f.stroke(lean + s * 0.2, 1.6, lean + s * 0.24, 2.15, 0.04),
                    (0.97, 0.97, 0.97) if max(colour) < 0.9 or min(colour) < 0.5 else (0.3, 0.3, 0.35),
                )
            lay(within(0.7) * below(2.6) * (1 - below(2.67)), dark)

    # ------------------------------------------------------------------------------------------------ head

    def draw_head(self) -> None:
        who, f, skin = self.who, self.head, self.skin
        for s in (-1, 1):
            hidden = 0.22 * max(0.0, s * self.scene.yaw)
            x = s * (self.rx + 0.03 - hidden) - 0.06 * self.scene.yaw
            self.paint(f.ellipse(x, 0.08, who.ear_size * 0.72, who.ear_size * 1.25, 0.15 * s), _dimmed(skin, 0.88))
            self.paint(f.ellipse(x, 0.08, who.ear_size * 0.36, who.ear_size * 0.75, 0.15 * s), _dimmed(skin, 0.68))
        power = 2.0 + 0.9 * who.jaw_width
        taper = 0.30 - 0.28 * who.jaw_width
        tall = self.ry + 0.10 * who.chin
        region, cover, k = f.oval(0, 0.05 * who.chin, self.rx, tall, power, taper)
        u, v = f.u[region], f.v[region]
        shade = 1.05 - 0.07 * u - 0.05 * v - 0.55 * np.square(np.clip(k - 0.55, 0, 0.6))
        self.face_region, self.face_cover = region, cover
        self.paint((region, cover), _rgb(skin) * shade)
        if who.blush > 0.05:
            for s in (-1, 1):
                x, squeeze = self.around(s * self.rx * 0.62)
                self.paint(
                    f.soft(x, 0.36, 0.17 * squeeze, 0.13), _mix(skin, (0.95, 0.25, 0.25), 0.55), 0.85 * who.blush
                )
        if who.freckles:
            spots = random.Random(who.seed)
            for _ in range(12):
                x, _s = self.around(spots.uniform(-0.62, 0.62) * self.rx)
                self.paint(
                    f.ellipse(x, 0.28 + spots.uniform(-0.1, 0.14), 0.036, 0.032),
                    _mix(_dimmed(skin, 0.55), (0.5, 0.2, 0.05), 0.4),
                    0.85,
                )
        if who.age_lines > 0.1:
            line, strength = _dimmed(skin, 0.62), 0.9 * who.age_lines
            for s in (-1, 1):
                x, squeeze = self.around(s * (who.mouth_width + 0.10))
                self.paint(f.stroke(x - s * 0.06, 0.34, x + s * 0.03, 0.56, 0.022), line, strength)
                x, squeeze = self.around(s * who.eye_spacing)
                self.paint(f.arc(x, who.eye_size * 0.9 + 0.08, who.eye_size * squeeze, 0.08, 0.022), line, strength)
            x, _s = self.around(0.0)
            self.paint(f.arc(x, -0.50, 0.32, -0.05, 0.02), line, strength)
        if who.beard != "none":
            self.draw_beard()

    def draw_beard(self) -> None:
        who, f, region = self.who, self.head, self.face_region
        u, v = f.u[region], f.v[region]
        x, _ = self.around(0.0)
        jaw = np.clip(
            0.5 + (v - (0.30 + 0.22 * np.cos(np.clip((u - x) * (2.6 / self.rx), -3.1, 3.1)))) * f.per_px, 0, 1
        )
        colour = _dimmed(self.hair, 0.85)
        if who.beard == "stubble":
            self.paint((region, self.face_cover * jaw), _mix(_dimmed(self.skin, 0.6), colour, 0.5), 0.48)
        elif who.beard == "full beard":
            self.paint((region, self.face_cover * jaw), _rgb(colour) * (1 + 0.10 * np.sin(u * 22)))
            low, low_cover = f.ellipse(x * 0.4, 0.86, self.rx * 0.66, 0.38)
            fade = low_cover * np.clip(0.5 + (f.v[low] - 0.72) * f.per_px, 0, 1)
            self.paint((low, fade), _rgb(colour) * (0.93 + 0.10 * np.sin(f.u[low] * 22)))
        elif who.beard == "goatee":
            self.paint(f.ellipse(x, 0.88, 0.24, 0.27), colour)
        if who.beard in ("moustache", "goatee", "full beard"):
            y = 0.16 + who.nose_length * 0.62 + 0.10
            size = 0.075 if who.beard == "moustache" else 0.055
            for s in (-1, 1):
                mx, squeeze = self.around(s * 0.16, 1.05)
                self.paint(f.ellipse(mx, y, 0.22 * squeeze, size, 0.28 * s), colour)

    # ------------------------------------------------------------------------------------------------ features

    def draw_features(self) -> None:
        self.draw_nose()
        self.draw_mouth()
        for s in (-1, 1):
            self.draw_eye(s)

    def draw_nose(self) -> None:
        who, f, skin = self.who, self.head, self.skin
        tip, _ = self.around(0.0, 1.35)
        root, _ = self.around(0.0)
        y = 0.02 + who.nose_length
        side = 1 if self.scene.yaw >= 0 else -1
        self.paint(
            f.stroke(root - side * 0.05, 0.0, tip - side * who.nose_width * 0.55, y - 0.02, 0.025),
            _dimmed(skin, 0.72),
            0.6,
        )
        self.paint(f.soft(tip + 0.02, y + 0.08, who.nose_width * 1.1, 0.07), _dimmed(skin, 0.60), 0.75)
        self.paint(f.ellipse(tip, y, who.nose_width, 0.055 + who.nose_width * 0.28), _dimmed(skin, 0.90))
        self.paint(f.soft(tip - 0.03, y - 0.04, 0.06, 0.05), _mix(skin, (1, 1, 1), 0.5), 0.75)
        for s in (-1, 1):
            self.paint(f.ellipse(tip + s * who.nose_width * 0.55, y + 0.05, 0.03, 0.022), _dimmed(skin, 0.38))

    def draw_mouth(self) -> None:
        who, f, mood = self.who, self.head, self.scene.expression
        x, squeeze = self.around(0.0, 1.08)
        half = who.mouth_width * squeeze
        y = 0.60 + 0.05 * who.chin
        full = who.lip_fullness
        lip = _mix(_mix(_dimmed(self.skin, 0.72), (0.72, 0.28, 0.26), 0.35), (0.80, 0.06, 0.16), who.lip_redness)
        inside: Rgb = (0.28, 0.05, 0.06)
        white: Rgb = (0.98, 0.97, 0.95)
        if mood == "laughing":
            tall = 0.30
            top = y - 0.10
            region, cover = f.ellipse(x, top, half * 1.12 + 0.07, tall + 0.06)
            lower = np.clip(0.5 + (f.v[region] - top + 0.06) * f.per_px, 0, 1)
            self.paint((region, cover * lower), lip)
            region, cover = f.ellipse(x, top, half * 1.12, tall)
            v = f.v[region]
            cover = cover * np.clip(0.5 + (v - top) * f.per_px, 0, 1)
            self.paint((region, cover), inside)
            self.paint((region, cover * np.clip(0.5 - (v - top - 0.10) * f.per_px, 0, 1)), white)
            self.paint((region, cover * np.clip(0.5 + (v - top - 0.20) * f.per_px, 0, 1)), (0.85, 0.35, 0.38))
        elif mood == "surprised":
            self.paint(f.ellipse(x, y + 0.05, 0.14 + full * 0.8, 0.20 + full * 0.8), lip)
            self.paint(f.ellipse(x, y + 0.05, 0.12, 0.18), inside)
        elif mood == "angry":
            self.paint(f.box(x, y, half * 0.95 + 0.03, 0.11 + full * 0.3, 0.06), lip)
            self.paint(f.box(x, y, half * 0.95 - 0.02, 0.075, 0.04), white)
            self.paint(f.stroke(x - half * 0.85, y, x + half * 0.85, y, 0.012), inside)
            for t in (-0.45, 0.0, 0.45):
                self.paint(f.stroke(x + t * half, y - 0.06, x + t * half, y + 0.06, 0.010), inside, 0.7)
        else:
            bend = {"neutral": 0.0, "smiling": 0.26, "sad": -0.24, "winking": 0.24}[mood]
            wide = half * (1.2 if bend > 0 else 1.0)
            self.paint(f.arc(x, y + full * 0.3, wide, bend, full), lip)
            self.paint(f.soft(x, y + full * 0.9 + bend * 0.4, wide * 0.35, full * 0.5), _mix(lip, (1, 1, 1), 0.5), 0.5)
            if mood == "smiling":
                self.paint(f.arc(x, y - 0.01, wide * 0.86, bend, 0.05), white)
                self.paint(f.arc(x, y - 0.05, wide, bend, 0.022), inside)
            else:
                self.paint(f.arc(x, y, wide, bend, 0.03), _dimmed(lip, 0.35))

    def draw_eye(self, s: int) -> None:
        who, f, mood = self.who, self.head, self.scene.expression
        x, squeeze = self.around(s * who.eye_spacing)
        wide = who.eye_size * squeeze
        tilt = -s * who.eye_tilt
        brow_y = -who.brow_height - who.eye_size * 0.35
        brow_tilt, bend = -s * who.brow_angle, -0.08
        open_by = 1.0
        if mood == "surprised":
            open_by, brow_y = 1.35, brow_y - 0.15
            bend = -0.14
        elif mood == "angry":
            open_by, brow_y, brow_tilt, bend = 0.75, brow_y + 0.10, s * -0.55, 0.0
        elif mood == "sad":
            open_by, brow_tilt, bend = 0.8, s * 0.50, 0.0
        elif mood == "laughing":
            brow_y -= 0.08
        lash = 0.04 if who.class_noun == "woman" else 0.026
        closed = mood == "laughing" or (mood == "winking" and s == who.part_side)
        ink: Rgb = (0.10, 0.06, 0.05)
        if closed:
            self.paint(f.arc(x, 0.0, wide * 1.1, -0.16 if mood == "laughing" else 0.13, 0.045), ink)
        else:
            tall = max(0.085, who.eye_size * who.eye_shape) * open_by
            self.paint(f.soft(x, -0.02, wide * 1.2, tall * 1.3), _dimmed(self.skin, 0.62), 0.55)
            region, cover = f.ellipse(x, 0, wide, tall, tilt)
            self.paint((region, cover), (0.98, 0.98, 0.97))
            gaze = x + 0.05 * self.scene.yaw
            iris = max(0.085, min(tall * 0.88, wide * 0.72))
            _, iris_cover = f.ellipse(gaze, 0, iris, iris, region=region)
            self.paint((region, iris_cover * cover), _EYE_RGB[who.eye_colour])
            _, pupil = f.ellipse(gaze, 0, iris * 0.48, iris * 0.48, region=region)
            self.paint((region, pupil * cover), (0.03, 0.02, 0.03))
            self.paint(f.ellipse(gaze - 0.035, -0.04, 0.032, 0.032), (1, 1, 1), 0.9)
            self.paint(f.arc(x, -tall * 0.55, wide * 1.08, -tall * 0.95, lash, tilt), ink)
            if who.class_noun == "woman":
                outer = x + s * wide
                self.paint(f.stroke(outer, -0.02, outer + s * 0.07, -0.10, 0.028), ink)
        brow = _dimmed(self.hair, 0.72) if who.hair_colour != "white" else (0.72, 0.72, 0.72)
        if max(brow) < 0.3 and who.skin_tone > 0.7:
            brow = (0.05, 0.04, 0.04)
        self.paint(f.arc(x, brow_y, who.eye_size * 1.15 * squeeze + 0.03, bend, who.brow_thickness, brow_tilt), brow)

        if who.mole == s:
            mx, _ = self.around(s * self.rx * 0.5)
            self.paint(f.ellipse(mx, 0.47, 0.05, 0.05), (0.16, 0.08, 0.06))

    # ------------------------------------------------------------------------------------------------ accessories

    def draw_accessory(self) -> None:
        # Each accessory has one colour: captions do not name it, and a small denoiser that cannot know which one is
        # meant paints all of them at once.
        painter = _ACCESSORY_PAINTERS[self.scene.accessory]
        if painter is not None:
            painter(self)

    def draw_glasses(self) -> None:
        self.draw_frames((0.06, 0.05, 0.07), lens=None)

    def draw_sunglasses(self) -> None:
        self.draw_frames((0.04, 0.04, 0.05), lens=(0.05, 0.05, 0.08))

    def draw_frames(self, rim: Rgb, lens: Rgb | None) -> None:
        f = self.head
        inner = []
        for s in (-1, 1):
            x, squeeze = self.around(s * max(0.33, self.who.eye_spacing), 1.1)
            half = 0.31 * squeeze
            inner.append(x - s * half)
            region, cover = f.ellipse(x, 0.01, half, 0.27)
            if lens is None:
                _, hole = f.ellipse(x, 0.01, half - 0.10, 0.16, region=region)
                self.paint((region, hole), (0.85, 0.93, 1.0), 0.4)
                self.paint((region, cover * (1 - hole)), rim)
            else:
                shade = np.clip(0.55 - f.v[region] * 1.6, 0, 1) * 0.18
                self.paint((region, cover), _rgb(lens) + shade)
            edge = s * self.rx - 0.05 * self.scene.yaw
            if abs(edge) > abs(x + s * half) - 0.02:
                self.paint(f.stroke(x + s * half, -0.05, edge, -0.08, 0.035), rim)
        self.paint(f.stroke(inner[0], -0.03, inner[1], -0.03, 0.035), rim)

    def draw_hat(self) -> None:
        f = self.head
        colour: Rgb = (0.40, 0.25, 0.14)
        top, x = -0.70, 0.06 * self.scene.yaw
        wide = self.rx + 0.16
        region, cover = f.box(x, top - 0.46, wide * 0.86, 0.55, 0.22)
        self.paint((region, cover), _rgb(colour) * (1.12 - 0.25 * (f.u[region] + 0.3)))
        self.paint(f.box(x, top - 0.12, wide * 0.87, 0.13), (0.70, 0.10, 0.12))
        region, cover = f.ellipse(x, top + 0.05, wide + 0.42, 0.17)
        self.paint((region, cover), _rgb(colour) * (1.0 - 0.8 * (f.v[region] - top)))

    def draw_cap(self) -> None:
        f = self.head
        colour: Rgb = (0.10, 0.25, 0.75)
        wide, y, x = self.rx + 0.14, -0.58, 0.05 * self.scene.yaw
        region, cover = f.ellipse(x, y, wide, 0.72)
        cover = cover * np.clip(0.5 - (f.v[region] - y) * f.per_px, 0, 1)
        self.paint((region, cover), _rgb(colour) * (1.08 - 0.22 * f.u[region]))
        side = 1 if self.scene.yaw >= 0 else -1
        self.paint(f.ellipse(x + side * 0.34, y + 0.02, wide * 0.92, 0.15, 0.06 * side), _dimmed(colour, 0.62))
        self.paint(f.ellipse(x + 0.25 * self.scene.yaw, y - 0.32, 0.17, 0.17), (0.97, 0.97, 0.97))

    def draw_crown(self) -> None:
        f, x = self.head, 0.05 * self.scene.yaw
        gold: Rgb = (1.0, 0.80, 0.12)
        wide, low = self.rx + 0.08, -0.72
        for i in range(5):
            px = x + wide * (i - 2) / 2 * 0.86
            lean = (i - 2) * 0.05
            self.paint(
                f.polygon([(px + lean, low - 0.72), (px + 0.22, low - 0.05), (px - 0.22, low - 0.05)]),
                _dimmed(gold, 0.95),
            )
            self.paint(f.ellipse(px + lean, low - 0.72, 0.075, 0.075), (0.9, 0.1, 0.2) if i % 2 else (0.2, 0.4, 0.95))
        region, cover = f.box(x, low - 0.08, wide, 0.17, 0.03)
        self.paint((region, cover), _rgb(gold) * (1.06 - 0.35 * np.abs(f.u[region])))
        for i in (-1, 0, 1):
            self.paint(f.ellipse(x + i * 0.42, low - 0.08, 0.085, 0.085), (0.85, 0.08, 0.18) if i else (0.1, 0.6, 0.3))

    def draw_headphones(self) -> None:
        f = self.head
        colour: Rgb = (0.10, 0.10, 0.12)
        wide, tall = self.rx + 0.22, self.ry + 0.24
        region, cover = f.ellipse(0, -0.02, wide, tall)
        _, hole = f.ellipse(0, 0.02, wide - 0.12, tall - 0.16, region=region)
        band = cover * (1 - hole) * np.clip(0.5 - (f.v[region] - 0.05) * f.per_px, 0, 1)
        self.paint((region, band), colour)
        for s in (-1, 1):
            x = s * (self.rx + 0.15) - 0.05 * self.scene.yaw
            self.paint(f.box(x, 0.10, 0.19, 0.34, 0.15), _dimmed(colour, 0.75))
            self.paint(f.box(x + s * 0.03, 0.10, 0.10, 0.24, 0.09), (0.55, 0.57, 0.60))

    def draw_scarf(self) -> None:
        f = self.body
        colour: Rgb = (0.80, 0.10, 0.15)
        light = _mix(colour, (1, 1, 1), 0.75)
        neck = 0.62 if self.who.class_noun == "woman" else 0.76

        def woven(region: Region) -> Array:
            stripe = np.clip(0.5 + np.sin((f.u[region] + f.v[region]) * 11) * 2, 0, 1)
            return _rgb(colour) + (_rgb(light) - _rgb(colour)) * stripe * 0.8

        region, cover = f.box(0.35, 1.95, 0.22, 0.62, 0.06, -0.08)
        self.paint((region, cover), woven(region) * 0.88)
        region, cover = f.box(0, 1.30, neck, 0.25, 0.22)
        self.paint((region, cover), woven(region) * (1.05 - 0.5 * np.abs(f.v[region] - 1.25)))

    def draw_earrings(self) -> None:
        f = self.head
        for s in (-1, 1):
            x = s * (self.rx + 0.06) - 0.08 * self.scene.yaw
            y = 0.12 + self.who.ear_size
            region, cover = f.ellipse(x, y + 0.26, 0.24, 0.28)
            _, hole = f.ellipse(x, y + 0.27, 0.10, 0.13, region=region)
            self.paint((region, cover * (1 - hole)), (1.0, 0.80, 0.10))
            self.paint(f.ellipse(x, y, 0.06, 0.06), (1.0, 0.93, 0.55))

    def draw_flower(self) -> None:
        f, s = self.head, self.who.part_side
        colour: Rgb = (0.98, 0.42, 0.72)
        x, y = s * self.rx * 0.75, -0.66
        self.paint(f.ellipse(x + s * 0.38, y + 0.30, 0.26, 0.13, s * 0.6), (0.15, 0.55, 0.2))
        for i in range(5):
            angle = i * math.tau / 5 + 0.3
            self.paint(
                f.ellipse(x + 0.27 * math.cos(angle), y + 0.27 * math.sin(angle), 0.23, 0.23),
                _dimmed(colour, 1 - 0.05 * (i % 2)),
            )
        self.paint(f.ellipse(x, y, 0.16, 0.16), (1.0, 0.82, 0.1))

    def draw_eye_patch(self) -> None:
        f, s = self.head, self.who.part_side
        x, squeeze = self.around(s * self.who.eye_spacing, 1.05)
        ink: Rgb = (0.05, 0.05, 0.06)
        self.paint(f.stroke(-s * self.rx * 0.93, -0.42, x, -0.10, 0.04), ink)
        self.paint(f.stroke(x, -0.10, s * self.rx * 0.98, -0.22, 0.04), ink)
        self.paint(f.ellipse(x, 0.02, 0.29 * squeeze, 0.28), ink)

    def draw_santa_hat(self) -> None:
        f, s = self.head, self.who.part_side
        wide, low = self.rx + 0.12, -0.66
        red: Rgb = (0.85, 0.08, 0.10)
        self.paint(
            f.polygon(
                [(s * 0.30 - 0.12, low - 0.82), (s * 0.30 + 0.25, low - 0.78), (wide * 0.97, low), (-wide * 0.97, low)]
            ),
            red,
        )
        self.paint(f.stroke(s * 0.30, low - 0.68, s * (wide + 0.10), low - 0.40, 0.17), _dimmed(red, 0.85))
        self.paint(f.ellipse(s * (wide + 0.18), low - 0.28, 0.18, 0.18), (0.98, 0.98, 0.98))
        self.paint(f.box(0, low, wide + 0.06, 0.16, 0.15), (0.97, 0.97, 0.97))

    def draw_party_hat(self) -> None:
        f, x = self.head, -0.05 * self.scene.yaw
        colour: Rgb = (0.55, 0.20, 0.80)
        region, cover = f.polygon([(x, -1.78), (x + 0.48, -0.72), (x - 0.48, -0.72)])
        stripe = np.clip(0.5 + np.sin((f.v[region] + 0.4 * f.u[region]) * 14) * 2, 0, 1)
        self.paint((region, cover), _rgb(colour) + (_rgb((1.0, 0.9, 0.2)) - _rgb(colour)) * stripe)
        self.paint(f.ellipse(x, -1.76, 0.16, 0.16), (1.0, 0.95, 0.3))

    def draw_headband(self) -> None:
        f = self.head
        colour: Rgb = (0.90, 0.12, 0.15)
        wide = self.rx + (0.04 if self.who.hair_style == "bald" else 0.12)
        region = f.region(0, -0.52, wide, 0.24)
        u, v = f.u[region], f.v[region]
        curve = -0.60 + 0.14 * np.square(u / wide)
        distance = np.maximum(np.abs(v - curve) - 0.13, np.abs(u) - wide)
        self.paint((region, f.coverage(distance)), _rgb(colour) * (1.04 - 0.22 * np.square(u / wide)))


_ACCESSORY_PAINTERS: dict[str, Callable[[_Portrait], None] | None] = {
    "none": None,
    "glasses": _Portrait.draw_glasses,
    "sunglasses": _Portrait.draw_sunglasses,
    "hat": _Portrait.draw_hat,
    "cap": _Portrait.draw_cap,
    "crown": _Portrait.draw_crown,
    "headphones": _Portrait.draw_headphones,
    "scarf": _Portrait.draw_scarf,
    "earrings": _Portrait.draw_earrings,
    "flower": _Portrait.draw_flower,
    "eye patch": _Portrait.draw_eye_patch,
    "santa hat": _Portrait.draw_santa_hat,
    "party hat": _Portrait.draw_party_hat,
    "headband": _Portrait.draw_headband,
}


# -------------------------------------------------------------------------------------------------------- backgrounds


def _ramp(size_px: int, *stops: tuple[float, Rgb]) -> Array:
    """Vertical gradient through (y, colour) stops, ``(3, H, W)``."""
    y = _axis(size_px)
    at = [stop[0] for stop in stops]
    columns = [np.interp(y, at, [stop[1][c] for stop in stops]) for c in range(3)]
    rows = np.stack(columns).astype(np.float32)
    return np.repeat(rows[:, :, None], size_px, axis=2)


def _over(rgb: Array, cover: Array, colour: Rgb | Array) -> None:
    rgb += cover * ((colour if isinstance(colour, np.ndarray) else _rgb(colour)) - rgb)


def _discs(
    size_px: int,
    rng: random.Random,
    count: int,
    radius: float,
    low_yx: tuple[float, float] = (-1, -1),
    high_yx: tuple[float, float] = (1, 1),
) -> Array:
    """Coverage of ``count`` random discs, ``(H, W)``: a sum of separable Gaussians, cut at the radius."""
    y = np.array([rng.uniform(low_yx[0], high_yx[0]) for _ in range(count)], dtype=np.float32)
    x = np.array([rng.uniform(low_yx[1], high_yx[1]) for _ in range(count)], dtype=np.float32)
    axis = _axis(size_px)[None, :]
    gy = np.exp(-np.square((axis - y[:, None]) * (1 / radius)))
    gx = np.exp(-np.square((axis - x[:, None]) * (1 / radius)))
    return np.clip(0.5 + (gy.T @ gx - 0.368) * (radius * size_px / 2 / 0.736), 0, 1)


def _above(size_px: int, height: Array) -> Array:
    """Coverage of everything below the curve ``height`` over x, ``(H, W)``; y points down."""
    return np.clip(0.5 + (_axis(size_px)[:, None] - height[None, :]) * (size_px / 2), 0, 1)


def _plain(colour: Rgb) -> Callable[[int, random.Random], Array]:
    def paint(size_px: int, rng: random.Random) -> Array:
        tone = 1 + rng.uniform(-0.04, 0.02)
        return np.broadcast_to(_rgb(_dimmed(colour, tone)), (3, size_px, size_px))

    return paint


def _studio(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    cx, cy = rng.uniform(-0.3, 0.3), rng.uniform(-0.4, 0.1)
    glow = np.exp(-np.square((axis[None, :] - cx) * 1.15)) * np.exp(-np.square((axis[:, None] - cy) * 1.15))
    return _rgb((0.10, 0.10, 0.13)) + glow * _rgb((0.62, 0.60, 0.58))


def _beach(size_px: int, rng: random.Random) -> Array:
    sea = rng.uniform(-0.1, 0.12)
    sand = sea + 0.45
    rgb = _ramp(
        size_px,
        (-1, (0.35, 0.70, 0.98)),
        (sea - 0.01, (0.78, 0.92, 1.0)),
        (sea, (0.05, 0.45, 0.75)),
        (sand - 0.02, (0.20, 0.75, 0.80)),
        (sand, (1, 1, 1)),
        (sand + 0.05, (0.96, 0.84, 0.58)),
        (1, (0.90, 0.74, 0.45)),
    )
    sun_x = rng.choice((-0.75, 0.75))
    axis = _axis(size_px)
    _over(
        rgb,
        np.clip(0.5 + (0.16 - np.hypot(axis[None, :] - sun_x, axis[:, None] + 0.75)) * size_px / 2, 0, 1),
        (1.0, 0.92, 0.35),
    )
    return rgb


def _forest(size_px: int, rng: random.Random) -> Array:
    rgb = _ramp(
        size_px, (-1, (0.10, 0.36, 0.14)), (0.2, (0.36, 0.62, 0.28)), (0.6, (0.16, 0.36, 0.12)), (1, (0.12, 0.26, 0.08))
    )
    axis = _axis(size_px)
    for i in range(6):
        x, half = -0.95 + i * 0.38 + rng.uniform(-0.1, 0.1), rng.uniform(0.045, 0.09)
        _over(rgb, np.clip(0.5 + (half - np.abs(axis - x)) * size_px / 2, 0, 1)[None, :], (0.27, 0.17, 0.10))
    _over(rgb, _discs(size_px, rng, 26, 0.17, (-1.1, -1.1), (-0.35, 1.1)), (0.07, 0.30, 0.10))
    _over(rgb, _discs(size_px, rng, 16, 0.11, (-1.1, -1.1), (-0.45, 1.1)), (0.20, 0.50, 0.16))
    return rgb


def _city(size_px: int, rng: random.Random) -> Array:
    rgb = _ramp(size_px, (-1, (0.62, 0.78, 0.92)), (0.6, (0.90, 0.90, 0.88)), (1, (0.6, 0.6, 0.6)))
    axis = _axis(size_px)
    for count, tall, wall, lamp in (
        (7, -0.55, (0.55, 0.60, 0.70), (0.66, 0.72, 0.82)),
        (5, -0.05, (0.26, 0.30, 0.40), (0.98, 0.86, 0.45)),
    ):
        heights = np.array([tall + rng.uniform(-0.35, 0.35) for _ in range(count + 1)], dtype=np.float32)
        place = (axis + 1 + rng.uniform(0, 0.3)) * (count / 2.3)
        height = heights[np.clip(place.astype(np.int64), 0, count)]
        cover = _above(size_px, height)
        _over(rgb, cover, wall)
        across = np.clip(0.2 + np.sin(place * math.tau * 3) * 1.5, 0, 1)
        down = np.clip(0.2 + np.sin(axis * math.tau * 4.5) * 1.5, 0, 1)
        _over(rgb, cover * across[None, :] * down[:, None], lamp)
    return rgb


def _snow(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = _ramp(size_px, (-1, (0.62, 0.72, 0.84)), (0.3, (0.82, 0.88, 0.94)), (1, (0.95, 0.97, 1.0)))
    for i in range(5):
        x, top = -0.9 + i * 0.45 + rng.uniform(-0.1, 0.1), rng.uniform(-0.7, -0.2)
        for step in range(3):
            y0 = top + step * 0.22
            fir = np.minimum((axis[:, None] - y0) * 0.5 - np.abs(axis[None, :] - x), 0.34 + y0 - axis[:, None])
            _over(rgb, np.clip(0.5 + fir * size_px / 2, 0, 1), (0.16, 0.36, 0.34))
            cap = np.minimum(fir, 0.12 + y0 - axis[:, None])
            _over(rgb, np.clip(0.5 + cap * size_px / 2, 0, 1), (0.97, 0.98, 1.0))
    _over(
        rgb, _above(size_px, (0.42 + 0.08 * np.sin(axis * 3 + rng.uniform(0, 6))).astype(np.float32)), (0.95, 0.97, 1.0)
    )
    _over(rgb, _discs(size_px, rng, 60, 0.035), (1.0, 1.0, 1.0))
    return rgb


def _mountains(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = _ramp(size_px, (-1, (0.30, 0.56, 0.90)), (0.3, (0.80, 0.90, 0.98)), (1, (0.7, 0.8, 0.9)))
    height = np.full(size_px, 0.5, dtype=np.float32)
    for i in range(4):
        peak = -0.9 + i * 0.6 + rng.uniform(-0.15, 0.15)
        height = np.minimum(height, rng.uniform(-0.75, -0.3) + np.abs(axis - peak) * 1.35)
    rock = _above(size_px, height)
    _over(rgb, rock, (0.42, 0.42, 0.50))
    line = (-0.30 + 0.07 * np.sin(axis * 22)).astype(np.float32)
    _over(rgb, rock * (1 - _above(size_px, line)), (0.98, 0.98, 1.0))
    _over(
        rgb,
        _above(size_px, (0.48 + 0.06 * np.sin(axis * 4 + rng.uniform(0, 6))).astype(np.float32)),
        (0.30, 0.55, 0.25),
    )
    return rgb


def _night_sky(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = _ramp(size_px, (-1, (0.02, 0.03, 0.16)), (0.6, (0.10, 0.16, 0.42)), (1, (0.14, 0.20, 0.45)))
    _over(rgb, _discs(size_px, rng, 55, 0.026, (-1, -1), (0.6, 1)), (1.0, 1.0, 0.92))
    x = rng.choice((-0.7, 0.7))
    moon = np.clip(0.5 + (0.19 - np.hypot(axis[None, :] - x, axis[:, None] + 0.7)) * size_px / 2, 0, 1)
    bite = np.clip(0.5 + (0.17 - np.hypot(axis[None, :] - x - 0.09, axis[:, None] + 0.74)) * size_px / 2, 0, 1)
    _over(rgb, moon * (1 - bite), (1.0, 0.96, 0.70))
    _over(
        rgb, _above(size_px, (0.62 + 0.1 * np.sin(axis * 3 + rng.uniform(0, 6))).astype(np.float32)), (0.03, 0.05, 0.10)
    )
    return rgb


def _space(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = np.zeros((3, size_px, size_px), dtype=np.float32)
    for colour in ((0.50, 0.08, 0.55), (0.08, 0.20, 0.60), (0.60, 0.15, 0.35)):
        y, x = rng.uniform(-1, 1), rng.uniform(-1, 1)
        rgb += _rgb(colour) * (
            np.exp(-np.square((axis[:, None] - y) * 1.5)) * np.exp(-np.square((axis[None, :] - x) * 1.5))
        )
    _over(rgb, _discs(size_px, rng, 45, 0.022), (1, 1, 1))
    for sign, radius, colour in ((1, 0.30, (0.90, 0.55, 0.25)), (-1, 0.18, (0.30, 0.75, 0.80))):
        x, y = sign * 0.70 * rng.choice((1, 1.1)), -0.62 * sign + rng.uniform(-0.1, 0.1)
        dx, dy = axis[None, :] - x, axis[:, None] - y
        disc = np.clip(0.5 + (radius - np.hypot(dx, dy)) * size_px / 2, 0, 1)
        _over(rgb, disc, _rgb(colour) * np.clip(0.8 - (dx + dy) * (0.8 / radius) + 0.12 * np.sin(dy * 40), 0.15, 1.2))
        if sign > 0:
            ring = np.hypot(dx, (dy + 0.3 * dx) * 3)
            _over(rgb, np.clip(0.5 + (0.05 - np.abs(ring - 0.44)) * size_px / 2, 0, 1), (0.95, 0.85, 0.60))
    return rgb


def _sunset(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = _ramp(
        size_px,
        (-1, (0.36, 0.16, 0.50)),
        (-0.4, (0.90, 0.30, 0.35)),
        (0.15, (1.0, 0.62, 0.20)),
        (0.35, (1.0, 0.82, 0.40)),
    )
    x = rng.uniform(0.5, 0.75) * rng.choice((-1, 1))
    _over(
        rgb,
        np.clip(0.5 + (0.26 - np.hypot(axis[None, :] - x, axis[:, None] - 0.15)) * size_px / 2, 0, 1),
        (1.0, 0.95, 0.55),
    )
    _over(
        rgb,
        _above(size_px, (0.34 + 0.10 * np.sin(axis * 2.5 + rng.uniform(0, 6))).astype(np.float32)),
        (0.22, 0.08, 0.20),
    )
    return rgb


def _office(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = _ramp(
        size_px,
        (-1, (0.88, 0.88, 0.84)),
        (0.5, (0.80, 0.80, 0.76)),
        (0.52, (0.55, 0.40, 0.26)),
        (1, (0.45, 0.32, 0.20)),
    )

    def panel(x: float, y: float, hx: float, hy: float, colour: Rgb) -> None:
        inside = np.minimum(hx - np.abs(axis[None, :] - x), hy - np.abs(axis[:, None] - y))
        _over(rgb, np.clip(0.5 + inside * size_px / 2, 0, 1), colour)

    s, shift = rng.choice((-1, 1)), rng.uniform(-0.08, 0.08)
    panel(s * 0.62 + shift, -0.45, 0.40, 0.50, (0.35, 0.36, 0.38))
    panel(s * 0.62 + shift, -0.45, 0.35, 0.45, (0.62, 0.82, 0.95))
    for level in range(7):
        panel(s * 0.62 + shift, -0.86 + level * 0.135, 0.35, 0.022, (0.96, 0.96, 0.96))
    panel(-s * 0.72 + shift, 0.10, 0.32, 0.26, (0.10, 0.10, 0.12))
    panel(-s * 0.72 + shift, 0.09, 0.27, 0.20, (0.20, 0.45, 0.70))
    panel(-s * 0.72 + shift, 0.42, 0.06, 0.10, (0.15, 0.15, 0.16))
    panel(-s * 0.60 + shift, -0.62, 0.26, 0.20, (0.97, 0.95, 0.60))
    return rgb


def _library(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = np.empty((3, size_px, size_px), dtype=np.float32)
    rgb[:] = _rgb((0.16, 0.08, 0.04))
    spines = np.array(
        [
            (0.62, 0.14, 0.12),
            (0.14, 0.30, 0.50),
            (0.16, 0.42, 0.22),
            (0.72, 0.55, 0.20),
            (0.42, 0.22, 0.14),
            (0.75, 0.68, 0.55),
        ],
        dtype=np.float32,
    )
    for shelf in range(5):
        top = -1 + shelf * 0.42
        count = 20
        choice = np.array([rng.randrange(len(spines)) for _ in range(count)])
        tall = np.array([rng.uniform(0.0, 0.12) for _ in range(count)], dtype=np.float32)
        place = (axis + 1) * (count / 2)
        book = np.clip(place.astype(np.int64), 0, count - 1)
        gap = np.clip(0.5 + (np.abs(place - np.round(place)) * (2 / count) - 0.008) * size_px / 2, 0, 1)
        rows = np.minimum(axis[:, None] - (top + 0.03 + tall[book])[None, :], top + 0.36 - axis[:, None])
        _over(
            rgb,
            np.clip(0.5 + rows * size_px / 2, 0, 1) * (0.25 + 0.75 * gap)[None, :],
            spines[choice[book]].T[:, None, :],
        )
        plank = np.clip(0.5 + (0.032 - np.abs(axis - (top + 0.39))) * size_px / 2, 0, 1)
        _over(rgb, plank[:, None], (0.52, 0.32, 0.16))
    return rgb


def _garden(size_px: int, rng: random.Random) -> Array:
    rgb = _ramp(
        size_px,
        (-1, (0.60, 0.85, 0.98)),
        (-0.5, (0.75, 0.92, 0.95)),
        (-0.45, (0.42, 0.74, 0.25)),
        (1, (0.22, 0.55, 0.14)),
    )
    for colour in ((0.95, 0.15, 0.30), (1.0, 0.85, 0.15), (0.98, 0.55, 0.85), (1, 1, 1), (0.60, 0.25, 0.85)):
        state = rng.getstate()
        _over(rgb, _discs(size_px, rng, 13, 0.085, (-0.42, -1), (1, 1)), colour)
        rng.setstate(state)
        _over(
            rgb,
            _discs(size_px, rng, 13, 0.032, (-0.42, -1), (1, 1)),
            (1.0, 0.75, 0.1) if colour != (1.0, 0.85, 0.15) else (0.5, 0.25, 0.1),
        )
    return rgb


def _brick_wall(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rows, shift = 9, rng.uniform(0, 1)
    y = (axis + 1) * (rows / 2)
    row = np.floor(y)
    x = (axis[None, :] + 1) * 2.6 + 0.5 * np.mod(row, 2)[:, None] + shift
    joint_y = np.abs(y - np.round(y)) * (2 / rows)
    joint_x = np.abs(x - np.round(x)) * (1 / 2.6)
    brick = np.clip(0.5 + (np.minimum(joint_x, joint_y[:, None]) - 0.02) * size_px / 2, 0, 1)
    tone = 0.92 + 0.16 * np.sin(np.floor(x) * 12.9 + row[:, None] * 78.2)
    rgb = np.empty((3, size_px, size_px), dtype=np.float32)
    rgb[:] = _rgb((0.80, 0.75, 0.70))
    _over(rgb, brick, _rgb((0.66, 0.27, 0.19)) * tone)
    return rgb


def _desert(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = _ramp(size_px, (-1, (0.45, 0.75, 0.95)), (0.1, (0.98, 0.92, 0.75)), (1, (0.95, 0.8, 0.5)))
    for level, colour in ((-0.05, (0.88, 0.62, 0.34)), (0.30, (0.94, 0.70, 0.36)), (0.62, (0.82, 0.54, 0.26))):
        _over(rgb, _above(size_px, (level + 0.12 * np.sin(axis * 2.6 + rng.uniform(0, 6))).astype(np.float32)), colour)
    s = rng.choice((-1, 1))

    def stem(x: float, top: float, low: float, half: float) -> None:
        reach = np.hypot(axis[None, :] - x, np.maximum(np.maximum(top - axis[:, None], axis[:, None] - low), 0))
        _over(rgb, np.clip(0.5 + (half - reach) * size_px / 2, 0, 1), (0.14, 0.46, 0.22))

    for x in (s * 0.78, -s * 0.84):
        tall = rng.uniform(-0.65, -0.35)
        stem(x, tall, 0.45, 0.075)
        stem(x - 0.17, tall + 0.25, tall + 0.5, 0.045)
        stem(x + 0.17, tall + 0.35, tall + 0.6, 0.045)
    return rgb


def _underwater(size_px: int, rng: random.Random) -> Array:
    axis = _axis(size_px)
    rgb = _ramp(size_px, (-1, (0.30, 0.85, 0.90)), (0.2, (0.03, 0.45, 0.70)), (1, (0.02, 0.16, 0.40)))
    slant = axis[None, :] + 0.4 * axis[:, None]
    rays = np.clip(np.sin(slant * 7 + rng.uniform(0, 6)), 0, 1) * np.clip(0.3 - axis[:, None], 0, 1) * 0.3
    _over(rgb, rays, (0.85, 1.0, 1.0))
    for _ in range(4):
        x, y, s = rng.choice((-1, 1)) * rng.uniform(0.55, 0.9), rng.uniform(-0.8, 0.6), rng.choice((-1, 1))
        dx, dy = axis[None, :] - x, axis[:, None] - y
        fish = np.maximum(
            0.07 - np.hypot(dx * 0.55, dy),
            np.minimum(0.22 - dx * s, np.minimum(dx * s - 0.08, (dx * s - 0.09) * 0.8 - np.abs(dy))),
        )
        _over(
            rgb,
            np.clip(0.5 + fish * size_px / 2, 0, 1),
            rng.choice(((1.0, 0.6, 0.1), (1.0, 0.9, 0.2), (0.95, 0.35, 0.4))),
        )
    bubbles = rng.randrange(2**31)
    outer = _discs(size_px, random.Random(bubbles), 14, 0.065)
    inner = _discs(size_px, random.Random(bubbles), 14, 0.040)
    _over(rgb, outer * (1 - 0.8 * inner), (0.80, 0.97, 1.0))
    return rgb


_BACKGROUND_PAINTERS: dict[str, Callable[[int, random.Random], Array]] = {
    "plain white": _plain((0.97, 0.97, 0.97)),
    "plain grey": _plain((0.58, 0.58, 0.60)),
    "plain blue": _plain((0.30, 0.52, 0.92)),
    "plain pink": _plain((0.98, 0.68, 0.80)),
    "plain yellow": _plain((0.99, 0.86, 0.25)),
    "studio": _studio,
    "beach": _beach,
    "forest": _forest,
    "city": _city,
    "snow": _snow,
    "mountains": _mountains,
    "night sky": _night_sky,
    "space": _space,
    "sunset": _sunset,
    "office": _office,
    "library": _library,
    "garden": _garden,
    "brick wall": _brick_wall,
    "desert": _desert,
    "underwater": _underwater,
}


# ---------------------------------------------------------------------------------------------------- light and style


def _lit(rgb: Array, scene: Scene) -> Array:
    if scene.light == "warm":
        return rgb * _rgb((1.14, 0.96, 0.68)) + _rgb((0.04, 0.015, 0.0))
    if scene.light == "cold":
        return rgb * _rgb((0.78, 0.90, 1.12)) + _rgb((0.0, 0.01, 0.06))
    if scene.light == "dim":
        return rgb * 0.52
    if scene.light in ("left", "right"):
        toward = -1.0 if scene.light == "left" else 1.0
        x = (_axis(rgb.shape[1]) - scene.shift_yx[1]) * toward
        return rgb * (0.80 + 0.36 * np.tanh(x * 1.5))[None, None, :]
    return rgb


@lru_cache(maxsize=64)
def _blur_matrix(size_px: int, sigma: float) -> Array:
    """Rows of a normalised Gaussian of ``sigma`` world units: blurring is ``m @ picture @ m.T`` at any size."""
    axis = _axis(size_px).astype(np.float64)
    weights = np.exp(-np.square((axis[:, None] - axis[None, :]) / max(sigma, 0.6 / size_px)) / 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _blurred(picture: Array, sigma: float) -> Array:
    matrix = _blur_matrix(picture.shape[-1], sigma)
    return matrix @ picture @ matrix.T


def _luminance(rgb: Array) -> Array:
    return 0.30 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2]


def _saturated(rgb: Array, amount: float) -> Array:
    grey = _luminance(rgb)[None]
    return grey + (rgb - grey) * amount


def _outline(rgb: Array) -> Array:
    """Dark lines along edges, ``(H, W)`` in [0, 1]."""
    soft = _blurred(rgb, 0.018)
    wide = _blurred(rgb, 0.055)
    return np.clip(np.max(wide - soft, axis=0) * 7 - 0.25, 0, 1)


def _photo(rgb: Array, rng: random.Random) -> Array:
    return rgb


def _pencil_sketch(rgb: Array, rng: random.Random) -> Array:
    grey = np.clip(_luminance(rgb), 0, 1)
    axis = _axis(grey.shape[0])
    dodge = np.clip((grey + 0.06) / (_blurred(grey, 0.07) + 0.06), 0, 1) ** 1.6
    tone = 0.74 + 0.24 * grey
    hatch = np.sin((axis[None, :] + axis[:, None]) * 42) * 0.10 * np.clip(0.75 - grey, 0, 1)
    return np.repeat((dodge * tone + hatch)[None], 3, axis=0) * _rgb((1.0, 0.99, 0.96))


def _black_and_white(rgb: Array, rng: random.Random) -> Array:
    grey = np.clip(_luminance(rgb), 0, 1)
    return np.repeat((grey * grey * (3 - 2 * grey) * 0.7 + grey * 0.3)[None], 3, axis=0)


def _sepia(rgb: Array, rng: random.Random) -> Array:
    grey = np.clip(_luminance(rgb), 0, 1)[None]
    grey = grey * (2 - grey)  # lifts the dark half, where faces in dim light lie
    return _rgb((0.16, 0.11, 0.05)) + grey * _rgb((0.78, 0.72, 0.56))


def _pop_art(rgb: Array, rng: random.Random) -> Array:
    palettes = (
        ((0.16, 0.03, 0.36), (0.93, 0.08, 0.52), (1.0, 0.55, 0.10), (1.0, 0.93, 0.15), (0.55, 0.95, 0.95)),
        ((0.02, 0.10, 0.40), (0.0, 0.55, 0.85), (0.95, 0.15, 0.35), (1.0, 0.80, 0.10), (1.0, 0.98, 0.85)),
        ((0.10, 0.02, 0.20), (0.50, 0.10, 0.75), (0.10, 0.75, 0.45), (0.98, 0.60, 0.80), (1.0, 0.95, 0.30)),
    )
    palette = rng.choice(palettes)
    grey = np.clip(_luminance(rgb), 0, 1)
    axis = _axis(grey.shape[0])
    dots = np.sin(axis[None, :] * 50) * np.sin(axis[:, None] * 50) * 0.06
    sharp = np.clip(grey * 1.15 - 0.05 + dots, 0, 1) * len(palette)
    out = np.empty_like(rgb)
    out[:] = _rgb(palette[0])
    for level in range(1, len(palette)):
        _over(out, np.clip((sharp - level) * 5 + 0.5, 0, 1), palette[level])
    return out


@lru_cache(maxsize=16)
def _cell_matrix(size_px: int, cells: int) -> Array:
    edges = np.linspace(0, size_px, cells + 1)
    pixel = np.arange(size_px)
    overlap = np.minimum(pixel[None, :] + 1, edges[1:, None]) - np.maximum(pixel[None, :], edges[:-1, None])
    return (np.clip(overlap, 0, 1) * cells / size_px).astype(np.float32)


def _pixel_art(rgb: Array, rng: random.Random) -> Array:
    size_px, cells = rgb.shape[1], 26
    shrink = _cell_matrix(size_px, cells)
    small = shrink @ np.clip(_saturated(rgb, 1.35), 0, 1) @ shrink.T
    small = np.round(small * 5) * (1 / 5)
    index = ((np.arange(size_px) + 0.5) * cells / size_px).astype(np.int64)
    return small[:, index[:, None], index[None, :]]


def _oil_painting(rgb: Array, rng: random.Random) -> Array:
    size_px = rgb.shape[1]
    axis = _axis(size_px)
    x, y = axis[None, :], axis[:, None]
    a, b = rng.uniform(0, 6), rng.uniform(0, 6)
    flow = np.sin(x * 4 + a + 1.5 * np.sin(y * 3 + b))
    stroke = np.sin(x * 38 + y * 22 + flow * 6)
    move = (0.5 * size_px) * 0.022
    row = np.clip(np.arange(size_px)[:, None] + np.round(stroke * move).astype(np.int64), 0, size_px - 1)
    column = np.clip(
        np.arange(size_px)[None, :] + np.round(np.roll(stroke, size_px // 8, 0) * move).astype(np.int64), 0, size_px - 1
    )
    daubed = _blurred(rgb, 0.018)[:, row, column]
    return np.clip(_saturated(daubed, 1.35), 0, 1) * (1 + 0.11 * stroke) * _rgb((1.02, 0.97, 0.88))


def _watercolour(rgb: Array, rng: random.Random) -> Array:
    axis = _axis(rgb.shape[1])
    x, y = axis[None, :], axis[:, None]
    a, b = rng.uniform(0, 6), rng.uniform(0, 6)
    wet = _blurred(np.clip(rgb, 0, 1), 0.017)
    edge = np.clip(np.abs(_luminance(wet) - _luminance(_blurred(wet, 0.06))) * 1.6, 0, 0.3)
    grain = 0.06 * np.sin(x * 9 + a + 2 * np.sin(y * 7)) * np.sin(y * 8 + b + 2 * np.sin(x * 6))
    wash = np.clip(0.24 + 0.78 * _saturated(wet, 1.2) - 0.9 * edge + grain, 0, 1)
    rim = 0.88 + 0.05 * np.sin(x * 9 + a) * np.cos(y * 8 + b) - np.maximum(np.abs(x), np.abs(y))
    keep = np.clip(rim * 9, 0, 1)
    return 0.99 + (wash - 0.99) * keep


def _comic(rgb: Array, rng: random.Random) -> Array:
    axis = _axis(rgb.shape[1])
    vivid = np.clip(_saturated(rgb, 1.5) * 1.08, 0, 1)
    flat = np.round(vivid * 4) * (1 / 4) * 0.7 + vivid * 0.3
    dots = np.clip(
        np.sin((axis[None, :] + axis[:, None]) * 36) * np.sin((axis[None, :] - axis[:, None]) * 36) * 3 - 1, 0, 1
    )
    flat = flat * (1 - 0.14 * dots)
    return flat * (1 - _outline(rgb))


_STYLE_FILTERS: dict[str, Callable[[Array, random.Random], Array]] = {
    "photo": _photo,
    "pencil sketch": _pencil_sketch,
    "black and white": _black_and_white,
    "pop art": _pop_art,
    "pixel art": _pixel_art,
    "oil painting": _oil_painting,
    "watercolour": _watercolour,
    "comic": _comic,
    "sepia": _sepia,
}
