"""Light and style: what is done to the whole picture once everything is drawn.

Each filter takes and returns ``(H, W, 3)`` float32 in [0, 1]. Lengths are shares of the frame, so that every size shows
the same picture, and every style leaves the features of a face readable at 128 pixels.
"""

import random
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating[Any]]


def _rgb(red: float, green: float, blue: float) -> Array:
    return np.array((red, green, blue), dtype=np.float32)


def _axis(size_px: int) -> Array:
    """Centres of the pixels from -1 to 1."""
    return ((np.arange(size_px, dtype=np.float32) + 0.5) * (2 / size_px) - 1).astype(np.float32)


def _blurred(picture: Array, sigma: float) -> Array:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(0.3, sigma * picture.shape[0])), np.float32)


def _luminance(rgb: Array) -> Array:
    return rgb @ _rgb(0.30, 0.59, 0.11)


def _saturated(rgb: Array, amount: float) -> Array:
    grey = _luminance(rgb)[:, :, None]
    return grey + (rgb - grey) * amount


def _outlines(rgb: Array) -> Array:
    """Lines along edges, ``(H, W)`` in [0, 1]."""
    soft = _blurred(rgb, 0.006)
    steps = 0.006 * rgb.shape[0]  # the slope is measured over a share of the frame, whatever the size
    across, down = cv2.Sobel(soft, -1, 1, 0, scale=steps / 8), cv2.Sobel(soft, -1, 0, 1, scale=steps / 8)
    slope = np.sqrt(np.max(across * across + down * down, axis=2))
    return np.clip(slope * 9 - 0.55, 0, 1)


def lit(rgb: Array, light: str) -> Array:
    """Lay one of ``words.LIGHTS`` over a picture."""
    if light == "warm":
        return rgb * _rgb(1.10, 0.96, 0.72) + _rgb(0.04, 0.015, 0.0)
    if light == "cold":
        return rgb * _rgb(0.80, 0.91, 1.08) + _rgb(0.0, 0.01, 0.06)
    if light == "dim":
        return rgb * 0.62
    if light in ("left", "right"):
        toward = -1.0 if light == "left" else 1.0
        return rgb * (0.88 + 0.24 * np.tanh(_axis(rgb.shape[1]) * (toward * 1.6)))[None, :, None]
    return rgb


def _photo(rgb: Array, rng: random.Random) -> Array:
    return rgb


def _pencil_sketch(rgb: Array, rng: random.Random) -> Array:
    grey = np.clip(_luminance(rgb), 0, 1)
    axis = _axis(grey.shape[0])
    lines = np.clip((grey + 0.06) / (_blurred(grey, 0.016) + 0.06), 0, 1) ** 2.4
    tone = 0.55 + 0.45 * grey**0.8
    hatch = np.sin((axis[None, :] + axis[:, None]) * 34) * 0.03 * np.clip(0.8 - grey, 0, 1)
    return (lines * tone + hatch)[:, :, None] * _rgb(1.0, 0.99, 0.955)


def _black_and_white(rgb: Array, rng: random.Random) -> Array:
    grey = np.clip(_luminance(rgb), 0, 1)
    return np.repeat((grey * grey * (3 - 2 * grey) * 0.6 + grey * 0.4)[:, :, None], 3, axis=2)


def _sepia(rgb: Array, rng: random.Random) -> Array:
    grey = np.clip(_luminance(rgb), 0, 1)[:, :, None]
    grey = 0.25 * grey * (2 - grey) + 0.75 * grey * grey * (3 - 2 * grey)
    return _rgb(0.20, 0.11, 0.05) + grey * _rgb(0.80, 0.80, 0.70)


_POP_ART = (
    ((0.16, 0.03, 0.36), (0.88, 0.12, 0.52), (1.0, 0.56, 0.16), (1.0, 0.90, 0.25), (0.80, 0.98, 0.95)),
    ((0.02, 0.10, 0.40), (0.05, 0.48, 0.82), (0.96, 0.36, 0.42), (1.0, 0.80, 0.22), (1.0, 0.98, 0.86)),
    ((0.10, 0.02, 0.22), (0.50, 0.14, 0.72), (0.14, 0.70, 0.50), (0.98, 0.66, 0.80), (1.0, 0.96, 0.56)),
)


def _pop_art(rgb: Array, rng: random.Random) -> Array:
    palette = np.array(rng.choice(_POP_ART), dtype=np.float32)
    grey = np.clip(_luminance(_blurred(rgb, 0.002)), 0, 1)
    place = np.clip(grey * 1.1 - 0.03, 0, 0.999) * len(palette)
    level = np.clip(place.astype(np.int64), 0, len(palette) - 1)
    # A narrow soft step between two colours keeps edges clean when the picture is small.
    share = np.clip((place - level - 0.80) * 5, 0, 1)[:, :, None]
    flat = palette[level] * (1 - share) + palette[np.minimum(level + 1, len(palette) - 1)] * share
    # Lines of the darkest colour keep a face apart from a background of its own brightness.
    lines = 0.8 * _outlines(np.clip(rgb, 0, 1).astype(np.float32))[:, :, None]
    return flat + (palette[0] - flat) * lines


def _pixel_art(rgb: Array, rng: random.Random) -> Array:
    size_px, cells = rgb.shape[0], 64
    vivid = np.clip(_saturated(rgb, 1.25), 0, 1).astype(np.float32)
    if size_px <= cells:
        return np.round(vivid * 9) * (1 / 9)
    small = np.round(cv2.resize(vivid, (cells, cells), interpolation=cv2.INTER_AREA) * 9) * np.float32(1 / 9)
    return np.asarray(cv2.resize(small, (size_px, size_px), interpolation=cv2.INTER_NEAREST), np.float32)


def _oil_painting(rgb: Array, rng: random.Random) -> Array:
    size_px = rgb.shape[0]
    axis = _axis(size_px)
    x, y = axis[None, :], axis[:, None]
    flow = np.sin(x * 4 + rng.uniform(0, 6) + 1.5 * np.sin(y * 3 + rng.uniform(0, 6)))
    stroke = np.sin(x * 34 + y * 24 + flow * 2.5).astype(np.float32)
    across = np.arange(size_px, dtype=np.float32)
    move = np.float32(0.003 * size_px)
    grid_x = across[None, :] + np.roll(stroke, size_px // 8, 0) * move
    grid_y = across[:, None] + stroke * move
    daubed = cv2.remap(_blurred(rgb, 0.003), grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return (
        np.clip(_saturated(np.asarray(daubed, np.float32), 1.25), 0, 1)
        * (1 + 0.03 * stroke)[:, :, None]
        * _rgb(1.02, 0.97, 0.90)
    )


def _watercolour(rgb: Array, rng: random.Random) -> Array:
    axis = _axis(rgb.shape[0])
    x, y = axis[None, :], axis[:, None]
    wet = _blurred(np.clip(rgb, 0, 1), 0.004)
    grey = _luminance(wet)
    edge = np.clip((_blurred(grey, 0.014) - grey) * 1.2, 0, 0.25)
    grain = 0.035 * np.sin(x * 7 + rng.uniform(0, 6) + 2 * np.sin(y * 6)) * np.sin(y * 7 + 2 * np.sin(x * 5))
    wash = np.clip(0.27 + 0.75 * _saturated(wet, 1.15) + (grain - edge)[:, :, None], 0, 1)
    rim = 0.93 + 0.03 * np.sin(x * 9) * np.cos(y * 8) - np.maximum(np.abs(x), np.abs(y))
    return 0.985 + (wash - 0.985) * np.clip(rim * 14, 0, 1)[:, :, None]


def _comic(rgb: Array, rng: random.Random) -> Array:
    vivid = np.clip(_saturated(rgb, 1.35) * 1.06, 0, 1).astype(np.float32)
    return vivid * (1 - 0.80 * _outlines(vivid))[:, :, None]


_FILTERS: dict[str, Callable[[Array, random.Random], Array]] = {
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


def styled(rgb: Array, style: str, jitter: int) -> Array:
    """Redraw a picture in one of ``words.STYLES``.

    Args:
        rgb: ``(H, W, 3)`` float32 in [0, 1].
        style: which.
        jitter: seeds what varies within the style.

    Returns:
        The picture, same shape; values may lie a little outside [0, 1].
    """
    return _FILTERS[style](rgb, random.Random(jitter + 1))
