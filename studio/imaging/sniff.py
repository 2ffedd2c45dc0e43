"""File type detection by the first bytes: a readable photo, another kind of picture, or no picture.

Endings lie, and cameras invent new ones (.HIF). Only bytes are looked at here; nothing is decoded.
"""

from pathlib import Path

HEAD_BYTES = 512
"""Number of bytes examined at the start of a file."""

JPEG = b"\xff\xd8\xff"
PNG = b"\x89PNG\r\n\x1a\n"

_STILL_BRANDS = frozenset(
    (
        *(b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"),
        *(b"avif", b"avis", b"mif1", b"mif2", b"msf1", b"miaf"),
    )
)
"""Brands of HEIF and AVIF files, which share the box structure of videos."""
HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis"))
"""Brands that say that the picture itself is coded as HEVC."""

_PICTURES: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "is a GIF"),
    (b"II*\x00", "is a TIFF or raw camera file"),
    (b"MM\x00*", "is a TIFF or raw camera file"),
    (b"IIRO", "is a raw camera file"),
    (b"IIU\x00", "is a raw camera file"),
    (b"FUJIFILMCCD-RAW", "is a raw camera file"),
    (b"8BPS", "is a Photoshop file"),
    (b"\x00\x00\x00\x0cjP  ", "is a JPEG 2000 picture"),
    (b"\x00\x00\x00\x0cJXL ", "is a JPEG XL picture"),
    (b"\xff\x0a", "is a JPEG XL picture"),
)
"""Pictures that are not read."""
_OTHERS: tuple[tuple[bytes, str], ...] = (
    (b"%PDF", "is a PDF"),
    (b"PK\x03\x04", "is a zip archive"),
    (b"<svg", "is a drawing (SVG)"),
    (b"<?xml", "is a drawing or text (XML)"),
)


def brands(head: bytes) -> list[bytes]:
    """Return the brands of a file of boxes (HEIF, AVIF, MP4), its own first; empty for any other file."""
    if head[4:8] != b"ftyp":
        return []
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return [head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))]


def is_photo(head: bytes) -> bool:
    """Return whether a file begins like one of the formats that are read: JPEG, PNG, WebP, HEIF, AVIF."""
    if head.startswith((JPEG, PNG)):
        return True
    return (head[:4] == b"RIFF" and head[8:12] == b"WEBP") or not _STILL_BRANDS.isdisjoint(brands(head))


def foreign_picture(head: bytes) -> str | None:
    """Return what a file is, in words, if it is a picture of a kind that is not read; else None."""
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # two letters alone begin many a text
        return "is a BMP picture"
    if head[8:12] == b"crx " and brands(head):
        return "is a raw camera file"
    return next((words for magic, words in _PICTURES if head.startswith(magic)), None)


def is_picture(head: bytes) -> bool:
    """Return whether a file begins like any picture, readable here or not."""
    return is_photo(head) or foreign_picture(head) is not None


def foreign(head: bytes) -> str | None:
    """Return what a file that is no photo is, in words; None where that cannot be told."""
    if (words := foreign_picture(head)) is not None:
        return words
    bare = head.lstrip()
    if (words := next((words for magic, words in _OTHERS if bare.startswith(magic)), None)) is not None:
        return words
    if brands(head):
        return "is a video"
    return "is a text file" if head and head.isascii() and b"\x00" not in head else None


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""
