"""The likeness scale and the protocol that every engine implements.

0 = a random other subject of the same class, 1 = a held-out photo of the subject. An engine turns pictures
into embeddings and knows, per class noun, the two cosines that make the ends of the scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Embeddings = NDArray[np.float32]
"""``(N, D)`` float32, rows of unit length; a row of NaN where no subject was found."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The two ends of the calibrated scale, as cosines to a subject's centroid."""

    other: float
    """Mean cosine of another subject of the same class: likeness 0."""
    same: float
    """Mean cosine of a held-out photo of the subject: likeness 1."""


class LikenessEngine(Protocol):
    """What an engine has to say."""

    name: str

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Return one embedding per RGB picture, any size; NaN rows where no subject is found."""

    def scale(self, class_noun: str) -> Scale:
        """Return the calibration for a class noun (unknown nouns get the general one)."""


def centroid(embeddings: Embeddings) -> NDArray[np.float32]:
    """Return the normalised mean of the rows that are not NaN, ``(D,)``.

    Raises:
        ValueError: no row shows a subject.
    """
    found = embeddings[~np.isnan(embeddings).any(axis=1)]
    if not len(found):
        raise ValueError("no embedding shows a subject")
    mean = found.mean(axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def likeness(embeddings: Embeddings, reference: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Return the calibrated likeness of each row to ``reference``, ``(N,)``; a picture without subject scores 0.

    Values are not clipped: below 0 is less alike than a random other subject, above 1 more than a mean photo.
    """
    cosines = embeddings @ reference
    scores = (cosines - scale.other) / (scale.same - scale.other)
    return np.where(np.isnan(scores), 0.0, scores).astype(np.float32)


def photo_likeness(embeddings: Embeddings, scale: Scale) -> NDArray[np.float32]:
    """Return each photo's likeness to the centroid of the *other* photos, ``(N,)``; NaN where it has no subject."""
    scores = np.full(len(embeddings), np.nan, dtype=np.float32)
    found = np.asarray(~np.isnan(embeddings).any(axis=1))
    for index in np.flatnonzero(found):
        others = found.copy()
        others[index] = False
        if others.any():
            scores[index] = likeness(embeddings[index : index + 1], centroid(embeddings[others]), scale)[0]
    return scores
