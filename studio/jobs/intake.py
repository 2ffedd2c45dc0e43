"""Uploads of a job: all problems in one answer, then durable copies under safe names.

The user's file name is kept as far as it is safe, because verdicts name photos by it.
"""

import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from studio.core.errors import InputError, Problem, ResourceError
from studio.core.files import full_disk_in_words, is_disk_full, sync_folder
from studio.core.units import bytes_text

_CHUNK_BYTES = 2**20
_NAME_BYTES = 160
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,10}$")
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)$", re.IGNORECASE)
_JOINERS = "\u200c\u200d"  # zero-width joiners: emoji and some scripts need them


@dataclass(frozen=True, slots=True)
class Upload:
    """One file that passed the checks and may be copied."""

    path: Path
    name: str
    """Safe, unique within the set, as close to the user's name as can be."""


def safe_name(name: str) -> str:
    """Return a file name without folders, control characters or anything that a file system may refuse.

    Letters of any script and emoji stay; at most 160 bytes of UTF-8; never empty, hidden or reserved.
    """
    name = re.split(r"[\\/]", name)[-1]
    name = name.encode("utf-8", "replace").decode("utf-8")  # bytes that were no UTF-8 arrive as lone surrogates
    name = unicodedata.normalize("NFC", name)
    # Cc, Cf, Zl, Zp: control, invisible and direction-changing characters, line ends
    name = "".join(
        char for char in name if char in _JOINERS or unicodedata.category(char) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
    )
    name = re.sub(r'[<>:"|?*]', "_", name)
    name = " ".join(name.split()).lstrip(".").strip(" .")
    ending = _ENDING.search(name)
    suffix = ending.group() if ending else ""
    stem = name.removesuffix(suffix).rstrip(" .") or "photo"
    if _RESERVED.match(stem):
        stem = f"_{stem}"
    return _cut(stem, _NAME_BYTES - len(suffix)) + suffix


def inspect(
    paths: Sequence[Path], *, max_photos: int, max_bytes: int, kept: Sequence[Upload] = ()
) -> tuple[Upload, ...]:
    """Check files without opening them and give each its name.

    Args:
        paths: the user's files, in the user's order.
        kept: files of an earlier job that come before them and keep their names.
        max_photos: maximum number of files.
        max_bytes: maximum size of one file.

    Raises:
        InputError: everything that is wrong with the set and with each file; nothing was stored.
    """
    problems = []
    if not paths and not kept:
        problems.append(Problem("photos", "there are none", "add at least one photo", "no_photos"))
    # Captions (.txt) come beside the photos and do not count, as long as there are no more of them than photos.
    names = [*(upload.name for upload in kept), *(path.name for path in paths)]
    captions = sum(name.lower().endswith(".txt") for name in names)
    count = max(len(names) - captions, captions)
    if count > max_photos:
        text = f"{count} photos are more than the limit of {max_photos}"
        problems.append(Problem("photos", text, f"keep the best {max_photos} or fewer", "too_many_photos"))
    uploads: list[Upload] = list(kept)
    taken = {upload.name.casefold() for upload in kept}
    for path in paths:
        name = _unique(safe_name(path.name), taken)
        taken.add(name.casefold())
        try:
            status = path.stat()
        except (OSError, ValueError):
            problems.append(_unreadable(name))
            continue
        if not stat.S_ISREG(status.st_mode):
            problems.append(Problem(name, "is not a file", "choose a photo, not a folder", "not_a_file"))
        elif status.st_size > max_bytes:
            problems.append(_too_large(name, max_bytes))
        uploads.append(Upload(path, name))
    if problems:
        raise InputError.of(problems)
    return tuple(uploads)


def digest(uploads: Sequence[Upload]) -> list[list[str]]:
    """Return ``[name, sha256]`` of every file, in order, without copying anything; raises as ``copy``."""
    return [[upload.name, _digest_one(upload)] for upload in uploads]


def copy(uploads: Sequence[Upload], folder: Path, *, max_bytes: int) -> list[list[str]]:
    """Copy the files into a new folder and sync them to the disk.

    Returns:
        ``[name, sha256]`` of every file, in order.

    Raises:
        InputError: a file cannot be read (any more) or has grown beyond ``max_bytes``.
        ResourceError: the disk is full or broken. In both cases the caller removes the folder.
    """
    with disk_errors():
        folder.mkdir(mode=0o700)
    rows = [[upload.name, _copy_one(upload, folder, max_bytes)] for upload in uploads]
    with disk_errors():
        sync_folder(folder)
    return rows


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn errors of the file system into ResourceError, with words for the user."""
    with full_disk_in_words("nothing was stored; free some space and try again"):
        try:
            yield
        except OSError as error:
            if is_disk_full(error):
                raise
            text = f"The studio's folder cannot be written ({error.strerror}), so nothing was stored"
            raise ResourceError(f"{text}; check it and try again.") from error


def _too_large(name: str, max_bytes: int) -> Problem:
    return Problem(name, f"is larger than {bytes_text(max_bytes)}", "use a smaller version", "too_large")


def _chunks(upload: Upload) -> Iterator[bytes]:
    try:
        with upload.path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError:
        raise InputError.of([_unreadable(upload.name)]) from None


def _digest_one(upload: Upload) -> str:
    sha256 = hashlib.sha256()
    for chunk in _chunks(upload):
        sha256.update(chunk)
    return sha256.hexdigest()


def _copy_one(upload: Upload, folder: Path, max_bytes: int) -> str:
    sha256 = hashlib.sha256()
    size_bytes = 0
    with disk_errors(), (folder / upload.name).open("xb") as file:
        for chunk in _chunks(upload):
            size_bytes += len(chunk)
            if size_bytes > max_bytes:  # it grew after it was inspected
                raise InputError.of([_too_large(upload.name, max_bytes)])
            sha256.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return sha256.hexdigest()


def _unreadable(name: str) -> Problem:
    return Problem(name, "cannot be found or read", "choose the file again", "unreadable")


def _unique(name: str, taken: set[str]) -> str:
    candidate, number = name, 2
    while candidate.casefold() in taken:
        ending = _ENDING.search(name)
        suffix = ending.group() if ending else ""
        candidate = f"{name.removesuffix(suffix)} ({number}){suffix}"
        number += 1
    return candidate


def _cut(text: str, size_bytes: int) -> str:
    return text.encode("utf-8")[:size_bytes].decode("utf-8", "ignore").rstrip(" .")
