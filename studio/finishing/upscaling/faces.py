"""Restoring faces with a network of the user's: each face is cut out, restored at 512 px and laid back softly."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from studio.core.errors import InputError, Problem
from studio.finishing.networks.read import build, read_weights
from studio.finishing.upscaling.base import Pixels, Tick
from studio.imaging.faces import Face

FACE_PX = 512
"""Side at which these networks see a face."""
_MARGIN = 0.5
"""Room round the detector's box, in box sizes: hair and chin, as in the pictures these networks were trained on."""
_FEATHER = 0.08
"""Width of the soft edge in sides of the square."""


class FaceRestorer(Protocol):
    """Restores one face."""

    name: str

    def restore(self, face: Pixels) -> Pixels:
        """Return a face, ``(512, 512, 3)`` sRGB levels, restored."""
        ...


class NetworkFaceRestorer:
    """A face-restoration network read by spandrel: GFPGAN or RestoreFormer.

    Args:
        path: the ``.pth`` or ``.safetensors`` file.
        device: where it computes.
        seed: of the noise that GFPGAN adds.

    Raises:
        InputError: the file is not there, damaged, or of another kind of network.
    """

    def __init__(self, path: Path, *, device: torch.device, seed: int = 0) -> None:
        self.name = path.name
        self._seed = seed
        self._model: Any = build(read_weights(path), path.name)
        if self._model.purpose != "FaceSR":
            problem = Problem(path.name, "restores no faces", "give a GFPGAN or RestoreFormer network", "bad_weights")
            raise InputError.of([problem])
        self._model = self._model.to(device).float()
        self._device = device

    def restore(self, face: Pixels) -> Pixels:
        """Return a face, ``(512, 512, 3)`` sRGB levels, restored."""
        # These networks read and write [-1, 1]; spandrel clamps what comes out to [0, 1] only if it is called itself.
        values = torch.from_numpy(face.copy()).to(self._device).permute(2, 0, 1)[None].float() / 127.5 - 1
        # GFPGAN takes its noise from the global generator.
        with torch.inference_mode(), torch.random.fork_rng([self._device] if self._device.type == "cuda" else []):
            torch.manual_seed(self._seed)
            answer = self._model.model(values)
        made = answer[0] if isinstance(answer, tuple | list) else answer
        return ((made[0].permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def restore_faces(
    picture: Pixels, faces: Sequence[Face], restorer: FaceRestorer, *, strength: float, tick: Tick
) -> Pixels:
    """Return a picture with its faces restored.

    Args:
        picture: ``(H, W, 3)`` sRGB levels.
        faces: where they are; their boxes in the picture's pixels.
        restorer: the network.
        strength: 0 keeps the faces, 1 takes the restored ones.
        tick: called before each face.
    """
    canvas = Image.fromarray(picture)
    for face in faces:
        tick()
        top, left, height, width = face.box
        half = max(height, width) * (1 + _MARGIN) / 2
        middle_y, middle_x = top + height / 2, left + width / 2
        box = (round(middle_x - half), round(middle_y - half), round(middle_x + half), round(middle_y + half))
        side = box[2] - box[0]
        small = canvas.crop(box).resize((FACE_PX, FACE_PX), Image.Resampling.LANCZOS)
        restored = Image.fromarray(restorer.restore(np.asarray(small)))
        mask = _soft_mask(side, strength)
        canvas.paste(restored.resize((side, side), Image.Resampling.LANCZOS), box[:2], mask)
    return np.asarray(canvas)


def _soft_mask(side: int, strength: float) -> Image.Image:
    mask = Image.new("L", (side, side), 0)
    edge = max(1, round(side * _FEATHER))
    inner = (2 * edge, 2 * edge, max(2 * edge, side - 2 * edge - 1), max(2 * edge, side - 2 * edge - 1))
    ImageDraw.Draw(mask).rectangle(inner, fill=round(255 * strength))
    return mask.filter(ImageFilter.GaussianBlur(edge / 1.5))
