"""What a matting engine promises."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Matting(Protocol):
    """Finds the subject of a picture."""

    name: str
    """Name of the model."""

    def matte(self, picture: Image.Image) -> NDArray[np.float32]:
        """Return the matte of an RGB picture of any size, ``(H, W)`` in [0, 1]; 1 is subject."""
        ...
