"""Measures the likeness scale on held-out people: its two ends and the borders between its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from studio.pocket.faces import FaceDetector
from studio.pocket.identity import IdentityEncoder
from studio.pocket.recipe.data import to_tensor
from studio.pocket.recipe.loop import TrainingContext
from studio.pocket.renderer import people, portrait, words

_FIRST_SEED = words.HELD_OUT_SEED + 500_000
_MOST_SCENES = 50


@dataclass(frozen=True)
class Cosines:
    """Cosines of held-out pictures to the centroids of people of one class; NaN where no face is found."""

    own: Tensor
    """A picture of the person, ``(people, photos)``."""
    near: Tensor
    """A picture of the near twin, ``(people, photos)``."""
    twin: Tensor
    """A picture of the twin, ``(people, photos)``."""
    others: Tensor
    """A picture of each other person, ``(people, people - 1, photos)``."""


@torch.no_grad()
def measure_cosines(
    encoder: IdentityEncoder,
    detector: FaceDetector,
    context: TrainingContext,
    class_noun: str,
    *,
    size_px: int,
    subjects: int,
    references: int = 8,
    photos: int = 4,
) -> Cosines:
    """Compare people of one class with pictures of themselves, of their twins and of each other.

    Args:
        encoder: what is measured.
        detector: finds the faces.
        context: for the device.
        class_noun: of everybody.
        size_px: side of the drawn pictures.
        subjects: how many people.
        references: pictures in a person's centroid.
        photos: held-out pictures of each.
    """
    first = _FIRST_SEED + words.CLASS_NOUNS.index(class_noun) * 10_000
    everybody = []
    for subject in range(subjects):
        person = people.sample_identity(first + subject, class_noun)
        twin = people.twin(person, first + subject)
        near = people.near_twin(person, first + subject, changes=1 + subject % 2)
        scenes = iter(range(first + subject * _MOST_SCENES, first + (subject + 1) * _MOST_SCENES))
        for who, count in ((person, references + photos), (twin, photos), (near, photos)):
            drawn = [
                portrait.render(who, people.sample_scene(next(scenes), style="photo"), size_px) for _ in range(count)
            ]
            everybody.append(np.stack(drawn))
    vectors = embed(encoder, detector, to_tensor(np.concatenate(everybody), context.device))
    vectors = vectors.unflatten(0, (subjects, references + 3 * photos))
    centroids = F.normalize(vectors[:, :references].nanmean(1), dim=-1)  # (people, E)
    own, twin_cosines, near_cosines = (
        torch.einsum("spe,se->sp", part, centroids) for part in vectors[:, references:].split(photos, 1)
    )
    all_to_all = torch.einsum("spe,ce->csp", vectors[:, references : references + photos], centroids)
    apart = ~torch.eye(subjects, dtype=torch.bool, device=all_to_all.device)
    return Cosines(own, near_cosines, twin_cosines, all_to_all[apart].unflatten(0, (subjects, subjects - 1)))


@torch.no_grad()
def embed(encoder: IdentityEncoder, detector: FaceDetector, pixels: Tensor) -> Tensor:
    """Return embeddings ``(B, E)`` of pictures ``(B, 3, H, W)``; NaN where the detector finds no readable face."""
    vectors = []
    for part in pixels.split(64):
        faces = detector.find(part)
        found = encoder(part, faces.points)
        found[~faces.readable] = float("nan")
        vectors.append(found)
    return torch.cat(vectors)


def scale_of(cosines: Cosines) -> dict[str, Any]:
    """Turn cosines into the numbers of the scale.

    Returns:
        ``other`` and ``same``, the mean cosines that make 0 and 1; ``borders``, on that scale, from which on two are
        somewhat alike, alike and very alike: what 5 % of the strangers reach, what 5 % of the twins reach, and what
        90 % of the person's own pictures reach; further ``twin`` and ``near``, mean likeness of twins and near twins,
        and ``beats_twin``, share of pairs in which a person's picture scores above the twin's.
    """
    other, same = float(cosines.others.nanmean()), float(cosines.own.nanmean())

    def likeness(values: Tensor) -> Tensor:
        return (values - other) / (same - other)

    own, near, twin, others = (likeness(c) for c in (cosines.own, cosines.near, cosines.twin, cosines.others))
    somewhat = float(others.flatten().nanquantile(0.95))
    alike = max(somewhat, float(twin.flatten().nanquantile(0.95)))
    very = max(alike, float(own.flatten().nanquantile(0.1)))
    pairs = own[:, :, None] - twin[:, None, :]
    known = pairs[~pairs.isnan()]
    return {
        "other": other,
        "same": same,
        "borders": [somewhat, alike, very],
        "twin": float(twin.nanmean()),
        "near": float(near.nanmean()),
        "beats_twin": float((known > 0).float().mean()),
    }


def calibrate(
    encoder: IdentityEncoder, detector: FaceDetector, context: TrainingContext, *, size_px: int, subjects: int
) -> dict[str, dict[str, Any]]:
    """Measure the scale of each class noun on ``subjects`` held-out people; see :func:`scale_of`."""
    return {
        noun: scale_of(measure_cosines(encoder, detector, context, noun, size_px=size_px, subjects=subjects))
        for noun in words.CLASS_NOUNS
    }
