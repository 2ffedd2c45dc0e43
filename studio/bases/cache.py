"""A folder of large things with a byte budget: the least recently used goes first, what is in use stays.

Several processes share it. Each entry has a lock file: whoever uses the entry holds it shared, whoever makes or evicts
it holds it alone, and the system gives it back when a process dies. An entry is made under another name and renamed, so
that a folder that is there is whole. Called by ``studio.bases.hub``.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.core.errors import ResourceError
from studio.core.files import full_disk_in_words
from studio.core.locks import Lock
from studio.core.private import make_folder
from studio.core.units import bytes_text

_MARGIN_BYTES = 256 * 2**20
"""Disk space kept free for everything else."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that is kept for as long as its pin lives."""

    folder: Path
    pin: Lock


class Cache:
    """A cache below one folder.

    Args:
        folder: created when something is first put into it.
        max_bytes: what all entries may take together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    def get(self, key: str) -> Entry | None:
        """Return an entry, pinned; None if it is not there.

        Args:
            key: a file name: letters, digits, ``.``, ``_`` and ``-``.
        """
        if not self._place(key).is_dir():
            return None
        lock = self._locked(key, fcntl.LOCK_SH)
        if not self._place(key).is_dir():  # evicted in between
            lock.close()
            return None
        os.utime(self._lock_file(key))  # the clock of "least recently used"
        return Entry(self._place(key), lock)

    def put(self, key: str, wanted_bytes: int, fill: Callable[[Path], None]) -> Entry:
        """Return an entry, pinned; make it first if it is not there. Others who want it wait.

        Args:
            key: as in ``get``.
            wanted_bytes: what it will take; other entries go until there is room.
            fill: writes into the folder that it is given; after a failure the same folder comes again, with what is in
                it.

        Raises:
            ResourceError: no room in the budget or on the disk.
        """
        while (entry := self.get(key)) is None:
            with contextlib.closing(self._locked(key, fcntl.LOCK_EX)):
                if self._place(key).is_dir():
                    continue  # another process was faster
                part = self._part(key)
                with disk_full(self._folder):
                    self._make_room(key, wanted_bytes)
                    part.mkdir(parents=True, exist_ok=True)
                    fill(part)
                    os.rename(part, self._place(key))
                self._reservation(key).unlink(missing_ok=True)
            # The lock was given back for a moment, in which the entry may be evicted: look again.
        return entry

    def _make_room(self, key: str, wanted_bytes: int) -> None:
        """Reserve room, and evict until it is there."""
        with contextlib.closing(self._locked(".eviction", fcntl.LOCK_EX)):
            if wanted_bytes > self._max_bytes:
                raise ResourceError(
                    f"this base needs {bytes_text(wanted_bytes)}, more than the limit for all bases "
                    f"({bytes_text(self._max_bytes)}); increase STUDIO_BASES_MAX_BYTES."
                )
            for gone in self._folder.glob(".*.gone"):  # an eviction that was killed
                shutil.rmtree(gone, ignore_errors=True)
            self._reservation(key).write_text(str(wanted_bytes))
            for other in self._oldest_first(key):
                if self._has_room(key, wanted_bytes):
                    break
                self._evict(other)
            if not self._has_room(key, wanted_bytes):
                self._reservation(key).unlink(missing_ok=True)
                free = shutil.disk_usage(self._folder).free
                raise ResourceError(
                    f"there is no room for a base of {bytes_text(wanted_bytes)}: {bytes_text(free)} are free on the "
                    f"disk, bases may take {bytes_text(self._max_bytes)}, and the others are in use; free space, wait "
                    "for the other jobs, or increase STUDIO_BASES_MAX_BYTES."
                )

    def _has_room(self, key: str, wanted_bytes: int) -> bool:
        begun = _size_bytes(self._part(key))
        others = sum(self._taken_bytes(other) for other in self._keys() if other != key)
        free = shutil.disk_usage(self._folder).free
        return others + wanted_bytes <= self._max_bytes and wanted_bytes - begun + _MARGIN_BYTES <= free

    def _keys(self) -> set[str]:
        names = {path.name for path in self._folder.iterdir() if path.is_dir() or path.suffix == ".reserved"}
        return {name.removesuffix(".reserved").removesuffix(".part").removeprefix(".") for name in names}

    def _taken_bytes(self, key: str) -> int:
        """Return what an entry takes, or will take once it is made."""
        reserved = self._reservation(key)
        promised = 0
        with contextlib.suppress(OSError, ValueError):
            promised = int(reserved.read_text())
        return max(promised, _size_bytes(self._place(key)) + _size_bytes(self._part(key)))

    def _oldest_first(self, key: str) -> list[str]:
        def used_s(other: str) -> float:
            lock = self._lock_file(other)
            return lock.stat().st_mtime if lock.exists() else 0.0

        return sorted((other for other in self._keys() if other != key), key=lambda other: (used_s(other), other))

    def _evict(self, key: str) -> None:
        """Delete an entry, or what a dead process has begun; leave it where somebody uses or makes it."""
        try:
            lock = self._locked(key, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        with contextlib.closing(lock):
            gone = self._folder / f".{key}.gone"
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._place(key), gone)  # at once: nobody sees half an entry
            for folder in (gone, self._part(key)):
                shutil.rmtree(folder, ignore_errors=True)
            self._reservation(key).unlink(missing_ok=True)

    def entries(self) -> dict[str, Path]:
        """Return the folders of all entries by their keys."""
        keys = self._keys() if self._folder.is_dir() else set()
        return {key: self._place(key) for key in keys if self._place(key).is_dir()}

    def erase(self, key: str) -> None:
        """Delete an entry and all that is called by its key; raises OSError where somebody uses it."""
        self._evict(key)
        if self._place(key).exists():
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self._lock_file(key).unlink(missing_ok=True)

    def _locked(self, key: str, how: int) -> Lock:
        make_folder(self._folder)
        return Lock(self._lock_file(key), how)

    def _lock_file(self, key: str) -> Path:
        return self._folder / f"{key}.lock"

    def _place(self, key: str) -> Path:
        return self._folder / key

    def _part(self, key: str) -> Path:
        return self._folder / f".{key}.part"

    def _reservation(self, key: str) -> Path:
        return self._folder / f".{key}.reserved"


@contextlib.contextmanager
def disk_full(folder: Path) -> Iterator[None]:
    """Say in words that the disk below ``folder`` is full, or cannot be written to."""
    elsewhere = "set STUDIO_BASES_DIR to a folder on another disk"
    with full_disk_in_words(f"free some space, or {elsewhere}"):
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS):
                raise
            text = f"The disk of {folder.name} cannot be written to; allow the studio to write there, or {elsewhere}."
            raise ResourceError(text) from error


def _size_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):  # it may go while we look
            total += path.lstat().st_size if path.is_file() else 0
    return total
