"""What can be said of a photo's pixels alone: is it sharp, well exposed, the same as another one?

Every measure works on a small normalised copy, so that it means the same for 300 and 6000 pixels. The thresholds were
set on real photos (all must pass), their blurred copies (must fail) and the drawn portraits of the pocket base.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHARPNESS_PX = 512
"""Longer side at which sharpness is judged; smaller photos are not enlarged."""


def _shrunk(picture: Image.Image, longest_px: int) -> Image.Image:
    scale = longest_px / max(picture.size)
    if scale >= 1:
        return picture
    return picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))), Image.Resampling.BOX
    )


def sharpness(picture: Image.Image) -> float:
    """Return how much detail a picture loses when it is blurred once more: about 0 (blurred) to 1 (sharp).

    Unlike the variance of the Laplacian this does not fall for flat but sharp drawings and quiet backgrounds, because
    it compares edges with themselves.

    Args:
        picture: RGB, any size.

    Source: Crete et al. 2007, "The blur effect", eqs. 1-4, returned as 1 - blur.
    """
    import cv2

    grey = np.asarray(_shrunk(picture, SHARPNESS_PX).convert("L")).astype(np.float32)
    scores = []
    for axis, kernel in ((0, (1, 9)), (1, (9, 1))):
        edges = np.abs(np.diff(grey, axis=axis))
        softened = np.abs(np.diff(cv2.blur(grey, kernel), axis=axis))
        total = float(edges.sum())
        scores.append(float(np.maximum(edges - softened, 0).sum()) / total if total else 0.0)
    return min(scores)


@dataclass(frozen=True, slots=True)
class Exposure:
    """How light is spread over a picture; levels in [0, 255]."""

    dark: float
    """The level that 95 % of the pixels stay below: low means that even the bright parts are dark."""
    bright: float
    """The level that 95 % of the pixels stay above: high means that even the dark parts are bright."""
    clipped_dark: float
    """Share of pixels at the bottom (below 4), 0 to 1."""
    clipped_bright: float
    """Share of pixels at the top (above 251), 0 to 1."""


def exposure(picture: Image.Image) -> Exposure:
    """Measure the exposure of an RGB picture of any size."""
    grey = np.asarray(_shrunk(picture, 256).convert("L"))
    low, high = np.percentile(grey, (5, 95))
    return Exposure(float(high), float(low), float((grey < 4).mean()), float((grey > 251).mean()))


_BAR_LEVEL, _PICTURE_LEVEL, _BAR_SHARE = 16.0, 28.0, 0.02
"""A bar's 99th percentile is at most the first, that of the picture beside it at least the second (levels of 255).
A bar takes at least this share of the side."""


def black_bars(picture: Image.Image) -> tuple[float, float, float, float] | None:
    """Find the black bars of a film still or a screenshot: on two opposite sides, about equally wide.

    Returns:
        What lies between them: top, left, height, width as shares of the picture; None if there are none.
    """
    grey = np.asarray(_shrunk(picture, 512).convert("L")).astype(np.float32)
    first_y, last_y = _between_bars(np.percentile(grey, 99, axis=1))
    first_x, last_x = _between_bars(np.percentile(grey[first_y:last_y], 99, axis=0))
    height, width = grey.shape
    if (first_y, last_y, first_x, last_x) == (0, height, 0, width):
        return None
    return first_y / height, first_x / width, (last_y - first_y) / height, (last_x - first_x) / width


def _between_bars(levels: NDArray[np.float32]) -> tuple[int, int]:
    """Return the first line between two bars and the one after the last, of the brightness of each line."""
    count, bright = len(levels), np.flatnonzero(levels > _BAR_LEVEL)
    if not len(bright):
        return 0, count
    before, after = int(bright[0]), count - 1 - int(bright[-1])
    # A line or two beside the bar are mixed with it.
    inner = levels[min(before + 2, count - 1)], levels[max(count - after - 3, 0)]
    equal = abs(before - after) <= max(2.0, 0.25 * max(before, after))
    if min(before, after) < _BAR_SHARE * count or not equal or min(inner) < _PICTURE_LEVEL:
        return 0, count
    return min(before + 1, count), max(count - after - 1, 0)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is compared to find the same shot twice."""

    bits: NDArray[np.bool_]
    """Difference hash, ``(64,)``."""
    mirrored_bits: NDArray[np.bool_]
    """The hash of the mirrored picture."""
    cells: NDArray[np.float32]
    """Thumbnail, ``(16, 16, 3)`` in [0, 1]."""


def fingerprint(picture: Image.Image) -> Fingerprint:
    """Return what identifies an RGB picture of any size."""
    return Fingerprint(dhash(picture), dhash(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)), thumbnail(picture))


def dhash(picture: Image.Image) -> NDArray[np.bool_]:
    """Return the difference hash: 64 times "is this cell brighter than its left neighbour?".

    The few lines are our own because the package that has them brings scipy and PyWavelets along for other hashes.

    Source: N. Krawetz 2013, "Kind of Like That" (dHash).
    """
    cells = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX)).astype(np.int16)
    return (cells[:, 1:] > cells[:, :-1]).ravel()


def near_duplicates(a: Fingerprint, b: Fingerprint) -> bool:
    """Return whether two photos are the same shot: re-saved, resized, slightly cropped or brightened, or mirrored."""
    return any(
        int((a.bits != bits).sum()) <= 12 and float(np.abs(a.cells - cells).mean()) <= 0.08
        for bits, cells in ((b.bits, b.cells), (b.mirrored_bits, b.cells[:, ::-1]))
    )


def thumbnail(picture: Image.Image) -> NDArray[np.float32]:
    """Return the picture squeezed to ``(16, 16, 3)`` float32 in [0, 1]."""
    cells = picture.convert("RGB").resize((16, 16), Image.Resampling.BOX)
    return np.divide(np.asarray(cells), 255, dtype=np.float32)


def structure(picture: Image.Image) -> NDArray[np.float32]:
    """Describe shapes and their places in the middle of a picture, blind to colour: a unit vector ``(192,)``.

    Edge directions in 6 x 4 cells, eight directions each; the cosine of two says how alike two compositions are.
    """
    grey = np.asarray(picture.convert("L").resize((64, 64), Image.Resampling.BOX)).astype(np.float32)
    gradient_y, gradient_x = np.gradient(grey)
    strength = np.hypot(gradient_y, gradient_x)
    direction = np.arctan2(gradient_y, gradient_x) % np.pi / np.pi * 8  # [0, 8)
    cells = np.empty((8, 8, 8), np.float32)
    for index in range(8):
        distance = np.abs(direction - index)
        weight = strength * np.maximum(0, 1 - np.minimum(distance, 8 - distance))
        cells[..., index] = weight.reshape(8, 8, 8, 8).sum((1, 3))
    cells /= np.linalg.norm(cells, axis=-1, keepdims=True) + 20  # quiet cells stay quiet instead of becoming noise
    middle = cells[1:7, 2:6].ravel()
    return np.asarray(middle / max(1e-9, float(np.linalg.norm(middle))), dtype=np.float32)


_BORDER = np.zeros((16, 16), bool)
_BORDER[:9, :3] = _BORDER[:9, -3:] = _BORDER[:2] = True
"""Cells of a thumbnail that show background in most portraits: the top and the upper sides."""


_SAME_BACKGROUND = 0.085
"""Difference of two borders, in [0, 1], below which they show one background."""


def same_background(pictures: Sequence[Image.Image]) -> bool:
    """Return whether most pairs of at least four photos have the same background, judged by the borders' colours."""
    return len(pictures) >= 4 and float(np.median(list(_border_differences(pictures).values()))) < _SAME_BACKGROUND


def backgrounds(pictures: Sequence[Image.Image]) -> int:
    """Return how many different backgrounds photos have; those that are the same as a third one are the same."""
    group = list(range(len(pictures)))
    for (one, other), difference in _border_differences(pictures).items():
        if difference < _SAME_BACKGROUND:
            group = [group[one] if number == group[other] else number for number in group]
    return len(set(group))


def _border_differences(pictures: Sequence[Image.Image]) -> dict[tuple[int, int], float]:
    """Return how different the borders of each pair are.

    Of each pair only the least different third of the cells counts, because hair and hats reach into the border.
    """
    borders = [thumbnail(picture)[_BORDER] for picture in pictures]
    return {
        (i, j): float(np.percentile(np.abs(borders[i] - borders[j]).mean(axis=-1), 30))
        for i, j in combinations(range(len(borders)), 2)
    }


def same_composition(pictures: Sequence[Image.Image]) -> bool:
    """Return whether most pairs of at least four photos show the same shapes in the same places."""
    described = [structure(picture) for picture in pictures]
    cosines = [float(a @ b) for a, b in combinations(described, 2)]
    return len(pictures) >= 4 and float(np.median(cosines)) > 0.88


def drawnness(picture: Image.Image) -> float | None:
    """Return how much a picture looks drawn: the share of smooth pixels plus how few pixels hold all the edges.

    Flat colours between crisp lines give 1.4 to 1.8 for most of the renderer's portraits (photo style, from 256 px on);
    photographs, textured nearly everywhere, give 0.4 to 1.2, with one in eight above 1.3: ask for several pictures.

    Returns:
        In [0, 2]; None for pictures below 200 px, in which a drawing's lines are no longer crisp.
    """
    import cv2

    if max(picture.size) < 200:
        return None
    grey = np.asarray(_shrunk(picture, 384).convert("L")).astype(np.float32)
    edges = np.abs(cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1), cv2.CV_32F)).ravel()
    energy = np.square(edges)
    strongest = np.partition(energy, -max(1, len(energy) // 20))[-max(1, len(energy) // 20) :]
    return float((edges < 0.75).mean() + strongest.sum() / max(1e-9, float(energy.sum())))
