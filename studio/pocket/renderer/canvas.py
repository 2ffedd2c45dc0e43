"""Where shapes become pixels: an 8-bit picture, a frame that maps head units to it, and colours.

A :class:`Canvas` is drawn larger than the picture that is asked for and reduced once at the end, so that every size
shows the same picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from studio.pocket.renderer.shapes import Point, Points, points, ribbon

Rgb = tuple[float, float, float]
"""Red, green and blue in [0, 255]."""
Picture = npt.NDArray[np.uint8]

_SHIFT = 4  # fillPoly takes coordinates in 1/16 pixel


def mix(a: Rgb, b: Rgb, share: float) -> Rgb:
    """Blend two colours; a ``share`` of 0 gives ``a`` and 1 gives ``b``."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def darker(colour: Rgb, share: float) -> Rgb:
    """Blend a colour with a warm black."""
    return mix(colour, (40, 16, 30), share)


def lighter(colour: Rgb, share: float) -> Rgb:
    """Blend a colour with white."""
    return mix(colour, (255, 252, 245), share)


def luminance(colour: Rgb) -> float:
    """Brightness of a colour in [0, 255]."""
    return 0.30 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


@dataclass(frozen=True, slots=True)
class Frame:
    """How head units lie in the picture.

    The origin is between the eyes, y points down, and one unit is half of an average face's height. ``turn`` moves
    what lies near the middle of the face sideways and leaves its rim in place, as a small turn of the head does.
    """

    cx: float  # pixels
    cy: float
    unit: float  # pixels
    roll: float  # radians, clockwise
    turn: float  # units, at the middle of the face

    def map(self, shape: Sequence[Point] | Points) -> Points:
        """Return the points in pixels."""
        p = points(shape)
        x, y = p[:, 0], p[:, 1]
        if self.turn:
            x = x + self.turn * np.clip(1 - x * x, 0, 1)
        c, s = math.cos(self.roll) * self.unit, math.sin(self.roll) * self.unit
        return np.stack((self.cx + c * x - s * y, self.cy + s * x + c * y), axis=1)


class Canvas:
    """A picture in the making.

    Attributes:
        rgb: ``(S, S, 3)`` uint8, changed in place by every call.
        frame: maps the shapes of the calls to pixels.
    """

    def __init__(self, rgb: Picture, frame: Frame) -> None:
        self.rgb, self.frame = rgb, frame

    def within(self, frame: Frame) -> "Canvas":
        """Return a canvas on the same pixels with another frame."""
        return Canvas(self.rgb, frame)

    def fill(
        self,
        shape: Sequence[Point] | Points,
        colour: Rgb,
        opacity: float = 1.0,
        clip: Sequence[Point] | Points | None = None,
    ) -> None:
        """Fill a closed outline.

        Args:
            shape: the outline, in units of the frame.
            colour: RGB in [0, 255].
            opacity: 0 to 1.
            clip: an outline outside of which nothing is painted.
        """
        corners = np.round(self.frame.map(shape) * 2**_SHIFT).astype(np.int32)
        if opacity == 1.0 and clip is None:
            cv2.fillPoly(self.rgb, [corners], _bytes(colour), cv2.LINE_AA, _SHIFT)
            return
        size = self.rgb.shape[0]
        low = np.clip((corners.min(axis=0) >> _SHIFT) - 2, 0, size)
        high = np.clip((corners.max(axis=0) >> _SHIFT) + 3, 0, size)
        if (high <= low).any():
            return
        cover = _coverage(corners, low, high)
        if clip is not None:
            limit = np.round(self.frame.map(clip) * 2**_SHIFT).astype(np.int32)
            cover = np.asarray(cv2.multiply(cover, _coverage(limit, low, high), scale=1 / 255), np.uint8)
        region = self.rgb[low[1] : high[1], low[0] : high[0]]
        share = cover.astype(np.float32)[:, :, None] * np.float32(opacity / 255)
        region[:] = (region + share * (np.array(_bytes(colour), np.float32) - region) + 0.5).astype(np.uint8)

    def line(
        self, path: Sequence[Point] | Points, colour: Rgb, width: float, clip: Sequence[Point] | Points | None = None
    ) -> None:
        """Draw a line of constant width with round ends; ``width`` is the full thickness, in units."""
        if clip is not None:
            self.fill(ribbon(points(path), width / 2), colour, clip=clip)
            return
        corners = np.round(self.frame.map(path) * 2**_SHIFT).astype(np.int32)
        thickness = max(1, round(width * self.frame.unit))
        cv2.polylines(self.rgb, [corners], False, _bytes(colour), thickness, cv2.LINE_AA, _SHIFT)


def _coverage(corners: npt.NDArray[np.int32], low: npt.NDArray[np.int32], high: npt.NDArray[np.int32]) -> Picture:
    """How far each pixel of a region lies inside an outline, ``(h, w)``, 0 to 255."""
    cover = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(cover, [corners - (low << _SHIFT)], 255, cv2.LINE_AA, _SHIFT)
    return cover


def _bytes(colour: Rgb) -> tuple[int, int, int]:
    r, g, b = (min(255, max(0, round(value))) for value in colour)
    return r, g, b
