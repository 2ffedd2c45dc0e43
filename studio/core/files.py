"""Files that are either there whole or not there at all, their digests, and what a full disk says.

Every file that a later run, another process or a person relies on is written by ``replacing`` or one of its short
forms: under a temporary name in the same folder, flushed, renamed. A reader sees the old file or the new one, never
half of either, and with ``durable`` that holds for a power cut, too.
"""

import errno
import hashlib
import json
import os
import secrets
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studio.core.errors import ResourceError

DISK_IS_FULL = "The disk is full; free some space and start again."
"""The one sentence for it; ``full_disk_in_words`` may put a better cure in."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_SPACE = os.strerror(errno.ENOSPC)
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold
_MADE_ON_UNIX = 3
_MODE = 0o644


# ------------------------------------------------------------------------------------------------------- writing


@contextmanager
def replacing(path: Path, *, durable: bool = True, shared: bool = False) -> Iterator[Path]:
    """Yield the temporary name to write to; what was written there takes the place of ``path`` afterwards.

    Args:
        path: the file; its folder must exist.
        durable: flush the file before the rename and the folder after it. A flush costs milliseconds on an SSD and
            tens of them on a spinning disk, so files that come by the hundred and are verified when they are read
            again (pictures, previews, cached pictures) go without; ``folder.finish`` flushes them all at once before
            DONE vouches for them.
        shared: whether other processes or threads may write the same file at the same time: the temporary name is
            then drawn at random. Otherwise it is always the same, so that a kill leaves at most one to overwrite.

    Raises:
        OSError: as the file system says; nothing is left under the temporary name.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part" if shared else f".{path.name}.part")
    try:
        yield part
        move_into_place(part, path, durable=durable)
    except BaseException:
        part.unlink(missing_ok=True)  # a full disk has no room for half a file
        raise


def write_bytes(path: Path, data: bytes, *, durable: bool = True, shared: bool = False) -> None:
    """Write a file; the options are those of ``replacing``."""
    with replacing(path, durable=durable, shared=shared) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str, *, durable: bool = True, shared: bool = False) -> None:
    """Write a UTF-8 text file; the options are those of ``replacing``."""
    write_bytes(path, text.encode(), durable=durable, shared=shared)


def write_json(
    path: Path,
    data: Any,
    *,
    indent: int = 1,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
    durable: bool = True,
    shared: bool = False,
) -> None:
    """Write JSON with a line end; ``durable`` and ``shared`` are those of ``replacing``."""
    text = json.dumps(data, indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii)
    write_text(path, f"{text}\n", durable=durable, shared=shared)


def read_json(path: Path) -> Any:
    """Return what a JSON file holds; None if it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def move_into_place(part: Path, path: Path, *, durable: bool = True) -> None:
    """Rename a complete file to its final name, replacing what is there.

    The order matters: a file system may carry out a rename before it has written the file's contents, and after a
    power cut the new name then stands for an empty file.
    """
    if durable:
        sync_file(part)
    os.replace(part, path)
    if durable:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Flush a file's contents to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk; without it a power cut may undo a rename."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows has no handle for folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Flush everything below a folder; what is on the disk already costs next to nothing."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                sync_file(path)
        sync_folder(Path(parent))


# ------------------------------------------------------------------------------------------------ digests and zips


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_zip(path: Path, members: Iterable[tuple[str, Path | bytes]]) -> None:
    """Write a zip whose bytes depend on its members alone: no clock, no owner, no permissions of this machine.

    Args:
        path: the zip.
        members: name and content of each, in the order in which they are stored. Nothing is compressed: what the
            studio packs are pictures, which do not shrink.
    """
    with replacing(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, date_time=_ZIP_DATE)
            entry.create_system = _MADE_ON_UNIX
            entry.external_attr = _MODE << 16
            archive.writestr(entry, content if isinstance(content, bytes) else content.read_bytes())


# ------------------------------------------------------------------------------------------------------ a full disk


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means that the disk, the user's quota or the largest file size is reached."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return True
    return _NO_SPACE in str(error)  # safetensors raises an error of its own, which has only the text


@contextmanager
def full_disk_in_words(cure: str = "free some space and start again") -> Iterator[None]:
    """Raise ResourceError where what happens inside fills the disk.

    Args:
        cure: what to do about it, where there is more to say.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ResourceError) or not is_disk_full(error):
            raise
        raise ResourceError(f"The disk is full; {cure}.") from error
