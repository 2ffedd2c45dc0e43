"""Enlarging a picture piece by piece: each tile sees some of its neighbours, and only its own part is kept.

No blending is needed: as long as the overlap covers what the network looks at, the pieces are what the whole would
have been. Memory is one output picture and one tile, whatever the size. Called by ``studio.upscaling``.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from math import ceil

import numpy as np
from numpy.typing import NDArray

Enlarge = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""``(H, W, 3)`` -> ``(H * scale, W * scale, 3)``, sRGB levels."""


def count_tiles(size_hw: tuple[int, int], tile_px: int) -> int:
    """Return how many tiles cover a picture."""
    return ceil(size_hw[0] / tile_px) * ceil(size_hw[1] / tile_px)


def enlarge_tiled(
    picture: NDArray[np.uint8],
    enlarge: Enlarge,
    *,
    scale: int,
    tile_px: int,
    overlap_px: int,
    on_tile: Callable[[], None] = lambda: None,
) -> NDArray[np.uint8]:
    """Enlarge a picture tile by tile.

    Args:
        picture: ``(H, W, 3)`` sRGB levels.
        enlarge: the network; it sees at most ``tile_px + 2 * overlap_px`` pixels a side.
        scale: its factor.
        tile_px: side of what one call decides, pixels of ``picture``, >= 1.
        overlap_px: how far each call also sees its neighbours, pixels of ``picture``.
        on_tile: called before each tile; whatever it raises ends the work.

    Returns:
        ``(H * scale, W * scale, 3)`` sRGB levels.
    """
    height, width, _ = picture.shape
    enlarged = np.empty((height * scale, width * scale, 3), np.uint8)
    for top, bottom in _spans(height, tile_px):
        for left, right in _spans(width, tile_px):
            on_tile()
            # At the picture's own edges there is no overlap, just as there is none for the whole picture.
            y0, x0 = max(0, top - overlap_px), max(0, left - overlap_px)
            y1, x1 = min(height, bottom + overlap_px), min(width, right + overlap_px)
            piece = enlarge(picture[y0:y1, x0:x1])
            enlarged[top * scale : bottom * scale, left * scale : right * scale] = piece[
                (top - y0) * scale : (bottom - y0) * scale, (left - x0) * scale : (right - x0) * scale
            ]
    return enlarged


def _spans(length: int, step: int) -> Iterator[tuple[int, int]]:
    """Yield pieces of equal length (to a pixel), none longer than ``step``: no thin last tile."""
    pieces = ceil(length / step)
    edges = [round(index * length / pieces) for index in range(pieces + 1)]
    yield from pairwise(edges)
