"""What lies behind the person: large calm shapes at the sides of the frame, where the head leaves room.

Coordinates run from 0 to 1 over the frame, y down. Details are shifted by a random generator, never their kind.
"""

import random
from collections.abc import Callable

import numpy as np

from studio.pocket.renderer.canvas import Canvas, Frame, Picture, Rgb, darker
from studio.pocket.renderer.shapes import box, curve, ellipse, joined, moved, points, ribbon

Stop = tuple[float, Rgb]


def _ramp(size_px: int, *stops: Stop) -> Picture:
    """Colours that change from the top to the bottom, ``(S, S, 3)``."""
    y = (np.arange(size_px) + 0.5) / size_px
    places = [stop[0] for stop in stops]
    column = np.stack([np.interp(y, places, [stop[1][channel] for stop in stops]) for channel in range(3)], axis=1)
    return np.repeat((column + 0.5).astype(np.uint8)[:, None, :], size_px, axis=1)


def _canvas(size_px: int, *stops: Stop) -> Canvas:
    return Canvas(_ramp(size_px, *stops), Frame(0.0, 0.0, float(size_px), 0.0, 0.0))


def _ground(canvas: Canvas, y: float, colour: Rgb, swell: float = 0.0, phase: float = 0.0) -> None:
    """Everything below a level or wavy line."""
    x = np.linspace(-0.05, 1.05, 24)
    edge = np.stack((x, y + swell * np.sin(x * 5.5 + phase)), axis=1)
    canvas.fill(joined(edge, points([(1.05, 1.05), (-0.05, 1.05)])), colour)


def _plain(colour: Rgb) -> Callable[[int, random.Random], Picture]:
    def paint(size_px: int, rng: random.Random) -> Picture:
        return _ramp(size_px, (0.0, colour), (1.0, colour))

    return paint


def _studio(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (58, 56, 66)), (1, (44, 42, 52)))
    x = 0.5 + rng.uniform(-0.03, 0.03)
    for radius, rgb in ((0.62, (76, 74, 86)), (0.48, (98, 96, 110)), (0.34, (120, 118, 132))):
        canvas.fill(ellipse(x, 0.42, radius, radius, count=64), rgb)
    return canvas.rgb


def _beach(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (96, 186, 246)), (0.5, (190, 232, 252)), (1, (190, 232, 252)))
    side = rng.choice((0.16, 0.84))
    canvas.fill(ellipse(side, 0.15 + rng.uniform(-0.02, 0.02), 0.09, 0.09), (255, 222, 84))
    _ground(canvas, 0.50, (38, 130, 200))
    _ground(canvas, 0.60, (64, 174, 214), 0.008, rng.uniform(0, 6))
    _ground(canvas, 0.72, (246, 218, 158), 0.015, rng.uniform(0, 6))
    return canvas.rgb


def _forest(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (58, 128, 74)), (1, (42, 104, 62)))
    for x in (0.30, 0.72):
        canvas.fill(box(x + rng.uniform(-0.03, 0.03), 0.5, 0.035, 0.6), (74, 74, 48))
    for x in (0.08, 0.92):
        x += rng.uniform(-0.02, 0.02)
        canvas.fill(box(x, 0.6, 0.065, 0.6), (92, 62, 40))
    for x, y, r in ((0.02, 0.10, 0.24), (0.34, 0.03, 0.20), (0.66, 0.03, 0.20), (0.98, 0.10, 0.24)):
        canvas.fill(ellipse(x + rng.uniform(-0.02, 0.02), y, r, r * 0.8), (34, 88, 48))
    _ground(canvas, 0.84, (76, 138, 60), 0.012, rng.uniform(0, 6))
    return canvas.rgb


def _city(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (150, 196, 236)), (1, (222, 232, 240)))
    for x, top in ((0.30, 0.20), (0.52, 0.10), (0.72, 0.24)):
        canvas.fill(box(x, top + 0.6 + rng.uniform(-0.03, 0.03), 0.10, 0.6), (150, 168, 196))
    for x in (0.10, 0.90):
        top = rng.uniform(0.08, 0.26)
        canvas.fill(box(x, top + 0.6, 0.125, 0.6), (84, 98, 132))
        for row in range(6):
            for dx in (-0.055, 0.055):
                canvas.fill(box(x + dx, top + 0.09 + row * 0.135, 0.030, 0.036), (255, 226, 128))
    return canvas.rgb


def _pine(canvas: Canvas, x: float, top: float, wide: float, tall: float, needles: Rgb, snow: Rgb | None) -> None:
    canvas.fill(box(x, top + tall * 1.05, wide * 0.14, tall * 0.12), (108, 74, 52))
    for tier in range(3):
        y, half = top + tier * tall * 0.27, wide * (0.55 + 0.225 * tier)
        canvas.fill([(x, y), (x + half, y + tall * 0.46), (x - half, y + tall * 0.46)], needles)
        if snow is not None:
            canvas.fill([(x, y), (x + half * 0.42, y + tall * 0.19), (x - half * 0.42, y + tall * 0.19)], snow)


def _snow(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (176, 208, 234)), (0.7, (226, 238, 248)), (1, (226, 238, 248)))
    _ground(canvas, 0.70, (246, 250, 254), 0.025, rng.uniform(0, 6))
    for x in (0.11, 0.89):
        _pine(
            canvas,
            x + rng.uniform(-0.02, 0.02),
            0.22 + rng.uniform(-0.04, 0.04),
            0.13,
            0.50,
            (64, 120, 104),
            (248, 252, 255),
        )
    for x, y in (
        (0.06, 0.10),
        (0.27, 0.06),
        (0.24, 0.30),
        (0.74, 0.07),
        (0.93, 0.12),
        (0.77, 0.32),
        (0.05, 0.76),
        (0.95, 0.78),
    ):
        canvas.fill(ellipse(x + rng.uniform(-0.02, 0.02), y, 0.020, 0.020, count=14), (255, 255, 255))
    return canvas.rgb


def _mountains(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (112, 182, 236)), (0.6, (214, 234, 246)), (1, (214, 234, 246)))
    for x, top, half in ((0.16, 0.18, 0.36), (0.86, 0.12, 0.38)):
        x, top = x + rng.uniform(-0.03, 0.03), top + rng.uniform(-0.03, 0.03)
        low = 0.80
        canvas.fill([(x, top), (x + half, low), (x - half, low)], (108, 118, 156))
        canvas.fill([(x, top), (x + half, low), (x + half * 0.25, low)], (88, 96, 136))
        cut = 0.26
        snow = [(x, top), (x + half * cut, top + (low - top) * cut), (x + 0.02, top + 0.11), (x - 0.03, top + 0.155)]
        canvas.fill([*snow, (x - half * cut, top + (low - top) * cut)], (250, 252, 255))
    _ground(canvas, 0.72, (104, 166, 92), 0.02, rng.uniform(0, 6))
    return canvas.rgb


def _star(canvas: Canvas, x: float, y: float, radius: float, colour: Rgb) -> None:
    angle = np.arange(8) * np.pi / 4
    reach = np.where(np.arange(8) % 2 == 0, radius, radius * 0.34)
    canvas.fill(np.stack((x + reach * np.sin(angle), y - reach * np.cos(angle)), axis=1), colour)


_SKY_PLACES = (
    (0.07, 0.30),
    (0.22, 0.08),
    (0.20, 0.46),
    (0.08, 0.60),
    (0.77, 0.10),
    (0.93, 0.34),
    (0.80, 0.48),
    (0.93, 0.64),
)


def _night_sky(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (22, 28, 78)), (1, (52, 62, 132)))
    side = rng.choice((-1, 1))
    moon = ellipse(0.5 - side * 0.36, 0.15, 0.095, 0.095)
    canvas.fill(moon, (255, 238, 160))
    canvas.fill(moved(moon, side * 0.045, -0.02), (25, 31, 84), clip=moon)
    for x, y in _SKY_PLACES:
        if abs(x - (0.5 - side * 0.36)) > 0.16 or y > 0.28:
            _star(canvas, x + rng.uniform(-0.015, 0.015), y, 0.032, (255, 250, 214))
    _ground(canvas, 0.84, (20, 24, 56), 0.03, rng.uniform(0, 6))
    return canvas.rgb


def _space(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (34, 16, 62)), (1, (66, 22, 96)))
    x, side = rng.uniform(0.13, 0.16), rng.choice((-1, 1))
    place = x if side < 0 else 1 - x
    canvas.fill(ellipse(place, 0.20, 0.115, 0.115), (240, 146, 92))
    canvas.fill(ribbon(curve([(place - 0.11, 0.19), (place, 0.215), (place + 0.11, 0.19)]), 0.018), (252, 190, 130))
    canvas.fill(
        ribbon(curve([(place - 0.20, 0.27), (place, 0.235), (place + 0.20, 0.13)]), (0.004, 0.016, 0.004)),
        (255, 232, 200),
    )
    canvas.fill(ellipse(1 - place, 0.62, 0.075, 0.075), (74, 200, 204))
    canvas.fill(ellipse(1 - place + 0.02, 0.60, 0.028, 0.022), (140, 232, 230))
    for x, y in _SKY_PLACES:
        if abs(x - place) > 0.2 or y > 0.4:
            canvas.fill(ellipse(x + rng.uniform(-0.015, 0.015), y, 0.011, 0.011, count=10), (255, 255, 255))
    return canvas.rgb


def _sunset(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (110, 62, 142)), (0.35, (236, 106, 108)), (0.66, (255, 186, 96)), (1, (255, 186, 96)))
    x = rng.choice((0.17, 0.83)) + rng.uniform(-0.02, 0.02)
    canvas.fill(ellipse(x, 0.62, 0.13, 0.13), (255, 236, 150))
    _ground(canvas, 0.66, (134, 62, 112), 0.02, rng.uniform(0, 6))
    _ground(canvas, 0.80, (84, 38, 84), 0.02, rng.uniform(0, 6))
    return canvas.rgb


def _office(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (232, 226, 214)), (1, (218, 210, 198)))
    side = rng.choice((-1, 1))

    def at(x: float) -> float:
        return x if side < 0 else 1 - x

    canvas.fill(box(at(0.16), 0.30, 0.145, 0.22), (250, 250, 250))
    canvas.fill(box(at(0.16), 0.30, 0.122, 0.197), (150, 206, 240))
    for row in range(5):
        canvas.fill(box(at(0.16), 0.145 + row * 0.078, 0.122, 0.014), (250, 250, 250))
    canvas.fill(box(at(0.88), 0.52, 0.13, 0.12, 0.02), (56, 58, 70))
    canvas.fill(box(at(0.88), 0.52, 0.108, 0.098), (88, 168, 226))
    canvas.fill(box(at(0.88), 0.67, 0.025, 0.05), (56, 58, 70))
    canvas.fill(box(at(0.86), 0.17, 0.085, 0.085, 0.01), (250, 216, 96))
    canvas.fill(box(0.5, 0.90, 0.6, 0.18), (164, 116, 78))
    return canvas.rgb


def _library(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (72, 44, 32)), (1, (60, 36, 28)))
    spines = ((190, 64, 56), (58, 104, 150), (76, 136, 92), (220, 170, 74), (136, 84, 120), (226, 206, 168))
    for shelf in range(4):
        low = 0.235 + shelf * 0.25
        x, last = -0.01, -1
        while x < 1.0:
            wide = 0.066
            place = rng.randrange(len(spines))
            if place == last:
                place = (place + 1) % len(spines)
            last = place
            tall = rng.uniform(0.155, 0.195)
            canvas.fill(box(x + wide / 2, low - tall / 2, wide / 2 - 0.004, tall / 2), spines[place])
            x += wide
        canvas.fill(box(0.5, low + 0.012, 0.55, 0.016), (150, 102, 64))
    return canvas.rgb


def _garden(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (150, 214, 248)), (0.5, (206, 238, 250)), (1, (206, 238, 250)))
    _ground(canvas, 0.36, (96, 176, 88), 0.03, rng.uniform(0, 6))
    _ground(canvas, 0.62, (120, 196, 96), 0.015, rng.uniform(0, 6))
    petals = ((244, 72, 96), (255, 255, 255), (255, 206, 70), (236, 124, 206), (150, 96, 220))
    places = ((0.07, 0.50), (0.20, 0.64), (0.06, 0.78), (0.93, 0.48), (0.80, 0.66), (0.94, 0.76))
    shift = rng.randrange(len(petals))
    for place, (x, y) in enumerate(places):
        x, y = x + rng.uniform(-0.02, 0.02), y + rng.uniform(-0.02, 0.02)
        colour = petals[(place + shift) % len(petals)]
        canvas.fill(box(x, y + 0.07, 0.009, 0.07), (56, 128, 62))
        for turn in range(5):
            angle = turn * 2 * np.pi / 5
            canvas.fill(ellipse(x + 0.030 * np.cos(angle), y + 0.030 * np.sin(angle), 0.027, 0.027, count=14), colour)
        canvas.fill(ellipse(x, y, 0.020, 0.020, count=14), (255, 176, 40) if colour != petals[2] else (140, 84, 40))
    return canvas.rgb


def _brick_wall(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (216, 196, 182)), (1, (216, 196, 182)))
    rows, wide, shift = 7, 0.29, rng.uniform(0, 0.29)
    tall = 1 / rows
    for row in range(rows):
        x = -wide - shift + (row % 2) * wide / 2
        place = row
        while x < 1:
            tone = ((186, 86, 66), (172, 76, 60), (198, 98, 74))[(place * 7 + row * 3) % 3]
            canvas.fill(box(x + wide / 2, (row + 0.5) * tall, wide / 2 - 0.010, tall / 2 - 0.010), tone)
            x += wide
            place += 1
    return canvas.rgb


def _desert(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (118, 196, 240)), (0.5, (252, 236, 196)), (1, (252, 236, 196)))
    _ground(canvas, 0.52, (236, 178, 110), 0.05, rng.uniform(0, 6))
    green = (70, 150, 88)
    for side in (-1, 1):
        x, top = 0.5 + side * (0.385 + rng.uniform(-0.015, 0.015)), rng.uniform(0.30, 0.40)
        canvas.fill(box(x, top + 0.24, 0.036, 0.26, 0.036), green)
        for arm, dy in ((-1, 0.12), (1, 0.19)):
            path = curve([(x, top + dy + 0.09), (x + arm * 0.075, top + dy + 0.08), (x + arm * 0.085, top + dy - 0.02)])
            canvas.line(path, green, 0.044)
    _ground(canvas, 0.70, (246, 200, 126), 0.03, rng.uniform(0, 6))
    return canvas.rgb


def _underwater(size_px: int, rng: random.Random) -> Picture:
    canvas = _canvas(size_px, (0, (84, 206, 222)), (0.6, (26, 122, 186)), (1, (20, 72, 140)))
    for x, side, y in ((0.12, 1, 0.34), (0.88, -1, 0.54)):
        y += rng.uniform(-0.08, 0.08)
        colour = rng.choice(((255, 150, 54), (255, 214, 80), (250, 110, 120)))
        canvas.fill(
            [(x - side * 0.05, y), (x - side * 0.115, y - 0.05), (x - side * 0.115, y + 0.05)], darker(colour, 0.12)
        )
        canvas.fill(ellipse(x, y, 0.078, 0.05), colour)
        canvas.fill(ellipse(x + side * 0.04, y - 0.01, 0.012, 0.012, count=12), (30, 30, 50))
    for x, y, r in (
        (0.24, 0.12, 0.03),
        (0.08, 0.12, 0.02),
        (0.78, 0.16, 0.035),
        (0.92, 0.10, 0.02),
        (0.90, 0.30, 0.022),
    ):
        x += rng.uniform(-0.02, 0.02)
        canvas.fill(ellipse(x, y, r, r, count=20), (186, 240, 248))
        canvas.fill(ellipse(x, y, r * 0.62, r * 0.62, count=20), (96, 200, 222))
    for x in (0.05, 0.14, 0.87, 0.96):
        sway = rng.uniform(-0.02, 0.02)
        path = curve([(x, 1.02), (x + 0.02 + sway, 0.90), (x - 0.02 + sway, 0.80), (x + sway, 0.70)])
        canvas.fill(ribbon(path, (0.022, 0.022, 0.018, 0.004)), (40, 150, 110))
    return canvas.rgb


_PAINTERS: dict[str, Callable[[int, random.Random], Picture]] = {
    "plain white": _plain((248, 248, 248)),
    "plain grey": _plain((150, 152, 158)),
    "plain blue": _plain((86, 140, 236)),
    "plain pink": _plain((250, 178, 206)),
    "plain yellow": _plain((253, 222, 82)),
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


def draw_background(name: str, size_px: int, jitter: int) -> Picture:
    """Paint one of ``words.BACKGROUNDS``.

    Args:
        name: which.
        size_px: side of the square picture, pixels.
        jitter: seeds where its details lie.

    Returns:
        The picture, ``(size_px, size_px, 3)`` uint8.
    """
    return _PAINTERS[name](size_px, random.Random(jitter))
