"""What the operator of a studio sees and does: the queue of all owners, what runs, what the disk holds.

A part of ``studio.service.Studio``, which asks nobody whether they are the operator: edges do. Nothing here says what
a job is about: photos, names, prompts and causes are their owner's.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import psutil

from studio.core import machine
from studio.core.domain import TERMINAL_STATES, JobKind, JobState, JobView
from studio.core.errors import ResourceError, StudioError
from studio.core.private import SERVED_NAME, TABLE_NAME, UPLOADS_NAME, owner_digest
from studio.core.settings import Settings
from studio.jobs.child import resolve
from studio.jobs.intake import disk_errors
from studio.jobs.pause import is_paused, pause, paused_for_s
from studio.jobs.queue import Deliveries, JobQueue, OwnerUse, RunningJob
from studio.jobs.slots import RENTING, slots_of
from studio.jobs.states import RUNNING, TRANSITIONS

if TYPE_CHECKING:
    from studio.jobs.rentals import Money

MOST_OPEN, MOST_STOPPED = 200, 20
"""Most jobs of one look: those that have not ended, and the newest that ended without a result."""
_OPEN = frozenset(TRANSITIONS) - TERMINAL_STATES
_STOPPED = frozenset({"stalled", "cancelled"})
_MEASURED_S = 30.0
"""So long what the disk holds is believed without looking again."""
_BY_OPERATOR = "The operator of this studio cancelled it."
_CLEAR = "studio.pictures.picture_cache:clear"


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job as the operator sees it."""

    id: str
    kind: JobKind
    state: JobState
    owner: str
    attempt: int
    age_s: float
    """Since it was submitted."""
    waited_s: float
    """Until it first began, or so far."""
    place: int | None
    """In the queue, 1 for the next one to start; None of what does not wait for its turn."""
    memory_bytes: int | None
    """What its processes hold on this machine; None if they do not run here."""


@dataclass(frozen=True, slots=True)
class QueueLook:
    """How the queue and this machine stand now."""

    paused: bool
    leads: bool
    """Whether this server is the one of its queue that runs jobs."""
    led: bool
    """Whether any server is."""
    slots: int
    """How many jobs may hold a device at the same time."""
    running: int
    """Jobs of all servers that run now."""
    jobs: tuple[QueuedJob, ...]
    """Those that have not ended, then the newest that ended without a result; each newest first."""
    memory_free_bytes: int
    memory_bytes: int
    load: float
    """Processes that want a CPU core, mean of the last minute."""
    cores: int


@dataclass(frozen=True, slots=True)
class Device:
    """One place of this machine where jobs run."""

    name: str
    """``cpu``, ``mps``, or what tells a GPU apart: its number or UUID."""
    jobs: tuple[str, ...]
    """Ids of those that run there; two where pictures are made beside a training."""
    warm_bytes: int | None
    """Main memory of the process that keeps its base loaded there; None if there is none."""


@dataclass(frozen=True, slots=True)
class Rented:
    """A machine that may cost money now."""

    service: str
    what: str
    job: str
    price_per_hour: float
    """US dollars."""
    age_s: float


@dataclass(frozen=True, slots=True)
class Activity:
    """What goes on: servers with what they run, devices, rented machines, deliveries."""

    server: str
    """Host and process of this server."""
    running: tuple[RunningJob, ...]
    """By all servers; one that runs nothing is in no table."""
    devices: tuple[Device, ...]
    rented: tuple[Rented, ...]
    money: "Money | None"
    """Of the month; None where no machines are rented."""
    budget: float | None
    """US dollars a month."""
    deliveries: Deliveries


@dataclass(frozen=True, slots=True)
class OwnerShare:
    """What one owner has here."""

    owner: str
    jobs: int
    bytes: int
    """Of their jobs and uploads, on the disk."""
    used: OwnerUse | None = None
    """What they have used; None of an owner of whom there are files alone."""


@dataclass(frozen=True, slots=True)
class CacheShare:
    """What one cache holds."""

    name: str
    """results, bases, weights (of completed jobs, the rest of which lies in the backup), or a folder of the caches."""
    bytes: int
    entries: int | None
    limit_bytes: int | None
    """What it may hold; None without a limit."""
    away_bytes: int = 0
    """Of weights: what lies in the backup alone."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the disk holds, in bytes."""

    places: Mapping[str, int]
    """Part of the home -> bytes: jobs, uploads, results (kept pictures), caches, bases, table, other."""
    results: int | None
    """Pictures in the result cache, wherever that is; None if it cannot be asked."""
    results_bytes: int
    disk_free_bytes: int
    disk_bytes: int
    owners: tuple[OwnerShare, ...]
    """The one with the most first."""
    gpus: tuple[machine.Gpu, ...]
    caches: tuple[CacheShare, ...] = ()


class Running(Protocol):
    """What is asked of the worker."""

    def leads(self) -> bool:
        """Tell whether this server is the one of its queue that works."""

    def running(self) -> Mapping[str, int]:
        """Return job id -> process of the jobs that run here."""

    def devices(self) -> Mapping[str, tuple[str, ...]]:
        """Return what tells a device of this machine apart -> jobs that run on it."""

    def warm(self) -> Mapping[str, int]:
        """Return device -> process that keeps its base loaded there."""

    def wake(self) -> None:
        """Say that something has changed."""


class Steering(Protocol):
    """How an owner steers a job."""

    def cancel(self, job_id: str, *, owner: str) -> JobView:
        """Cancel it."""

    def retry(self, job_id: str, *, owner: str) -> JobView:
        """Put it back into the queue."""


class Operation:
    """Looks and steers on behalf of whoever runs the studio.

    Args:
        settings: of the installation.
        home: its folder.
        store: the table of jobs.
        worker: what runs jobs here.
        steering: how an owner cancels and retries; ``Studio``.
        weights: returns the bytes of weights of completed jobs that are here, and of those in the backup alone.
    """

    def __init__(
        self,
        settings: Settings,
        home: Path,
        store: JobQueue,
        worker: Running,
        steering: Steering,
        weights: Callable[[], tuple[int, int]] | None = None,
    ) -> None:
        self._weights = weights
        self._settings, self._home, self._store = settings, home, store
        self._worker, self._steering = worker, steering
        self._measuring = threading.Lock()
        self._measured: tuple[float, Holdings] | None = None

    def look(self) -> QueueLook:
        """Return how the queue and this machine stand."""
        views = self._store.newest_of_all(MOST_OPEN, states=_OPEN)
        views += self._store.newest_of_all(MOST_STOPPED, states=_STOPPED)
        processes = self._worker.running()
        memory = psutil.virtual_memory()
        leads = self._worker.leads()
        return QueueLook(
            paused=is_paused(self._home),
            leads=leads,
            led=leads or self._store.lead(self._home).is_taken(),
            slots=len(slots_of(self._settings)),
            running=sum(view.state in RUNNING for view in views),
            jobs=tuple(_queued(view, processes.get(view.id)) for view in views),
            memory_free_bytes=memory.available,
            memory_bytes=memory.total,
            load=os.getloadavg()[0],
            cores=os.cpu_count() or 1,
        )

    def activity(self) -> Activity:
        """Return what goes on now, as this machine and the tables know it."""
        settings, overview = self._settings, self._store.overview
        rents = settings.runner in RENTING
        rentals = self._store.rentals
        open_ones = rentals.open_ones(settings.runner) if rents else ()
        return Activity(
            server=overview.server,
            running=overview.running(),
            devices=self._devices(),
            rented=tuple(
                Rented(row.service, row.what, row.job, row.price_per_hour, rentals.age_s(row)) for row in open_ones
            ),
            money=rentals.money() if rents else None,
            budget=settings.rent_monthly_budget if rents else None,
            deliveries=overview.deliveries(),
        )

    def measure(self) -> Holdings:
        """Return what the disk holds; it reads every folder of the home, so an answer is kept for half a minute."""
        with self._measuring:
            known = self._measured
            if known is None or time.monotonic() - known[0] > _MEASURED_S:
                known = self._measured = (time.monotonic(), self._weigh())
            return known[1]

    def is_paused(self) -> bool:
        """Tell whether the queue is paused."""
        return is_paused(self._home)

    def pause(self, *, on: bool) -> None:
        """Let nothing new begin, or let the queue go on; what runs is left alone. Raises ResourceError."""
        if not on and (length_s := paused_for_s(self._home)):
            self._store.end_pause(length_s)  # before it ends: afterwards the clock might end jobs that have waited
        pause(self._home, on=on)
        self._worker.wake()

    def cancel(self, job_id: str, *, by: str) -> None:
        """Cancel anybody's job; its owner reads that it was the operator, if ``by`` is somebody else.

        Raises:
            NotFoundError: there is no such job.
        """
        owner = self._store.owner_of(job_id)
        if self._steering.cancel(job_id, owner=owner).state != "completed" and owner != by:
            self._store.tell(job_id, "warning", _BY_OPERATOR)

    def retry(self, job_id: str) -> None:
        """Put anybody's stalled or cancelled job back into the queue.

        A token that it was submitted with was forgotten when it ended; where it needs one, its owner has to do this.

        Raises:
            NotFoundError: there is no such job. ConflictError: it is neither stalled nor cancelled.
        """
        self._steering.retry(job_id, owner=self._store.owner_of(job_id))

    def clear_results(self) -> tuple[int, int]:
        """Delete all pictures of the result cache; return how many, and their bytes. Jobs keep theirs.

        Raises:
            ResourceError: the cache cannot be reached.
        """
        try:
            cleared: tuple[int, int] = resolve(_CLEAR)(self._settings)
        except OSError as error:
            raise ResourceError(f"the result cache cannot be reached ({error}); try again later.") from error
        with self._measuring:
            self._measured = None
        return cleared

    def _devices(self) -> tuple[Device, ...]:
        busy, warm = self._worker.devices(), self._worker.warm()
        names = sorted({*busy, *warm})
        kind = machine.look(self._settings.device).kind
        only = kind if names == [""] else "cpu"  # beside GPUs that have names
        return tuple(
            Device(name or only, busy.get(name, ()), _memory_of(warm[name]) if name in warm else None) for name in names
        )

    def _weigh(self) -> Holdings:
        settings, home = self._settings, self._home
        whose = self._store.whose()
        taken, counted = dict.fromkeys(whose.values(), 0), dict.fromkeys(whose.values(), 0)
        for job_id, owner in whose.items():
            taken[owner] += bytes_below(home / "jobs" / job_id)
            counted[owner] += 1
        for owner in taken:
            digest = owner_digest(owner)
            taken[owner] += bytes_below(home / UPLOADS_NAME / digest) + bytes_below(home / SERVED_NAME / f"of-{digest}")
        uses = self._store.overview.uses()
        everybody = {**dict.fromkeys(uses, 0), **taken}
        shares = [OwnerShare(owner, counted.get(owner, 0), size, uses.get(owner)) for owner, size in everybody.items()]
        try:
            results, results_bytes = resolve(_CLEAR)(settings, dry_run=True)
        except (OSError, StudioError):
            results, results_bytes = None, 0
        with disk_errors():
            disk = shutil.disk_usage(home)
        return Holdings(
            _places(home, settings.bases_dir),
            results,
            results_bytes,
            disk.free,
            disk.total,
            tuple(sorted(shares, key=lambda share: (-share.bytes, share.owner))),
            machine.gpus(),
            self._caches(results, results_bytes),
        )

    def _caches(self, results: int | None, results_bytes: int) -> tuple[CacheShare, ...]:
        settings = self._settings
        found = []
        if results is not None:
            limit = settings.results_max_bytes if settings.results_cache == "disk" else None
            found.append(CacheShare("results", results_bytes, results, limit))
        bases = settings.bases_dir or self._home / "bases"
        found.append(CacheShare("bases", bytes_below(bases), _count(bases), settings.bases_max_bytes))
        if self._weights is not None and settings.backup_url is not None:
            here, away = self._weights()
            found.append(CacheShare("weights", here, None, settings.weights_max_bytes, away))
        folders = sorted(path for path in (self._home / "cache").glob("*") if path.is_dir())
        found += [
            CacheShare(path.name, bytes_below(path), _count(path), None) for path in folders if path.name != "pictures"
        ]
        return tuple(found)


def bytes_below(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; what goes meanwhile counts nothing."""
    try:
        if path.is_file():
            return path.stat().st_size
        with os.scandir(path) as rows:
            entries = list(rows)
    except OSError:
        return 0
    return sum(_bytes_of(entry) for entry in entries)


def _bytes_of(entry: "os.DirEntry[str]") -> int:
    try:
        if entry.is_dir(follow_symlinks=False):
            return bytes_below(Path(entry.path))
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0


def _places(home: Path, bases_dir: Path | None) -> dict[str, int]:
    total = bytes_below(home)
    bases = bases_dir or home / "bases"
    found = {
        "jobs": bytes_below(home / "jobs"),
        "uploads": bytes_below(home / UPLOADS_NAME) + bytes_below(home / SERVED_NAME),
        "results": bytes_below(home / "cache" / "pictures"),
        "caches": bytes_below(home / "cache") - bytes_below(home / "cache" / "pictures"),
        "table": sum(bytes_below(home / f"{TABLE_NAME}{end}") for end in ("", "-wal", "-shm")),
    }
    of_bases = bytes_below(bases)
    inside = of_bases if bases.is_relative_to(home) else 0
    return {**found, "bases": of_bases, "other": max(0, total - sum(found.values()) - inside)}


def _count(folder: Path) -> int:
    """Return how many entries a cache's folder has."""
    try:
        return sum(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())
    except OSError:
        return 0


def _queued(view: JobView, process: int | None) -> QueuedJob:
    now_s = time.time()
    began_s = view.started_s if view.started_s is not None else view.finished_s or now_s
    return QueuedJob(
        id=view.id,
        kind=view.kind,
        state=view.state,
        owner=view.owner,
        attempt=view.attempt,
        age_s=max(0.0, now_s - view.created_s),
        waited_s=max(0.0, began_s - view.created_s),
        place=view.place,
        memory_bytes=None if process is None else _memory_of(process),
    )


def _memory_of(process: int) -> int | None:
    """Return what a process and all that it started hold; memory that they share counts for each."""
    try:
        parent = psutil.Process(process)
        return sum(one.memory_info().rss for one in (parent, *parent.children(recursive=True)))
    except psutil.Error:  # it has ended meanwhile
        return None
