"""Pictures in words: what a caption says of a picture, and how a prompt asks for one."""

import random
from collections.abc import Sequence

from studio.pocket.renderer.people import Identity, Scene
from studio.pocket.renderer.words import ATTRIBUTE_PHRASES, COLOURLESS_STYLES, HATS

_STYLES_UNDER_A_HAT = frozenset({"mohawk", "bun", "spiky", "side-parted", "buzz cut", "bald"})
_SPOKEN_FACE = ("face_shape", "eyes", "brows", "nose", "mouth", "mark", "glasses")


def prompt_for(
    class_noun: str,
    *,
    background: str | None = None,
    accessory: str | None = None,
    hair_colour: str | None = None,
    clothing_colour: str | None = None,
    style: str | None = None,
    expression: str | None = None,
    gaze: str | None = None,
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
        gaze: one of ``GAZES``.
        clothes: one of ``CLOTHES``.
        hair_style: one of ``HAIR_STYLES``.
        light: one of ``LIGHTS``.

    Returns:
        A prompt such as "photo of a woman with red hair, wearing a blue hoodie and a crown, smiling, at the beach".

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
        for kind, value in (("expression", expression), ("gaze", gaze), ("background", background), ("light", light))
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
        One lower-case sentence without a full stop, at most 44 words.
    """
    rng = random.Random(f"caption {seed} {identity.seed} {scene.jitter}")
    phrases = ATTRIBUTE_PHRASES
    colourless = scene.style in COLOURLESS_STYLES
    noun = f"a {identity.class_noun}" if subject is None else subject
    plain_photo = scene.style == "photo"
    opening = rng.choice(("photo of", "photo of", "portrait of", "")) if plain_photo else phrases["style"][scene.style]
    # A plain colour cannot be seen in a colourless style; warm and cold light cannot either.
    background = "" if colourless and scene.background.startswith("plain") else phrases["background"][scene.background]
    if rng.random() < 0.06:
        return _sentence(opening, noun, [], [], [background] if rng.random() < 0.4 else [])

    traits: list[str] = []
    if subject is None:
        traits = _spoken_traits(identity, scene, rng)
    worn = []
    if rng.random() < 0.8:
        colour = None if colourless or rng.random() < 0.08 else scene.clothing_colour
        worn.append(_clothes_phrase(scene.clothes, colour))
    if rng.random() < 0.85:
        worn.append(phrases["accessory"][scene.accessory])
    if rng.random() < 0.25:
        worn.reverse()
    rest = []
    if rng.random() < 0.75:
        rest.append(phrases["expression"][scene.expression])
    if scene.accessory != "sunglasses" and rng.random() < (0.3 if scene.gaze == "straight" else 0.8):
        rest.append(phrases["gaze"][scene.gaze])
    if rng.random() < 0.8:
        rest.append(background)
    if rng.random() < 0.4 and not (colourless and scene.light in ("warm", "cold")):
        rest.append(phrases["light"][scene.light])
    if rng.random() < 0.3:
        rng.shuffle(rest)
    return _sentence(opening, noun, traits, worn, rest, scene_first=rng.random() < 0.15)


def _spoken_traits(identity: Identity, scene: Scene, rng: random.Random) -> list[str]:
    colourless = scene.style in COLOURLESS_STYLES
    traits = []
    if rng.random() < 0.6:
        bald = identity.hair_style == "bald"
        colour = None if colourless or bald or rng.random() < 0.1 else identity.hair_colour
        hidden = scene.accessory in HATS and identity.hair_style in _STYLES_UNDER_A_HAT
        style = None if hidden or (not bald and rng.random() < 0.2) else identity.hair_style
        if style is not None or colour is not None:
            traits.append(_hair_phrase(style, colour))
    seen = {ATTRIBUTE_PHRASES[name][getattr(identity, name)] for name in _visible_face(identity, scene)}
    minor = [ATTRIBUTE_PHRASES["beard"][identity.beard], *sorted(seen)]
    if not colourless:
        minor.append(ATTRIBUTE_PHRASES["skin"][identity.skin])
        if scene.accessory != "sunglasses" and scene.expression != "laughing":
            minor.append(ATTRIBUTE_PHRASES["eye_colour"][identity.eye_colour])
    told = [phrase for phrase in minor if phrase and rng.random() < 0.3]
    rng.shuffle(told)
    traits += told[:3]
    rng.shuffle(traits)
    return traits


def _visible_face(identity: Identity, scene: Scene) -> list[str]:
    """The face traits that nothing in the scene hides or bends out of shape."""
    covered = {"sunglasses": {"eyes", "glasses"}, "glasses": {"glasses"}, "eye patch": {"glasses"}}
    unseen = set(covered.get(scene.accessory, set()))
    if scene.expression in ("laughing", "sad", "angry"):
        unseen.add("eyes")
    if scene.expression in ("laughing", "surprised"):
        unseen.add("mouth")
    if scene.expression in ("sad", "angry"):
        unseen.add("brows")
    if identity.beard == "full beard":
        unseen.add("face_shape")
    if scene.style in ("pixel art", "pop art"):
        unseen.add("mark")
    return [name for name in _SPOKEN_FACE if name not in unseen]


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
