"""Hair, in two layers: what lies behind the head and what lies over it."""

from collections.abc import Callable

import numpy as np

from studio.pocket.renderer import head
from studio.pocket.renderer.canvas import Canvas, Rgb, mix
from studio.pocket.renderer.palette import hair_light, hair_shade
from studio.pocket.renderer.people import Identity
from studio.pocket.renderer.shapes import Point, Points, curve, ellipse, points, ribbon, scallops, smooth
from studio.pocket.renderer.words import HATS

_TIGHT = frozenset({"ponytail", "bun", "pigtails"})
_SHAVED = frozenset({"buzz cut", "mohawk"})
COVERS_EARS = frozenset({"bob", "long straight", "long wavy", "curly"})
"""Styles under which no ear can be seen."""
TIE_RGB: Rgb = (236, 82, 110)


def temples(identity: Identity) -> float:
    """Half the width of the head where the hair meets the ears.

    Shaved heads show their own width. Longer hair evens it out, so that two faces under one hair style differ in the
    face and hardly in the outline of the hair.
    """
    wide = head.width_at(identity.face_shape, -0.10)
    return wide if identity.hair_style in _SHAVED | {"bald"} else 0.35 * wide + 0.65 * 0.79


def cover(identity: Identity) -> float:
    """How far the hair stands out beside the temples."""
    return {"afro": 0.34, "curly": 0.20, "bob": 0.22, "long straight": 0.22, "long wavy": 0.22}.get(
        identity.hair_style, 0.06
    )


def _pressed(shape: Points, hatted: bool) -> Points:
    """The hair that a hat leaves to be seen: nothing stands up above the brim."""
    if not hatted:
        return shape
    return np.stack((shape[:, 0], np.where(shape[:, 1] < -0.6, -0.6 + (shape[:, 1] + 0.6) * 0.1, shape[:, 1])), axis=1)


# ---------------------------------------------------------------------------------------------------- behind the head


def _long(identity: Identity) -> Points:
    wide = temples(identity) + 0.30
    half = [
        (0.0, -1.20),
        (wide * 0.66, -1.08),
        (wide, -0.55),
        (wide + 0.02, 0.3),
        (wide + 0.08, 1.1),
        (wide + 0.02, 1.9),
    ]
    return smooth([*half, *[(-x, y) for x, y in reversed(half[1:])]])


def _wavy(identity: Identity) -> Points:
    wide = temples(identity) + 0.34
    half: list[Point] = [(0.0, -1.22), (wide * 0.7, -1.08), (wide + 0.02, -0.62)]
    for step in range(6):
        half.append((wide + (0.14 if step % 2 else -0.04), -0.30 + step * 0.36))
    return smooth([*half, *[(-x, y) for x, y in reversed(half[1:])]])


def _bob(identity: Identity) -> Points:
    wide = temples(identity) + 0.30
    half = [
        (0.0, -1.20),
        (wide * 0.7, -1.06),
        (wide, -0.5),
        (wide + 0.10, 0.25),
        (wide + 0.06, 0.74),
        (wide * 0.5, 0.82),
    ]
    return smooth([*half, (0.0, 0.80), *[(-x, y) for x, y in reversed(half[1:])]])


_LOOSE: dict[str, Callable[[Identity], Points]] = {"long straight": _long, "long wavy": _wavy, "bob": _bob}


def _ponytail(canvas: Canvas, identity: Identity, colour: Rgb, hatted: bool) -> None:
    side, wide = identity.part_side, temples(identity)
    if hatted:
        line = [(side * (wide - 0.1), -0.42), (side * (wide + 0.38), -0.36), (side * (wide + 0.50), 0.0)]
        canvas.fill(ribbon(curve([*line, (side * (wide + 0.44), 1.05)]), (0.12, 0.22, 0.26, 0.03)), colour)
        return
    line = [
        (side * 0.45, -0.95),
        (side * (wide + 0.34), -0.88),
        (side * (wide + 0.52), -0.25),
        (side * (wide + 0.36), 0.62),
    ]
    canvas.fill(ribbon(curve([*line, (side * (wide + 0.50), 1.05)]), (0.16, 0.24, 0.27, 0.20, 0.03)), colour)
    canvas.fill(ellipse(side * (wide + 0.10), -0.93, 0.10, 0.15, side * 0.5), TIE_RGB)


def _bun(canvas: Canvas, identity: Identity, colour: Rgb, hatted: bool) -> None:
    x, y = (identity.part_side * (temples(identity) + 0.22), 0.02) if hatted else (0.0, -1.17)
    canvas.fill(ellipse(x, y, 0.36, 0.30), colour)
    canvas.fill(
        ribbon(curve([(x - 0.20, y + 0.02), (x, y - 0.14), (x + 0.20, y + 0.0)]), (0.01, 0.03, 0.01)),
        hair_shade(colour),
    )
    if not hatted:
        canvas.fill(ellipse(x, y + 0.235, 0.24, 0.07), TIE_RGB)


def _pigtails(canvas: Canvas, identity: Identity, colour: Rgb) -> None:
    wide = temples(identity)
    for side in (-1, 1):
        line = [(side * (wide - 0.05), -0.42), (side * (wide + 0.36), -0.30), (side * (wide + 0.44), 0.35)]
        canvas.fill(ribbon(curve([*line, (side * (wide + 0.34), 1.0)]), (0.10, 0.23, 0.24, 0.02)), colour)
        canvas.fill(ellipse(side * (wide + 0.12), -0.40, 0.09, 0.14, -side * 0.5), TIE_RGB)


def draw_back_hair(canvas: Canvas, identity: Identity, colour: Rgb, accessory: str) -> None:
    """The hair behind the head and the body."""
    style, shade, hatted = identity.hair_style, hair_shade(colour), accessory in HATS
    wide = temples(identity)
    if style in _LOOSE:
        canvas.fill(_pressed(_LOOSE[style](identity), hatted), shade)
    elif style == "ponytail":
        _ponytail(canvas, identity, colour, hatted)
    elif style == "bun":
        _bun(canvas, identity, colour, hatted)
    elif style == "pigtails":
        _pigtails(canvas, identity, colour)
    elif style == "afro":
        cy, ry = (-0.20, 0.62) if hatted else (-0.46, 0.92)
        canvas.fill(scallops(0, cy, wide + 0.46, ry, 17, 0.06), colour)
    elif style == "curly":
        canvas.fill(_pressed(scallops(0, -0.16, wide + 0.24, 0.98, 13, 0.13), hatted), shade)


# ------------------------------------------------------------------------------------------------------ over the head


def _hairline(identity: Identity) -> list[Point]:
    """The lower edge of the hair over the forehead, from the left temple to the right one."""
    wide, side = temples(identity), identity.part_side
    fringe = identity.fringe
    if identity.hair_style == "side-parted":
        fringe = "swept"
    elif identity.hair_style in _TIGHT | {"spiky", "afro", "curly"} and fringe == "straight":
        fringe = "none"
    if fringe == "straight":
        half = [(0.97, 0.02), (0.95, -0.40), (0.45, -0.47), (0.0, -0.49)]
    else:
        half = [(0.97, 0.02), (0.92, -0.36), (0.62, -0.60), (0.0, -0.68)]
    line = [(-x, y) for x, y in half] + half[-2::-1]
    if fringe == "swept":
        line = [(-0.97, 0.02), (-0.92, -0.36), (-0.52, -0.62), (-0.14, -0.78), (0.30, -0.62), (0.72, -0.47)]
        line += [(0.95, -0.26), (0.97, 0.02)]
        # The parting lies on `part_side`; the hair falls to the other one.
        line = line if side < 0 else [(-x, y) for x, y in reversed(line)]
    # In shares of the face's width at that height, so that no gap opens beside a narrow forehead.
    return [(x * min(wide, head.width_at(identity.face_shape, y)), y) for x, y in line]


def cap(identity: Identity, grow: float, lift: float) -> Points:
    """Hair over the head: the crown wider by ``grow`` and higher by ``lift``, down to the hairline."""
    wide = temples(identity)
    top = head.CROWN - lift
    over = [(wide + grow * 0.5, 0.06), (wide + grow, -0.38), ((wide + grow) * 0.78, top + 0.22), (0.30, top + 0.01)]
    outer = curve([*over, (-0.30, top + 0.01), *[(-x, y) for x, y in over[-2::-1]]])
    return np.concatenate((outer, curve(_hairline(identity))))


def _gleam(canvas: Canvas, identity: Identity, colour: Rgb, lift: float, clip: Points) -> None:
    """A band of light over the crown, on the side of the parting."""
    side, wide = identity.part_side, temples(identity)
    top = head.CROWN - lift
    arc = [(side * wide * 0.88, top + 0.48), (side * wide * 0.62, top + 0.24), (side * wide * 0.22, top + 0.14)]
    canvas.fill(ribbon(curve(arc), (0.01, 0.055, 0.01)), hair_light(colour), clip=clip)


def _spikes(identity: Identity) -> Points:
    wide = temples(identity)
    tips: list[Point] = []
    count = 9
    for step in range(count):
        angle = np.pi * (1.03 - 1.06 * step / (count - 1))
        lean = angle + np.pi * 0.045
        tips.append(((wide + 0.02) * np.cos(lean), -0.34 - 0.70 * np.sin(lean)))
        if step < count - 1:
            mid = angle - np.pi * 0.075
            tips.append(((wide + 0.26) * np.cos(mid), -0.36 - 0.98 * np.sin(mid)))
    return np.concatenate((points(tips), curve(_hairline(identity)[::-1])))


def _side_locks(canvas: Canvas, identity: Identity, colour: Rgb, low: float, wave: float) -> None:
    """Hair that frames the cheeks."""
    wide = temples(identity)
    for side in (-1, 1):
        outer = [(wide + 0.12, -0.55), (wide + 0.26, -0.1), (wide + 0.26 + wave, 0.35), (wide + 0.28 - wave, low * 0.8)]
        inner = [
            (wide + 0.22, low),
            (wide + 0.05, low * 0.96),
            (wide - 0.04 - wave, 0.42),
            (wide - 0.02, 0.05),
            (wide - 0.12, -0.50),
        ]
        canvas.fill(smooth([(side * x, y) for x, y in (*outer, *inner)]), colour)


def draw_front_hair(canvas: Canvas, identity: Identity, colour: Rgb, skin: Rgb, accessory: str) -> None:
    """The hair over the head."""
    style = identity.hair_style
    if style == "bald":
        return
    if style in _SHAVED:
        short = cap(identity, 0.02, 0.02)
        canvas.fill(short, mix(colour, skin, 0.28 if style == "buzz cut" else 0.48))
        if style == "mohawk" and accessory not in HATS:
            _mohawk(canvas, colour)
        return
    hatted = accessory in HATS
    if style == "spiky" and not hatted:
        shape = _spikes(identity)
        canvas.fill(shape, colour)
        _gleam(canvas, identity, colour, -0.02, shape)
        return
    if style in ("afro", "curly"):
        _curls(canvas, identity, colour, hatted)
        return
    if style in ("bob", "long straight"):
        _side_locks(canvas, identity, colour, 0.74 if style == "bob" else 1.25, 0.0)
    elif style == "long wavy":
        _side_locks(canvas, identity, colour, 1.2, 0.07)
    grow, lift = {"short": (0.12, 0.20), "side-parted": (0.16, 0.25)}.get(style, (0.22, 0.24))
    if style in _TIGHT or hatted:
        grow, lift = 0.05, 0.10 if not hatted else 0.0
    shape = cap(identity, grow, lift)
    canvas.fill(shape, colour)
    if style == "side-parted" and not hatted:
        side = identity.part_side
        part = curve([(side * 0.16, -0.76), (side * 0.20, -0.98), (side * 0.10, head.CROWN - lift + 0.03)])
        canvas.fill(ribbon(part, (0.016, 0.022, 0.010)), hair_shade(colour))
    _gleam(canvas, identity, colour, lift, shape)


def _mohawk(canvas: Canvas, colour: Rgb) -> None:
    crest = [(-0.20, -0.60), (-0.24, -0.95), (-0.30, -1.28), (-0.12, -1.24), (0.0, -1.48), (0.12, -1.24), (0.30, -1.28)]
    canvas.fill(points([*crest, (0.24, -0.95), (0.20, -0.60), (0.0, -0.54)]), colour)
    canvas.fill(points([(-0.05, -0.62), (-0.06, -1.1), (0.0, -1.34), (0.04, -1.1), (0.03, -0.62)]), hair_light(colour))


def _curls(canvas: Canvas, identity: Identity, colour: Rgb, hatted: bool) -> None:
    """Round lumps along the hairline; an afro is one cloud, curls hang in locks."""
    wide, light = temples(identity), hair_light(colour)
    grow, lift = (0.05, 0.0) if hatted else (0.18, 0.22)
    canvas.fill(cap(identity, grow, lift), colour)
    if identity.hair_style == "afro":
        for x in np.linspace(-wide * 0.88, wide * 0.88, 7):
            canvas.fill(ellipse(x, -0.62 + 0.28 * (x / wide) ** 2 - 0.05, 0.17, 0.15, count=20), colour)
        for x, y, r in ((-0.45, -1.05, 0.13), (0.05, -1.2, 0.15), (-0.85, -0.75, 0.11)):
            if hatted:
                break
            canvas.fill(ribbon(curve([(x - r, y + r), (x - r * 0.3, y), (x + r, y)]), (0.01, 0.035, 0.01)), light)
        return
    for x in np.linspace(-wide * 0.9, wide * 0.9, 6):
        canvas.fill(ellipse(x, -0.64 + 0.26 * (x / wide) ** 2, 0.21, 0.18, count=20), colour)
    for side in (-1, 1):
        for y, dx in ((-0.32, 0.06), (0.02, 0.14), (0.36, 0.14), (0.66, 0.10)):
            canvas.fill(ellipse(side * (wide + dx), y, 0.20, 0.21, count=20), colour)
    for x, y in ((-0.42, -0.98), (0.10, -1.08), (0.5, -0.86), (-wide - 0.1, 0.0), (wide + 0.12, 0.34)):
        canvas.fill(
            ribbon(curve([(x - 0.10, y + 0.08), (x - 0.02, y - 0.02), (x + 0.11, y + 0.02)]), (0.01, 0.032, 0.01)),
            light,
        )
