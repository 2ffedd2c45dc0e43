"""Finds the face of a drawn portrait: is there one that can be read, and where are eyes, nose and mouth?

A mosaic, a blurred face, a wall or a picture of somebody's back hold no face; what measures likeness says nothing about
them. Each landmark has a confidence of its own, which is low where it is covered or smeared::

    faces = load_detector(folder / "faces").find(pixels)
    faces.readable, faces.points  # (B,), (B, 4, 2)

The recipe trains it (``recipe/detector.py``) on the renderer's pictures, whole and spoilt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from studio.pocket.layers import Residual, fill_net, read_config, resized, write_net

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth")
"""Landmarks in the order of every array of them; left and right are those of the picture."""

_MEAN_FACE_YX = ((-0.05, -0.5), (-0.05, 0.5), (0.35, 0.0), (0.8, 0.0))
"""Where an aligned crop shows the landmarks, in units of the distance between the eyes, from the middle of the crop."""


@dataclass(frozen=True)
class Faces:
    """What a detector found in B pictures."""

    points: Tensor
    """``(B, 4, 2)``, yx in [0, 1] of the frame, in the order of ``LANDMARKS``."""
    confidence: Tensor
    """``(B, 4)``, probability that the landmark is there to be seen."""
    face: Tensor
    """``(B,)``, probability that the picture holds a face that can be read."""
    readable: Tensor
    """``(B,)`` bool: the face's probability reaches the detector's threshold and its landmarks lie as in a face."""


class FaceDetector(nn.Module):
    """A small net with one heat map for each landmark.

    Args:
        size_px: side to which every picture is resized.
        channels: widths of the stages; each stage halves the picture.
        threshold: probability from which a face counts as readable.
    """

    def __init__(self, size_px: int = 128, channels: Sequence[int] = (16, 32, 64, 96), threshold: float = 0.5) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"size_px": size_px, "channels": list(channels), "threshold": threshold}
        self.size_px = size_px
        stem, fine, middle, coarse = channels
        self.stem = nn.Conv2d(3, stem, 4, 2, 1)
        self.fine = Residual(stem, fine, 2)
        self.middle = Residual(fine, middle, 2)
        self.coarse = nn.Sequential(Residual(middle, coarse, 2), Residual(coarse, coarse, 1))
        self.from_coarse = nn.Conv2d(coarse, middle, 1)
        self.from_middle = nn.Conv2d(middle, fine, 1)
        self.mix = Residual(fine, fine, 1)
        self.maps = nn.Conv2d(fine, len(LANDMARKS), 1)
        self.seen = nn.Linear(fine + middle, len(LANDMARKS))
        self.judge = nn.Sequential(
            nn.Linear(len(LANDMARKS) * (fine + middle) + coarse, 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits.

        Args:
            pixels: ``(B, 3, H, W)`` in [-1, 1], any size.

        Returns:
            Heat maps ``(B, 4, h, w)`` of the landmarks, a quarter of ``size_px`` a side; landmark seen ``(B, 4)``; face
            readable ``(B,)``.
        """
        fine = self.fine(self.stem(resized(pixels, self.size_px)))
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = middle + F.interpolate(self.from_coarse(coarse), scale_factor=2.0)
        fine = self.mix(fine + F.interpolate(self.from_middle(middle), scale_factor=2.0))
        maps = self.maps(F.relu(fine)).float()
        # Each landmark is judged by what stands in its place, not by the rest of the picture.
        places = maps.detach().flatten(2).softmax(-1)  # (B, 4, h w)
        both = torch.cat([fine, F.interpolate(middle, scale_factor=2.0)], 1).flatten(2).float()  # (B, F, h w)
        local = F.relu(torch.einsum("blp,bfp->blf", places, both))
        seen = (local * self.seen.weight).sum(-1) + self.seen.bias
        whole = torch.cat([local.flatten(1), F.relu(coarse.float()).mean((2, 3))], 1)
        return maps, seen, self.judge(whole)[:, 0]

    @torch.no_grad()
    def find(self, pixels: Tensor) -> Faces:
        """Find the face of each picture ``(B, 3, H, W)`` in [-1, 1], any size."""
        weight = self.stem.weight
        maps, seen, face = self(pixels.to(weight.device, weight.dtype))
        points, face = expected_points(maps), face.sigmoid()
        readable = (face >= self.config["threshold"]) & plausible(points)
        return Faces(points, seen.sigmoid(), face, readable)


def expected_points(maps: Tensor) -> Tensor:
    """Return the middle of each heat map around its peak.

    Args:
        maps: logits ``(B, L, h, w)``.

    Returns:
        ``(B, L, 2)``, yx in [0, 1] of the frame.
    """
    height, width = maps.shape[-2:]
    flat = maps.flatten(2)
    peaks = flat >= flat.amax(-1, keepdim=True)
    near = F.max_pool2d(peaks.float().unflatten(-1, (height, width)), 5, 1, 2).flatten(2)
    weights = (flat - flat.amax(-1, keepdim=True)).exp() * near
    weights = weights / weights.sum(-1, keepdim=True)
    y = (torch.arange(height, device=maps.device) + 0.5) / height
    x = (torch.arange(width, device=maps.device) + 0.5) / width
    grid = torch.stack([y[:, None].expand(height, width), x[None].expand(height, width)], -1).flatten(0, 1)
    return weights @ grid


def plausible(points: Tensor) -> Tensor:
    """Say whether landmarks ``(B, 4, 2)`` (yx in [0, 1]) lie as in an upright face, ``(B,)`` bool."""
    left, right, nose, mouth = points.unbind(1)
    apart = right[:, 1] - left[:, 1]
    eyes_y = (left[:, 0] + right[:, 0]) / 2
    level = (left[:, 0] - right[:, 0]).abs() < 0.5 * apart
    below = (nose[:, 0] > eyes_y) & (mouth[:, 0] > nose[:, 0]) & (mouth[:, 0] - eyes_y < 3 * apart)
    return (apart > 0.06) & level & below


def aligned(pixels: Tensor, points: Tensor, size_px: int, eyes_px: float) -> Tensor:
    """Cut the face out, turned upright and brought to one size.

    The similarity (turn, scale, shift) is the one that brings the landmarks nearest to a mean face; proportions stay.

    Args:
        pixels: ``(B, 3, H, W)``.
        points: ``(B, 4, 2)``, yx in [0, 1] of the frame.
        size_px: side of the crop.
        eyes_px: distance between the mean face's eyes in the crop.

    Returns:
        ``(B, 3, size_px, size_px)``; beyond the picture's rim its last pixels are repeated.
    """
    device = pixels.device
    mean_face = torch.tensor(_MEAN_FACE_YX, device=device) * (2 * eyes_px / size_px)  # grid units, [-1, 1] is the crop
    canonical = torch.complex(mean_face[:, 1], mean_face[:, 0])
    yx = points.float().to(device) * 2 - 1
    found = torch.complex(yx[..., 1], yx[..., 0])  # (B, 4)
    centre, middle = canonical.mean(), found.mean(1)
    turn = ((canonical - centre).conj() * (found - middle[:, None])).sum(1) / (canonical - centre).abs().square().sum()
    shift = middle - turn * centre
    rows = [
        torch.stack([turn.real, -turn.imag, shift.real], -1),
        torch.stack([turn.imag, turn.real, shift.imag], -1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), [len(pixels), 3, size_px, size_px], align_corners=False)
    return F.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)


def save_detector(net: FaceDetector, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a detector as ``model.safetensors`` and ``config.json``."""
    write_net(net, net.config, folder, dtype)


def load_detector(folder: Path) -> FaceDetector:
    """Read a detector that :func:`save_detector` wrote, in float32, ready to use.

    Raises:
        FileNotFoundError: the folder holds no detector.
    """
    config = read_config(folder)
    net = FaceDetector(config["size_px"], config["channels"], config["threshold"])
    fill_net(net, folder)
    return net
