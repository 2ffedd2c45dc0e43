"""What the person wears on the head, over the eyes or round the neck.

Each accessory has one colour: captions do not name it, and a small denoiser that cannot know which one is meant paints
all of them at once.
"""

import math
from collections.abc import Callable

import numpy as np

from studio.pocket.renderer import hair, head
from studio.pocket.renderer.canvas import Canvas, Rgb, darker, lighter
from studio.pocket.renderer.eyes import EYE_X
from studio.pocket.renderer.hair import temples
from studio.pocket.renderer.people import Identity
from studio.pocket.renderer.shapes import Points, box, curve, ellipse, joined, moved, points, ribbon, smooth

COVERS_EYES = frozenset({"glasses", "sunglasses", "eye patch"})
"""Accessories that take the place of a person's own glasses."""

GOLD: Rgb = (252, 200, 60)


def own_glasses(canvas: Canvas, identity: Identity) -> None:
    """The glasses that belong to the person."""
    if identity.glasses == "round":
        _frames(canvas, identity, lambda x: ellipse(x, 0.02, 0.305, 0.305), (50, 44, 56), 0.030)
    elif identity.glasses == "square":
        _frames(canvas, identity, lambda x: box(x, 0.03, 0.32, 0.225, 0.06), (22, 140, 150), 0.036)
    elif identity.glasses == "half-rim":
        _frames(canvas, identity, lambda x: box(x, 0.03, 0.32, 0.23, 0.16), (120, 128, 146), 0.016)
        for side in (-1, 1):
            top = curve([(side * 0.055, -0.12), (side * 0.10, -0.20), (side * 0.62, -0.20), (side * 0.70, -0.13)])
            canvas.fill(ribbon(top, 0.046), (40, 50, 84))


def _frames(
    canvas: Canvas, identity: Identity, lens: Callable[[float], Points], rim: Rgb, thick: float, dark: Rgb | None = None
) -> None:
    for side in (-1, 1):
        shape = lens(side * EYE_X)
        if dark is None:
            canvas.fill(shape, (226, 240, 255), 0.10)
        else:
            canvas.fill(shape, dark)
            gleam = points([(-0.14, -0.16), (0.0, -0.16), (-0.10, 0.08), (-0.22, 0.08)])
            gleam = moved(gleam, side * EYE_X, 0.0)
            canvas.fill(gleam, lighter(dark, 0.32), clip=shape)
        canvas.fill(ribbon(np.concatenate((shape, shape[:2])), thick), rim)
        edge = float(np.abs(shape[:, 0]).max())
        rim_x = max(edge + 0.02, head.width_at(identity.face_shape, -0.05) - 0.02)
        canvas.line([(side * edge, -0.06), (side * rim_x, -0.09)], rim, max(0.05, thick * 1.5))
    inner = 2 * EYE_X - float(np.abs(lens(EYE_X)[:, 0]).max())
    canvas.fill(ribbon(curve([(-inner, -0.03), (0.0, -0.075), (inner, -0.03)]), max(0.028, thick)), rim)


def _glasses(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    def lens(x: float) -> Points:
        lift = math.copysign(1, x)
        return smooth(
            [
                (x - 0.30, -0.12),
                (x - lift * 0.02, -0.21),
                (x + 0.30, -0.12),
                (x + 0.25, 0.22),
                (x, 0.30),
                (x - 0.25, 0.22),
            ]
        )

    _frames(canvas, identity, lens, (226, 44, 60), 0.048)


def _sunglasses(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    _frames(canvas, identity, lambda x: box(x, 0.03, 0.335, 0.27, 0.14), (22, 20, 26), 0.03, dark=(34, 32, 44))


def _hat(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    colour: Rgb = (140, 90, 52)
    wide, low = temples(identity) + 0.12, -0.58
    crown = smooth(
        [
            (-wide, low),
            (-wide * 0.92, -1.20),
            (-0.35, -1.39),
            (0, -1.31),
            (0.35, -1.39),
            (wide * 0.92, -1.20),
            (wide, low),
        ]
    )
    canvas.fill(crown, colour)
    canvas.fill(points([(-wide, low - 0.26), (wide, low - 0.26), (wide, low), (-wide, low)]), (196, 46, 50), clip=crown)
    canvas.fill(ellipse(0, low, wide + 0.42, 0.17), darker(colour, 0.12))
    canvas.fill(ellipse(0, low - 0.035, wide + 0.36, 0.105), lighter(colour, 0.10))


def _cap(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    colour: Rgb = (42, 92, 214)
    wide, low = temples(identity) + 0.14, -0.52
    dome = curve(
        [
            (-wide, low),
            (-wide * 0.94, -0.95),
            (-wide * 0.5, -1.28),
            (0, -1.36),
            (wide * 0.5, -1.28),
            (wide * 0.94, -0.95),
            (wide, low),
        ]
    )
    canvas.fill(dome, colour)
    canvas.fill(ribbon(curve([(0, -1.34), (0, low)]), 0.014), darker(colour, 0.3))
    canvas.fill(ellipse(0, -0.94, 0.21, 0.21), (250, 250, 248))
    canvas.fill(ellipse(0, -0.94, 0.12, 0.12), (236, 70, 60))
    visor = joined(
        curve([(-wide * 0.98, low), (0, low - 0.20), (wide * 0.98, low)]),
        curve([(wide * 0.86, low + 0.15), (0, low + 0.02), (-wide * 0.86, low + 0.15)]),
    )
    canvas.fill(visor, darker(colour, 0.34))


def _crown(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    wide, low = temples(identity) * 0.92, -0.66
    tips = [-1.24, -1.34, -1.42, -1.34, -1.24]
    outline = [(-wide, low)]
    for place, y in enumerate(tips):
        x = wide * 1.12 * (place - 2) / 2
        outline.append((x, y))
        if place < 4:
            outline.append((x + wide * 0.28, -1.00))
    canvas.fill([*outline, (wide, low)], GOLD)
    canvas.fill(
        joined(
            curve([(-wide, low - 0.20), (0, low - 0.14), (wide, low - 0.20)]),
            curve([(wide, low), (0, low + 0.06), (-wide, low)]),
        ),
        darker(GOLD, 0.16),
    )
    for place, y in enumerate(tips):
        canvas.fill(
            ellipse(wide * 1.12 * (place - 2) / 2, y, 0.07, 0.07, count=16),
            (226, 50, 70) if place % 2 else (60, 120, 236),
        )
    for x, rgb in ((-0.42, (60, 120, 236)), (0.0, (226, 50, 70)), (0.42, (60, 120, 236))):
        canvas.fill(ellipse(x, low - 0.075 + (0.05 if x == 0 else 0), 0.07, 0.07, count=16), rgb)


def _headphones(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    ink: Rgb = (52, 52, 66)
    wide = max(temples(identity), head.width_at(identity.face_shape, 0.05)) + 0.16
    band = curve(
        [
            (-wide, 0.0),
            (-wide * 0.98, -0.55),
            (-wide * 0.62, -1.12),
            (0, -1.30),
            (wide * 0.62, -1.12),
            (wide * 0.98, -0.55),
            (wide, 0.0),
        ]
    )
    canvas.fill(ribbon(band, 0.075), ink)
    for side in (-1, 1):
        canvas.fill(box(side * (wide - 0.01), 0.08, 0.19, 0.33, 0.16), ink)
        canvas.fill(box(side * (wide + 0.04), 0.08, 0.11, 0.23, 0.10), (255, 120, 60))


def _scarf(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    red: Rgb = (214, 48, 58)
    wide = 0.66 if identity.class_noun == "woman" else 0.74
    tail = points([(0.20, 1.40), (0.62, 1.40), (0.72, 2.5), (0.30, 2.5)])
    wrap = smooth(
        [
            (-wide, 1.14),
            (-0.4, 1.02),
            (0, 1.06),
            (0.4, 1.02),
            (wide, 1.14),
            (wide, 1.44),
            (0.3, 1.58),
            (-0.3, 1.58),
            (-wide, 1.44),
        ]
    )
    for part, shade in ((tail, 0.12), (wrap, 0.0)):
        body.fill(part, darker(red, shade))
        for y in (1.02, 1.30, 1.58, 1.86, 2.14):
            stripe = points([(-0.9, y + 0.10), (0.9, y - 0.06), (0.9, y + 0.04), (-0.9, y + 0.20)])
            body.fill(stripe, darker((250, 244, 236), shade * 0.6), clip=part)
    body.fill(ribbon(curve([(0.16, 1.56), (0.42, 1.50), (0.66, 1.42)]), 0.022), darker(red, 0.4))


def _earrings(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    at = head.width_at(identity.face_shape, 0.25) + 0.05
    for side in (-1, 1):
        ring = ellipse(side * (at + 0.05), 0.52, 0.15, 0.20)
        canvas.fill(ribbon(np.concatenate((ring, ring[:2])), 0.052), GOLD)
        canvas.fill(ellipse(side * at, 0.30, 0.06, 0.06, count=14), lighter(GOLD, 0.3))


def _flower(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    side, petal = identity.part_side, (250, 104, 168)
    x, y = side * temples(identity) * 0.84, -0.68
    for turn in (-0.5, 0.7):
        canvas.fill(ellipse(x + side * 0.30, y + 0.28 * turn + 0.12, 0.24, 0.10, side * turn), (64, 160, 84))
    for place in range(5):
        angle = place * math.tau / 5 + 0.3
        canvas.fill(ellipse(x + 0.20 * math.cos(angle), y + 0.20 * math.sin(angle), 0.175, 0.175, count=20), petal)
    for place in range(5):
        angle = place * math.tau / 5 + 0.3 + math.pi / 5
        start = (x + 0.13 * math.cos(angle), y + 0.13 * math.sin(angle))
        canvas.line([start, (x + 0.27 * math.cos(angle), y + 0.27 * math.sin(angle))], darker(petal, 0.22), 0.022)
    canvas.fill(ellipse(x, y, 0.125, 0.125, count=20), (255, 214, 70))


def _eye_patch(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    side, ink = -1, (36, 32, 42)  # a wink closes the other eye
    far = head.width_at(identity.face_shape, -0.3)
    canvas.fill(ribbon(curve([(-side * far * 0.98, -0.46), (side * 0.15, -0.25), (side * far, -0.10)]), 0.034), ink)
    x = side * EYE_X
    patch = smooth([(x - 0.27, -0.17), (x, -0.23), (x + 0.27, -0.17), (x + 0.24, 0.14), (x, 0.30), (x - 0.24, 0.14)])
    canvas.fill(patch, ink)
    canvas.fill(
        ribbon(curve([(x - 0.18, -0.10), (x, -0.145), (x + 0.14, -0.11)]), (0.006, 0.018, 0.006)), (96, 90, 108)
    )


def _santa_hat(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    side, red = identity.part_side, (222, 44, 48)
    wide, low = temples(identity) + 0.08, -0.60
    cone = [(-wide, low), (-wide * 0.86, -1.03), (-0.30, -1.38), (0.30, -1.40), (0.80, -1.18), (wide + 0.26, -0.74)]
    shape = [*cone, (wide + 0.08, -0.62), (wide, low)]
    canvas.fill(curve([(side * x, y) for x, y in shape]), red)
    fold = curve([(side * 0.34, -1.28), (side * 0.62, -1.10), (side * wide * 0.80, -0.94)])
    canvas.fill(ribbon(fold, (0.01, 0.03, 0.01)), darker(red, 0.35))
    canvas.fill(ellipse(side * (wide + 0.22), -0.62, 0.17, 0.17), (252, 250, 248))
    brim = joined(
        curve([(-wide - 0.08, low - 0.14), (0, low - 0.26), (wide + 0.08, low - 0.14)]),
        curve([(wide + 0.08, low + 0.13), (0, low + 0.02), (-wide - 0.08, low + 0.13)]),
    )
    canvas.fill(brim, (252, 250, 248))
    for x in (-wide - 0.06, wide + 0.06):
        canvas.fill(ellipse(x, low, 0.11, 0.14, count=18), (252, 250, 248))


def _party_hat(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    cone = points([(0.0, -1.44), (0.50, -0.74), (0.25, -0.66), (0, -0.64), (-0.25, -0.66), (-0.50, -0.74)])
    canvas.fill(cone, (138, 66, 206))
    for y in (-1.26, -0.97, -0.68):
        canvas.fill(
            points([(-0.6, y + 0.10), (0.6, y - 0.10), (0.6, y + 0.03), (-0.6, y + 0.23)]), (255, 212, 64), clip=cone
        )
    canvas.fill(ellipse(0, -1.38, 0.115, 0.115), (250, 104, 168))


def _headband(canvas: Canvas, body: Canvas, identity: Identity) -> None:
    wide, red = temples(identity) + hair.cover(identity), (228, 52, 60)
    upper = curve([(-wide, -0.62), (0, -0.80), (wide, -0.62)])
    lower = curve([(wide, -0.40), (0, -0.56), (-wide, -0.40)])
    canvas.fill(joined(upper, lower), red)
    canvas.fill(ribbon(curve([(-wide, -0.51), (0, -0.68), (wide, -0.51)]), 0.022), (250, 244, 240))


_PAINTERS: dict[str, Callable[[Canvas, Canvas, Identity], None]] = {
    "glasses": _glasses,
    "sunglasses": _sunglasses,
    "hat": _hat,
    "cap": _cap,
    "crown": _crown,
    "headphones": _headphones,
    "scarf": _scarf,
    "earrings": _earrings,
    "flower": _flower,
    "eye patch": _eye_patch,
    "santa hat": _santa_hat,
    "party hat": _party_hat,
    "headband": _headband,
}


def draw_accessory(canvas: Canvas, body: Canvas, identity: Identity, accessory: str) -> None:
    """One accessory of ``words.ACCESSORIES``.

    Args:
        canvas: in the frame of the head.
        body: the same picture in the frame of the shoulders.
        identity: who wears it.
        accessory: its name; "none" draws nothing.
    """
    if accessory != "none":
        _PAINTERS[accessory](canvas, body, identity)
