"""Where to cut a photo: around the face with head and shoulders, else the largest centred piece; always inside it."""

from studio.imaging.bucket import aspect, nearest_bucket
from studio.imaging.decode import Decoded

Box = tuple[int, int, int, int]
"""Top, left, height, width, pixels."""

Shares = tuple[float, float, float, float]
"""Top, left, height, width as shares of the photo's height and width, 0 to 1."""

FACE_TO_CROP = 3.2
"""Side of the crop in face heights: hair above, shoulders below, some room at the sides."""
FACE_CENTRE = 0.42
"""The face's centre lies at this share of the crop's height from its top: more room below than above."""


def whole(size_hw: tuple[int, int]) -> Box:
    """Return the box of the whole photo."""
    return (0, 0, *size_hw)


def fit(size_hw: tuple[int, int], bucket: str) -> tuple[int, int]:
    """Return the largest (height, width) with the bucket's aspect inside ``size_hw``; at least one pixel each."""
    height, width = size_hw
    ratio = aspect(bucket)
    return max(1, min(height, round(width / ratio))), max(1, min(width, round(height * ratio)))


def _placed(size_hw: tuple[int, int], crop_hw: tuple[int, int], top: float, left: float) -> Box:
    """Shift a crop of ``crop_hw`` (not larger than the photo) so that it lies inside the photo."""
    free_y, free_x = size_hw[0] - crop_hw[0], size_hw[1] - crop_hw[1]
    return (min(max(round(top), 0), free_y), min(max(round(left), 0), free_x), *crop_hw)


def box_of(shares: Shares, size_hw: tuple[int, int]) -> Box:
    """Return the box in pixels of a crop in shares; at least one pixel, inside the photo."""
    (height, width), (top, left, tall, wide) = size_hw, shares
    y, x = min(height - 1, round(top * height)), min(width - 1, round(left * width))
    return (y, x, max(1, min(height - y, round(tall * height))), max(1, min(width - x, round(wide * width))))


def shares_of(box: Box, size_hw: tuple[int, int]) -> Shares:
    """Return a box in pixels as shares of the photo, four decimals."""
    (height, width), (top, left, tall, wide) = size_hw, box
    return (round(top / height, 4), round(left / width, 4), round(tall / height, 4), round(wide / width, 4))


def cut(photo: Decoded, box: Box) -> Decoded:
    """Cut a box given in the full photo's pixels out of a picture that may have been decoded smaller."""
    top, left, height, width = box
    scale_y = photo.picture.height / photo.size_hw[0]
    scale_x = photo.picture.width / photo.size_hw[1]
    y0, x0 = round(top * scale_y), round(left * scale_x)
    y1 = max(y0 + 1, round((top + height) * scale_y))
    x1 = max(x0 + 1, round((left + width) * scale_x))
    return Decoded(photo.picture.crop((x0, y0, x1, y1)), (height, width))


def centre_crop(size_hw: tuple[int, int]) -> Box:
    """Return the largest centred box in the aspect of the photo's nearest bucket."""
    crop_hw = fit(size_hw, nearest_bucket(size_hw))
    return _placed(size_hw, crop_hw, (size_hw[0] - crop_hw[0]) / 2, (size_hw[1] - crop_hw[1]) / 2)


def face_crop(size_hw: tuple[int, int], face: Box, at_least_px: int = 1) -> Box:
    """Return a box around a face with head and shoulders, inside the photo.

    The box is a square; an upright photo that is hardly wider than that is kept as far as its nearest bucket allows.

    Args:
        size_hw: of the photo, pixels.
        face: box of the face, pixels; may stick out of the photo.
        at_least_px: the square is not made smaller than this.
    """
    top, left, height, width = face
    side = max(at_least_px, round(FACE_TO_CROP * max(height, width)))
    upright = size_hw[0] >= size_hw[1]
    bucket = nearest_bucket(size_hw) if upright and side >= size_hw[1] else "1:1"
    crop_hw = fit((min(size_hw[0], side), min(size_hw[1], side)) if bucket == "1:1" else size_hw, bucket)
    centre_y, centre_x = top + height / 2, left + width / 2
    return _placed(size_hw, crop_hw, centre_y - FACE_CENTRE * crop_hw[0], centre_x - crop_hw[1] / 2)
