"""Blocks of the measuring nets.

None normalises over the batch, so a picture's result never depends on its neighbours or on train/eval mode.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

CONFIG_NAME = "config.json"
WEIGHTS_NAME = "model.safetensors"


class Residual(nn.Module):
    """Two 3x3 convolutions with a skip; ``stride`` 2 halves the picture."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1)
        self.norm2 = nn.GroupNorm(8, channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, 1, 1)
        self.skip: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.skip = nn.Conv2d(channels_in, channels_out, 1)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, channels_out, H / stride, W / stride)``."""
        skip = F.avg_pool2d(x, 2) if self.stride == 2 else x
        h = self.conv1(F.relu(self.norm1(x)))
        h = self.conv2(F.relu(self.norm2(h)))
        return self.skip(skip) + h


class Trunk(nn.Module):
    """Pictures ``(B, 3, H, W)`` in [-1, 1], any size, to features ``(B, F)``.

    Args:
        size_px: side to which every picture is resized.
        channels: widths of the stages; each stage halves the picture.
        features: F.
    """

    def __init__(self, size_px: int, channels: Sequence[int], features: int) -> None:
        super().__init__()
        self.size_px = size_px
        self.stem = nn.Conv2d(3, channels[0], 4, 2, 1)
        blocks: list[nn.Module] = [Residual(here, following, 2) for here, following in itertools.pairwise(channels)]
        self.blocks = nn.Sequential(*blocks, Residual(channels[-1], channels[-1], 1))
        self.norm = nn.GroupNorm(8, channels[-1])
        # Position matters in a portrait (a beard is below the mouth), so the last map is kept, not averaged away.
        cells = size_px // 2 ** len(channels)
        self.out = nn.Linear(channels[-1] * cells * cells, features)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the features, ``(B, F)``."""
        h = self.blocks(self.stem(resized(pixels, self.size_px)))
        return self.out(F.relu(self.norm(h)).flatten(1))


def resized(pixels: Tensor, size_px: int) -> Tensor:
    """Return pictures ``(B, 3, H, W)`` as ``(B, 3, size_px, size_px)``."""
    if pixels.shape[-2:] == (size_px, size_px):
        return pixels
    return F.interpolate(pixels, (size_px, size_px), mode="bilinear", antialias=True)


def write_net(net: nn.Module, config: Mapping[str, Any], folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write a net as ``model.safetensors`` and ``config.json``.

    Args:
        net: the net; stays as it is.
        config: JSON that its class is built from.
        folder: created when missing.
        dtype: of the stored weights; they are read back as float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().to(dtype).contiguous() for name, value in net.state_dict().items()}
    save_file(tensors, folder / WEIGHTS_NAME, metadata={"format": "pt"})
    text = json.dumps({"class": type(net).__name__, **config}, indent=2)
    (folder / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config that :func:`write_net` wrote.

    Raises:
        FileNotFoundError: the folder holds no net.
    """
    config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
    return config


def fill_net(net: nn.Module, folder: Path) -> None:
    """Read the weights that :func:`write_net` wrote, in float32; the net is ready to use.

    Raises:
        FileNotFoundError: the folder holds no weights.
    """
    net.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS_NAME).items()})
    net.eval().requires_grad_(False)
