"""Likeness of drawn portraits: the identity encoder that ships with the pocket base.

The encoder knows drawn portraits only and would give any picture some identity. The base's own autoencoder tells which
pictures it can judge: it redraws portraits of its kind well and real photographs badly.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from studio.errors import MissingExtraError
from studio.likeness.base import Embeddings, Scale
from studio.pocket.identity import load_encoder

DRAWN_MIN_SHARE = 0.6
"""A picture of whose detail the autoencoder redraws at least this share counts as drawn."""

_AUTOENCODERS = frozenset({"AutoencoderKL", "AutoencoderTiny"})


class PocketEngine:
    """The identity encoder of a base folder; pictures that are not drawn like its portraits get NaN.

    Args:
        folder: a base with ``identity/`` and ``vae/``.

    Raises:
        MissingExtraError: the folder holds no identity encoder.
    """

    name = "pocket"

    def __init__(self, folder: Path) -> None:
        """Read both nets."""
        try:
            self._encoder = load_encoder(folder / "identity")
            self._vae = _load_autoencoder(folder / "vae")
        except OSError:
            raise MissingExtraError(
                f"likeness of drawn portraits needs an identity encoder and an autoencoder, and the base "
                f"{folder.name!r} lacks them; use the embedded base, or another likeness engine."
            ) from None
        self._size_px: int = self._encoder.config["size_px"]

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Return ``(N, D)`` float32, rows of unit length; NaN where the picture is not a drawn portrait."""
        rows = np.zeros((len(pictures), self._encoder.config["embedding"]), dtype=np.float32)
        for index, picture in enumerate(pictures):
            pixels = _pixels(picture, self._size_px)
            rows[index] = self._encoder.embed(pixels)[0].numpy() if self._is_drawn(pixels) else np.nan
        return rows

    def drawn(self, pictures: Sequence[Image.Image]) -> NDArray[np.bool_]:
        """Tell for each picture whether it is drawn like this base's portraits, ``(N,)``."""
        return np.array([self._is_drawn(_pixels(picture, self._size_px)) for picture in pictures], dtype=bool)

    def scale(self, class_noun: str) -> Scale:
        """Return the calibration that was measured when the encoder was trained."""
        measured = self._encoder.calibration
        rows = [measured[class_noun]] if class_noun in measured else list(measured.values())
        if not rows:
            return Scale(other=0.0, same=1.0)  # an encoder that was never calibrated: plain cosines
        return Scale(
            other=sum(row["other"] for row in rows) / len(rows), same=sum(row["same"] for row in rows) / len(rows)
        )

    def _is_drawn(self, pixels: torch.Tensor) -> bool:
        return redrawn_share(self._vae, pixels) >= DRAWN_MIN_SHARE


@torch.no_grad()
def redrawn_share(vae: Any, pixels: torch.Tensor) -> float:
    """Return how much of a picture's detail an autoencoder redraws.

    Detail is what a 5 px blur takes away; plain error would take every photo with much sky for a drawing.

    Args:
        vae: AutoencoderKL or AutoencoderTiny.
        pixels: ``(1, 3, H, W)`` in [-1, 1].

    Returns:
        1 for a perfect copy, 0 for one as bad as the blurred picture or a picture without detail, below 0 for worse.
    """
    encoded = vae.encode(pixels)
    latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
    error = (vae.decode(latents).sample.clamp(-1, 1) - pixels).square().mean()
    blurred = F.avg_pool2d(pixels, 5, stride=1, padding=2, count_include_pad=False)
    detail = (pixels - blurred).square().mean()
    return float(1 - error / detail) if detail > 1e-5 else 0.0


def _load_autoencoder(folder: Path) -> Any:
    import diffusers

    name = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("_class_name")
    if name not in _AUTOENCODERS:
        raise FileNotFoundError(f"{folder} holds {name}")
    vae = getattr(diffusers, name).from_pretrained(folder, use_safetensors=True, local_files_only=True)
    return vae.float().eval().requires_grad_(False)


def _pixels(picture: Image.Image, size_px: int) -> torch.Tensor:
    """Return the middle square of a picture as ``(1, 3, size_px, size_px)`` float32 in [-1, 1]."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    box = (left, top, left + side, top + side)
    square = picture.convert("RGB").resize((size_px, size_px), Image.Resampling.LANCZOS, box)
    return torch.from_numpy(np.array(square, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
