"""Photos made small for the way: what training would see anyway, in as few bytes as that takes."""

import hashlib
import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from studio.core import records
from studio.core.domain import Dataset, Photo
from studio.core.errors import InputError, Problem
from studio.imaging.bucket import buckets, nearest_bucket
from studio.imaging.decode import display_name, list_photos

SHARE = 0.15
"""A photo is sent without loss at the training size where that takes at most this share of the user's file."""


MEAN_LEVELS = 1.5
"""Otherwise it may differ there by so many of 255 levels on average, and takes more bytes rather than differ more."""


MOST_BYTES = 4 * 2**20
"""Largest upload that a server takes."""


LEAST_PX = 512
"""Longer side that is always sent where the photo has it: faces, sharpness and likeness are judged at this size."""


HEADROOM = 1.5
"""Photos that cannot be sent at the training size itself are so much longer; resizing twice then costs little."""


_QUALITIES = (98, 97, 96, 95, 93, 90, 85, 80)


PHOTOS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class ShrunkPhoto:
    """One photo as it will be sent."""

    name: str
    """Neutral: 001.webp or 001.jpg; the user's file name stays here."""
    data: bytes
    sha256: str
    size_hw: tuple[int, int]
    quality: int | None
    """Of JPEG; None is lossless WebP."""
    difference: float
    """Mean difference from the original's crop at the training size, levels of 255; 0 means that no pixel differs."""


@dataclass(frozen=True, slots=True)
class PreparedUpload:
    """All that is sent of a set of photos."""

    files: tuple[tuple[str, str, bytes], ...]
    """(name, SHA-256, bytes) of photos and captions."""
    photos: tuple[ShrunkPhoto, ...]
    original_bytes: int
    """Of the user's own files that these were made from."""

    @property
    def sent_bytes(self) -> int:
        """Return the size of all files together."""
        return sum(len(data) for _, _, data in self.files)

    @property
    def exact(self) -> int:
        """Return how many photos training sees exactly as it would have seen the originals."""
        return sum(photo.difference == 0 for photo in self.photos)

    @property
    def difference(self) -> float:
        """Return the mean difference of the worst photo at the training size, levels of 255."""
        return max((photo.difference for photo in self.photos), default=0.0)


def pack(dataset_dir: Path, photos_dir: Path, resolution_px: int, multiple_px: int = 8) -> PreparedUpload:
    """Make small what training at a resolution cannot use.

    Args:
        dataset_dir: what ``check`` made of the photos.
        photos_dir: the user's photos, of which only the sizes in bytes are looked at; or the dataset itself.
        resolution_px: side of the square that is trained on.
        multiple_px: what heights and widths are rounded to there.

    Raises:
        InputError: a prepared photo cannot be read.
    """
    dataset = records.read(Dataset, dataset_dir / "dataset.json", cure="check the photos again", code="bad_dataset")
    sizes_hw = buckets(resolution_px, multiple_px)

    named = {display_name(path.name): path for path in list_photos(photos_dir)[0]}
    originals = [named.get(photo.name, dataset_dir / photo.file).stat().st_size for photo in dataset.photos]

    def one(number: int, photo: Photo, original_bytes: int) -> ShrunkPhoto:
        try:
            with Image.open(dataset_dir / photo.file) as opened:
                crop = opened.convert("RGB")
        except (OSError, ValueError, SyntaxError):
            problem = Problem(photo.name, "its prepared picture cannot be read", "run the same command again")
            raise InputError.of([problem]) from None
        size_hw = sizes_hw[photo.bucket]
        is_kept = (
            sizes_hw[nearest_bucket(size_hw)] == size_hw
        )  # the check there sees the size only, and names the bucket
        return _packed(f"{number:03d}", crop, size_hw, original_bytes, at_size=is_kept)

    with ThreadPoolExecutor(PHOTOS_AT_ONCE) as pool:
        photos = tuple(pool.map(one, range(1, len(dataset.photos) + 1), dataset.photos, originals))
    files = []
    for photo, packed in zip(dataset.photos, photos, strict=True):
        caption = photo.caption.encode()
        files.append((packed.name, packed.sha256, packed.data))
        files.append((f"{Path(packed.name).stem}.txt", hashlib.sha256(caption).hexdigest(), caption))
    return PreparedUpload(tuple(files), photos, sum(originals))


def _packed(
    stem: str, crop: Image.Image, training_hw: tuple[int, int], original_bytes: int, *, at_size: bool = True
) -> ShrunkPhoto:
    """Return the best form of a crop in ``SHARE`` of its original's bytes, seen by training at ``training_hw``.

    Args:
        stem: name without its ending.
        crop: RGB.
        training_hw: what training resizes it to.
        original_bytes: of the user's file.
        at_size: False where a picture of the very training size would be put into another bucket there.
    """
    seen = _at(crop, training_hw)
    small = _small(crop, training_hw, at_size)
    most_bytes = min(SHARE * original_bytes, MOST_BYTES)
    best: ShrunkPhoto | None = None
    for quality in (None, *_QUALITIES):
        data = _encoded(small, quality)
        with Image.open(io.BytesIO(data)) as read:
            difference = float(np.abs(_at(read.convert("RGB"), training_hw) - seen).mean())
        if best is not None and difference > MEAN_LEVELS and len(best.data) <= MOST_BYTES:
            break
        name = f"{stem}.{'webp' if quality is None else 'jpg'}"
        size_hw = (small.height, small.width)
        best = ShrunkPhoto(name, data, hashlib.sha256(data).hexdigest(), size_hw, quality, round(difference, 4))
        if len(data) <= most_bytes:
            break
    assert best is not None
    return best


def _small(crop: Image.Image, training_hw: tuple[int, int], at_size: bool) -> Image.Image:
    """Return a crop without the pixels that nobody there needs: of the training size, if that is not too small."""
    height, width = training_hw
    least_px = LEAST_PX
    if max(training_hw) >= LEAST_PX:
        if at_size and crop.width >= width and crop.height >= height:
            return ImageOps.fit(crop, (width, height), Image.Resampling.LANCZOS)
        least_px = round(HEADROOM * max(training_hw))
    return ImageOps.contain(crop, (least_px, least_px), Image.Resampling.LANCZOS) if max(crop.size) > least_px else crop


def _at(picture: Image.Image, size_hw: tuple[int, int]) -> np.ndarray:
    """Return a picture as training sees it: ``(H, W, 3)`` levels, float32."""
    resized = ImageOps.fit(picture, (size_hw[1], size_hw[0]), Image.Resampling.LANCZOS)
    return np.asarray(resized).astype(np.float32)


def _encoded(picture: Image.Image, quality: int | None) -> bytes:
    file = io.BytesIO()
    if quality is None:
        picture.save(file, "WEBP", lossless=True, quality=60)
    else:  # not WebP, which halves the colours' resolution at every quality
        picture.save(file, "JPEG", quality=quality, subsampling=0)
    return file.getvalue()
