"""What an upscaler promises."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Tick = Callable[[], None]
"""Called at least once per tile or step; whatever it raises ends the work."""


class Upscaler(Protocol):
    """Enlarges pictures by a whole factor."""

    name: str
    """Name of the network, or its file's name."""
    scale: int
    """Factor of one pass, >= 1."""

    def enlarge(self, picture: Pixels, *, tick: Tick) -> Pixels:
        """Return ``(H, W, 3)`` sRGB levels enlarged by ``scale``.

        Raises:
            ResourceError: not even a small tile fits into the device's memory.
        """
        ...

    def ticks(self, size_hw: tuple[int, int]) -> int:
        """Return how often ``enlarge`` will call ``tick`` for a picture of this size."""
        ...

    def working_bytes(self, size_hw: tuple[int, int]) -> int:
        """Return about how much memory one call needs beside its input, of this size, and its output, bytes."""
        ...
