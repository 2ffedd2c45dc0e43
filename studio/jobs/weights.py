"""Weights of completed jobs on a disk of limited size: the least recently used lie in the backup alone, until needed.

``STUDIO_WEIGHTS_MAX_BYTES`` says how much of them stays here. What goes is weights alone (``.safetensors``), a folder
at a time, and only if the backup has the very same bytes, whole; everything else of a job stays. A file that says so
lies in their place (``studio.core.evicted``). Called by ``studio.service``: by the clock, before an attempt, and for
whoever asks for a file.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.core.domain import TERMINAL_STATES, ShouldStop, never_stop
from studio.core.errors import JobCancelled, ResourceError, UnavailableError
from studio.core.evicted import WEIGHTS_SUFFIX, Evicted, evicted_below, mark, unmark
from studio.core.files import full_disk_in_words, is_disk_full, move_into_place, read_json, sha256_of
from studio.core.locks import Lock
from studio.core.settings import Settings
from studio.core.units import bytes_text
from studio.jobs.backup import BackupFolder, DamagedError, reason
from studio.jobs.child import OUT_FOLDER, REQUEST_FILE
from studio.jobs.queue import JobQueue
from studio.jobs.states import TRANSITIONS

logger = logging.getLogger(__name__)

ALL = ("",)
"""Every folder of a job."""
_IN_USE_S = 600.0
"""Nothing goes that somebody has asked for so recently: they may be reading it."""
_WAITS_S = (2.0, 10.0)
"""Pauses between attempts to fetch one file."""
_LOCK, _USED, _PART = ".weights.lock", ".used-", ".weights-"
_MOST_JOBS = 10**6


@dataclass(frozen=True, slots=True)
class _Folder:
    """One folder of weights of a completed job."""

    job: str
    name: str
    """Below the job's output folder; empty for that one itself."""
    used_s: float
    """Seconds since the epoch."""
    files: tuple[Path, ...]
    bytes: int


class Weights:
    """Keeps the weights of one installation within a size, and brings back what is asked for.

    Args:
        settings: with the size, and the backup's address.
        store: the table of jobs.
        jobs_dir: folder that holds one folder per job.
        waits_s: pauses between attempts to fetch one file.
    """

    def __init__(
        self, settings: Settings, store: JobQueue, jobs_dir: Path, *, waits_s: tuple[float, ...] = _WAITS_S
    ) -> None:
        self._settings, self._store, self._jobs_dir = settings, store, jobs_dir
        self._waits_s = waits_s

    def bring(self, job_id: str, below: Collection[str] = ALL, *, on_fetch: Callable[[int], None] | None = None) -> int:
        """Make sure that weights of a job are here for the next minutes, fetching what was evicted.

        Args:
            job_id: the job, completed or not.
            below: folders or files below its output folder.
            on_fetch: told how many bytes are about to be fetched, if any.

        Returns:
            How many files came back.

        Raises:
            UnavailableError: the backup cannot be reached. ResourceError: it is damaged, or the disk is full.
        """
        job_dir = self._jobs_dir / job_id
        out = job_dir / OUT_FOLDER
        if not out.is_dir() or (self._settings.weights_max_bytes is None and not any(evicted_below(out))):
            return 0
        with full_disk_in_words(), contextlib.closing(Lock(job_dir / _LOCK, fcntl.LOCK_EX)):
            wanted = [(path, facts) for path, facts in evicted_below(out) if _is_below(path, out, below)]
            here = [path for path in out.rglob(f"*{WEIGHTS_SUFFIX}") if _is_below(path, out, below)]
            if wanted:
                size = sum(facts.bytes for _, facts in wanted)
                if on_fetch is not None:
                    on_fetch(size)
                self._make_room(size)
                self._fetch(job_id, wanted)
            # At the end: fetching may take longer than what was asked for is kept.
            for folder in {path.parent for path in (*here, *(path for path, _ in wanted))}:
                _used_file(job_dir, folder.relative_to(out).as_posix()).touch()
        return len(wanted)

    def bring_for(self, job_id: str, should_stop: ShouldStop = never_stop) -> None:
        """Make sure that the weights are here which a job reads, told in its events while they come.

        Args:
            job_id: a job that is about to run.
            should_stop: asked twice a second; what is on its way then comes to its end by itself.

        Raises:
            JobCancelled: it should stop. UnavailableError, ResourceError: as ``bring``.
        """
        request = read_json(self._jobs_dir / job_id / REQUEST_FILE)
        source = request.get("source") if isinstance(request, dict) else None
        if not isinstance(source, str):
            return
        config = request.get("config") if isinstance(request, dict) else None
        checkpoint = config.get("checkpoint") if isinstance(config, dict) else None
        below = ["adapter", *_checkpoint_folders(self._jobs_dir / source / OUT_FOLDER, checkpoint)]

        def tell(size: int) -> None:
            text = f"Fetching the weights of its run from the backup ({bytes_text(size)})."
            with contextlib.suppress(ResourceError):
                self._store.tell(job_id, "info", text)

        failed: list[BaseException] = []

        def fetch() -> None:
            try:
                self.bring(source, below, on_fetch=tell)
            except BaseException as error:
                failed.append(error)

        # A thread of its own: a transfer cannot be broken off, and neither a cancel nor the server's end waits for it.
        thread = threading.Thread(target=fetch, name="studio-weights", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.5)
            if thread.is_alive() and should_stop():
                raise JobCancelled("it was told to stop")
        if failed:
            raise failed[0]

    def evict(self, room_bytes: int = 0) -> int:
        """Delete weights here that the backup has, the least recently used first, until the rest is small enough.

        What a job that has not ended reads stays, and so does what was used a moment ago.

        Args:
            room_bytes: kept free for what is about to come.

        Returns:
            Bytes that were freed.

        Raises:
            Exception: whatever the backup's store raises.
        """
        limit = self._settings.weights_max_bytes
        if limit is None or self._settings.backup_url is None:
            return 0
        folders = sorted(self._folders(), key=lambda folder: folder.used_s)
        excess = sum(folder.bytes for folder in folders) + room_bytes - limit
        freed = 0
        remote = BackupFolder(self._settings) if excess > 0 else None
        records: dict[str, Mapping[str, Any]] = {}
        for folder in folders:
            if remote is None or freed >= excess:
                break
            freed += self._evict_one(remote, folder, records)
        if freed:
            logger.info("%s of weights lie in the backup alone now", bytes_text(freed))
        return freed

    def sizes(self) -> tuple[int, int]:
        """Return the bytes of weights of completed jobs that are here, and of those in the backup alone."""
        away = sum(
            facts.bytes
            for job_id in self._store.completed()
            for _, facts in evicted_below(self._jobs_dir / job_id / OUT_FOLDER)
        )
        return sum(folder.bytes for folder in self._folders()), away

    # Below: one folder

    def _folders(self) -> Iterator[_Folder]:
        for job_id in self._store.completed():
            out = self._jobs_dir / job_id / OUT_FOLDER
            found: dict[Path, list[Path]] = {}
            for path in sorted(out.rglob(f"*{WEIGHTS_SUFFIX}")):
                if path.is_file() and not path.is_symlink() and not path.name.startswith("."):
                    found.setdefault(path.parent, []).append(path)
            for folder, files in found.items():
                name = folder.relative_to(out).as_posix()
                with contextlib.suppress(FileNotFoundError):  # forgotten, or evicted by another server
                    stats = [path.stat() for path in files]
                    used_s = _used_s(out.parent, name) or max(stat.st_mtime for stat in stats)
                    yield _Folder(job_id, name, used_s, tuple(files), sum(stat.st_size for stat in stats))

    def _evict_one(self, remote: BackupFolder, folder: _Folder, records: dict[str, Mapping[str, Any]]) -> int:
        """Delete what a folder holds, if it may go; ``records`` keeps what the backup has of each job meanwhile."""
        job_dir = self._jobs_dir / folder.job
        try:
            lock = Lock(job_dir / _LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, FileNotFoundError):  # it is being fetched, or is gone
            return 0
        freed = 0
        with contextlib.closing(lock), contextlib.suppress(FileNotFoundError):
            # Under the lock: whoever begins to read after this asks for it first, and waits here.
            is_read = time.time() - max(_used_s(job_dir, folder.name), folder.used_s) < _IN_USE_S
            if is_read or folder.job in self._needed():
                return 0
            try:
                if folder.job not in records:
                    records[folder.job] = remote.record(folder.job)["files"]
            except DamagedError:
                return 0
            files = records[folder.job]
            for path in folder.files:
                relative = path.relative_to(job_dir).as_posix()
                facts, size = files.get(relative), path.stat().st_size
                if facts is None or facts["sha256"] != sha256_of(path) or remote.size(folder.job, relative) != size:
                    continue
                mark(path, Evicted(size, facts["sha256"]))
                path.unlink()
                freed += size
        return freed

    def _needed(self) -> set[str]:
        """Return the jobs that others read which have not ended."""
        views = self._store.newest_of_all(_MOST_JOBS, states=frozenset(TRANSITIONS) - TERMINAL_STATES)
        return {view.source for view in views if view.source is not None}

    def _make_room(self, size: int) -> None:
        try:
            self.evict(size)
        except Exception as error:  # the disk may have room all the same; if not, it says so
            logger.warning("no weights could be evicted (%s)", reason(error))

    def _fetch(self, job_id: str, wanted: Collection[tuple[Path, Evicted]]) -> None:
        if self._settings.backup_url is None:
            raise ResourceError(
                "The weights of this job lie in the backup alone, and STUDIO_BACKUP_URL, which says where that is, is "
                "no longer set."
            )
        for path, facts in wanted:
            self._fetch_one(job_id, path, facts)

    def _fetch_one(self, job_id: str, path: Path, facts: Evicted) -> None:
        job_dir = self._jobs_dir / job_id
        relative = path.relative_to(job_dir).as_posix()
        part = job_dir / f"{_PART}{secrets.token_hex(4)}.part"  # the clock knows what a kill leaves by this ending
        for wait_s in (*self._waits_s, None):
            try:
                BackupFolder(self._settings).get_one(job_id, relative, part, sha256=facts.sha256)
                move_into_place(part, path)
                unmark(path)
                return
            except DamagedError as error:
                raise ResourceError(f"The weights of this job are damaged in the backup ({error}).") from None
            except Exception as error:  # each kind of store raises what it likes
                if is_disk_full(error) or not job_dir.is_dir():
                    raise
                if wait_s is None:
                    raise UnavailableError(
                        f"The weights of this job lie in the backup, which cannot be reached ({reason(error)}); try "
                        "again later."
                    ) from error
                time.sleep(wait_s)
            finally:
                part.unlink(missing_ok=True)


def _is_below(path: Path, out: Path, below: Collection[str]) -> bool:
    relative = path.relative_to(out)
    return any(name == "" or relative.is_relative_to(name) for name in below)


def _used_file(job_dir: Path, name: str) -> Path:
    return job_dir / f"{_USED}{name.replace('/', '-')}"


def _used_s(job_dir: Path, name: str) -> float:
    """Return when a folder of weights was last asked for; 0.0 if never."""
    try:
        return os.stat(_used_file(job_dir, name)).st_mtime
    except FileNotFoundError:
        return 0.0


def _checkpoint_folders(out: Path, checkpoint: object) -> Iterator[str]:
    if isinstance(checkpoint, int):
        for path in (out / "checkpoints").glob("*"):
            if path.name.isdecimal() and int(path.name) == checkpoint:
                yield path.relative_to(out).as_posix()
