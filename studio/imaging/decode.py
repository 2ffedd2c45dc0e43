"""The door for photos: bytes from strangers become plain sRGB pixels without any metadata, or one clear problem.

Only five formats are opened (by content, never by ending), sizes are checked before pixels are decoded, orientation
is applied, colour is converted to sRGB, and the result is a fresh picture that carries nothing of the file.
"""

import io
import re
import unicodedata
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from studio.core.errors import InputError, Problem
from studio.core.folder import is_clutter
from studio.core.units import bytes_text

MAX_BYTES = 64 * 10**6
"""Largest file that is read, bytes."""
MAX_PIXELS = 89_478_485
"""Largest picture that is decoded: Pillow's own line, above which it warns of a decompression bomb."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF")
_STILL = frozenset({"JPEG", "MPO", "HEIF"})
"""Formats in which further frames are depth maps, bursts or thumbnails, not an animation."""
_KNOWN = "JPEG, PNG, WebP, HEIC or AVIF"

_PHOTO_ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".heic", ".heif", ".avif"),
        *(".gif", ".bmp", ".tif", ".tiff", ".jp2", ".jxl", ".svg", ".psd"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
    )
)
"""Endings of files that their owner takes for photos; a file without ending may be one too."""

_FOREIGN: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "is a GIF"),
    (b"BM", "is a BMP picture"),
    (b"II*\x00", "is a TIFF or raw camera file"),
    (b"MM\x00*", "is a TIFF or raw camera file"),
    (b"8BPS", "is a Photoshop file"),
    (b"%PDF", "is a PDF"),
    (b"PK\x03\x04", "is a zip archive"),
    (b"<svg", "is a drawing (SVG)"),
    (b"<?xml", "is a drawing or text (XML)"),
    (b"\x00\x00\x00\x0cjP  ", "is a JPEG 2000 picture"),
    (b"\xff\x0a", "is a JPEG XL picture"),
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation."""
_SIDEWAYS = frozenset(_TURNS[orientation] for orientation in (5, 6, 7, 8))


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photo as plain pixels."""

    picture: Image.Image
    """Mode RGB (RGBA where alpha was kept), sRGB, oriented, without metadata; smaller in draft mode."""
    size_hw: tuple[int, int]
    """Height and width of the full photo after EXIF orientation, pixels."""


def display_name(name: str) -> str:
    """Return a file name that is safe to show: one line, printable, no folders, at most 80 characters.

    It is only for the eye; nothing may use it as a path.
    """
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    # Category C holds control, bidi-override, surrogate and unassigned characters; the joiner is needed by emoji.
    kept = "".join(c for c in name if c == "\u200d" or not unicodedata.category(c).startswith("C"))
    kept = " ".join(kept.split()).strip("\u200d ")
    if set(kept) <= {"."}:
        return "photo"
    if len(kept) > 80:
        stem, dot, ending = kept.rpartition(".")
        kept = f"{stem[: 78 - len(ending)]}….{ending}" if dot and 0 < len(ending) <= 5 else f"{kept[:79]}…"
    return kept


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def list_photos(folder: Path) -> tuple[list[Path], list[Path]]:
    """List a folder's files, not looking into folders inside it.

    Returns:
        Files that claim to be photos in natural order (2.jpg before 10.jpg), and the other files (hidden files and
        ``.txt`` captions beside a photo are in neither).

    Raises:
        InputError: the folder is not there.
    """
    if not folder.is_dir():
        raise InputError.of(
            [Problem(display_name(str(folder)), "is not a folder", "give a folder that holds photos", "no_folder")]
        )
    files = sorted((p for p in folder.iterdir() if p.is_file() and not _is_hidden(p)), key=_natural)
    photos = [p for p in files if p.suffix.lower() in _PHOTO_ENDINGS or not p.suffix]
    captioned = {p.stem for p in photos}
    others = [p for p in files if p not in set(photos) and not (p.suffix == ".txt" and p.stem in captioned)]
    return photos, others


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or is_clutter(path)


def _refuse(name: str, message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem(display_name(name), message, cure, code)])


def _too_many_pixels(name: str, detail: str) -> InputError:
    limit = MAX_PIXELS // 10**6
    return _refuse(name, f"has too many pixels{detail}", f"scale it down below {limit} megapixels", "too_large")


def _unknown(data: bytes, name: str) -> InputError:
    head = data[:512].lstrip()
    what = next((words for magic, words in _FOREIGN if head.startswith(magic)), None)
    if what is None and data[4:8] == b"ftyp":
        what = "is a video"
    if what is None and data[:512].isascii() and b"\x00" not in data[:512]:
        what = "is a text file"
    message = f"{what}, not a photo" if what else "is not a photo in a format that can be read"
    return _refuse(name, message, f"save it as {_KNOWN}", "not_a_photo")


def _damaged(name: str) -> InputError:
    return _refuse(name, "is damaged or incomplete", "copy it again from the camera or phone", "not_a_photo")


def decode(
    path: Path, *, at_least_px: int | None = None, max_bytes: int = MAX_BYTES, keep_alpha: bool = False
) -> Decoded:
    """Read a photo from disk; see ``decode_bytes``.

    Raises:
        InputError: with one problem that names the file: not_a_photo or too_large.
    """
    name = path.name
    try:
        size_bytes = path.stat().st_size
        if size_bytes > max_bytes:
            raise _too_many_bytes(name, size_bytes, max_bytes)
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise _refuse(name, f"cannot be read ({reason})", "check the file and its rights", "not_a_photo") from None
    return decode_bytes(data, name, at_least_px=at_least_px, max_bytes=max_bytes, keep_alpha=keep_alpha)


def _too_many_bytes(name: str, size_bytes: int, max_bytes: int) -> InputError:
    cure = f"save it below {bytes_text(max_bytes)}"
    return _refuse(name, f"is too large ({bytes_text(size_bytes)})", cure, "too_large")


def decode_bytes(
    data: bytes,
    name: str,
    *,
    at_least_px: int | None = None,
    max_bytes: int = MAX_BYTES,
    keep_alpha: bool = False,
) -> Decoded:
    """Decode a photo.

    Transparent parts become white unless alpha is kept; 16-bit channels become 8-bit.

    Args:
        data: the file's bytes.
        name: the user's name for it, used in messages only.
        at_least_px: a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps this
            many pixels; None decodes it in full.
        max_bytes: larger files are refused.
        keep_alpha: return RGBA where the picture has transparent parts.

    Raises:
        InputError: with one problem that names the file: not_a_photo or too_large.
    """
    from pillow_heif import register_heif_opener

    register_heif_opener()
    if not data:
        raise _refuse(name, "is empty", "copy it again from the camera or phone", "not_a_photo")
    if len(data) > max_bytes:
        raise _too_many_bytes(name, len(data), max_bytes)
    # Foreign decoders answer hostile bytes with any exception at all, so both blocks translate every one.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data), formats=_FORMATS)
            frames = getattr(opened, "n_frames", 1)
    except UnidentifiedImageError:
        raise _unknown(data, name) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(name, "") from None
    except Exception:
        raise _damaged(name) from None
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(name, f" ({width} x {height})")
    if frames > 1 and opened.format not in _STILL:
        raise _refuse(name, "is an animation, not a photo", f"save one frame as {_KNOWN}", "not_a_photo")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if at_least_px is not None:
                shrink = at_least_px / min(width, height)
                opened.draft(None, (round(width * shrink), round(height * shrink)))
            opened.load()
            turn = _TURNS.get(_orientation(opened))
            picture = _plain_rgb(opened if turn is None else opened.transpose(turn), keep_alpha)
    except Exception:
        raise _damaged(name) from None
    return Decoded(picture, (width, height) if turn in _SIDEWAYS else (height, width))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 where it is absent or unreadable, which must not cost anybody a photo."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _plain_rgb(image: Image.Image, keep_alpha: bool) -> Image.Image:
    """Return 8-bit sRGB pixels of any Pillow picture as a fresh picture without metadata."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit greys instead of scaling them.
        grey = np.asarray(image).astype(np.float32)
        image = Image.fromarray((grey / 257).clip(0, 255).round().astype(np.uint8))
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    rgb = _to_srgb(image, profile) if profile else image.convert("RGB")
    if alpha is not None and keep_alpha and alpha.getextrema() != (255, 255):
        rgb.putalpha(alpha)
    elif alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    return Image.fromarray(np.array(rgb))


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    spaces = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space == spaces[image.mode]:
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    except (ImageCms.PyCMSError, OSError, ValueError):
        pass  # a broken profile is common and harmless: the numbers are then read as sRGB
    return image.convert("RGB")
