"""Latents as a transformer reads them: 2 x 2 neighbours become one token, and each token knows where it stands.

Called by the families of diffusion transformers. Golden: the pipelines' own packing, in the tests.
"""

import torch
from torch import Tensor


def patchify(latents: Tensor) -> Tensor:
    """Move each 2 x 2 square into the channels: ``(B, C, 2h, 2w)`` to ``(B, 4C, h, w)``."""
    batch, channels, height, width = latents.shape
    squares = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 1, 3, 5, 2, 4).reshape(batch, 4 * channels, height // 2, width // 2)


def unpatchify(latents: Tensor) -> Tensor:
    """Undo ``patchify``: ``(B, 4C, h, w)`` to ``(B, C, 2h, 2w)``."""
    batch, channels, height, width = latents.shape
    squares = latents.reshape(batch, channels // 4, 2, 2, height, width)
    return squares.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels // 4, 2 * height, 2 * width)


def tokens(latents: Tensor) -> Tensor:
    """Return ``(B, C, h, w)`` as rows of tokens ``(B, h * w, C)``."""
    return latents.flatten(2).transpose(1, 2)


def grid(tokens: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Undo ``tokens``: ``(B, h * w, C)`` to ``(B, C, h, w)``."""
    return tokens.transpose(1, 2).unflatten(2, size_hw)


def positions(size_hw: tuple[int, int], axes: int, device: torch.device) -> Tensor:
    """Return where each token stands: ``(h * w, axes)`` float32 with the row in axis 1 and the column in axis 2."""
    height, width = size_hw
    ids = torch.zeros(height, width, axes, device=device)
    ids[..., 1] = torch.arange(height, device=device)[:, None]
    ids[..., 2] = torch.arange(width, device=device)[None, :]
    return ids.flatten(0, 1)
