"""Shoulders and what they wear. Drawn in a frame that neither turns nor leans as far as the head does."""

from collections.abc import Callable
from dataclasses import dataclass

from studio.pocket.renderer.canvas import Canvas, Rgb, darker, lighter, mix
from studio.pocket.renderer.palette import CLOTH_RGB, skin_shade
from studio.pocket.renderer.people import Identity, Scene
from studio.pocket.renderer.shapes import Points, box, curve, ellipse, joined, points, ribbon, smooth

LOW = 2.6
"""Below the edge of every frame, in head units."""
_WHITE: Rgb = (248, 248, 246)
_NAVY: Rgb = (44, 62, 112)


@dataclass(frozen=True, slots=True)
class Outfit:
    """Colours and measures of one garment on one person."""

    cloth: Rgb
    dark: Rgb
    light: Rgb
    skin: Rgb
    neck: float  # half the width of the neck
    shoulder: float  # half the width of the shoulders
    torso: Points

    @property
    def pale(self) -> bool:
        """Whether white details would be lost on the cloth."""
        return min(self.cloth) > 170 or self.cloth == CLOTH_RGB["white"]


def _torso(shoulder: float, neck: float) -> Points:
    right = curve(
        [(neck * 0.9, 1.16), (neck + 0.25, 1.27), (shoulder * 0.72, 1.36), (shoulder * 0.94, 1.56), (shoulder, LOW)]
    )
    return joined(right, (right * (-1, 1))[::-1])


def _t_shirt(canvas: Canvas, o: Outfit) -> None:
    collar = ellipse(0, 1.17, o.neck + 0.16, 0.34)
    canvas.fill(ellipse(0, 1.17, o.neck + 0.23, 0.41), o.dark, clip=o.torso)
    canvas.fill(collar, o.skin, clip=o.torso)
    for side in (-1, 1):
        canvas.line([(side * o.shoulder * 0.74, 1.60), (side * o.shoulder * 0.70, LOW)], o.dark, 0.035)


def _shirt(canvas: Canvas, o: Outfit) -> None:
    light = (226, 230, 238) if o.pale else o.light
    canvas.fill([(-0.24, 1.05), (0.24, 1.05), (0.0, 1.52)], skin_shade(o.skin))
    canvas.line([(0, 1.48), (0, LOW)], o.dark, 0.04)
    for y in (1.60, 1.77, 1.94):
        canvas.fill(ellipse(0, y, 0.045, 0.045, count=14), _NAVY if o.pale else _WHITE)
    for side in (-1, 1):
        wing = [(side * 0.20, 1.03), (side * (o.neck + 0.16), 1.12), (side * (o.neck + 0.10), 1.52), (0.0, 1.46)]
        canvas.fill(wing, light)
        canvas.line([wing[1], wing[2], wing[3]], o.dark, 0.026)


def _suit(canvas: Canvas, o: Outfit) -> None:
    inner = (150, 186, 236) if o.pale else _WHITE
    tie: Rgb = (44, 40, 56) if o.cloth == CLOTH_RGB["red"] else (206, 40, 52)
    canvas.fill([(-0.42, 1.14), (0.42, 1.14), (0.0, 2.3)], inner, clip=o.torso)
    canvas.fill([(-0.09, 1.36), (0.09, 1.36), (0.12, 1.95), (0.0, 2.2), (-0.12, 1.95)], tie)
    canvas.fill([(-0.12, 1.28), (0.12, 1.28), (0.075, 1.44), (-0.075, 1.44)], darker(tie, 0.15))
    for side in (-1, 1):
        canvas.fill(
            [(side * 0.10, 1.30), (side * 0.30, 1.06), (side * 0.40, 1.20), (side * 0.24, 1.42)], lighter(inner, 0.3)
        )
        lapel = [(side * 0.36, 1.12), (side * 0.62, 1.34), (side * 0.72, 1.58), (side * 0.54, 1.62), (0.0, 2.35)]
        canvas.fill(lapel, o.dark)


def _lab_coat(canvas: Canvas, o: Outfit) -> None:
    inner: Rgb = (120, 170, 226) if o.pale else _WHITE
    lapel_rgb = (222, 228, 238) if o.pale else o.light
    canvas.fill([(-0.46, 1.14), (0.46, 1.14), (0.20, LOW), (-0.20, LOW)], inner, clip=o.torso)
    canvas.fill(ellipse(0, 1.14, 0.28, 0.25), o.skin, clip=o.torso)
    for side in (-1, 1):
        lapel = [(side * 0.36, 1.10), (side * 0.66, 1.30), (side * 0.58, 1.72), (side * 0.22, 2.2), (side * 0.20, 1.9)]
        canvas.fill(lapel, lapel_rgb)
        canvas.line([lapel[1], lapel[2], lapel[3]], o.dark, 0.026)
    canvas.fill(box(0.84, 1.68, 0.17, 0.14, 0.03), lapel_rgb)
    canvas.line([(0.67, 1.56), (1.01, 1.56)], o.dark, 0.035)
    canvas.line([(0.80, 1.44), (0.80, 1.60)], (220, 60, 50), 0.05)
    canvas.line([(0.90, 1.44), (0.90, 1.60)], (36, 90, 210), 0.05)


def _hoodie(canvas: Canvas, o: Outfit) -> None:
    ring = joined(ellipse(0, 1.16, o.neck + 0.44, 0.42, count=40), points([(o.neck + 0.44, 1.16)]))
    canvas.fill(ring, o.dark)
    canvas.fill(ellipse(0, 1.10, o.neck + 0.15, 0.28), darker(o.cloth, 0.55))
    canvas.fill(ellipse(0, 1.03, o.neck + 0.02, 0.26), skin_shade(o.skin))
    cord = _NAVY if o.pale else _WHITE
    for side in (-1, 1):
        canvas.line([(side * 0.24, 1.48), (side * 0.27, 1.86)], cord, 0.055)
        canvas.fill(ellipse(side * 0.27, 1.87, 0.04, 0.05, count=12), cord)


def _dress(canvas: Canvas, o: Outfit) -> None:
    wide = o.shoulder * 0.80
    canvas.fill(ellipse(0, 1.27, 0.36, 0.05), skin_shade(o.skin), clip=o.torso)
    top = curve([(-wide, 1.55), (-wide * 0.5, 1.40), (0.0, 1.56), (wide * 0.5, 1.40), (wide, 1.55)])
    canvas.fill(joined(top, points([(wide * 0.96, LOW), (-wide * 0.96, LOW)])), o.cloth)
    for side in (-1, 1):
        strap = points([(side * wide * 0.62, 1.48), (side * wide * 0.55, 1.24)])
        canvas.fill(ribbon(strap, 0.085), o.cloth)
    canvas.fill(ribbon(top, 0.03), o.dark)


def _striped_sweater(canvas: Canvas, o: Outfit) -> None:
    accent = _NAVY if o.pale else _WHITE
    for y in (1.44, 1.72, 2.0):
        canvas.fill(ribbon(curve([(-1.6, y + 0.12), (0, y), (1.6, y + 0.12)]), 0.072), accent, clip=o.torso)
    _collar(canvas, o, 1.06, 0.14)


def _collar(canvas: Canvas, o: Outfit, top: float, height: float) -> None:
    wide = o.neck + 0.08
    band = joined(
        curve([(-wide, top), (0, top + 0.10), (wide, top)]),
        curve([(wide + 0.08, top + height), (0, top + height + 0.14), (-wide - 0.08, top + height)]),
    )
    canvas.fill(band, o.dark)


def _turtleneck(canvas: Canvas, o: Outfit) -> None:
    wide = o.neck + 0.07
    upper = curve([(-wide, 0.90), (0, 1.00), (wide, 0.90)])
    lower = curve([(wide + 0.10, 1.34), (0, 1.46), (-wide - 0.10, 1.34)])
    canvas.fill(joined(upper, lower), mix(o.cloth, o.light, 0.35))
    canvas.fill(ribbon(curve([(-wide - 0.05, 1.12), (0, 1.23), (wide + 0.05, 1.12)]), 0.028), o.dark)
    canvas.fill(ribbon(curve([(-wide - 0.10, 1.34), (0, 1.46), (wide + 0.10, 1.34)]), 0.028), o.dark)


def _armour(canvas: Canvas, o: Outfit) -> None:
    steel = mix(o.cloth, (176, 186, 204), 0.30)
    gleam, deep = lighter(steel, 0.55), darker(steel, 0.38)
    canvas.fill(o.torso, steel)
    canvas.fill(points([(-0.55, 1.4), (-0.30, 1.4), (-0.42, LOW), (-0.72, LOW)]), gleam, clip=o.torso)
    canvas.line([(0, 1.5), (0, LOW)], deep, 0.035)
    for side in (-1, 1):
        x = side * o.shoulder * 0.82
        canvas.fill(ellipse(x, 1.64, 0.46, 0.36), deep)
        canvas.fill(ellipse(x, 1.60, 0.40, 0.28), mix(steel, gleam, 0.35))
        canvas.fill(ribbon(curve([(x - 0.26, 1.52), (x, 1.42), (x + 0.26, 1.52)]), (0.01, 0.035, 0.01)), gleam)
    wide = o.neck + 0.12
    gorget = joined(
        curve([(-wide, 1.02), (0, 1.14), (wide, 1.02)]), curve([(wide + 0.16, 1.32), (0, 1.50), (-wide - 0.16, 1.32)])
    )
    canvas.fill(gorget, gleam)
    canvas.fill(ribbon(curve([(-wide - 0.16, 1.32), (0, 1.50), (wide + 0.16, 1.32)]), 0.03), deep)
    for x in (-0.36, 0.0, 0.36):
        canvas.fill(ellipse(x, 1.33 - 0.25 * x * x, 0.04, 0.04, count=12), deep)


def _overalls(canvas: Canvas, o: Outfit) -> None:
    under: Rgb = (122, 146, 190) if o.pale else (244, 240, 230)
    canvas.fill(o.torso, under)
    canvas.fill(ellipse(0, 1.17, o.neck + 0.20, 0.36), darker(under, 0.14), clip=o.torso)
    canvas.fill(ellipse(0, 1.15, o.neck + 0.14, 0.31), o.skin, clip=o.torso)
    for side in (-1, 1):
        canvas.fill(points([(side * 0.54, 1.18), (side * 0.80, 1.24), (side * 0.72, 1.6), (side * 0.44, 1.6)]), o.cloth)
    canvas.fill(box(0, 2.0, 0.76, 0.52, 0.06), o.cloth)
    canvas.fill(box(0, 1.70, 0.30, 0.09, 0.03), o.dark)
    for side in (-1, 1):
        canvas.fill(ellipse(side * 0.58, 1.54, 0.075, 0.075, count=16), (250, 206, 70))


_PAINTERS: dict[str, Callable[[Canvas, Outfit], None]] = {
    "t-shirt": _t_shirt,
    "shirt": _shirt,
    "suit": _suit,
    "hoodie": _hoodie,
    "dress": _dress,
    "striped sweater": _striped_sweater,
    "lab coat": _lab_coat,
    "armour": _armour,
    "turtleneck": _turtleneck,
    "overalls": _overalls,
}


def draw_clothes(body: Canvas, identity: Identity, scene: Scene, skin: Rgb) -> None:
    """Shoulders in the clothes of the scene."""
    woman = identity.class_noun == "woman"
    shoulder, neck = (1.20, 0.33) if woman else (1.42, 0.43)
    cloth = CLOTH_RGB[scene.clothing_colour]
    black = scene.clothing_colour == "black"
    outfit = Outfit(
        cloth=cloth,
        dark=(84, 84, 100) if black else darker(cloth, 0.26),
        light=(104, 104, 120) if black else lighter(cloth, 0.45),
        skin=skin,
        neck=neck,
        shoulder=shoulder,
        torso=_torso(shoulder, neck),
    )
    if scene.clothes == "dress":
        body.fill(outfit.torso, skin)
    else:
        body.fill(outfit.torso, outfit.cloth)
        if scene.clothes == "hoodie":
            body.fill(
                smooth([(-0.95, 1.36), (-0.80, 0.92), (0.0, 0.70), (0.80, 0.92), (0.95, 1.36), (0.0, 1.5)]), outfit.dark
            )
    _PAINTERS[scene.clothes](body, outfit)
