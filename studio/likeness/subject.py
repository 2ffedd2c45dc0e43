"""Likeness of pets and things: DINOv2's picture embedding, from a local folder or the Hub's cache."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from studio.core.errors import MissingExtraError
from studio.likeness.base import Box, Embeddings, Scale

SOURCE = "facebook/dinov2-small"
"""Apache-2.0, 88 MB."""
SCALE = Scale(other=0.30, same=0.75)
"""Cosines to a centroid. Set from published figures of such nets, not measured: the weights need a download."""

_SIZE_PX = 224
_MEAN = np.array((0.485, 0.456, 0.406), dtype=np.float32)  # ImageNet's, which DINOv2 was trained with
_STD = np.array((0.229, 0.224, 0.225), dtype=np.float32)


def at_hand(source: str = SOURCE) -> bool:
    """Return whether the weights can be read without the network."""
    from huggingface_hub import try_to_load_from_cache

    if Path(source).is_dir():
        return True
    return all(isinstance(try_to_load_from_cache(source, name), str) for name in ("config.json", "model.safetensors"))


class SubjectEngine:
    """DINOv2's class token.

    Args:
        source: a local folder, or a Hub id, which is downloaded when it is not in the cache.

    Raises:
        MissingExtraError: the weights are neither here nor to be had.
    """

    name = "subject"
    caveat = ""

    def __init__(self, source: str = SOURCE) -> None:
        """Read the net, from disk if it is there."""
        from transformers import AutoModel

        try:
            self._model = AutoModel.from_pretrained(source, use_safetensors=True, local_files_only=at_hand(source))
        except (OSError, ValueError) as error:
            raise MissingExtraError(
                f"likeness of pets and things needs the weights of {source}, which are not on this machine; go online "
                f"once, download them with 'hf download {source}', or set likeness to none ({type(error).__name__})."
            ) from None
        self._model.eval().requires_grad_(False)
        self.version = f"{_identity(self._model)} {SCALE.other:g}-{SCALE.same:g}"

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        """Return ``(N, D)`` float32, rows of unit length; NaN where the picture shows one colour only."""
        rows = []
        for picture in pictures:
            levels = np.asarray(picture.convert("RGB"))
            if (levels == levels[0, 0]).all():
                rows.append(np.full(self._model.config.hidden_size, np.nan, dtype=np.float32))
                continue
            pixels = torch.from_numpy(_normalised(picture)).permute(2, 0, 1)[None]  # (1, 3, 224, 224)
            with torch.no_grad():
                token = self._model(pixel_values=pixels).last_hidden_state[0, 0].float()
            rows.append((token / token.norm()).numpy())
        width = self._model.config.hidden_size
        return np.stack(rows).astype(np.float32) if rows else np.zeros((0, width), dtype=np.float32)

    def scale(self, class_noun: str) -> Scale:
        """Return the calibration, one for all nouns."""
        return SCALE

    def face_box(self, picture: Image.Image) -> Box | None:
        """Return None: the whole picture is looked at."""
        return None


def _identity(model: torch.nn.Module) -> str:
    """Return a short digest of a net's weights: a folder's name says nothing of what lies in it."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().float().flatten()[:64].numpy().tobytes())
    return digest.hexdigest()[:12]


def _normalised(picture: Image.Image) -> np.ndarray:
    """Return the middle square of a picture as DINOv2 expects it, ``(224, 224, 3)`` float32."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.resize((_SIZE_PX, _SIZE_PX), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return (np.asarray(square.convert("RGB"), dtype=np.float32) / 255 - _MEAN) / _STD
