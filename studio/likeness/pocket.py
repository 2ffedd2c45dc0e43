"""Likeness of drawn portraits: the face detector and the identity encoder that ship with the pocket base.

They know drawn portraits only, so ``registry`` asks about subjects whose photos are drawings. A picture whose face the
detector cannot read (a mosaic, a blur, somebody's back, no person at all) is not measured.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from studio.core.errors import MissingExtraError
from studio.likeness.base import Box, Embeddings, Scale
from studio.pocket.faces import load_detector
from studio.pocket.identity import load_encoder

_AT_ONCE = 32  # pictures in one pass of the nets


class PocketEngine:
    """The measuring nets of a base folder; pictures without a readable face get NaN.

    Args:
        folder: a base with ``faces/`` and ``identity/``.

    Raises:
        MissingExtraError: the folder does not hold both nets.
    """

    name = "pocket"
    caveat = ""

    def __init__(self, folder: Path) -> None:
        """Read the nets."""
        try:
            self._detector = load_detector(folder / "faces")
            self._encoder = load_encoder(folder / "identity")
        except OSError:
            raise MissingExtraError(
                f"likeness of drawn portraits needs an identity encoder and a face detector, and the base "
                f"{folder.name!r} has not both; use the embedded base, or another likeness engine."
            ) from None
        self.version: str = self._encoder.config["version"]

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Return ``(N, D)`` float32, rows of unit length; NaN where no face can be read."""
        size_px, width = self._encoder.config["size_px"], 2 * self._encoder.config["embedding"]
        rows = [np.zeros((0, width), dtype=np.float32)]
        for first in range(0, len(pictures), _AT_ONCE):
            pixels = torch.cat([_pixels(picture, size_px) for picture in pictures[first : first + _AT_ONCE]])
            faces = self._detector.find(pixels)
            vectors = self._encoder.embed(pixels, faces.points)
            vectors[~faces.readable] = torch.nan
            rows.append(vectors.numpy())
        return np.concatenate(rows)

    def scale(self, class_noun: str) -> Scale:
        """Return the calibration that was measured when the encoder was trained."""
        measured = self._encoder.calibration
        entries = [measured[class_noun]] if class_noun in measured else list(measured.values())
        if not entries:
            return Scale(other=0.0, same=1.0)  # an encoder that was never calibrated: plain cosines
        other, same = (float(np.mean([entry[end] for entry in entries])) for end in ("other", "same"))
        borders = [entry["borders"] for entry in entries if "borders" in entry]
        if not borders:
            return Scale(other, same)
        somewhat, alike, very = np.mean(borders, axis=0).tolist()
        return Scale(other, same, (somewhat, alike, very))

    def face_box(self, picture: Image.Image) -> Box | None:
        """Return the box around eyes, nose and mouth, with brows and chin; None where no face can be read."""
        faces = self._detector.find(_pixels(picture, self._encoder.config["size_px"]))
        if not faces.readable[0]:
            return None
        (left_eye, right_eye, _, mouth), side = faces.points[0].numpy(), min(picture.size)
        apart, eyes_y = right_eye[1] - left_eye[1], (left_eye[0] + right_eye[0]) / 2
        # Brows stand half an eye distance above the eyes, the chin as far below the mouth, cheeks beside the eyes.
        ends = (eyes_y - apart / 2, left_eye[1] - apart / 2, mouth[0] + apart / 2, right_eye[1] + apart / 2)
        top, left, bottom, right = (round(side * min(1.0, max(0.0, float(end)))) for end in ends)
        across, down = (picture.width - side) // 2, (picture.height - side) // 2
        return down + top, across + left, bottom - top, right - left


def _pixels(picture: Image.Image, size_px: int) -> torch.Tensor:
    """Return the middle square of a picture as ``(1, 3, size_px, size_px)`` float32 in [-1, 1]."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    square = picture.convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS, box)
    return torch.from_numpy(np.array(square, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
