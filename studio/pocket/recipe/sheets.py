"""Sheets of pictures to look at."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor


def sheet(pictures: Tensor, columns: int, zoom: int = 1) -> Image.Image:
    """Lay pictures ``(B, 3, H, W)`` in [-1, 1] out in rows, each pixel ``zoom`` pixels large."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    canvas = torch.ones(3, rows * (height + 2), columns * (width + 2))
    for i, picture in enumerate(pictures.float().cpu().clamp(-1, 1)):
        top, left = (i // columns) * (height + 2), (i % columns) * (width + 2)
        canvas[:, top : top + height, left : left + width] = picture
    image = Image.fromarray(((canvas + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)
