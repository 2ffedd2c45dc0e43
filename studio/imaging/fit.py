"""Bringing a picture to an exact size or aspect, and a file below a number of bytes, without tricks.

Sizes are met exactly; bytes are met by quality alone. Files carry the sRGB profile and what we say ourselves, nothing
else. Called by ``studio.postprocess``.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import Any, Literal

from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from studio.core.errors import InputError, Problem
from studio.imaging.png import JSON_KEY
from studio.imaging.provenance import save_unsigned, signing

Format = Literal["png", "jpeg", "webp"]

ENDINGS: dict[Format, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
_LONGEST_PX: dict[Format, int] = {"png": 2**31 - 1, "jpeg": 65500, "webp": 16383}
_SMOOTH = Image.Resampling.LANCZOS


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as a file."""

    data: bytes
    quality: int | None
    """Quality that it has; None for PNG."""


def aspect_wh(size_wh: tuple[int, int], aspect: str, how: Literal["cover", "contain"]) -> tuple[int, int]:
    """Return the width and height that have the aspect ``W:H`` at the picture's own scale.

    ``cover`` gives the largest that lies inside the picture, ``contain`` the smallest that holds it.
    """
    width, height = size_wh
    across, down = (int(part) for part in aspect.split(":"))
    narrow = width * down < height * across  # the picture is narrower than asked
    if narrow == (how == "cover"):
        return width, max(1, round(width * down / across))
    return max(1, round(height * across / down)), height


def fit(
    picture: Image.Image,
    target_wh: tuple[int, int],
    *,
    how: Literal["cover", "contain"],
    fill: tuple[int, int, int],
    focus_yx: tuple[float, float] | None = None,
) -> Image.Image:
    """Return a picture of exactly ``target_wh`` pixels.

    Args:
        picture: RGB, RGBA or L.
        target_wh: width and height, pixels.
        how: cover cuts off what is too much; contain keeps all and fills up.
        fill: levels of what contain fills up (transparent for RGBA, the first alone for L).
        focus_yx: what cover keeps in the middle as far as it can, pixels; None is the middle of the picture.
    """
    width, height = target_wh
    if how == "contain":
        scale = min(width / picture.width, height / picture.height)
        inner = (min(width, max(1, round(picture.width * scale))), min(height, max(1, round(picture.height * scale))))
        levels: dict[str, tuple[int, ...] | int] = {"RGBA": (*fill, 0), "L": fill[0]}
        canvas = Image.new(picture.mode, target_wh, levels.get(picture.mode, fill))
        at = ((width - inner[0]) // 2, (height - inner[1]) // 2)
        canvas.paste(picture if inner == picture.size else picture.resize(inner, _SMOOTH), at)
        return canvas
    scale = max(width / picture.width, height / picture.height)
    window_w, window_h = min(picture.width, width / scale), min(picture.height, height / scale)
    focus_y, focus_x = focus_yx or (picture.height / 2, picture.width / 2)
    left = min(max(focus_x - window_w / 2, 0), picture.width - window_w)
    top = min(max(focus_y - window_h / 2, 0), picture.height - window_h)
    if scale == 1:  # no resampling where pixels can simply be taken
        left, top = round(left), round(top)
        return picture.crop((left, top, left + width, top + height))
    return picture.resize(target_wh, _SMOOTH, box=(left, top, left + window_w, top + window_h))


def encode(
    picture: Image.Image,
    *,
    file_format: Format,
    quality: int,
    min_quality: int = 1,
    max_bytes: int | None = None,
    record: Mapping[str, Any],
    software: str,
    generated: bool = False,
    parent: bytes | None = None,
) -> Encoded:
    """Return a picture as a file.

    Args:
        picture: RGB, or RGBA (not for JPEG).
        file_format: png, jpeg or webp.
        quality: highest quality, 1..100; PNG has none.
        min_quality: lowest quality to try.
        max_bytes: largest file; the highest quality that meets it is taken.
        record: JSON data that the file carries.
        software: name and version that the file carries.
        generated: the file carries the mark of generated pictures and, where a certificate is set, its signed
            manifest; they count in ``max_bytes``.
        parent: the file that the picture was made of, for the manifest.

    Raises:
        InputError: the format cannot hold so large a picture (code too_large), or the bytes cannot be met (code
            too_many_bytes).
    """
    picture = picture.copy()
    picture.info.clear()  # Pillow writes comments and the like from it
    longest = max(picture.size)
    if longest > _LONGEST_PX[file_format]:
        text = f"{longest} px are more than {file_format.upper()} can hold ({_LONGEST_PX[file_format]} px)"
        raise InputError.of([Problem("fit", text, "use png or a smaller size", "too_large")])
    signer = signing() if generated else None

    def signed(data: bytes) -> bytes:
        return signer.sign(data, file_format.upper(), parent) if signer else data

    if file_format == "png":
        data = signed(_png(picture, record, software, generated))
        if max_bytes is not None and len(data) > max_bytes:
            text = f"needs {len(data)} bytes as PNG, which is lossless, but only {max_bytes} are allowed"
            raise InputError.of([Problem("fit", text, "use jpeg or webp, or allow more bytes", "too_many_bytes")])
        return Encoded(data, None)

    def made(at: int) -> bytes:
        return _lossy(picture, file_format, at, record, software, generated)

    data = made(quality)
    whole = signed(data)
    if max_bytes is None or len(whole) <= max_bytes:
        return Encoded(whole, quality)
    best: Encoded | None = None
    low, high = min_quality, quality - 1
    smallest = len(whole)
    # A manifest is as large at every quality, but for the padding of chunks: one is signed, not one for each try.
    extra = len(whole) - len(data) + (8 if signer else 0)
    while low <= high:
        middle = ceil((low + high) / 2)
        data = made(middle)
        smallest = min(smallest, len(data) + extra)
        if len(data) + extra <= max_bytes:
            best, low = Encoded(data, middle), middle + 1
        else:
            high = middle - 1
    if best is None:
        text = f"needs at least {smallest} bytes at quality {min_quality}, but only {max_bytes} are allowed"
        raise InputError.of([Problem("fit", text, "allow more bytes, or a smaller size", "too_many_bytes")])
    return Encoded(signed(best.data), best.quality)


@lru_cache(maxsize=1)
def srgb_profile() -> bytes:
    """Return the sRGB profile; without the moment of its making, so that equal pictures make equal files."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[24:36] = bytes(12)  # the header's dateTimeNumber
    return bytes(data)


def _png(picture: Image.Image, record: Mapping[str, Any], software: str, generated: bool) -> bytes:
    info = PngInfo()
    info.add_text("Software", software)
    info.add_text(JSON_KEY, json.dumps(record, sort_keys=True))
    buffer = io.BytesIO()
    save_unsigned(picture, buffer, "PNG", generated=generated, pnginfo=info, icc_profile=srgb_profile())
    return buffer.getvalue()


def _lossy(
    picture: Image.Image,
    file_format: Format,
    quality: int,
    record: Mapping[str, Any],
    software: str,
    generated: bool,
) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Software.value] = software
    exif[ExifTags.Base.ImageDescription.value] = json.dumps(record, sort_keys=True)
    buffer = io.BytesIO()
    # Optimized tables cost little time and are exact; progressive files are a little smaller still.
    extra: dict[str, Any] = {"optimize": True, "progressive": True} if file_format == "jpeg" else {"method": 4}
    extra |= {"quality": quality, "exif": exif, "icc_profile": srgb_profile()}
    save_unsigned(picture, buffer, file_format.upper(), generated=generated, **extra)
    return buffer.getvalue()
