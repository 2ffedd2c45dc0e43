"""Pictures from a file, a folder, a zip or the output of ``generate``: listed by name, read one by one.

Nothing of an archive is ever written to a disk, and no member is read beyond its limit. Called by
``studio.postprocess``.
"""

import contextlib
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from studio.core.errors import InputError, NotFoundError, Problem
from studio.core.folder import is_clutter
from studio.core.units import bytes_text
from studio.imaging import sniff
from studio.imaging.decode import MAX_BYTES, PHOTO_ENDINGS, display_name, list_photos, no_photos

MAX_PICTURES = 1000
_MAX_INDEX_BYTES = 4 * 2**20
_UTF8_FLAG = 0x800
_INDEX_NAME = "index.json"
"""What ``generate`` writes beside its pictures."""


@dataclass(frozen=True, slots=True)
class PictureSource:
    """One input picture."""

    name: str
    """Display name; unique."""
    read: Callable[[], bytes]
    """Raises InputError where it cannot be read."""


def find_pictures(source: Path, *, leave_out: Path | None = None, only: Collection[str] = ()) -> list[PictureSource]:
    """Return the pictures at ``source``.

    Args:
        source: a picture, a folder of pictures and zips, a folder that ``generate`` wrote (best first), or a zip.
        leave_out: a file of the folder that is none of them.
        only: take these files of a folder and no others; none takes all.

    Raises:
        NotFoundError: there is nothing at ``source``.
        InputError: there are no pictures, or more than ``MAX_PICTURES``; a damaged zip; files of ``only`` that are not
            there, each named.
    """
    if only:
        return list(_distinct(_chosen(source, only)))
    if source.is_dir():
        found = [_file(path, name) for path, name in _of_folder(source) if path != leave_out]
        if not (source / _INDEX_NAME).is_file():  # what generate wrote holds a zip of the same pictures
            found += [one for path in list_photos(source)[1] if _is_zip(path) for one in _of_zip(path)]
    elif source.is_file():
        found = _of_zip(source) if _is_zip(source) else [_file(source, source.name)]
    else:
        raise NotFoundError(f"{display_name(source.name)} does not exist; give a picture, a folder or a zip file.")
    if not found:
        raise InputError.of([_none(source)])
    if len(found) > MAX_PICTURES:
        text = f"{len(found)} pictures are more than the limit of {MAX_PICTURES}"
        raise InputError.of([Problem("pictures", text, "finish them in several runs", "too_many")])
    return list(_distinct(found))


def _chosen(source: Path, only: Collection[str]) -> list[PictureSource]:
    there = {name: path for path, name in _of_folder(source)} if source.is_dir() else {}
    cure = "name pictures by their files in the folder, or leave this setting out"
    problems = [Problem("only", f"{name} is not there", cure, "no_picture") for name in only if name not in there]
    if problems:
        raise InputError.of(problems)
    return [_file(path, name) for name, path in there.items() if name in only]


def _none(source: Path) -> Problem:
    if source.is_dir():
        return replace(no_photos(source), where="pictures")
    return Problem("pictures", "there are none", "give at least one picture", "no_photos")


def _distinct(found: list[PictureSource]) -> Iterator[PictureSource]:
    taken: set[str] = set()
    for one in found:
        name, number = one.name, 2
        while name in taken:
            name, number = f"{one.name} ({number})", number + 1
        taken.add(name)
        yield PictureSource(name, one.read)


def _of_folder(folder: Path) -> list[tuple[Path, str]]:
    """Return the pictures of a folder, best first where ``generate`` ranked them, with names to show."""
    try:
        index = json.loads((folder / _INDEX_NAME).read_text(encoding="utf-8"))
        files = [str(image["file"]) for image in index["images"]]
    except (OSError, ValueError, KeyError, TypeError):
        files = []
    root = folder.resolve()
    if files:
        return [(root / file, file) for file in files if (root / file).resolve().is_relative_to(root)]
    return [(path, path.name) for path in list_photos(folder)[0]]


def _file(path: Path, name: str) -> PictureSource:
    def read() -> bytes:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise _too_large(name)
            return path.read_bytes()
        except OSError as error:
            reason = error.strerror or "unknown reason"
            raise _refused(name, f"cannot be read ({reason})", "check the file and its permissions") from None

    return PictureSource(" / ".join(display_name(part) for part in Path(name).parts), read)


def _is_zip(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"PK" and zipfile.is_zipfile(file)  # a photo may end in a zip, too
    except OSError:
        return False


def _of_zip(archive: Path) -> list[PictureSource]:
    """Return the pictures of a zip; where it holds a pack that ``generate`` made, best first."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [item for item in opened.infolist() if not item.is_dir() and not _is_clutter(_member_name(item))]
            members = [item for item in members if _claims_to_be_a_picture(opened, item)]
            ranks = _ranks(opened)
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        raise _refused(archive.name, "is a damaged zip file", "create it again") from None
    members.sort(key=lambda item: ranks.get(item.filename, len(ranks)))  # stable: without ranks they stay in order
    return [_member(archive, item) for item in members[: MAX_PICTURES + 1]]


def _is_clutter(name: str) -> bool:
    """Return whether a member was added by a file manager."""
    parts = re.split(r"[/\\]", name)
    hidden = any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in parts)
    return hidden or is_clutter(parts[-1])


def _claims_to_be_a_picture(opened: zipfile.ZipFile, item: zipfile.ZipInfo) -> bool:
    """Return whether a member is meant as a picture: by its extension, else by its first bytes."""
    if Path(item.filename).suffix.lower() in PHOTO_ENDINGS:
        return True
    try:
        with opened.open(item) as member:
            return sniff.is_picture(member.read(sniff.HEAD_BYTES))
    except Exception:  # encrypted, or damaged: zipfile answers with any exception at all
        return False


def _ranks(opened: zipfile.ZipFile) -> dict[str, int]:
    """Return the place of each member by the index of a pack; empty where there is none."""
    try:
        with opened.open(_INDEX_NAME) as member:
            index = json.loads(member.read(_MAX_INDEX_BYTES))
        return {str(image["file"]): number for number, image in enumerate(index["images"])}
    except Exception:  # it is not there, or it is anybody's
        return {}


def _member_name(item: zipfile.ZipInfo) -> str:
    """Return a member's name as it was meant, as far as anybody can know.

    By the flag it is UTF-8; without it the name in the extra field counts, if it belongs to this one. The Finder of
    macOS and others write UTF-8 without the flag, and no text in another code page is UTF-8 by accident, or hardly
    any. Else it is code page 437, as the standard says: the code pages of Windows (850, 1252, 932 ...) cannot be told
    apart, and a wrong letter is shown rather than a guess.

    Source: PKWARE APPNOTE 6.3.10, appendix D.
    """
    if item.flag_bits & _UTF8_FLAG:
        return item.filename
    try:
        raw = item.orig_filename.encode("cp437")
    except UnicodeEncodeError:  # zipfile has read the extra field by itself
        return item.filename
    for read in (lambda: _unicode_path(item.extra, raw), lambda: raw.decode("utf-8")):
        with contextlib.suppress(UnicodeDecodeError):
            if name := read():
                return name
    # In code pages of two bytes the second one may be that of a backslash, which parts no folders then.
    return re.sub(r"(?<=[^\x00-\x7f])\\", "_", item.orig_filename)


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name in the extra field 0x7075 if it belongs to this name; raises UnicodeDecodeError.

    Source: PKWARE APPNOTE 6.3.10, section 4.6.9.
    """
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 0x7075 and field[:5] == b"\x01" + zlib.crc32(raw).to_bytes(4, "little"):
            return field[5:].decode("utf-8")
    return None


def _member(archive: Path, item: zipfile.ZipInfo) -> PictureSource:
    name = display_name(_member_name(item))

    def read() -> bytes:
        if item.flag_bits & 1:
            raise _refused(name, "is encrypted", "create the zip file without a password")
        try:
            with zipfile.ZipFile(archive) as opened, opened.open(item) as member:
                data = member.read(MAX_BYTES + 1)  # the size in the header may lie
        except Exception:  # hostile archives make zipfile answer with any exception at all
            raise _refused(name, "is damaged", "create the zip file again") from None
        if len(data) > MAX_BYTES:
            raise _too_large(name)
        return data

    return PictureSource(name, read)


def _too_large(name: str) -> InputError:
    return _refused(name, f"is larger than {bytes_text(MAX_BYTES)}", "use a smaller version", "too_large")


def _refused(name: str, message: str, cure: str, code: str = "not_a_photo") -> InputError:
    return InputError.of([Problem(display_name(name), message, cure, code)])
