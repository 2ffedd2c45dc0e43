"""Outlines: smooth curves, ellipses, ribbons and polygons as arrays of points.

Every function returns ``(N, 2)`` float64 points, x then y, in the units of its arguments, y down.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.floating[Any]]
Point = tuple[float, float]


def points(corners: Sequence[Point] | Points) -> Points:
    """Return ``corners`` as an array."""
    return np.asarray(corners, dtype=np.float64)


def ellipse(cx: float, cy: float, rx: float, ry: float, tilt: float = 0.0, count: int = 32) -> Points:
    """Outline of an ellipse, turned clockwise by ``tilt`` radians."""
    angle = np.arange(count) * (2 * math.pi / count)
    x, y = rx * np.cos(angle), ry * np.sin(angle)
    c, s = math.cos(tilt), math.sin(tilt)
    return np.stack((cx + c * x - s * y, cy + s * x + c * y), axis=1)


def scallops(cx: float, cy: float, rx: float, ry: float, bumps: int, depth: float, turn: float = 0.0) -> Points:
    """Ellipse whose rim swells out into ``bumps`` round lobes, each ``depth`` of the radius high."""
    angle = np.arange(bumps * 8) * (2 * math.pi / (bumps * 8))
    grow = 1 + depth * np.abs(np.sin((angle + turn) * bumps / 2))
    return np.stack((cx + rx * grow * np.cos(angle), cy + ry * grow * np.sin(angle)), axis=1)


def box(cx: float, cy: float, hx: float, hy: float, radius: float = 0.0) -> Points:
    """Outline of a rectangle of half sides ``hx`` and ``hy`` with round corners."""
    if not radius:
        return points([(cx - hx, cy - hy), (cx + hx, cy - hy), (cx + hx, cy + hy), (cx - hx, cy + hy)])
    radius = min(radius, hx, hy)
    quarter = np.arange(6) * (math.pi / 10)
    parts = []
    for place, (sx, sy) in enumerate(((1, 1), (-1, 1), (-1, -1), (1, -1))):
        angle = quarter + place * math.pi / 2
        x, y = cx + sx * (hx - radius), cy + sy * (hy - radius)
        parts.append(np.stack((x + radius * np.cos(angle), y + radius * np.sin(angle)), axis=1))
    return np.concatenate(parts)


def _catmull_rom(padded: Points, per_piece: int) -> Points:
    """Points of the curve through ``padded[1:-1]``, ``per_piece`` for each piece and without the last one."""
    t = (np.arange(per_piece) / per_piece)[None, :, None]
    p0, p1, p2, p3 = (padded[start : len(padded) - 3 + start, None, :] for start in range(4))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return curve.reshape(-1, 2)


def smooth(corners: Sequence[Point] | Points, per_piece: int = 6) -> Points:
    """Smooth closed outline through ``corners`` (Catmull-Rom)."""
    p = points(corners)
    return _catmull_rom(np.concatenate((p[-1:], p, p[:2])), per_piece)


def curve(corners: Sequence[Point] | Points, per_piece: int = 6) -> Points:
    """Smooth open line through ``corners`` (Catmull-Rom)."""
    p = points(corners)
    padded = np.concatenate((2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]))
    return np.concatenate((_catmull_rom(padded, per_piece), p[-1:]))


def moved(shape: Points, x: float, y: float) -> Points:
    """The same outline somewhere else."""
    return np.asarray(shape + np.array((x, y)))


def joined(*lines: Points) -> Points:
    """One outline of lines laid end to end, with corners where they meet."""
    return np.concatenate(lines)


def mirrored(half: Sequence[Point] | Points) -> Points:
    """Outline from its right half: the half, then its reflection in x = 0 in reverse order."""
    p = points(half)
    return np.concatenate((p, (p * (-1, 1))[::-1]))


def ribbon(line: Points, width: float | Sequence[float] | Points) -> Points:
    """Outline of a line with thickness.

    Args:
        line: the middle line, ``(N, 2)``.
        width: half the thickness; one number, or one for each of evenly spaced places along the line.

    Returns:
        A closed outline with blunt ends.
    """
    step = np.gradient(line, axis=0)
    normal = np.stack((-step[:, 1], step[:, 0]), axis=1) / np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)[:, None]
    half = np.asarray(width, dtype=np.float64)
    if half.ndim:
        half = np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, len(half)), half)[:, None]
    return np.concatenate((line + normal * half, (line - normal * half)[::-1]))
