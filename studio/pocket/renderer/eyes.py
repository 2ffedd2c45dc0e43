"""Eyes, brows and what an expression does to them.

One eye is described in its own coordinates: x from -1 at the nose to 1 at the temple in half widths, y down. The lids
are two curves over x; an expression or a heavy lid cuts the opening by a line from above or from below.
"""

from dataclasses import dataclass, replace

import numpy as np

from studio.pocket.renderer.canvas import Canvas, Rgb, darker, mix
from studio.pocket.renderer.palette import EYE_RGB, INK, skin_shade
from studio.pocket.renderer.people import Identity, Scene
from studio.pocket.renderer.shapes import Points, curve, ellipse, moved, points, ribbon

EYE_X = 0.37
"""How far each eye lies from the middle of the face, in head units; the eyes lie at y = 0."""


@dataclass(frozen=True, slots=True)
class EyeShape:
    """One shape of eye, in head units but for the exponents."""

    half_width: float
    above: float  # height of the upper lid over the corners
    below: float
    pointed: float  # 0.5 round corners .. 1 pointed ones
    tilt: float  # how much higher the outer corner lies than the middle
    iris: float  # radius
    lid: float | None = None  # a heavy lid hangs down to this height


SHAPES: dict[str, EyeShape] = {
    "round": EyeShape(0.205, 0.205, 0.195, 0.50, 0.0, 0.118),
    "almond": EyeShape(0.270, 0.145, 0.115, 0.90, 0.02, 0.125),
    "cat": EyeShape(0.250, 0.165, 0.095, 0.75, 0.155, 0.120),
    "drooping": EyeShape(0.230, 0.175, 0.140, 0.60, -0.170, 0.124),
    "sleepy": EyeShape(0.235, 0.200, 0.150, 0.55, 0.0, 0.128, lid=-0.055),
    "doe": EyeShape(0.192, 0.265, 0.220, 0.50, 0.0, 0.138),
}

# A brow: its middle line in (x, y), x from -1 at the nose to 1 at the temple, and half its thickness along it.
_BROWS: dict[str, tuple[tuple[tuple[float, float], ...], tuple[float, ...], float]] = {
    "thin": (((-1, 0.03), (-0.2, -0.03), (1, 0.02)), (0.016, 0.022, 0.012), 0.24),
    "straight": (((-1, 0.0), (0, 0.0), (1, 0.0)), (0.046, 0.046, 0.040), 0.25),
    "bushy": (((-1, 0.02), (0, -0.03), (1, 0.04)), (0.072, 0.092, 0.050), 0.25),
    "arched": (((-1, -0.01), (-0.40, -0.10), (0.30, -0.115), (1, 0.07)), (0.034, 0.042, 0.040, 0.016), 0.25),
    "angled": (((-1, 0.0), (-0.2, -0.04), (0.45, -0.12), (1, 0.05)), (0.056, 0.050, 0.046, 0.010), 0.26),
    "short": (((-1, 0.0), (0, -0.015), (1, 0.0)), (0.062, 0.075, 0.060), 0.125),
}
# How far an expression moves the inner and the outer end of the brows, in head units, y down.
_BROW_MOVES: dict[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "smiling": (-0.03, -0.01),
    "laughing": (-0.08, -0.04),
    "sad": (-0.13, 0.08),
    "surprised": (-0.17, -0.15),
    "angry": (0.15, -0.10),
    "winking": (-0.03, -0.01),
}


def opening(identity: Identity, scene: Scene, side: int) -> tuple[Points, Points]:
    """The two lids of one eye.

    Args:
        identity: who.
        scene: its expression moves the lids.
        side: -1 for the eye on the left of the picture, 1 for the right one.

    Returns:
        The upper and the lower lid from the inner to the outer corner, each ``(15, 2)`` in head units.
    """
    shape = SHAPES[identity.eyes]
    x = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 15))
    profile = np.clip(1 - x * x, 0, 1) ** shape.pointed
    wide = 1.16 if scene.expression == "surprised" else 1.0
    rest = -shape.tilt * (x + 1) / 2 + shape.tilt / 2
    upper, lower = rest - shape.above * wide * profile, rest + shape.below * wide * profile
    if shape.lid is not None and scene.expression != "surprised":
        # Laughing lifts a heavy lid a little, so that the eye stays open.
        upper = np.maximum(upper, shape.lid - (0.06 if scene.expression == "laughing" else 0.0))
    if scene.expression == "sad":
        upper = np.maximum(upper, -0.08 + 0.10 * x - 0.3 * max(0.0, shape.above - 0.2))
    elif scene.expression == "angry":
        upper = np.maximum(upper, -0.065 - 0.10 * x - 0.3 * max(0.0, shape.above - 0.2))
    elif scene.expression in ("laughing", "smiling"):
        # The cheeks push the lower lid up into an arch.
        push, bulge = (0.10, 0.045) if scene.expression == "laughing" else (0.72, 0.035)
        arch = rest + shape.below * push - bulge * (1 - x * x)
        lower = np.minimum(lower, arch)
    upper = np.minimum(upper, lower)
    along = side * (EYE_X + x * shape.half_width)
    return np.stack((along, upper), axis=1), np.stack((along, lower), axis=1)


def draw_eyes(canvas: Canvas, identity: Identity, scene: Scene, skin: Rgb) -> None:
    """Both eyes; a wink closes the one on the right of the picture."""
    for side in (-1, 1):
        if scene.expression == "winking" and side == 1:
            _draw_closed(canvas, identity)
        else:
            _draw_open(canvas, identity, scene, skin, side)


def _draw_open(canvas: Canvas, identity: Identity, scene: Scene, skin: Rgb, side: int) -> None:
    shape, woman = SHAPES[identity.eyes], identity.class_noun == "woman"
    upper, lower = opening(identity, scene, side)
    eyeball = np.concatenate((upper, lower[::-1]))
    if shape.lid is not None or scene.expression in ("sad", "angry"):
        relaxed = opening(identity, replace(scene, expression="surprised"), side)[0] * (1, 0.86)
        heavy = np.concatenate((np.minimum(relaxed, upper), upper[::-1]))
        canvas.fill(heavy, mix(skin_shade(skin), (150, 90, 110), 0.18))
    canvas.fill(eyeball, (255, 253, 250))
    canvas.fill(np.concatenate((upper, moved(upper, 0.0, 0.05)[::-1])), (206, 204, 218), clip=eyeball)

    look = {"straight": 0.0, "left": -1.0, "right": 1.0}[scene.gaze] * (shape.half_width - 0.45 * shape.iris) * 0.70
    middle = (shape.below - shape.above) / 2 * 0.6
    if shape.lid is not None:
        middle = 0.03
    middle -= shape.tilt * side * look / shape.half_width / 2  # along the slant of the eye
    radius = shape.iris * (0.82 if scene.expression == "surprised" else 1.0)
    x = side * EYE_X + look
    colour = EYE_RGB[identity.eye_colour]
    canvas.fill(ellipse(x, middle, radius, radius), darker(colour, 0.38), clip=eyeball)
    canvas.fill(ellipse(x, middle + 0.012, radius * 0.80, radius * 0.80), colour, clip=eyeball)
    canvas.fill(ellipse(x, middle, radius * 0.46, radius * 0.46), INK, clip=eyeball)
    canvas.fill(ellipse(x - 0.045, middle - 0.05, 0.042, 0.042, count=16), (255, 255, 255), clip=eyeball)

    ends = (0.018, 0.034, 0.044) if woman else (0.014, 0.026, 0.026)
    canvas.fill(ribbon(upper, ends), INK)
    canvas.fill(ribbon(lower, (0.006, 0.010, 0.010)), darker(skin_shade(skin), 0.35))
    if woman:
        x, y = float(upper[-1, 0]), float(upper[-1, 1])
        for back, lift, dx, dy in ((0.02, 0.012, 0.10, -0.075), (0.055, 0.035, 0.075, -0.13)):
            start = (x - side * back, y - lift)
            tip = (start[0] + side * dx, start[1] + dy)
            bend = (start[0] + side * dx * 0.6, start[1] + dy * 0.45)
            canvas.fill(ribbon(curve([start, bend, tip], 3), (0.026, 0.018, 0.004)), INK)


def _draw_closed(canvas: Canvas, identity: Identity) -> None:
    half = SHAPES[identity.eyes].half_width
    arc = curve(
        [(EYE_X - half, 0.075), (EYE_X - half * 0.45, -0.02), (EYE_X + half * 0.45, -0.02), (EYE_X + half, 0.075)]
    )
    canvas.fill(ribbon(arc, (0.020, 0.040, 0.040, 0.024)), INK)
    if identity.class_noun == "woman":
        for x, dx in ((0.55, 0.07), (0.95, 0.10)):
            y = 0.0 if x < 0.9 else 0.06
            lash = points([(EYE_X + half * x, y), (EYE_X + half * x + dx, y + 0.075)])
            canvas.fill(ribbon(lash, (0.022, 0.008)), INK)


def draw_brows(canvas: Canvas, identity: Identity, scene: Scene, colour: Rgb) -> None:
    """Both brows, moved by the expression."""
    line, thickness, half = _BROWS[identity.brows]
    inner, outer = _BROW_MOVES[scene.expression]
    height = -0.375 - max(0.0, SHAPES[identity.eyes].above - 0.20) * 0.55
    steps = curve(line, 6)
    share = (steps[:, 0] + 1) / 2
    for side in (-1, 1):
        x = EYE_X - 0.02 if identity.brows != "short" else EYE_X - 0.06
        along = side * (x + steps[:, 0] * half)
        y = height + steps[:, 1] + inner + (outer - inner) * share
        path = np.stack((along, y), axis=1)
        canvas.fill(ribbon(path, thickness), colour)
        # Round ends, so that a thick brow is no plank.
        for end, radius in ((path[0], thickness[0]), (path[-1], thickness[-1])):
            canvas.fill(ellipse(end[0], end[1], radius, radius, count=14), colour)
    if scene.expression == "angry":
        canvas.line([(-0.045, -0.24), (-0.035, -0.13)], darker(colour, 0.1), 0.028)
        canvas.line([(0.045, -0.24), (0.035, -0.13)], darker(colour, 0.1), 0.028)
