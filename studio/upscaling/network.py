"""Upscaling with convolutional networks, read by spandrel from the layout of their keys.

Weights come as safetensors, as ``.pth`` (read with ``weights_only``, which runs no code of the file) or as ncnn's two
files. The picture is enlarged in tiles, so memory does not grow with it beyond the picture itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from studio.errors import InputError, Problem, ResourceError
from studio.imaging.tile import count_tiles, enlarge_tiled
from studio.upscaling.base import Pixels, Tick
from studio.upscaling.ncnn import read_ncnn

OVERLAP_PX = 64
"""How far a tile sees its neighbours. Networks of many blocks see further, but hardly: on x4plus (23 blocks) a seam
shows up to 13 levels with 32 px, and 1 with 48 px."""
SMALLEST_TILE_PX = 32
_BYTES_PER_PIXEL = 12_000
"""Of x4plus per input pixel of a tile, single precision: three layers of 64 channels at four times the size."""

Weights = Mapping[str, Tensor]


def read_weights(path: Path) -> Weights:
    """Return the tensors of a ``.safetensors``, ``.pth`` or ncnn ``.bin`` file, by the network's own names.

    Raises:
        InputError: the file is not there, damaged, or holds anything but tensors.
    """
    from spandrel import canonicalize_state_dict

    try:
        if path.suffix == ".bin":
            return {name: torch.from_numpy(values) for name, values in read_ncnn(path).items()}
        if path.suffix == ".safetensors":
            return canonicalize_state_dict(load_file(path))
        return canonicalize_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except InputError:
        raise
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise _refused(path, f"cannot be read ({reason})", "check the file") from None
    except Exception:  # torch answers hostile and broken pickles with many kinds of exception
        raise _refused(path, "holds more than tensors, or is damaged", "give the weights as safetensors") from None


def mix(first: Weights, second: Weights, share: float) -> Weights:
    """Return ``share * first + (1 - share) * second``: deep network interpolation of two networks of one shape.

    Source: Wang et al. 2019, "Deep Network Interpolation for Continuous Imagery Effect Transition", eq. 1.
    """
    return {name: share * values + (1 - share) * second[name] for name, values in first.items()}


def build(weights: Weights, name: str) -> Any:
    """Return spandrel's description of a network with these weights; raises InputError for a layout it does not know.

    (spandrel's types are not seen by mypy through its registry, hence Any.)
    """
    from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

    try:
        model = ModelLoader().load_from_state_dict(dict(weights))
    except (UnsupportedModelError, RuntimeError, KeyError, ValueError, AttributeError, TypeError):
        raise _refused(name, "is no network that is known here", "give an ESRGAN-like or Compact network") from None
    if not isinstance(model, ImageModelDescriptor) or (model.input_channels, model.output_channels) != (3, 3):
        raise _refused(name, "does not turn a colour picture into a colour picture", "give another network")
    return model.eval()


class NetworkUpscaler:
    """A loaded network.

    Args:
        name: to be shown.
        weights: its tensors.
        device: where it computes.
        tile_px: side of a tile, pixels of the input; halved by itself where the device's memory is too small.

    Raises:
        InputError: the weights are of no known network, or of one that does not enlarge.
    """

    def __init__(self, name: str, weights: Weights, *, device: torch.device, tile_px: int) -> None:
        model = build(weights, name)
        if model.scale < 2:
            raise _refused(name, "does not enlarge (its factor is 1)", "give an upscaling network")
        self.name = name
        self.scale: int = model.scale
        self._half = device.type == "cuda" and model.supports_half
        self._model = model.to(device).half() if self._half else model.to(device).float()
        self._model.model.to(memory_format=torch.channels_last)  # a quarter to a third faster on CPUs
        self._device = device
        self._tile_px = tile_px
        # A network sees at most the sum of its kernels' halves: for small ones that is less than the general overlap.
        self._overlap_px = min(OVERLAP_PX, sum(value.shape[-1] // 2 for value in weights.values() if value.ndim == 4))

    def ticks(self, size_hw: tuple[int, int]) -> int:
        """Return how many tiles a picture of this size has."""
        return count_tiles(size_hw, self._tile_px)

    def working_bytes(self) -> int:
        """Return about how much memory one tile needs, bytes."""
        return (self._tile_px + 2 * self._overlap_px) ** 2 * _BYTES_PER_PIXEL // (2 if self._half else 1)

    def enlarge(self, picture: Pixels, *, tick: Tick) -> Pixels:
        """Return ``(H, W, 3)`` sRGB levels enlarged by ``scale``; ``tick`` is called before each tile.

        Raises:
            ResourceError: not even the smallest tile fits into the device's memory.
        """
        while True:
            try:
                return enlarge_tiled(
                    picture,
                    self._run,
                    scale=self.scale,
                    tile_px=self._tile_px,
                    overlap_px=self._overlap_px,
                    on_tile=tick,
                )
            except torch.OutOfMemoryError:
                if self._tile_px <= SMALLEST_TILE_PX:
                    raise ResourceError(f"{self.name} does not fit into the device's memory; use the CPU.") from None
                self._tile_px = max(SMALLEST_TILE_PX, self._tile_px // 2)
                torch.cuda.empty_cache()

    def _run(self, tile: Pixels) -> Pixels:
        # (h, w, 3) levels -> (1, 3, h, w) in [0, 1] -> (h * scale, w * scale, 3) levels
        values = torch.from_numpy(np.array(tile)).to(self._device).permute(2, 0, 1)[None]
        values = values.to(torch.half if self._half else torch.float32) / 255
        enlarged = self._model(values.contiguous(memory_format=torch.channels_last))
        return (enlarged[0].float().permute(1, 2, 0) * 255).round().to(torch.uint8).cpu().numpy()


def _refused(where: Path | str, message: str, cure: str) -> InputError:
    name = where.name if isinstance(where, Path) else where
    return InputError.of([Problem(name, message, cure, "bad_weights")])
