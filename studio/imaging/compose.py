"""What stands behind a cutout: a colour, a gradient, the background out of focus, another picture."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def rgb_of(colour: str) -> tuple[int, int, int]:
    """Return the levels of a colour ``#rrggbb``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def plain(size_hw: tuple[int, int], colour: str) -> Pixels:
    """Return a picture of one colour, ``(H, W, 3)``."""
    return np.broadcast_to(np.array(rgb_of(colour), np.uint8), (*size_hw, 3)).copy()


def gradient(size_hw: tuple[int, int], above: str, below: str) -> Pixels:
    """Return a picture that runs from one colour at its top to another at its bottom, ``(H, W, 3)``."""
    share = np.linspace(0, 1, size_hw[0], dtype=np.float32)[:, None, None]
    rows = (1 - share) * np.array(rgb_of(above), np.float32) + share * np.array(rgb_of(below), np.float32)
    return np.broadcast_to(rows.round().astype(np.uint8), (*size_hw, 3)).copy()


def blurred(original: Pixels, matte: NDArray[np.float32], radius_px: float) -> Pixels:
    """Return the background out of focus, without a glow of the subject round the subject.

    Args:
        original: ``(H, W, 3)`` sRGB levels.
        matte: ``(H, W)`` in [0, 1]; 1 is subject.
        radius_px: standard deviation of the blur.

    Returns:
        ``(H, W, 3)``: the blur of the background's pixels alone, divided by how many of them there were.
    """
    import cv2

    # Blurred at a smaller size: the result has no detail that could be lost, and the kernel stays small.
    scale = min(1.0, 4.0 / radius_px)
    height, width = matte.shape
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(original, size_wh, interpolation=cv2.INTER_AREA).astype(np.float32)
    # Weighed before it is shrunk: afterwards, pixels at the edge would hold both.
    weight = cv2.resize(1 - matte, size_wh, interpolation=cv2.INTER_AREA)
    weighed = [cv2.resize(plane * (1 - matte), size_wh, interpolation=cv2.INTER_AREA) for plane in cv2.split(original)]
    sigma = max(radius_px * scale, 0.3)
    near = cv2.GaussianBlur(cv2.merge(weighed), (0, 0), sigma) + small * 1e-4
    count = cv2.GaussianBlur(weight, (0, 0), sigma) + 1e-4
    soft = np.clip(near / count[..., None], 0, 255)
    return cv2.resize(soft, (width, height), interpolation=cv2.INTER_LINEAR).round().astype(np.uint8)


def covering(picture: Image.Image, size_hw: tuple[int, int]) -> Pixels:
    """Return a picture scaled and cut, around its middle, so that it covers ``size_hw``; ``(H, W, 3)``."""
    height, width = size_hw
    scale = max(height / picture.height, width / picture.width)
    wanted = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    left, top = (wanted[0] - width) // 2, (wanted[1] - height) // 2
    scaled = picture.convert("RGB").resize(wanted, Image.Resampling.LANCZOS)
    return np.asarray(scaled.crop((left, top, left + width, top + height)))


def over(subject: Pixels, matte: NDArray[np.float32], background: Pixels) -> Pixels:
    """Lay a subject over a background: ``matte * subject + (1 - matte) * background``, ``(H, W, 3)``."""
    share = matte[..., None]
    mixed = share * subject.astype(np.float32) + (1 - share) * background.astype(np.float32)
    return mixed.round().astype(np.uint8)
