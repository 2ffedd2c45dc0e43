"""The studio as those who run it see it: can it take a job now, what does it do, and how it is brought to its end.

A part of ``studio.service.Studio``, which has one as ``server``.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from studio.core.errors import Problem, QueueFullError, StudioError, UnavailableError
from studio.core.units import bytes_text
from studio.jobs.observed import ObservedQueue, Observer
from studio.jobs.queue import Figure, JobQueue
from studio.jobs.states import WAITING
from studio.jobs.worker import Worker

LEAST_FREE_BYTES = 100 * 10**6
"""With less room no job could write what it makes."""
_PROBE_BYTES = 4096
_LOOK_S = 0.1


class Server:
    """How one server of an installation stands.

    Args:
        home: its folder.
        store: the table of jobs.
        worker: what runs jobs here.
        queue: the worker's view of the table.
        max_waiting: most jobs that may wait.
    """

    def __init__(self, home: Path, store: JobQueue, worker: Worker, queue: ObservedQueue, *, max_waiting: int) -> None:
        self._home = home
        self._store = store
        self._worker = worker
        self._queue = queue
        self._max_waiting = max_waiting
        self._draining = threading.Event()

    def observe(self, observer: Observer) -> None:
        """Tell somebody from now on what the worker does."""
        self._queue.observer = observer

    # Looking

    def problems(self) -> list[Problem]:
        """Return why no job could be taken and run now; nothing if all is well."""
        found = []
        if self._draining.is_set():
            found.append(Problem("server", "is about to stop", "ask again in a moment", "draining"))
        try:
            self._store.figures()
            if not self._store.lead(self._home).is_taken():
                cure = "start a server that runs jobs; if one has just gone, another takes over in a moment"
                found.append(Problem("worker", "is missing: no server runs the jobs", cure, "no_lead"))
        except StudioError as error:
            found.append(Problem("jobs", str(error).rstrip("."), "see the server's log", "no_table"))
        return [*found, *self._problems_of_home()]

    def _problems_of_home(self) -> list[Problem]:
        cure = "free some space there, or mend its rights"
        try:
            with tempfile.TemporaryFile(dir=self._home) as probe:
                probe.write(b"\0" * _PROBE_BYTES)
                probe.flush()
            if self.free_bytes() < LEAST_FREE_BYTES:
                words = f"has less than {bytes_text(LEAST_FREE_BYTES)} left"
                return [Problem("home", words, "free some space there", "no_room")]
        except OSError as error:
            return [Problem("home", f"cannot be written ({error.strerror})", cure, "no_room")]
        return []

    def free_bytes(self) -> int:
        """Return the room that is left where jobs write; raises OSError."""
        return shutil.disk_usage(self._home).free

    def figures(self) -> list[Figure]:
        """Return how many jobs of all owners there are of each kind in each state; raises ResourceError."""
        return self._store.figures()

    def deliveries(self) -> Mapping[str, int]:
        """Return state -> how many deliveries to webhooks are in it; raises ResourceError."""
        counts: Mapping[str, int] = self._store.overview.delivery_counts()
        return counts

    def rented(self) -> tuple[int, float, float]:
        """Return how many machines are rented now, and the dollars of this month: spent, and reserved for those.

        Raises:
            ResourceError: the table cannot be read.
        """
        money = self._store.rentals.money()
        return self._store.overview.rented(), money.spent, money.reserved

    def running(self) -> int:
        """Return how many attempts run here."""
        return self._worker.busy()

    def leads(self) -> bool:
        """Tell whether this server dispatches."""
        return self._worker.leads()

    def is_draining(self) -> bool:
        """Tell whether this server takes no more jobs."""
        return self._draining.is_set()

    # Stopping

    def require_open(self) -> None:
        """Refuse a new job while the server is about to stop, or the queue is full.

        Raises:
            UnavailableError: it is. QueueFullError: it is.
        """
        if self._draining.is_set():
            raise UnavailableError("the studio is about to stop and takes no more jobs; send it again in a moment.")
        # Not in the transaction that adds the job: a few too many at the same moment harm nobody.
        waiting = sum(figure.jobs for figure in self._store.figures() if figure.state in WAITING)
        if waiting >= self._max_waiting:
            raise QueueFullError(f"the queue is full: {waiting} jobs wait; send it again in a minute.")

    def drain(self, within_s: float) -> bool:
        """Take no more jobs, and wait until those have ended that would end with this server.

        Args:
            within_s: longest wait, seconds.

        Returns:
            True if nothing runs here any more but what goes on by itself on another machine.
        """
        self._draining.set()
        self._worker.drain()
        end_s = time.monotonic() + within_s
        while self._worker.bound() and time.monotonic() < end_s:
            time.sleep(_LOOK_S)
        return not self._worker.bound()
