"""The head itself: outline, ears, neck, the marks on the skin, the lines of age."""

from functools import cache

import numpy as np

from studio.pocket.renderer.canvas import Canvas, Rgb, darker, lighter, mix
from studio.pocket.renderer.palette import skin_light, skin_shade
from studio.pocket.renderer.people import Identity
from studio.pocket.renderer.shapes import Points, box, curve, ellipse, mirrored, moved, points, ribbon, smooth

# Right half of each face from the crown to the chin: (x, y) in head units.
_HALVES: dict[str, tuple[tuple[float, float], ...]] = {
    "oval": ((0.26, -0.93), (0.58, -0.74), (0.76, -0.32), (0.77, 0.12), (0.66, 0.52), (0.40, 0.86), (0.15, 0.99)),
    "round": ((0.30, -0.92), (0.66, -0.72), (0.86, -0.30), (0.92, 0.14), (0.82, 0.54), (0.52, 0.83), (0.20, 0.93)),
    "square": ((0.28, -0.93), (0.62, -0.76), (0.78, -0.34), (0.80, 0.12), (0.79, 0.56), (0.57, 0.88), (0.28, 0.97)),
    "heart": ((0.30, -0.93), (0.68, -0.76), (0.88, -0.34), (0.82, 0.12), (0.58, 0.54), (0.28, 0.88), (0.09, 1.02)),
    "long": ((0.24, -0.93), (0.53, -0.76), (0.67, -0.34), (0.68, 0.14), (0.63, 0.58), (0.42, 0.98), (0.18, 1.14)),
    "pear": ((0.22, -0.93), (0.48, -0.76), (0.66, -0.36), (0.80, 0.10), (0.90, 0.50), (0.66, 0.86), (0.28, 0.98)),
}
CHIN = {"oval": 1.0, "round": 0.95, "square": 0.98, "heart": 1.04, "long": 1.16, "pear": 0.99}
"""Where each face ends, in head units below the eyes."""
CROWN = -0.95


@cache
def outline(face_shape: str) -> Points:
    """Outline of a face of one of ``words.FACE_SHAPES``, ``(N, 2)`` in head units."""
    half = ((0.0, CROWN), *_HALVES[face_shape], (0.0, CHIN[face_shape]))
    # The two points on the axis would come twice.
    return smooth(np.delete(mirrored(half), (len(half), 2 * len(half) - 1), axis=0), 5)


def width_at(face_shape: str, y: float) -> float:
    """Half the width of a face at a height."""
    half = ((0.0, CROWN), *_HALVES[face_shape], (0.0, CHIN[face_shape]))
    return float(np.interp(y, [p[1] for p in half], [p[0] for p in half]))


def draw_neck(body: Canvas, identity: Identity, skin: Rgb) -> None:
    """The neck, before the clothes."""
    wide = 0.33 if identity.class_noun == "woman" else 0.43
    neck = points([(-wide, 0.5), (wide, 0.5), (wide, 1.22), (wide + 0.3, 1.5), (-wide - 0.3, 1.5), (-wide, 1.22)])
    body.fill(neck, skin)


def draw_chin_shadow(body: Canvas, identity: Identity) -> None:
    """The shadow of the chin on the neck and on the collar."""
    wide = 0.33 if identity.class_noun == "woman" else 0.43
    neck = box(0, 0.9, wide, 0.40)
    body.fill(ellipse(0, CHIN[identity.face_shape] - 0.12, wide * 1.18, 0.32), (64, 20, 40), 0.22, clip=neck)


def draw_ears(canvas: Canvas, identity: Identity, skin: Rgb) -> None:
    """Both ears, behind the face."""
    at, shade = width_at(identity.face_shape, 0.05), skin_shade(skin)
    for side in (-1, 1):
        if identity.ears == "pointed":
            ear = [(0.0, -0.22), (0.18, -0.36), (0.30, -0.56), (0.30, -0.20), (0.20, 0.12), (0.02, 0.20)]
            inner = [(0.04, -0.14), (0.17, -0.26), (0.24, -0.40), (0.22, -0.16), (0.13, 0.04)]
            canvas.fill(smooth([(side * (at - 0.05 + x), 0.08 + y) for x, y in ear]), skin)
            canvas.fill(smooth([(side * (at - 0.04 + x), 0.08 + y) for x, y in inner]), shade)
            continue
        size = 0.27 if identity.ears == "large" else 0.15
        cx = side * (at + (0.08 if identity.ears == "large" else 0.02))
        canvas.fill(ellipse(cx, 0.06, size * 0.72, size, side * 0.22), skin)
        canvas.fill(ellipse(cx + side * 0.01, 0.07, size * 0.40, size * 0.62, side * 0.22), shade)


def draw_face(canvas: Canvas, identity: Identity, skin: Rgb, light_side: int) -> None:
    """The face in two tones: the far side of the light and the rim of the jaw lie in the second one."""
    shape = outline(identity.face_shape)
    canvas.fill(shape, mix(skin, skin_shade(skin), 0.75))
    canvas.fill(moved(shape * (0.97, 0.985), light_side * 0.075, -0.045), skin, clip=shape)
    if identity.hair_style == "bald":
        canvas.fill(ellipse(light_side * 0.30, -0.68, 0.20, 0.09, light_side * 0.5), skin_light(skin))


def draw_marks(canvas: Canvas, identity: Identity, skin: Rgb) -> None:
    """What sets the skin of a person apart, and the lines of age."""
    mark, shade = identity.mark, skin_shade(skin)
    deep = darker(shade, 0.30)
    crease = darker(shade, 0.14)
    near = width_at(identity.face_shape, 0.4)
    if mark in ("mole left", "mole right"):
        side = -1 if mark == "mole left" else 1
        canvas.fill(ellipse(side * 0.40, 0.46, 0.055, 0.055), darker(skin, 0.72))
    elif mark == "freckles":
        spot = darker(skin, 0.50) if identity.skin == "dark" else mix(shade, (150, 70, 30), 0.50)
        for x, y in ((0.30, 0.25), (0.44, 0.20), (0.57, 0.27), (0.37, 0.36), (0.51, 0.37)):
            for side in (-1, 1):
                canvas.fill(ellipse(side * x, y, 0.032, 0.032, count=12), spot)
        canvas.fill(ellipse(0.0, 0.10, 0.03, 0.03, count=12), spot)
    elif mark == "scar":
        pale = lighter(skin, 0.55) if identity.skin in ("brown", "dark") else mix(skin, (196, 74, 74), 0.62)
        line = curve([(0.40, 0.22), (0.50, 0.38), (0.53, 0.56)])
        canvas.fill(ribbon(line, (0.012, 0.034, 0.012)), pale)
        for x, y in ((0.435, 0.31), (0.505, 0.44)):
            canvas.line([(x - 0.07, y + 0.02), (x + 0.09, y - 0.02)], pale, 0.035)
    elif mark == "dimples":
        for side in (-1, 1):
            x = side * min(0.53, near - 0.14)
            canvas.fill(ribbon(curve([(x, 0.46), (x + side * 0.05, 0.56), (x, 0.66)]), (0.012, 0.034, 0.012)), deep)
    elif mark == "blush":
        rosy = mix(skin, (240, 70, 90), 0.42)
        for side in (-1, 1):
            canvas.fill(ellipse(side * min(0.50, near - 0.16), 0.34, 0.17, 0.12), rosy)
    if identity.age == "older":
        for side in (-1, 1):
            canvas.fill(ribbon(curve([(side * 0.24, 0.17), (side * 0.36, 0.22), (side * 0.48, 0.18)]), 0.014), crease)
            fold = curve([(side * 0.27, 0.38), (side * 0.36, 0.47), (side * 0.39, 0.57)])
            canvas.fill(ribbon(fold, (0.006, 0.017, 0.006)), crease)
        canvas.fill(ribbon(curve([(-0.26, -0.50), (0.0, -0.54), (0.26, -0.50)]), 0.014), shade)
