"""The likeness scale and the protocol that every engine speaks.

0 = a random other subject of the same class, 1 = a held-out photo of the subject. An engine turns pictures into
embeddings and knows, per class noun, the two cosines that make the ends of the scale. A picture in which it finds no
subject is *not measured*: its row is NaN, its likeness NaN as an array and None as a score, never a number.

A score means something beside the name and the version of its engine only; ``summarise`` stores them with it, and
scores of two versions are never compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from studio.core.units import shown

Embeddings = NDArray[np.float32]
"""``(N, D)`` float32, rows of unit length; a row of NaN where no subject was found."""

Box = tuple[int, int, int, int]
"""Top, left, height, width in a picture, pixels."""

WORDS = ("not alike", "somewhat alike", "alike", "very alike")
"""What a likeness is called, from the lowest on; the borders between them belong to a scale."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The two ends of the calibrated scale, as cosines to a subject's centroid, and the borders of its words."""

    other: float
    """Mean cosine of another subject of the same class: likeness 0."""
    same: float
    """Mean cosine of a held-out photo of the subject: likeness 1."""
    borders: tuple[float, float, float] | None = None
    """Likeness from which on it is called somewhat alike, alike, very alike; None where nobody has measured them."""


class LikenessEngine(Protocol):
    """What an engine has to say."""

    name: str
    version: str
    """Of weights and scale; changes whenever scores would."""
    caveat: str
    """For whom its scores are known to be worse, one sentence; empty where nothing is known."""

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Return one embedding per RGB picture, any size; NaN rows where no subject is found."""

    def scale(self, class_noun: str) -> Scale:
        """Return the calibration for a class noun (unknown nouns get the general one)."""

    def face_box(self, picture: Image.Image) -> Box | None:
        """Return where the face is that ``embed`` reads; None where it reads none, and of an engine without faces."""


def centroid(embeddings: Embeddings) -> NDArray[np.float32]:
    """Return the normalised mean of the rows that are not NaN, ``(D,)``.

    Raises:
        ValueError: no row shows a subject.
    """
    found = embeddings[shows_subject(embeddings)]
    if not len(found):
        raise ValueError("no embedding shows a subject")
    mean = found.mean(axis=0)
    return (mean / np.linalg.norm(mean)).astype(np.float32)


def shows_subject(embeddings: Embeddings) -> NDArray[np.bool_]:
    """Say of each row whether its picture shows a subject, ``(N,)``."""
    return np.asarray(~np.isnan(embeddings).any(axis=1))


def likeness(embeddings: Embeddings, reference: NDArray[np.float32], scale: Scale) -> NDArray[np.float32]:
    """Return the calibrated likeness of each row to ``reference``, ``(N,)``; NaN for a picture without subject.

    Values are not clipped: below 0 is less alike than a random other subject, above 1 more than a mean photo.
    """
    cosines = embeddings @ reference
    return ((cosines - scale.other) / (scale.same - scale.other)).astype(np.float32)


def scores(embeddings: Embeddings, reference: NDArray[np.float32], scale: Scale) -> list[float | None]:
    """Return the calibrated likeness of each row to ``reference``, N numbers; None for a picture without subject."""
    return [None if np.isnan(value) else float(value) for value in likeness(embeddings, reference, scale)]


def photo_likeness(embeddings: Embeddings, scale: Scale) -> NDArray[np.float32]:
    """Return each photo's likeness to the centroid of the *other* photos, ``(N,)``; NaN where it has no subject."""
    values = np.full(len(embeddings), np.nan, dtype=np.float32)
    found = shows_subject(embeddings)
    for index in np.flatnonzero(found):
        others = found.copy()
        others[index] = False
        if others.any():
            values[index] = likeness(embeddings[index : index + 1], centroid(embeddings[others]), scale)[0]
    return values


def photo_spread(photos: Embeddings, pictures: Embeddings, scale: Scale) -> float | None:
    """Return how much the mean likeness of pictures depends on single photos.

    Args:
        photos: of the subject, ``(N, D)``.
        pictures: ``(M, D)``.
        scale: of the engine that made both.

    Returns:
        Standard deviation of the mean when each photo is left out in turn; None with fewer than three photos that show
        the subject, or without a picture that does.
    """
    shown, seen = photos[shows_subject(photos)], pictures[shows_subject(pictures)]
    if len(shown) < 3 or not len(seen):
        return None
    means = [likeness(seen, centroid(np.delete(shown, i, axis=0)), scale).mean() for i in range(len(shown))]
    return float(np.std(means, ddof=1))


def word(value: float, scale: Scale) -> str | None:
    """Return what a likeness is called, one of ``WORDS``; None where nobody has measured the scale's borders."""
    if scale.borders is None:
        return None
    return WORDS[sum(value >= border for border in scale.borders)]


def summarise(
    engine: LikenessEngine, values: Sequence[float | None], class_noun: str, photo_spread: float | None = None
) -> dict[str, Any]:
    """Return what is stored and shown of several scores of one engine; strict JSON.

    Args:
        engine: that gave the scores.
        values: likeness of each picture; None where it was not measured, which is left out of every number.
        class_noun: what the subject is.
        photo_spread: how much the mean depends on single photos, where that is known.

    Returns:
        engine, version, mean, shown (the mean as people see it), spread, photo_spread, word, measured (number of
        pictures with a score), pictures (number of all), caveat (None without one);
        ``studio.core.units.likeness_sentence`` puts it into words.
    """
    found = [value for value in values if value is not None]
    mean = float(np.mean(found)) if found else None
    spread = float(np.std(found, ddof=1)) if len(found) > 1 else None
    return {
        "engine": engine.name,
        "version": engine.version,
        "mean": None if mean is None else round(mean, 4),
        "shown": None if mean is None else shown(mean),
        "spread": None if spread is None else round(spread, 4),
        "photo_spread": None if photo_spread is None else round(photo_spread, 4),
        "word": None if mean is None else word(mean, engine.scale(class_noun)),
        "measured": len(found),
        "pictures": len(values),
        "caveat": engine.caveat or None,
    }
