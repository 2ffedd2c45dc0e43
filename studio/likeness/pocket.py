"""Likeness of drawn portraits: the identity encoder that ships with the pocket base.

The encoder knows drawn portraits only and would give any picture some identity, so ``registry`` asks it only about
subjects whose photos are drawings. (Whether the base's autoencoder redraws a picture well does not tell: measured, it
redraws photographs as well as its own portraits.)
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from studio.core.errors import MissingExtraError
from studio.likeness.base import Embeddings, Scale
from studio.pocket.identity import load_encoder

FEATURELESS = 0.02
"""Standard deviation, of levels in [0, 1], below which a picture shows nothing: a black sample, an empty wall."""


class PocketEngine:
    """The identity encoder of a base folder; pictures that show nothing get NaN.

    Args:
        folder: a base with ``identity/``.

    Raises:
        MissingExtraError: the folder holds no identity encoder.
    """

    name = "pocket"
    version = "1"
    """Of the identity encoder that looks at hair and skin."""

    def __init__(self, folder: Path) -> None:
        try:
            self._encoder = load_encoder(folder / "identity")
        except OSError:
            raise MissingExtraError(
                f"likeness of drawn portraits needs an identity encoder, and the base {folder.name!r} has none; "
                "use base 'pocket', or another likeness engine."
            ) from None

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Return ``(N, D)`` float32, rows of unit length; NaN where the picture shows nothing."""
        rows = np.full((len(pictures), self._encoder.config["embedding"]), np.nan, dtype=np.float32)
        for row, picture in zip(rows, pictures, strict=True):
            pixels = _pixels(picture, self._encoder.config["size_px"])
            if float(pixels.std(dim=(2, 3)).mean()) / 2 >= FEATURELESS:
                row[:] = self._encoder.embed(pixels)[0].numpy()
        return rows

    def scale(self, class_noun: str) -> Scale:
        """Return the calibration that was measured when the encoder was trained."""
        measured = self._encoder.calibration
        rows = [measured[class_noun]] if class_noun in measured else list(measured.values())
        if not rows:
            return Scale(other=0.0, same=1.0)  # an encoder that was never calibrated: plain cosines
        return Scale(
            other=sum(row["other"] for row in rows) / len(rows), same=sum(row["same"] for row in rows) / len(rows)
        )


def _pixels(picture: Image.Image, size_px: int) -> torch.Tensor:
    """Return the middle square of a picture as ``(1, 3, size_px, size_px)`` float32 in [-1, 1]."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    square = picture.convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS, box)
    return torch.from_numpy(np.array(square, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
