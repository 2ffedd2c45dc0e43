"""Trains the detector of faces and landmarks on whole, disturbed and spoilt portraits."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.pocket.faces import LANDMARKS, FaceDetector, save_detector
from studio.pocket.recipe.data import Pictures, open_pictures
from studio.pocket.recipe.loop import TimeLimit, TrainingContext, fit
from studio.pocket.recipe.settings import Recipe
from studio.pocket.recipe.spoil import WAYS, disturb, face_box, feature_box, spoil_box, without_face

GONE, ERASED, WHOLE = 0, 1, 2
"""What was done to a picture: no face is left, one feature is gone, nothing."""


def spoilt_batch(pixels: Tensor, points: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Spoil three tenths of a batch wholly and three tenths in one feature.

    Args:
        pixels: ``(B, 3, H, W)`` in [-1, 1].
        points: landmarks ``(B, 4, 2)``, yx in [0, 1].
        hidden: ``(B, 4)`` bool, what something covers.

    Returns:
        The pictures; whether each landmark can be seen ``(B, 4)``; whether the face can be read ``(B,)``, -1 where
        that is a matter of opinion.
    """
    made, seen, face = [], (~hidden).float(), torch.ones(len(pixels))
    for row, (picture, marks) in enumerate(zip(pixels, points, strict=True)):
        chance = float(torch.rand(()))
        if chance < 0.35:
            made.append(without_face(picture, marks))
            seen[row], face[row] = 0, 0
        elif chance < 0.6:
            landmark, ways = int(torch.randint(len(LANDMARKS), ())), ("blur", "flat", "mosaic", "noise")
            way = ways[int(torch.randint(len(ways), ()))]
            made.append(spoil_box(picture, feature_box(marks, landmark, picture.shape[-1]), way))
            seen[row, landmark], face[row] = 0, -1
        else:
            made.append(picture)
    return torch.stack(made), seen, face


def heat(points: Tensor, side: int) -> Tensor:
    """Return target heat maps ``(B, L, side * side)`` that sum to 1: a small hill about each landmark."""
    grid = (torch.arange(side, device=points.device) + 0.5) / side
    y = torch.exp(-0.5 * ((points[..., :1] - grid) * side / 0.8).square())  # (B, L, side)
    x = torch.exp(-0.5 * ((points[..., 1:] - grid) * side / 0.8).square())
    hill = y[..., :, None] * x[..., None, :]
    return (hill / hill.sum((-2, -1), keepdim=True).clamp(min=1e-9)).flatten(2)


def detector_loss(
    outputs: tuple[Tensor, Tensor, Tensor], points: Tensor, seen: Tensor, face: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """Compare what the detector says with what was drawn.

    Args:
        outputs: of :class:`FaceDetector`.
        points: landmarks ``(B, 4, 2)``, yx in [0, 1].
        seen: ``(B, 4)``, 1 where the landmark can be seen.
        face: ``(B,)``, 1 where the face can be read, 0 where not, -1 unknown.

    Returns:
        The loss, and its parts to log.
    """
    maps, seen_logits, face_logits = outputs
    target = heat(points, maps.shape[-1])
    cross = -(target * maps.flatten(2).log_softmax(-1)).sum(-1)  # (B, L)
    # A covered or erased feature still has its place among the others; a face that is gone has none.
    placed = (face != 0).float()[:, None].expand_as(cross)
    where = (cross * placed).sum() / placed.sum().clamp(min=1)
    what = F.binary_cross_entropy_with_logits(seen_logits, seen)
    known = (face >= 0).float()
    entropy = F.binary_cross_entropy_with_logits(face_logits, face.clamp(min=0), reduction="none")
    readable = (entropy * known).sum() / known.sum().clamp(min=1)
    parts = {"where": float(where.detach()), "seen": float(what.detach()), "face": float(readable.detach())}
    return 0.3 * where + what + readable, parts


@torch.no_grad()
def measure_detector(
    net: FaceDetector, pictures: Pictures, context: TrainingContext, count: int = 128
) -> dict[str, Any]:
    """Measure a detector on whole and spoilt held-out pictures.

    Returns:
        Shares of whole pictures with a readable face and with each landmark that nothing covers found, median error of
        the landmarks in pixels, and for each way to spoil a face the share that counts as none.
    """
    rows = np.linspace(0, len(pictures) - 1, min(count, len(pictures))).astype(np.int64)
    pixels, points = pictures.batch(rows, context.device), pictures.points(rows)
    free = torch.from_numpy(~pictures.hidden[rows])
    faces = [net.find(part) for part in pixels.split(64)]
    readable = torch.cat([f.readable for f in faces]).cpu()
    found = torch.cat([f.confidence for f in faces]).cpu() > 0.5
    error = (torch.cat([f.points for f in faces]).cpu() - points).norm(dim=-1) * pixels.shape[-1]
    result: dict[str, Any] = {
        "readable": round(float(readable.float().mean()), 4),
        "found": {n: round(float(found[free[:, i], i].float().mean()), 4) for i, n in enumerate(LANDMARKS)},
        "error_px": round(float(error[free].median()), 2),
        "refused": {},
    }
    for way in WAYS:
        spoilt = [
            spoil_box(picture, face_box(marks, picture.shape[-1], 0.7), way)
            for picture, marks in zip(pixels, points, strict=True)
        ]
        judged = torch.cat([net.find(part).readable for part in torch.stack(spoilt).split(64)])
        result["refused"][way] = round(float((~judged).float().mean()), 4)
    return result


def faces_stage(recipe: Recipe, context: TrainingContext, limit: TimeLimit) -> None:
    """Train the detector; write it to ``DIR/nets/faces``."""
    train, held = open_pictures(context.work, "train"), open_pictures(context.work, "held")
    torch.manual_seed(recipe.seed)
    detector = FaceDetector(recipe.size_px)

    def loss_of() -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(train), (recipe.faces_batch,))
        points, hidden = train.points(rows), torch.from_numpy(train.hidden[rows.numpy()])
        pixels, seen, face = spoilt_batch(train.batch(rows, torch.device("cpu")), points, hidden)
        pixels = disturb(pixels.to(context.device)).contiguous(memory_format=torch.channels_last)
        with context.autocast():
            outputs = detector(pixels)
        return detector_loss(outputs, *(t.to(context.device) for t in (points, seen, face)))

    def observe(step: int, ema: nn.Module) -> dict[str, Any]:
        assert isinstance(ema, FaceDetector)
        return measure_detector(ema, held, context)

    ema = fit(
        "faces",
        detector.to(memory_format=torch.channels_last),
        loss_of,
        context=context,
        limit=limit,
        lr=recipe.faces_lr,
        batch=recipe.faces_batch,
        flat=0.3,
        warmup_steps=25,
        ema_decay=0.99,
        observe=observe,
    )
    assert isinstance(ema, FaceDetector)
    if limit.stop_after is None:
        save_detector(ema, context.work / "nets" / "faces")
