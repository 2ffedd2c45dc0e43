"""Nose, mouth and beard, and what an expression does to the mouth."""

from dataclasses import dataclass

import numpy as np

from studio.pocket.renderer import head
from studio.pocket.renderer.canvas import Canvas, Rgb, darker, lighter, mix
from studio.pocket.renderer.palette import INK, lip_colour, skin_light, skin_shade
from studio.pocket.renderer.people import Identity, Scene
from studio.pocket.renderer.shapes import Points, curve, ellipse, moved, points, ribbon, smooth

NOSE_Y = 0.29
MOUTH_Y = 0.62


def draw_nose(canvas: Canvas, identity: Identity, skin: Rgb) -> None:
    """One of six noses, in the second tone of the skin with a darker underside."""
    shade = skin_shade(skin)
    deep, rosy, light = darker(shade, 0.38), mix(shade, (226, 96, 90), 0.28), skin_light(skin)
    y = NOSE_Y
    if identity.nose == "button":
        canvas.fill(ellipse(0, y, 0.130, 0.108), rosy)
        canvas.fill(ellipse(-0.035, y - 0.035, 0.040, 0.030, count=14), light)
        canvas.fill(ribbon(curve([(-0.10, y + 0.075), (0, y + 0.115), (0.10, y + 0.075)]), (0.008, 0.022, 0.008)), deep)
    elif identity.nose == "long":
        bridge = curve([(0.055, -0.12), (0.05, 0.10), (0.11, y + 0.08)])
        canvas.fill(np.concatenate((bridge, points([(0.02, y + 0.13), (-0.07, y + 0.10), (-0.03, 0.05)]))), shade)
        under = curve([(0.11, y + 0.06), (0.06, y + 0.13), (-0.09, y + 0.10)])
        canvas.fill(ribbon(bridge, (0.008, 0.020, 0.026)), deep)
        canvas.fill(ribbon(under, (0.026, 0.028, 0.012)), deep)
    elif identity.nose == "wide":
        wings = [(-0.08, y - 0.10), (-0.24, y + 0.03), (-0.16, y + 0.11), (0, y + 0.12), (0.16, y + 0.11)]
        canvas.fill(smooth([*wings, (0.24, y + 0.03), (0.08, y - 0.10)]), shade)
        for side in (-1, 1):
            canvas.fill(ellipse(side * 0.095, y + 0.072, 0.045, 0.026, side * 0.3, 16), deep)
            wing = curve([(side * 0.18, y - 0.06), (side * 0.25, y + 0.03), (side * 0.18, y + 0.11)])
            canvas.fill(ribbon(wing, (0.008, 0.022, 0.012)), deep)
    elif identity.nose == "pointed":
        canvas.fill(points([(0.0, -0.10), (0.175, y + 0.08), (0.0, y + 0.16)]), mix(shade, deep, 0.35))
        canvas.fill(points([(0.0, -0.10), (-0.14, y + 0.08), (0.0, y + 0.16)]), mix(skin, light, 0.8))
        canvas.line([(-0.14, y + 0.085), (0.0, y + 0.16), (0.175, y + 0.085)], deep, 0.034)
    elif identity.nose == "bulbous":
        canvas.fill(ellipse(0, y, 0.185, 0.165), rosy)
        for side in (-1, 1):
            canvas.fill(ellipse(side * 0.165, y + 0.05, 0.07, 0.07, count=18), rosy)
        canvas.fill(ellipse(-0.06, y - 0.06, 0.055, 0.042, -0.4, 18), light)
        under = curve([(-0.20, y + 0.10), (-0.09, y + 0.135), (0, y + 0.165), (0.09, y + 0.135), (0.20, y + 0.10)])
        canvas.fill(ribbon(under, (0.008, 0.022, 0.024, 0.022, 0.008)), deep)
    else:
        canvas.fill(smooth([(-0.14, y + 0.06), (0, y - 0.10), (0.14, y + 0.06), (0, y + 0.08)]), mix(skin, light, 0.7))
        canvas.fill(ribbon(curve([(-0.12, y - 0.02), (0, y - 0.10), (0.12, y - 0.02)]), (0.008, 0.024, 0.008)), shade)
        for side in (-1, 1):
            canvas.fill(ellipse(side * 0.078, y + 0.055, 0.044, 0.052, side * 0.5, 16), deep)


@dataclass(frozen=True, slots=True)
class MouthShape:
    """One shape of mouth, in head units."""

    half_width: float
    upper_lip: float
    lower_lip: float
    bow: float  # 0 a plain arch .. 1 a deep notch in the upper lip


MOUTHS: dict[str, MouthShape] = {
    "thin": MouthShape(0.25, 0.012, 0.014, 0.0),
    "full": MouthShape(0.25, 0.080, 0.115, 0.5),
    "heart": MouthShape(0.165, 0.105, 0.090, 1.0),
    "wide": MouthShape(0.38, 0.034, 0.052, 0.2),
    "small": MouthShape(0.105, 0.046, 0.056, 0.4),
    "pouting": MouthShape(0.185, 0.030, 0.135, 0.1),
}


@dataclass(frozen=True, slots=True)
class MouthPose:
    """What an expression does to every mouth."""

    width: float  # factor
    corners: float  # how far the corners lie above the middle of the line, in head units
    gap: float  # how far the lips stand apart
    least: float  # least half width, so that a small mouth can be read


_POSES: dict[str, MouthPose] = {
    "neutral": MouthPose(1.0, 0.065, 0.0, 0.0),
    "smiling": MouthPose(1.22, 0.15, 0.085, 0.20),
    "laughing": MouthPose(1.22, 0.10, 0.27, 0.23),
    "sad": MouthPose(0.92, -0.115, 0.0, 0.13),
    "surprised": MouthPose(0.50, -0.02, 0.21, 0.10),
    "angry": MouthPose(1.0, -0.07, 0.075, 0.20),
    "winking": MouthPose(1.15, 0.13, 0.0, 0.20),
}


def lips(identity: Identity, scene: Scene) -> tuple[Points, Points, Points, Points]:
    """Four lines across the mouth, top to bottom.

    Args:
        identity: who.
        scene: its expression opens and bends the mouth.

    Returns:
        The rim of the upper lip, its lower edge, the upper edge of the lower lip and its rim, from the left to the
        right corner, each ``(21, 2)`` in head units.
    """
    shape, pose = MOUTHS[identity.mouth], _POSES[scene.expression]
    half = max(shape.half_width * pose.width, pose.least)
    if scene.expression == "surprised":
        half = 0.10 + 0.25 * (shape.half_width - 0.10)
    x = np.sin(np.linspace(-np.pi / 2, np.pi / 2, 21))
    arch = np.clip(1 - x * x, 0, 1)
    bend = pose.corners * (0.6 + half / 0.6) * (1 - arch)
    middle = MOUTH_Y + pose.corners * 0.55 - pose.gap * (0.20 if scene.expression == "surprised" else 0.45)
    upper = middle - bend - (pose.gap * 0.45 * arch**0.5 if scene.expression == "surprised" else 0)
    lower = upper + pose.gap * arch ** (0.75 if scene.expression == "laughing" else 0.5)
    if scene.expression == "surprised":
        lower = middle - bend + pose.gap * 0.75 * arch**0.5
    bow = 1 - shape.bow * 0.62 * np.exp(-np.square(x * 3.6))
    rim_up = upper - (shape.upper_lip * bow * (1 + 0.25 * shape.bow)) * arch**0.7
    rim_low = lower + shape.lower_lip * arch**0.65
    return tuple(np.stack((x * half, y), axis=1) for y in (rim_up, upper, lower, rim_low))  # type: ignore[return-value]


def draw_mouth(canvas: Canvas, identity: Identity, scene: Scene, skin: Rgb) -> None:
    """The mouth: lips, and teeth and tongue where it is open."""
    rim_up, upper, lower, rim_low = lips(identity, scene)
    pose, shape = _POSES[scene.expression], MOUTHS[identity.mouth]
    red = lip_colour(skin, identity.class_noun == "woman")
    canvas.fill(np.concatenate((rim_up, lower[::-1])), darker(red, 0.14))
    canvas.fill(np.concatenate((upper, rim_low[::-1])), red)
    if shape.lower_lip > 0.08:
        y = float(lower[10, 1]) + shape.lower_lip * 0.45
        canvas.fill(ellipse(-0.05, y, 0.06, 0.016, count=16), lighter(red, 0.35))
    if pose.gap:
        inside = np.concatenate((upper, lower[::-1]))
        canvas.fill(inside, (88, 22, 36))
        if scene.expression == "laughing":
            canvas.fill(ellipse(0, float(lower[10, 1]), float(upper[-1, 0]) * 0.55, 0.10), (232, 96, 104), clip=inside)
        if scene.expression == "angry":
            canvas.fill(inside, (252, 250, 246))
            canvas.line(
                [(upper[0] + lower[0]) / 2 * 0.98, *((upper + lower) / 2)[4:17:4], upper[-1] * 0.98], INK, 0.016
            )
        elif scene.expression != "surprised":
            depth = 0.10 if scene.expression == "laughing" else 0.2
            canvas.fill(np.concatenate((upper, moved(upper, 0.0, depth)[::-1])), (255, 253, 250), clip=inside)
        for line in (upper, lower):
            canvas.fill(ribbon(line, 0.013), darker(red, 0.62))
    else:
        canvas.fill(ribbon(upper, (0.014, 0.024, 0.014)), darker(red, 0.72))
    if scene.expression in ("smiling", "laughing", "winking"):
        for side, end in ((-1, upper[0]), (1, upper[-1])):
            x, y = float(end[0]), float(end[1])
            path = curve([(x + side * 0.02, y - 0.055), (x + side * 0.035, y), (x + side * 0.01, y + 0.05)])
            canvas.fill(ribbon(path, (0.008, 0.018, 0.008)), darker(skin_shade(skin), 0.4))
    elif shape.lower_lip < 0.06 and scene.expression in ("neutral", "sad"):
        y = float(rim_low[10, 1]) + 0.07
        canvas.fill(ribbon(curve([(-0.09, y), (0, y + 0.02), (0.09, y)]), (0.006, 0.018, 0.006)), skin_shade(skin))
    if scene.expression == "sad":
        _draw_tear(canvas)


def _draw_tear(canvas: Canvas) -> None:
    x, y = 0.50, 0.30
    drop = smooth(
        [
            (x, y - 0.13),
            (x + 0.05, y - 0.02),
            (x + 0.055, y + 0.06),
            (x, y + 0.11),
            (x - 0.055, y + 0.06),
            (x - 0.05, y - 0.02),
        ]
    )
    canvas.fill(drop, (96, 176, 240))
    canvas.fill(ellipse(x - 0.018, y + 0.045, 0.018, 0.026, count=12), (232, 246, 255))


def draw_beard(canvas: Canvas, identity: Identity, scene: Scene, colour: Rgb, skin: Rgb) -> None:
    """The beard under the mouth; the mouth is drawn over it."""
    style = identity.beard
    if style == "none":
        return
    face = head.outline(identity.face_shape)
    chin = head.CHIN[identity.face_shape]
    if style in ("stubble", "full beard"):
        cheek = [(-1.1, 0.02), (-0.72, 0.20), (-0.46, 0.47), (-0.22, 0.45), (0.0, 0.42), (0.22, 0.45), (0.46, 0.47)]
        lower = [(0.72, 0.20), (1.1, 0.02), (1.1, 1.4), (-1.1, 1.4)]
        area = np.concatenate((curve([*cheek, *lower[:2]]), points(lower[2:])))
        if style == "stubble":
            canvas.fill(area, mix(skin, darker(colour, 0.3), 0.34), clip=face)
            return
        canvas.fill(area, colour, clip=face)
        wide = head.width_at(identity.face_shape, 0.55)
        hang = [(-wide, 0.40), (-wide * 0.9, 0.80), (-0.38, chin + 0.09), (0, chin + 0.16), (0.38, chin + 0.09)]
        below = curve([*hang, (wide * 0.9, 0.80), (wide, 0.40)])
        canvas.fill(np.concatenate((below, points([(wide * 0.6, 0.75), (-wide * 0.6, 0.75)]))), colour)
        for x in (-0.3, 0.0, 0.3):
            canvas.line([(x, chin - 0.10), (x * 0.95, chin + 0.02)], darker(colour, 0.25), 0.03)
        return
    rim = float(lips(identity, scene)[0][:, 1].min())
    if style == "moustache":
        y = min(rim - 0.03, 0.54)
        right = [(0.0, y - 0.09), (0.16, y - 0.10), (0.32, y - 0.02), (0.45, y - 0.06), (0.40, y + 0.06)]
        half = [*right, (0.20, y + 0.08), (0.0, y + 0.03)]
        canvas.fill(smooth([*half, *[(-x, y) for x, y in half[-2:0:-1]]]), colour)
        return
    low = float(lips(identity, scene)[3][:, 1].max())
    top = min(low + 0.055, chin - 0.16)
    goatee = [(-0.19, top + 0.03), (0.0, top - 0.01), (0.19, top + 0.03), (0.22, chin - 0.04), (0.0, chin + 0.13)]
    canvas.fill(smooth([*goatee, (-0.22, chin - 0.04)]), colour)
