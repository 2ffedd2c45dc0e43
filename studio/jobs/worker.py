"""The local worker: one thread for each slot (see ``slots``), which runs one job at a time, each in a child process.

While all slots are taken, one more thread serves the jobs that need no device, so that photos that were dropped do not
wait for a training.

Each job that runs here has a lease in the store, which one more thread renews; where servers share the store, a job
whose lease has ended is taken over, and a child whose lease cannot be renewed is killed before that can happen.

It tails the child's lines into the store, asks the child to stop when its owner cancels (SIGTERM, then SIGKILL of
the whole group after ``grace_s``), and gives every end a cause in words. Of all servers on one queue only the one that
has the lead works; another takes over when that one is gone. Started by ``studio.service``.
"""

import contextlib
import fcntl
import logging
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from studio.core.domain import Event, JobKind
from studio.core.errors import ResourceError, StudioError
from studio.core.settings import PROJECT_ROOT, WorksName
from studio.core.units import duration_text
from studio.jobs.child import LOCK_FILE
from studio.jobs.events import Outcome, parse_line
from studio.jobs.inherited import inherited
from studio.jobs.pause import is_paused
from studio.jobs.queue import Claim, Lead, WorkersQueue
from studio.jobs.slots import BESIDE, Slot
from studio.jobs.states import VerbSpec

logger = logging.getLogger(__name__)

LOG_FILE = "log.txt"
_LEAVE_S = 10.0
"""How long a child that has told its outcome may take to leave."""
_STOP_TOGETHER_S = 5.0
"""How long after its child a server may hear that the service stops: uvicorn first waits for open pages."""
_WATCH_S = 1.0
"""How often the worker looks after leases, its own and those of other servers."""
_GUARD_S = 0.5
"""How often it looks for leases that are about to end."""
_BEATS = 4
"""Heartbeats in the time that a lease holds."""
_STOPPED = "The server stopped while the job ran."


class Worker:
    """Runs the jobs of one store, one at a time on each slot.

    Args:
        store: where jobs are claimed and told.
        home: folder of the server.
        jobs_dir: folder that holds one folder per job.
        verbs: the table of verbs.
        environment: variables that each child gets beside what it inherits of the server's.
        more_variables: names of variables that it inherits beside those of ``inherited``.
        grace_s: how long a child may take to stop by itself.
        max_losses: so many attempts in a row that were killed or crashed and got no further stall a job.
        silence_s: a child that tells no event for so long hangs: it is killed and its job stalls.
        secrets: (job id, has it ended) -> variables for that job's child alone; they are written nowhere. None takes
            one of the others away.
        slots: variables of the environment for each job that may run at the same time.
        beside: kinds of jobs of which one runs while all slots are taken.
        works: whether it runs jobs while it leads, always (where several servers may work at once), or never.
        tick_s: how often the worker looks up from the child's lines.
    """

    def __init__(
        self,
        store: WorkersQueue,
        home: Path,
        jobs_dir: Path,
        *,
        verbs: Mapping[JobKind, VerbSpec],
        environment: Mapping[str, str],
        more_variables: Collection[str] = (),
        grace_s: float,
        max_losses: int,
        silence_s: float,
        secrets: Callable[[str, bool], Mapping[str, str | None]] = lambda job_id, ended: {},
        slots: Sequence[Slot] = ({},),
        beside: Collection[JobKind] = (),
        works: WorksName = "lead",
        tick_s: float = 0.2,
    ) -> None:
        self._store = store
        self._home = home
        self._jobs_dir = jobs_dir
        self._verbs = verbs
        self._environment = environment
        self._more_variables = frozenset(more_variables)
        self._grace_s = grace_s
        self._max_losses = max_losses
        self._silence_s = silence_s
        self._secrets = secrets
        self._tick_s = tick_s
        self._works = works
        self._slots = tuple(slots)
        self._beside = frozenset(beside)
        self._taken = 0
        self._counting = threading.Lock()
        self._lead: Lead | None = None
        self._leads = False
        self._taking_over = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._watchers: list[threading.Thread] = []
        self._renewed_s: dict[str, float] = {}
        """Jobs that run here, and when their leases were renewed last, on the monotonic clock."""
        self._groups: dict[str, int] = {}
        """The process groups of those whose child runs."""
        self._troubles: dict[str | None, str] = {}
        self._wake = threading.Event()
        self._draining = threading.Event()
        self._closing = threading.Event()
        self._closed = threading.Event()

    def start(self) -> None:
        """Put the jobs of a dead server back into the queue and start the threads; raises ResourceError."""
        if self._threads:
            return
        self._draining.clear()
        self._closing.clear()
        self._closed.clear()
        self._take_over()
        for number, slot in enumerate((*self._slots, BESIDE) if self._beside else self._slots):
            thread = threading.Thread(target=self._loop, args=(slot,), name=f"studio-worker-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()
        for watch in (self._keep_leases, self._guard_leases):
            watcher = threading.Thread(target=watch, name=f"studio{watch.__name__.replace('_', '-')}", daemon=True)
            self._watchers.append(watcher)
            watcher.start()

    def trouble_of(self, job_id: str) -> str | None:
        """Return why nothing new of an open job can be stored, in words; None if it can.

        The table cannot tell that itself: it shows how the job stood before.
        """
        return self._troubles.get(job_id) or self._troubles.get(None)

    def leads(self) -> bool:
        """Tell whether this server is the one of its queue that works."""
        return self._leads

    def running(self) -> dict[str, int]:
        """Return job id -> process of the jobs that run here."""
        with self._counting:
            return dict(self._groups)

    def wake(self) -> None:
        """Say that the store has changed."""
        self._wake.set()

    def busy(self) -> int:
        """Return how many attempts run here."""
        with self._counting:
            return len(self._renewed_s)

    def drain(self) -> None:
        """Take no more jobs; what runs goes on. Where servers share the queue, another one may lead from now on."""
        self._draining.set()
        with self._taking_over:
            if self._lead is not None and not self._lead.is_proof:
                self._leads = False
                self._lead.leave()
        self._wake.set()

    def close(self) -> None:
        """Stop the children, put their jobs back into the queue, end the threads, give the lead back."""
        self._draining.set()
        self._closing.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._closed.set()  # only now: what runs keeps its lease until its end is stored
        for watcher in self._watchers:
            watcher.join()
        self._watchers.clear()
        if self._lead is not None:
            self._lead.leave()
        self._leads = False

    # The threads

    def _loop(self, slot: Slot) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            claim, now_s = None, time.monotonic()
            try:
                if self._may_claim() and not is_paused(self._home):
                    claim = self._claim(slot)
                self._troubles.pop(None, None)
            except ResourceError as error:
                self._troubles[None] = str(error)
                logger.exception("the worker cannot look for jobs")
            if claim is None:
                self._wake.wait(1.0)
                continue
            self._count(slot, 1)
            with self._counting:
                self._renewed_s[claim.id] = now_s
            try:
                self._run(claim, slot)
            finally:
                self._count(slot, -1)
                with self._counting:
                    self._renewed_s.pop(claim.id, None)

    def _may_claim(self) -> bool:
        """Tell whether this server may take a job now, and take the lead if nobody has it."""
        leads = self._take_over()
        beside_others = self._works == "always" and self._lead is not None and not self._lead.is_proof
        return (leads or beside_others) and not self._draining.is_set()

    def _claim(self, slot: Slot) -> Claim | None:
        """Take a job for this slot. The one beside serves only while all others are taken: a free slot does it best."""
        if slot is not BESIDE:
            return self._store.claim()
        with self._counting:
            taken = self._taken
        return self._store.claim(self._beside) if taken == len(self._slots) else None

    def _count(self, slot: Slot, change: int) -> None:
        if slot is not BESIDE:
            with self._counting:
                self._taken += change

    def _take_over(self) -> bool:
        """Become the one worker of this queue if no other server is, and clean up after a dead one."""
        with self._taking_over:
            self._lead = self._lead or self._store.lead(self._home)
            if self._works == "never" or (self._draining.is_set() and not self._leads):
                return False
            try:
                taken = self._lead.take()
                if taken and not self._leads:
                    self._recover(alone=self._lead.is_proof)
            except StudioError:
                self._leads = False
                self._lead.leave()
                raise
            self._leads = taken
            return taken

    def _recover(self, *, alone: bool) -> None:
        for job_id in self._store.recover(_STOPPED, alone=alone):
            end_leftovers(self._jobs_dir / job_id)
            self._wake.set()

    def _keep_leases(self) -> None:
        """Renew the leases of what runs here; where servers share the store, take over what another one has lost."""
        beat_s = 0.0
        told = False
        while not self._closed.wait(_WATCH_S):
            try:
                with self._counting:
                    running = list(self._renewed_s)
                now_s = time.monotonic()
                if running and now_s - beat_s >= self._store.lease_s / _BEATS:
                    self._store.beat()
                    beat_s = now_s
                    with self._counting:
                        self._renewed_s.update({job_id: now_s for job_id in running if job_id in self._renewed_s})
                if not self._closing.is_set() and self._take_over() and self._lead and not self._lead.is_proof:
                    self._recover(alone=False)
                told = False
            except ResourceError as error:
                if not told:  # once, and not every second
                    logger.warning("leases cannot be renewed: %s", error)
                told = True

    def _guard_leases(self) -> None:
        """Kill a child before its lease ends, for then another server may run its job; this asks no database."""
        while not self._closed.wait(_GUARD_S):
            with self._counting:
                for job_id in [job_id for job_id in self._groups if self._lease_ends(job_id)]:
                    logger.warning("job %s: its lease could not be renewed; its process is ended", job_id)
                    _kill_group(self._groups.pop(job_id))

    def _lease_ends(self, job_id: str) -> bool:
        """Tell whether another server may take a job over before long that runs here."""
        if self._lead is None or self._lead.is_proof:  # nobody else can
            return False
        renewed_s = self._renewed_s.get(job_id, math.inf)
        return time.monotonic() - renewed_s > self._store.lease_s - 2 * _GUARD_S

    def _run(self, claim: Claim, slot: Slot) -> None:
        """Run one attempt to its end and store that end."""
        told_to_stop = False
        try:
            outcome, returncode = self._attempt(claim, slot)
            told_to_stop = outcome is not None or returncode == -signal.SIGTERM
            reason = _TOLD_TO_STOP if told_to_stop else _words(returncode)
        except OSError as error:
            logger.exception("job %s cannot be run", claim.id)
            outcome, reason = None, f"The job's process could not be run ({error.strerror})."
        except Exception:  # a bug here must not stop the queue
            logger.exception("job %s: the worker failed", claim.id)
            outcome, reason = None, "The studio's worker failed; details are in the server's log."
        if outcome is not None and outcome.state != "cancelled":
            self._persist(claim, lambda: self._store.finish(claim, outcome))
            self._secrets(claim.id, True)
        elif self._closing.is_set() or self._lease_ends(claim.id) or (told_to_stop and self._service_stops(claim)):
            self._persist(claim, lambda: self._store.release(claim))
        else:  # "lost" is what the store calls it unless the owner has asked for it
            self._persist(claim, lambda: self._store.lose(claim, reason, self._max_losses))

    def _service_stops(self, claim: Claim) -> bool:
        """Tell of a child that was told to stop whether that was because we are about to stop as well.

        A service manager asks all processes of a service at once, and the child may be faster than we are.
        """
        with contextlib.suppress(ResourceError):
            if self._store.append(claim, ()):  # its owner has cancelled it
                return False
        return self._draining.wait(_STOP_TOGETHER_S)

    def _attempt(self, claim: Claim, slot: Slot) -> tuple[Outcome | None, int]:
        """Run one child; return its own word and its exit status, negative for a signal."""
        job_dir = self._jobs_dir / claim.id
        end_leftovers(job_dir)
        process = self._spawn(claim, job_dir, slot)
        with self._counting:
            self._groups[claim.id] = process.pid
        try:
            outcome = self._follow(claim, process)
        except BaseException:
            _kill_group(process.pid)
            raise
        finally:
            with self._counting:
                self._groups.pop(claim.id, None)
            returncode = _end(process)
        return outcome, returncode

    def _spawn(self, claim: Claim, job_dir: Path, slot: Slot) -> "subprocess.Popen[bytes]":
        search_path = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        kept = inherited(os.environ, self._more_variables)
        environment = {**kept, **self._environment, **slot, "PYTHONPATH": os.pathsep.join(search_path)}
        own = {**environment, **self._secrets(claim.id, False)}
        environment = {name: value for name, value in own.items() if value is not None}
        # -P: the working folder, which is the server's, must not be searched for modules.
        command = [sys.executable, "-P", "-m", "studio.jobs.child", str(job_dir)]
        command += ["--verb", self._verbs[claim.kind].path, "--parent", str(os.getpid())]
        with (job_dir / LOG_FILE).open("ab") as log:
            log.write(f"--- attempt {claim.attempt}\n".encode())
            log.flush()
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # held open: its end tells the child that we are gone
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
                umask=0o077,  # what it writes is its owner's alone
                bufsize=0,
            )

    def _follow(self, claim: Claim, process: "subprocess.Popen[bytes]") -> Outcome | None:
        """Carry the child's lines into the store until it ends, is silent or has been asked to stop for too long."""
        assert process.stdout is not None
        handle = process.stdout.fileno()
        os.set_blocking(handle, False)
        outcome: Outcome | None = None
        rest = b""
        unsaved: list[Event] = []
        look_up_s = survey_s = 0.0
        kill_s = math.inf
        heard_s = time.monotonic()  # this clock stands still while the machine sleeps
        more = True
        while more and outcome is None:
            exited = process.poll() is not None  # asked before reading, so that its last words are read below
            select.select([handle], [], [], 0 if exited else self._tick_s)
            data, more = _read_all(handle)
            *lines, rest = (rest + data).split(b"\n")
            for parsed in map(parse_line, lines):
                if isinstance(parsed, Outcome):
                    outcome = parsed
                elif parsed is not None:
                    unsaved.append(parsed)
                    heard_s = time.monotonic()
            more = more and not exited
            now_s = time.monotonic()
            if more and outcome is None and now_s < look_up_s:
                continue  # one transaction per tick, however fast it talks
            look_up_s = now_s + self._tick_s
            stop = self._closing.is_set()
            try:
                stop = self._store.append(claim, unsaved) or stop
                unsaved = []
                if now_s >= survey_s:
                    survey_s = now_s + 1.0
                    self._store.survey(device_busy=True)
                self._troubles.pop(claim.id, None)
            except ResourceError as error:  # keep the events and the child; there may be room at the next look
                self._troubles[claim.id] = str(error)
                logger.exception("job %s: its events wait for the store", claim.id)
            if stop and kill_s == math.inf:
                process.terminate()
                kill_s = now_s + self._grace_s
            if now_s >= kill_s:
                _kill_group(process.pid)
                break
            if more and outcome is None and not stop and now_s - heard_s > self._silence_s:
                _kill_group(process.pid)
                outcome = Outcome("stalled", cause=_hung(self._silence_s))
        if unsaved:
            self._persist(claim, lambda: self._store.append(claim, unsaved))
        return outcome

    def _persist(self, claim: Claim, change: Callable[[], object]) -> None:
        """Store an end, however long the disk needs; given up when closing, because the next start recovers it."""
        while True:
            try:
                change()
                self._troubles.pop(claim.id, None)
                return
            except ResourceError as error:
                self._troubles[claim.id] = str(error)
                logger.exception("the end of a job waits for the store")
                if self._closing.wait(1.0):
                    return


def _read_all(handle: int) -> tuple[bytes, bool]:
    """Return what can be read now, and whether more may come."""
    data = b""
    while True:
        try:
            chunk = os.read(handle, 65536)
        except BlockingIOError:
            return data, True
        if not chunk:
            return data, False
        data += chunk
        if len(data) > 2**20:  # a flood must not keep us from looking at the owner's wishes
            return data, True


def _end(process: "subprocess.Popen[bytes]") -> int:
    """See the child off, and everything that it started; return its status, negative for a signal."""
    with process:
        try:
            process.wait(_LEAVE_S)
        except subprocess.TimeoutExpired:
            logger.warning("process %d does not leave and is killed", process.pid)
        _kill_group(process.pid)
        return process.wait()


def _kill_group(group: int) -> None:
    # PermissionError: macOS says so of a group that holds only zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_leftovers(job_dir: Path, patience_s: float = 5.0) -> None:
    """Kill what is left of an earlier attempt of this job.

    The lock is the proof: while it is held, the process group in the file exists and is ours, so its number
    cannot have been given to a stranger.
    """
    path = job_dir / LOCK_FILE
    if not path.exists():
        return
    give_up_s = time.monotonic() + patience_s
    with path.open("r+b") as lock:
        while time.monotonic() < give_up_s:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                lock.seek(0)
                pid = lock.read()
                if pid.isdigit():
                    _kill_group(int(pid))
                time.sleep(0.05)


def _hung(silence_s: float) -> str:
    return (
        f"The job's process reported nothing for {duration_text(silence_s)} and was stopped. Retry the job; it"
        " continues from where it was. If it only needs more time, for example for a download, increase"
        " STUDIO_JOB_SILENCE_S."
    )


_TOLD_TO_STOP = "The job's process was told to stop by another program of this machine."


def _words(returncode: int) -> str:
    """Say how a child ended that told no outcome."""
    if returncode == -signal.SIGKILL:
        return (
            "The job's process was killed, probably out of memory; close other programs, or choose a smaller"
            " batch size, resolution or base."
        )
    if returncode < 0:
        return f"The job's process crashed ({signal.Signals(-returncode).name}); details are in the job's log."
    return f"The job's process ended without a result (status {returncode}); details are in the job's log."
