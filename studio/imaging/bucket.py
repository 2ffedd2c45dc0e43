"""Aspect buckets: the few shapes that photos are cropped to, so that a batch holds pictures of one size.

The photo check names each photo's bucket (``nearest_bucket``); training turns the name into a size that suits its
base (``buckets(resolution_px, multiple_px)[photo.bucket]``). diffusers has a table like this in its training_utils,
but that imports torch, and its nearest-bucket metric (a difference of products) favours buckets with small sides.
"""

import math

RATIOS_WH: tuple[str, ...] = ("1:1", "4:5", "5:4", "3:4", "4:3", "2:3", "3:2", "9:16", "16:9")
"""The buckets as "W:H", the square first. Longer shapes are cropped to the last two."""


def aspect(bucket: str) -> float:
    """Return width / height of a bucket's name such as "3:4"."""
    width, height = bucket.split(":")
    return int(width) / int(height)


def nearest_bucket(size_hw: tuple[int, int]) -> str:
    """Return the bucket whose aspect is nearest to ``size_hw`` in the logarithm, as "W:H"."""
    height, width = size_hw
    return min(RATIOS_WH, key=lambda name: abs(math.log(aspect(name)) - math.log(width / height)))


def buckets(resolution_px: int, multiple_px: int) -> dict[str, tuple[int, int]]:
    """Return each bucket's size.

    Args:
        resolution_px: side of the square bucket, pixels; the others have about the same area.
        multiple_px: height and width are rounded to multiples of this (at least one multiple).

    Returns:
        Name "W:H" -> (height, width), pixels.
    """

    def rounded(length: float) -> int:
        return max(1, round(length / multiple_px)) * multiple_px

    return {
        name: (rounded(resolution_px / math.sqrt(aspect(name))), rounded(resolution_px * math.sqrt(aspect(name))))
        for name in RATIOS_WH
    }
