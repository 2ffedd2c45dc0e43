"""The clock: one thread that for all owners deletes what nobody needs any more, whether they return or not.

It finishes what ``forget`` could not, forgets jobs that the installation keeps no longer, and takes away the originals
of photos whose crops are there, uploads that no check has taken, and what kills leave half-written. Only the server
that works on a home has one. Started by ``studio.service``.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from studio.core.domain import TERMINAL_STATES, JobView
from studio.core.errors import StudioError
from studio.core.private import SERVED_NAME, UPLOADS_NAME
from studio.core.retention import retention
from studio.jobs.child import OUT_FOLDER, PHOTOS_FOLDER
from studio.jobs.forget import Forgetter, made_from
from studio.jobs.pause import is_paused
from studio.jobs.queue import JobQueue
from studio.jobs.runners.local import LOG_FILE

logger = logging.getLogger(__name__)

UPLOAD_LIFE_S = 24 * 3600
"""Uploads that no check has taken by then are deleted."""
_STAGE_LIFE_S = 3600.0
"""What a request lays out while it is answered, or an upload while it comes in, is left by a kill if it is older."""
_DAY_S = 24 * 3600.0
_EVERY_S = 600.0
_LOOK_S = 1.0
"""How often a server that only looks on asks whether the other one is gone."""
_PARTIAL = (".*.partial", ".*.old", ".*.part")
"""What verbs call folders and files that they are about to put in their place."""


class Clock:
    """Sweeps the home of one installation.

    Args:
        home: its folder.
        store: the table of jobs.
        forgetter: deletes jobs.
        keep_days: days that jobs are kept at most after their end, and after that of all that was made from them; None
            keeps them for ever, unless their owner says otherwise.
        leads: tells whether this server is the one of its home that works.
        every_s: pause between two sweeps, seconds.
    """

    def __init__(
        self,
        home: Path,
        store: JobQueue,
        forgetter: Forgetter,
        *,
        keep_days: float | None,
        leads: Callable[[], bool] = lambda: True,
        every_s: float = _EVERY_S,
    ) -> None:
        self._home = home
        self._jobs_dir = home / "jobs"
        self._store = store
        self._forgetter = forgetter
        self._keep_days = keep_days
        self._leads = leads
        self._every_s = every_s
        self.wait_days: float | None = None
        """Days that a job may wait for its turn; None for ever."""
        self.chores: Sequence[Callable[[], object]] = ()
        """What else is done at each sweep, first of all."""
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, which sweeps at once and then again and again."""
        if self._thread is None:
            self._closing.clear()
            self._thread = threading.Thread(target=self._loop, name="studio-clock", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """End the thread; a sweep that is at work may take a moment, and is not waited for long."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(10.0)
            self._thread = None

    def _loop(self) -> None:
        while not self._closing.is_set():
            if self._leads():
                self.sweep()
            self._closing.wait(self._every_s if self._leads() else _LOOK_S)

    def has_ended(self, job_id: str) -> None:
        """Take the originals of a job away that has just ended, if it is completed; any other may be retried."""
        with suppress(StudioError):  # the next sweep does it
            if job_id in self._store.completed():
                self._drop_photos(job_id)

    def sweep(self) -> None:
        """Sweep once; what fails is told in the log and tried again at the next sweep."""
        for task in (
            *self.chores,
            self._forgetter.finish_open,
            self._end_waiting,
            self._forget_expired,
            self._drop_originals,
            self._drop_uploads,
            self._drop_served,
            self._drop_partial,
            lambda: remove_orphans(self._jobs_dir, self._store.ids()),
        ):
            if self._closing.is_set():
                return
            try:
                task()
            except Exception as error:  # the clock goes on
                logger.warning("the clock could not sweep everything (%s); it tries again", type(error).__name__)

    def _end_waiting(self) -> None:
        """End what has waited too long, so that it, too, is kept for some days only, with its photos."""
        if is_paused(self._home):  # its turn could not come
            return
        if self.wait_days is not None and (ended := self._store.expire(self.wait_days * _DAY_S)):
            logger.info("%d jobs have waited longer than %g days and are ended", len(ended), self.wait_days)

    def _forget_expired(self) -> None:
        """Forget jobs that ended long ago, once all that was made from them ended as long ago.

        So photos stay for as long as somebody works with what was trained on them.
        """
        chosen = self._store.all_kept_days()
        for owner in self._store.owners():
            days = retention(self._keep_days, chosen.get(owner)).days
            if days is None:
                continue
            oldest_s = time.time() - days * _DAY_S
            views = self._store.newest(owner, -1)
            fresh = {view.id for view in views if view.state not in TERMINAL_STATES or _ended_s(view) > oldest_s}
            sources = {view.id: made_from(self._jobs_dir, view) for view in views}
            while needed := {source for job_id in fresh for source in sources.get(job_id, ())} - fresh:
                fresh |= needed
            expired = {view.id for view in views} - fresh
            if expired:
                logger.info("%d jobs are kept no longer", len(expired))
                self._forgetter.forget_jobs(owner, expired, kept_days=days)

    def _drop_originals(self) -> None:
        for job_id in self._store.completed():
            self._drop_photos(job_id)

    def _drop_photos(self, job_id: str) -> None:
        """Delete the uploads of a completed job: what it made of them is what everything later reads."""
        shutil.rmtree(self._jobs_dir / job_id / PHOTOS_FOLDER, ignore_errors=True)

    def _drop_uploads(self) -> None:
        for folder in _entries(self._home / UPLOADS_NAME):
            for path in _entries(folder):
                life_s = _STAGE_LIFE_S if path.name.startswith(".") else UPLOAD_LIFE_S
                _drop_if_older(path, life_s)

    def _drop_served(self) -> None:
        """Delete what the page took in or showed a day ago.

        Gradio deletes by itself only what a session that has ended is known to have sent or seen: not what a transfer
        that broke off has left, and nothing as long as a tab stays open.
        """
        root = self._home / SERVED_NAME
        for path in [path for path in root.rglob("*") if path.is_file() or path.is_symlink()]:
            with suppress(OSError):
                # Not when its bytes were written: a link to an old picture is new. Making one counts as a change.
                if time.time() - path.lstat().st_ctime > UPLOAD_LIFE_S:
                    path.unlink()
                    path.parent.rmdir()  # unless others lie in it

    def _drop_partial(self) -> None:
        """Delete what killed attempts of jobs that have ended left beside their output."""
        for owner in self._store.owners():
            for view in self._store.newest(owner, -1, states=TERMINAL_STATES):
                for pattern in _PARTIAL:
                    for path in (self._jobs_dir / view.id).glob(pattern):
                        _drop_if_older(path, _STAGE_LIFE_S)  # others are on their way: fetched weights, an archive


def remove_orphans(jobs_dir: Path, known: frozenset[str]) -> None:
    """Remove uploads of requests that a crash cut off before they were accepted.

    A job that has begun stays, also one that the table does not know: the table may have been lost, or be another one.
    """
    for folder in _entries(jobs_dir):
        hidden = folder.name.startswith(".")  # of the backup, or of what is forgotten
        has_begun = any((folder / name).exists() for name in (LOG_FILE, OUT_FOLDER))
        if folder.name not in known and not hidden and not has_begun:
            _drop_if_older(folder, _STAGE_LIFE_S)


def _ended_s(view: JobView) -> float:
    return view.finished_s or view.created_s


def _entries(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        yield from list(folder.iterdir())


def _drop_if_older(path: Path, life_s: float) -> None:
    with suppress(OSError):
        if time.time() - path.stat().st_mtime > life_s:
            _drop(path)


def _drop(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
