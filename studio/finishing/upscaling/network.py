"""Upscaling with convolutional networks, in tiles: memory does not grow with the picture beyond the picture itself."""

import numpy as np
import torch

from studio.core.errors import ResourceError
from studio.finishing.networks.read import Weights, build, refused
from studio.finishing.upscaling.base import Pixels, Tick
from studio.imaging.tile import count_tiles, enlarge_tiled

OVERLAP_PX = 64
"""How far a tile sees its neighbours. Networks of many blocks see further, but hardly: on x4plus (23 blocks) a seam
shows up to 13 levels with 32 px, 3 with 48, 2 with 56 and 1 with 64."""
SMALLEST_TILE_PX = 32
_TILE_PX = {"Compact": 512}
_TILE_PX_ELSE = 256
_BYTES_PER_PIXEL = {"Compact": 1_000}
_BYTES_PER_PIXEL_ELSE = 12_000
"""By spandrel's name of the architecture, per input pixel of a tile, single precision. Compact networks work at the
size of the input; x4plus and its like hold three layers of 64 channels at four times the size."""


class NetworkUpscaler:
    """A loaded network.

    Args:
        name: to be shown.
        weights: its tensors.
        device: where it computes.
        tile_px: side of a tile, pixels of the input; halved by itself where the device's memory is too small. None
            takes 512 for a Compact network, which needs little memory, and 256 for others.

    Raises:
        InputError: the weights are of no known network, or of one that does not enlarge.
    """

    def __init__(self, name: str, weights: Weights, *, device: torch.device, tile_px: int | None = None) -> None:
        model = build(weights, name)
        if model.scale < 2:
            raise refused(name, "does not enlarge (its factor is 1)", "give an upscaling network")
        self.name = name
        self.scale: int = model.scale
        self._bytes_per_pixel = _BYTES_PER_PIXEL.get(model.architecture.id, _BYTES_PER_PIXEL_ELSE)
        self._half = device.type == "cuda" and model.supports_half
        self._model = model.to(device).half() if self._half else model.to(device).float()
        self._model.model.to(memory_format=torch.channels_last)  # a quarter to a third faster on CPUs
        self._device = device
        self._tile_px = tile_px or _TILE_PX.get(model.architecture.id, _TILE_PX_ELSE)
        # A network sees at most the sum of its kernels' halves: for small ones that is less than the general overlap.
        self._overlap_px = min(OVERLAP_PX, sum(value.shape[-1] // 2 for value in weights.values() if value.ndim == 4))

    def ticks(self, size_hw: tuple[int, int]) -> int:
        """Return how many tiles a picture of this size has."""
        return count_tiles(size_hw, self._tile_px)

    def working_bytes(self, size_hw: tuple[int, int]) -> int:
        """Return about how much memory the largest tile of such a picture needs, bytes."""
        height, width = (min(side, self._tile_px + 2 * self._overlap_px) for side in size_hw)
        return height * width * self._bytes_per_pixel // (2 if self._half else 1)

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
