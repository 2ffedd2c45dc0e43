"""Photo decoding: untrusted bytes become plain sRGB pixels without any metadata, or one clear problem.

Only five formats are opened (by content, never by ending), sizes are checked before pixels are decoded, orientation
is applied, colour is converted to sRGB, and the result is a fresh picture that carries nothing of the file.
"""

import io
import os
import re
import unicodedata
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from studio.core.errors import InputError, Problem
from studio.core.folder import is_clutter
from studio.core.units import bytes_text
from studio.imaging import colours, sniff
from studio.imaging.whole import png_is_whole

MAX_BYTES = 64 * 10**6
"""Largest file that is read, bytes."""
MAX_PIXELS = 89_478_485
"""Largest picture that is decoded: Pillow's own line, above which it warns of a decompression bomb."""
MAX_SIDE_PX = 32_768
"""Longest side of a picture that is decoded: thin ones cost decoders far more than their pixels."""
MAX_DECODING_BYTES = 1_342_177_280
"""Most memory that decoding one picture may take at its peak: 1.25 GiB."""
_BYTES_PER_PIXEL = {"JPEG": 12, "MPO": 12, "PNG": 14, "WEBP": 23, "HEIF": 20, "AVIF": 30}
"""Measured at the peak: what the decoder holds (most for AVIF of ten bits with alpha), Pillow's picture, and ours."""

_FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "HEIF")
_STILL = frozenset({"JPEG", "MPO", "HEIF"})
"""Formats in which further frames are depth maps, bursts or thumbnails, not an animation."""
_OPENED_BRANDS = sniff.HEIC_BRANDS | {b"hevc", b"hevx", b"hevm", b"hevs", b"avif", b"avis", b"mif1", b"msf1"}
_KNOWN = "JPEG, PNG, WebP, HEIC or AVIF"

PHOTO_ENDINGS = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".heic", ".heif", ".hif", ".avif"),
        *(".gif", ".bmp", ".tif", ".tiff", ".jp2", ".jxl", ".svg", ".psd"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
    )
)
"""Extensions of files that count as photos whatever their content. With any other, the content decides."""
_MOST_FOLDERS, _MOST_FILES = 200, 5000
"""Maximum number of folders and files searched for photos in subfolders."""

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
    return _natural_name(path.name)


def _natural_name(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name.casefold())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def list_photos(folder: Path) -> tuple[list[Path], list[Path]]:
    """List a folder's files, not looking into folders inside it.

    Returns:
        Files that claim to be photos, by their ending, by having none, or by their content, in natural order (2.jpg
        before 10.jpg); and the other files (hidden files and ``.txt`` captions beside a photo are in neither).

    Raises:
        InputError: the folder is not there.
    """
    if not folder.is_dir():
        raise InputError.of(
            [Problem(display_name(str(folder)), "is not a folder", "give a folder that contains photos", "no_folder")]
        )
    files = sorted((p for p in folder.iterdir() if p.is_file() and not _is_hidden(p)), key=_natural)
    photos = [p for p in files if not p.suffix or _claims_to_be_a_photo(p)]
    captioned = {p.stem for p in photos} | {p.name for p in photos}
    chosen = set(photos)
    others = [p for p in files if p not in chosen and not (p.suffix.lower() == ".txt" and p.stem in captioned)]
    return photos, others


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or is_clutter(path)


def _claims_to_be_a_photo(path: Path) -> bool:
    return path.suffix.lower() in PHOTO_ENDINGS or sniff.is_picture(sniff.head_of(path))


def no_photos(folder: Path) -> Problem:
    """Return the problem of a folder without photos; it names the folders inside that hold some."""
    deeper = photos_inside(folder)
    if not deeper:
        return Problem("photos", "there are none", "add at least one photo", "no_photos")
    message = f"there are none in the folder itself, but in its subfolders: {in_folders(deeper)}"
    return Problem("photos", message, "give one of these subfolders, or move the photos up", "no_photos")


def in_folders(counts: Mapping[str, int]) -> str:
    """Return in words how many photos lie in which folders."""
    named = [f'{"1 photo" if count == 1 else f"{count} photos"} in "{name}"' for name, count in counts.items()]
    return ", ".join(named[:5]) + (f" and {len(named) - 5} more folders" if len(named) > 5 else "")


def photos_inside(folder: Path) -> dict[str, int]:
    """Count the photos that lie in folders inside a folder.

    Returns:
        Path relative to ``folder``, fit to be shown, -> number of photos, in natural order; without hidden folders,
        links, and what the studio itself wrote there. In a large tree only the first files are counted.
    """
    found: dict[str, int] = {}
    folders = files = 0
    for at, names, members in os.walk(folder):
        names[:] = sorted((name for name in names if _may_hold_photos(Path(at, name))), key=_natural_name)
        folders, files = folders + 1, files + len(members)
        if folders > _MOST_FOLDERS or files > _MOST_FILES:
            break
        if Path(at) != folder:
            count = sum(not name.startswith(".") and _claims_to_be_a_photo(Path(at, name)) for name in members)
            if count:
                found["/".join(display_name(part) for part in Path(at).relative_to(folder).parts)] = count
    return found


def _may_hold_photos(folder: Path) -> bool:
    return not folder.name.startswith((".", "__MACOSX")) and not (folder / "dataset.json").exists()


def _refuse(name: str, message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem(display_name(name), message, cure, code)])


def _too_many_pixels(name: str, detail: str) -> InputError:
    limit = MAX_PIXELS // 10**6
    return _refuse(name, f"has too many pixels{detail}", f"scale it down below {limit} megapixels", "too_large")


def _unknown(data: bytes, name: str) -> InputError:
    what = sniff.foreign(data[: sniff.HEAD_BYTES])
    message = f"{what}, not a photo" if what else "is not a photo in a format that can be read"
    return _refuse(name, message, f"save it as {_KNOWN}", "not_a_photo")


def _known_brand(data: bytes) -> bytes:
    """Let a HEIF file whose brand the decoder does not know pass as one of its compatible brands."""
    own, *compatible = sniff.brands(data[: sniff.HEAD_BYTES]) or [b""]
    other = next((brand for brand in compatible if brand in sniff.HEIC_BRANDS), None)
    if other is None or own in _OPENED_BRANDS:
        return data
    return data[:8] + other + data[12:]


def damaged(name: str) -> InputError:
    """Return the error for a file that is incomplete or damaged."""
    return _refuse(name, "is damaged or incomplete", "copy it again from the camera or phone", "not_a_photo")


def decode(
    path: Path, *, at_least_px: int | None = None, max_bytes: int = MAX_BYTES, keep_alpha: bool = False
) -> Decoded:
    """Read a photo from disk; see ``decode_bytes``.

    Raises:
        InputError: with one problem that names the file: not_a_photo or too_large.
    """
    data = read_photo(path, max_bytes)
    return decode_bytes(data, path.name, at_least_px=at_least_px, max_bytes=max_bytes, keep_alpha=keep_alpha)


def read_photo(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return a file's bytes; raises InputError where they are too many or cannot be read."""
    name = path.name
    try:
        size_bytes = path.stat().st_size
        if size_bytes > max_bytes:
            raise _too_many_bytes(name, size_bytes, max_bytes)
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise _refuse(name, f"cannot be read ({reason})", "check the file and its permissions", "not_a_photo") from None


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
        InputError: with one problem that names the file: not_a_photo, too_large or unknown_colours.
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
            opened = Image.open(io.BytesIO(_known_brand(data)), formats=_FORMATS)
            frames = getattr(opened, "n_frames", 1)
    except UnidentifiedImageError:
        raise _unknown(data, name) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(name, "") from None
    except Exception:
        raise damaged(name) from None
    try:
        stated = colours.stated(
            data, opened.format, icc=opened.info.get("icc_profile"), is_adobe_rgb=_is_adobe_rgb(opened)
        )
    except colours.UnknownColoursError as error:
        message = f"has unsupported colours ({error})"
        raise _refuse(name, message, "save it as a JPEG in sRGB", "unknown_colours") from None
    width, height = opened.size
    _require_bearable(name, opened)
    if opened.format == "PNG" and not png_is_whole(data):
        raise damaged(name)
    if frames > 1 and opened.format not in _STILL:
        raise _refuse(name, "is an animation, not a photo", f"save one frame as {_KNOWN}", "not_a_photo")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if at_least_px is not None:
                shrink = at_least_px / min(width, height)
                opened.draft(None, (round(width * shrink), round(height * shrink)))
            opened.load()
            _align_colour_key(opened, data)
            turn = _TURNS.get(_orientation(opened))
            picture = _plain_rgb(opened if turn is None else opened.transpose(turn), keep_alpha, stated)
    except MemoryError:
        raise _refuse(name, "needs more memory than is available", "scale it down", "too_large") from None
    except Exception:
        raise damaged(name) from None
    return Decoded(picture, (width, height) if turn in _SIDEWAYS else (height, width))


def _require_bearable(name: str, opened: Image.Image) -> None:
    """Refuse by its header alone a picture whose pixels would take too much; raises InputError."""
    width, height = opened.size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(name, f" ({width} x {height})")
    if max(width, height) > MAX_SIDE_PX:
        message = f"is too long ({width} x {height})"
        raise _refuse(name, message, f"crop or scale it to at most {MAX_SIDE_PX} px per side", "too_large")
    each = _BYTES_PER_PIXEL.get(opened.format or "", 32)
    if width * height * each > MAX_DECODING_BYTES:
        limit = MAX_DECODING_BYTES // each // 10**6
        message = f"needs too much memory as {opened.format} ({width} x {height})"
        raise _refuse(name, message, f"scale it down below {limit} megapixels, or save it as a JPEG", "too_large")


def _align_colour_key(opened: Image.Image, data: bytes) -> None:
    """Give the colour that a PNG calls transparent in the levels that Pillow gives the pixels."""
    key = opened.info.get("transparency")
    if opened.format != "PNG" or len(data) < 25:
        return
    depth = data[24]  # of a sample, in the header
    if isinstance(key, int) and opened.mode == "L" and depth in (2, 4):
        opened.info["transparency"] = key * 255 // (2**depth - 1)
    elif isinstance(key, tuple) and opened.mode == "RGB" and depth == 16:
        opened.info["transparency"] = tuple(level >> 8 for level in key)


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return 16-bit greys in 8 bits; Pillow's own conversion clips instead of scaling them."""
    grey = np.asarray(image)
    if grey.dtype != np.uint16:
        grey = grey.clip(0, 65535).astype(np.uint16)
    levels = ((np.arange(65536) + 128) // 257).astype(np.uint8)[grey]
    key = image.info.get("transparency")
    if not isinstance(key, int):
        return Image.fromarray(levels)
    alpha = np.where(grey == key, 0, 255).astype(np.uint8)
    return Image.fromarray(np.dstack([levels, alpha]))


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1..8; 1 where it is absent or unreadable, which must not cost anybody a photo."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:
        return 1


def _is_adobe_rgb(image: Image.Image) -> bool:
    """Return whether a camera marks Adobe RGB by its file system rules, which have no profiles."""
    try:
        return image.format == "JPEG" and image.getexif().get_ifd(ExifTags.IFD.Interop).get(1) == "R03"
    except Exception:
        return False


def _plain_rgb(image: Image.Image, keep_alpha: bool, stated: colours.Colours | None) -> Image.Image:
    """Return 8-bit sRGB pixels of any Pillow picture as a fresh picture without metadata."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.mode in ("P", "PA", "LA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if image.mode not in ("L", "CMYK"):
        image = image.convert("RGB")
    if stated is not None:
        rgb = colours.to_srgb(image.convert("RGB"), stated)
    else:
        rgb = _to_srgb(image, profile) if profile else image.convert("RGB")
    if alpha is not None and keep_alpha and alpha.getextrema() != (255, 255):
        rgb.putalpha(alpha)
    elif alpha is not None:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, "white"), alpha)
    # Neither a file's own class nor its notes: conversions give plain pictures, which may share and keep the notes.
    rgb.info = {}
    return rgb


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
