"""Which of a shot's pictures are kept: the most alike first, one that was there before last.

Called by ``studio.infer``, which makes more pictures than were asked for and keeps the best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from studio.imaging.quality import Fingerprint, fingerprint

_BITS = 4
_LEVELS = 0.04
"""Far closer than the photo check's limits: two seeds of one prompt often share pose and background."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is kept of a few pictures."""

    kept: tuple[int, ...]
    """Positions, best first."""
    duplicate_of: Mapping[int, int]
    """Position of a near-duplicate -> position of the better picture that it repeats."""


def choose(scores: Sequence[float | None], prints: Sequence[Fingerprint], keep: int) -> Selection:
    """Choose among pictures of one prompt.

    Args:
        scores: likeness of each; None where it was not measured, which comes last.
        prints: of the same pictures.
        keep: how many to keep, at least 1. Near-duplicates are kept only where there are not enough others.
    """
    order = sorted(range(len(scores)), key=lambda place: (scores[place] is None, -(scores[place] or 0.0), place))
    distinct: list[int] = []
    duplicate_of: dict[int, int] = {}
    for place in order:
        twin = next((other for other in distinct if repeats(prints[place], prints[other])), None)
        if twin is None:
            distinct.append(place)
        else:
            duplicate_of[place] = twin
    queue = [*distinct, *(place for place in order if place in duplicate_of)]
    kept = set(queue[:keep])
    return Selection(tuple(place for place in order if place in kept), duplicate_of)


def repeats(a: Fingerprint, b: Fingerprint) -> bool:
    """Return whether two generated pictures look the same to a viewer."""
    return int((a.bits != b.bits).sum()) <= _BITS and float(np.abs(a.cells - b.cells).mean()) <= _LEVELS


def prints_of(pictures: Sequence[Image.Image]) -> list[Fingerprint]:
    """Return what ``choose`` compares, for RGB pictures of any size."""
    return [fingerprint(picture) for picture in pictures]
