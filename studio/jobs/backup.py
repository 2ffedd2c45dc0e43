"""Finished jobs, kept once more at an address: on a Space the local disk is gone after every restart.

``STUDIO_BACKUP_URL`` names a folder of a bucket, an object store or another disk, in fsspec's words. One thread brings
every completed job there, and at start brings back what is there and not here:

    <url>/jobs/<job id>/files/...     request.json, log.txt and what the verb wrote
    <url>/jobs/<job id>/record.json   its row and events, and size and SHA-256 of each file
    <url>/jobs/<job id>/DONE          SHA-256 of record.json, written last: without it nothing is taken for finished

The table of jobs itself stays on the local disk: a mounted bucket has no locks for SQLite. Uploads are not kept; what
came of them is. Called by ``studio.service`` and ``studio.doctor``.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from studio.core.errors import InputError, MissingExtraError, Problem, StudioError
from studio.core.evicted import WEIGHTS_SUFFIX, Evicted, evicted, evicted_below, mark
from studio.core.files import sha256_of, sync_tree
from studio.core.folder import is_clutter
from studio.core.private import owner_digest
from studio.core.settings import Settings
from studio.jobs import forgotten
from studio.jobs.child import LOCK_FILE, PHOTOS_FOLDER
from studio.jobs.queue import KeepersQueue

logger = logging.getLogger(__name__)

_DONE, _RECORD, _FILES = "DONE", "record.json", "files"
_DIGEST_BYTES = 64
_JOB_ID = re.compile(r"[a-z]+-[0-9a-f]{16}")
_WAITS_S = (5.0, 15.0, 60.0, 300.0)
"""Pauses after one, two ... failures in a row; the last one holds."""
_LEAVE_S = 10.0
_LOOK_S = 1.0
"""How often a server that only looks on asks whether the other one is gone."""
_OTHERS_S = 60.0
"""How often it looks for jobs that other servers on the same database have completed."""


class DamagedError(Exception):
    """What a backup holds of one job is not what was put there; trying again does not help."""


class BackupFolder:
    """The backup's folder, wherever it is.

    Args:
        settings: with its address.

    Raises:
        InputError: the address is none that can be used. MissingExtraError: the package for its kind is not installed.
    """

    def __init__(self, settings: Settings) -> None:
        import fsspec
        from fsspec.core import url_to_fs

        assert settings.backup_url is not None
        url = settings.backup_url.get_secret_value()
        kind = url.partition("://")[0].lower() if "://" in url else "file"
        options: dict[str, Any] = {}
        if kind in ("file", "local"):
            options["auto_mkdir"] = True
        elif kind == "hf":
            if not url.startswith("hf://buckets/"):  # a repository makes a commit of each file, and keeps what is gone
                raise _bad_url("is not a bucket", "write hf://buckets/OWNER/NAME/FOLDER")
            from huggingface_hub.utils import disable_progress_bars

            disable_progress_bars()  # one for each file, in the server's log
            if settings.hub_token is not None:
                options["token"] = settings.hub_token.get_secret_value() or False
        try:
            self._fs, root = url_to_fs(url, **options)
        except ImportError as error:
            package = getattr(error, "name", None) or re.sub(r"^Install | to .*$", "", str(error))
            raise MissingExtraError(
                f"STUDIO_BACKUP_URL begins with {kind}://, which needs the Python package {package}; install it."
            ) from None
        except Exception as error:  # each kind has its own for an address that it does not understand
            known = ", ".join(sorted({"file", "hf", "s3", "gs"} & set(fsspec.available_protocols())))
            raise _bad_url(f"cannot be used ({type(error).__name__})", f"begin it with one of: {known}") from None
        self._jobs = f"{root.rstrip('/')}/jobs"

    def held(self) -> frozenset[str]:
        """Return the ids of the jobs that are there, whole."""
        ids = set()
        for path, facts in self._below(self._jobs).items():
            folder, name = PurePosixPath(path).parent.name, PurePosixPath(path).name
            if name == _DONE and PurePosixPath(path).parent.parent.name == "jobs" and _JOB_ID.fullmatch(folder):
                # A marker that was cut off on the way, as a local disk may leave it, is none.
                ids |= {folder} if facts["size"] == _DIGEST_BYTES else set()
        return frozenset(ids)

    def put(self, job_id: str, relative: str, path: Path) -> None:
        """Bring one file there; raises OSError if less of it arrived."""
        place = self._place(job_id, f"{_FILES}/{relative}")
        self._fs.put_file(str(path), place)
        if self._fs.info(place)["size"] != path.stat().st_size:
            raise OSError(f"{PurePosixPath(relative).name} arrived cut off")

    def seal(self, job_id: str, record: Mapping[str, Any]) -> None:
        """Write the record, then the marker."""
        data = json.dumps(record, indent=1).encode()
        self._fs.pipe_file(self._place(job_id, _RECORD), data)
        self._fs.pipe_file(self._place(job_id, _DONE), hashlib.sha256(data).hexdigest().encode())

    def unseal(self, job_id: str) -> dict[str, Any]:
        """Take the marker away, so that a kill while files change leaves nothing that is whole; return the record.

        Returns:
            What was sealed; empty where that is damaged.
        """
        try:
            found = self.record(job_id)
        except DamagedError:
            found = {}
        self._fs.rm_file(self._place(job_id, _DONE))
        return found

    def record(self, job_id: str) -> dict[str, Any]:
        """Return what was sealed.

        Raises:
            DamagedError: it is not what was sealed.
        """
        data = self._fs.cat_file(self._place(job_id, _RECORD))
        if hashlib.sha256(data).hexdigest().encode() != self._fs.cat_file(self._place(job_id, _DONE)):
            raise DamagedError(f"{_RECORD} is damaged")
        try:
            found: dict[str, Any] = json.loads(data)
            float(found["job"]["created_s"]), str(found["job"]["owner"])
            return found
        except (ValueError, KeyError, TypeError):
            raise DamagedError(f"{_RECORD} is of another kind") from None

    def get(self, job_id: str, record: Mapping[str, Any], folder: Path, *, weights: bool = True) -> None:
        """Bring a job's files here, each verified.

        Args:
            job_id: the job.
            record: what was sealed.
            folder: to bring them to.
            weights: whether its weights come, too; otherwise they stay there, as if they had been evicted here.

        Raises:
            DamagedError: one is missing or not what was sealed.
        """
        for relative, facts in record["files"].items():
            parts = PurePosixPath(relative).parts
            if not parts or relative.startswith("/") or ".." in parts or "\\" in relative:
                raise DamagedError("its record names a file outside of its folder")
            path = folder.joinpath(*parts)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if weights or path.suffix != WEIGHTS_SUFFIX:
                self.get_one(job_id, relative, path, sha256=facts["sha256"])
            elif self.size(job_id, relative) != facts["bytes"]:
                raise DamagedError(f"{path.name} is missing, or cut off")
            else:
                mark(path, Evicted(facts["bytes"], facts["sha256"]))

    def get_one(self, job_id: str, relative: str, path: Path, *, sha256: str) -> None:
        """Bring one file here, verified.

        Raises:
            DamagedError: it is missing, or another one.
        """
        place, name = self._place(job_id, f"{_FILES}/{relative}"), PurePosixPath(relative).name
        if not self._fs.exists(place):
            raise DamagedError(f"{name} is missing")
        self._fs.get_file(place, str(path))
        if sha256_of(path) != sha256:
            raise DamagedError(f"{name} is damaged")

    def size(self, job_id: str, relative: str) -> int | None:
        """Return the bytes of one file as they are there; None if it is missing."""
        place = self._place(job_id, f"{_FILES}/{relative}")
        self._fs.invalidate_cache()
        try:
            found: int = self._fs.info(place)["size"]
            return found
        except FileNotFoundError:
            return None

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Return how many files and bytes are there of each job, whole or not."""
        found: dict[str, tuple[int, int]] = {}
        for path, facts in self._below(self._jobs).items():
            job_id = path.partition(f"{self._jobs}/")[2].partition("/")[0]
            if _JOB_ID.fullmatch(job_id):
                files, taken = found.get(job_id, (0, 0))
                found[job_id] = files + 1, taken + facts["size"]
        return found

    def delete(self, job_id: str) -> None:
        """Delete a job: its marker first, then its record, so that a kill on the way leaves nothing that is whole."""
        found = self._below(f"{self._jobs}/{job_id}")
        for path in sorted(found, key=_marker_first):
            with suppress(FileNotFoundError):
                self._fs.rm_file(path)
        with suppress(OSError):  # a disk has folders, an object store has none
            self._fs.rm(f"{self._jobs}/{job_id}", recursive=True)

    def _below(self, folder: str) -> dict[str, Any]:
        self._fs.invalidate_cache()
        try:
            found: dict[str, Any] = self._fs.find(folder, detail=True)
            return found
        except FileNotFoundError:
            return {}

    def try_out(self) -> None:
        """Write a file, read it back and delete it."""
        place, data = f"{self._jobs}/.probe-{secrets.token_hex(4)}", secrets.token_bytes(16)
        self._fs.pipe_file(place, data)
        try:
            if self._fs.cat_file(place) != data:
                raise OSError("what was written does not come back")
        finally:
            self._fs.rm_file(place)

    def _place(self, job_id: str, relative: str) -> str:
        return f"{self._jobs}/{job_id}/{relative}"


def _marker_first(path: str) -> tuple[bool, bool, str]:
    """Sort the files of one job: DONE, its record, all others; a verb's own DONE lies deeper."""
    outside = PurePosixPath(path).parent.parent.name == "jobs"
    name = PurePosixPath(path).name
    return not (outside and name == _DONE), not (outside and name == _RECORD), path


class Backup:
    """Keeps the completed jobs of one installation at an address, from a thread of its own.

    What fails is told in the log and, of a job that is not there yet, in its events; it is tried again for as long
    as the studio runs, and at the next start. No job ever waits for it.

    Args:
        settings: with the address.
        store: the table of jobs.
        jobs_dir: folder that holds one folder per job.
        waits_s: pauses after failures.
        leads: tells whether this server is the one of its home that works; the others only look on, for two that bring
            jobs back at once would take each other's half-restored folders away.
    """

    def __init__(
        self,
        settings: Settings,
        store: KeepersQueue,
        jobs_dir: Path,
        *,
        waits_s: tuple[float, ...] = _WAITS_S,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._store = store
        self._jobs_dir = jobs_dir
        self._waits_s = waits_s
        self._leads = leads
        self._look_s = _OTHERS_S if settings.database_url else None
        self._led = False
        self._held: set[str] | None = None
        """Jobs that are there; None until that is known."""
        self._restored = False
        self._sent: set[tuple[str, str]] = set()
        """Files of jobs that are on their way, so that a broken line does not begin again."""
        self._changed: set[str] = set()
        """Jobs that were written on since they were brought there."""
        self._told: dict[str, str] = {}
        """Job -> the warning that it carries."""
        self._thread: threading.Thread | None = None
        self._before: frozenset[str] | None = None
        """Jobs that were completed before this start."""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._given_up = threading.Event()

    def start(self) -> None:
        """Look at the address and start the thread.

        Raises:
            InputError, MissingExtraError: it can never work.
        """
        if self._thread is None:
            BackupFolder(self._settings)
            self._closing.clear()
            self._given_up.clear()
            self._led = False
            self._thread = threading.Thread(target=self._loop, name="studio-backup", daemon=True)
            self._thread.start()

    def wake(self) -> None:
        """Say that a job has ended."""
        self._wake.set()

    def renew(self, jobs: Collection[str]) -> None:
        """Say that something of these jobs has changed since they ended: what differs is brought there once more."""
        self._changed.update(jobs)
        self._wake.set()

    def close(self) -> None:
        """Bring there what has just ended, as far as that takes no longer than a moment, and end the thread."""
        self._closing.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_LEAVE_S)  # a line that hangs must not keep the studio from closing
            self._given_up.set()
            self._thread = None

    # The thread

    def _loop(self) -> None:
        failures = 0
        last = False
        while not last:
            last = self._closing.is_set()
            self._wake.clear()
            self._led = self._led or self._leads()  # for good: what has just ended is kept after the worker has closed
            if not self._led:
                self._closing.wait(0.0 if last else _LOOK_S)
                continue
            try:
                self._once()
            except Exception as error:  # each kind of store raises what it likes
                wait_s = self._waits_s[min(failures, len(self._waits_s) - 1)]
                failures += 1
                logger.warning("the backup does not work (%s); it is tried again in %.0f s", reason(error), wait_s)
                self._closing.wait(wait_s)
            else:
                failures = 0
                if not self._closing.is_set():
                    self._wake.wait(self._look_s)

    def _once(self) -> None:
        """Bring back what is missing here, bring there what is missing there; raise the first failure at the end."""
        if self._before is None:
            self._before = frozenset(self._store.completed())
        try:
            remote = BackupFolder(self._settings)  # of this thread: the Hub's are not shared
            if self._held is None:
                self._held = set(remote.held())
        except Exception as error:  # which of the older ones are there is not known
            for job_id in set(self._store.completed()) - self._before:
                self._warn(job_id, error)
            raise
        failures: list[Exception] = []
        if not self._restored and not self._closing.is_set():
            failures += self._restore(remote, self._held)
            self._restored = not failures and not self._closing.is_set()
        for job_id in self._store.completed():
            is_changed = job_id in self._changed
            if (job_id in self._held and not is_changed) or self._given_up.is_set():
                continue
            self._changed.discard(job_id)  # before: what changes on the way counts again
            try:
                if self._save(remote, job_id):
                    self._held.add(job_id)
            except Exception as error:
                self._changed |= {job_id} if is_changed else set()
                failures.append(error)
                self._warn(job_id, error)
        if failures:
            raise failures[0]

    def _save(self, remote: BackupFolder, job_id: str) -> bool:
        """Bring one job there; False if the studio has closed, or if the job is forgotten meanwhile."""
        try:
            done = not self._is_forgotten(job_id) and self._bring(remote, job_id)
        except Exception:
            if not self._is_forgotten(job_id):
                raise
            done = False
        if self._is_forgotten(job_id):  # whoever forgets it may have looked here before the last file came
            remote.delete(job_id)
            return False
        return done

    def _is_forgotten(self, job_id: str) -> bool:
        return job_id in forgotten.ids(self._jobs_dir.parent)

    def _bring(self, remote: BackupFolder, job_id: str) -> bool:
        """Bring one job there; False if the studio has closed."""
        there: Mapping[str, Any] = {}
        if self._held is not None and job_id in self._held:
            there = remote.unseal(job_id).get("files", {})
            self._held.discard(job_id)
        folder = self._jobs_dir / job_id
        # Before and after what is here: weights may go and come back meanwhile, and must be in one of the three.
        files = _evicted_of(folder)
        for path in _files_of(folder):
            relative = path.relative_to(folder).as_posix()
            if self._given_up.is_set():
                return False
            try:
                files[relative] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
                if (job_id, relative) not in self._sent and there.get(relative) != files[relative]:
                    remote.put(job_id, relative, path)
                    self._sent.add((job_id, relative))
            except FileNotFoundError:
                if evicted(path) is None:
                    raise
        files = {**_evicted_of(folder), **files}
        for relative, facts in files.items():
            known = (job_id, relative) in self._sent or there.get(relative) == facts
            if not known and remote.size(job_id, relative) != facts["bytes"]:
                raise OSError(f"{PurePosixPath(relative).name} is neither here nor there")
        if not files:  # deleted by hand
            return True
        remote.seal(job_id, {"version": 1, **self._store.dump(job_id), "files": files})
        self._sent -= {(job_id, relative) for relative in files}
        if warning := self._told.pop(job_id, None):
            self._store.tell(job_id, "info", "This job is in the backup now.", instead_of=warning)
        logger.info("job %s is in the backup", job_id)
        return True

    def _warn(self, job_id: str, error: Exception) -> None:
        if job_id not in self._told:
            text = f"This job is not in the backup yet ({reason(error)}); the studio keeps trying."
            self._store.tell(job_id, "warning", text)
            self._told[job_id] = text

    def _restore(self, remote: BackupFolder, held: set[str]) -> list[Exception]:
        """Bring back every job that is not here, the oldest first, since others build on it; return what failed."""
        for leftover in self._jobs_dir.glob(".restore-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        failures: list[Exception] = []
        records = {}
        gone = forgotten.ids(self._jobs_dir.parent)
        for job_id in gone & set(remote.sizes()) if gone else ():
            with _one_by_one(job_id, failures):
                remote.delete(job_id)
        for job_id in held - self._store.ids() - gone:
            with _one_by_one(job_id, failures):
                records[job_id] = remote.record(job_id)
        back = 0
        leaving = forgotten.owners(self._jobs_dir.parent)
        records = {name: row for name, row in records.items() if owner_digest(str(row["job"]["owner"])) not in leaving}
        for job_id, record in sorted(records.items(), key=lambda row: row[1]["job"]["created_s"]):
            if not self._closing.is_set():
                with _one_by_one(job_id, failures):
                    self._restore_one(remote, job_id, record)
                    back += 1
        if back:
            logger.warning("%d completed jobs were restored from the backup", back)
        return failures

    def _restore_one(self, remote: BackupFolder, job_id: str, record: Mapping[str, Any]) -> None:
        part = self._jobs_dir / f".restore-{job_id}-{secrets.token_hex(4)}"
        part.mkdir(mode=0o700)
        try:
            try:
                remote.get(job_id, record, part, weights=self._settings.weights_max_bytes is None)
                place = self._jobs_dir / job_id
                shutil.rmtree(place, ignore_errors=True)  # whole, but cut off before its row was written
                sync_tree(part)  # its row below says that it is here for good
                os.replace(part, place)
                self._store.restore(job_id, record)
                if self._is_forgotten(job_id):  # while it was on its way
                    self._store.erase([job_id])
                    shutil.rmtree(place, ignore_errors=True)
            except (KeyError, TypeError, ValueError, AttributeError):
                raise DamagedError(f"{_RECORD} is of another kind") from None
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _evicted_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what lies in the backup alone of a job's files."""
    rows = evicted_below(folder)
    return {path.relative_to(folder).as_posix(): {"bytes": row.bytes, "sha256": row.sha256} for path, row in rows}


@contextmanager
def _one_by_one(job_id: str, failures: list[Exception]) -> Iterator[None]:
    """Go on with the next job: a damaged one is told of and left out for good, anything else is tried again."""
    try:
        yield
    except DamagedError as error:
        logger.warning("job %s of the backup cannot be used: %s", job_id, error)
    except Exception as error:
        failures.append(error)


def _files_of(folder: Path) -> Iterator[Path]:
    """Yield the files of a finished job that are worth keeping, in order."""
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = is_clutter(path) or any(part.startswith(".") for part in relative.parts)
        if not hidden and relative.parts[0] not in (PHOTOS_FOLDER, LOCK_FILE) and path.is_file():
            yield path


def reason(error: Exception) -> str:
    """Return what went wrong in words that hold no address: it may carry a key."""
    if isinstance(error, StudioError):
        return str(error).rstrip(".")
    # Not the error's own words for it: some kinds of stores put the address there.
    said = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else None
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _bad_url(message: str, cure: str) -> InputError:
    return InputError.of([Problem("STUDIO_BACKUP_URL", message, cure, "bad_url")])
