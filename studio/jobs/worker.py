"""The worker of a server: one thread for each slot (see ``slots``), which runs one job at a time with a runner.

While all slots are taken, one more thread serves the jobs that need no device, so that photos that were dropped do not
wait for a training.

Each job that runs here has a lease in the store, which one more thread renews; where servers share the store, a job
whose lease has ended is taken over, and an attempt whose lease cannot be renewed is ended before that can happen.

It carries what an attempt tells into the store, asks it to stop when its owner cancels (and ends it after
``grace_s``), and gives every end a cause in words. Of all servers on one queue only the one that
has the lead works; another takes over when that one is gone. Started by ``studio.service``.
"""

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from studio.core.domain import Event, JobKind, ShouldStop
from studio.core.errors import JobCancelled, ResourceError, StudioError
from studio.core.settings import WorksName
from studio.core.units import duration_text
from studio.jobs.child import explain
from studio.jobs.events import Outcome
from studio.jobs.pause import is_paused
from studio.jobs.queue import Claim, Lead, WorkersQueue
from studio.jobs.runners.base import TOLD_TO_STOP, Attempt, Report, Runner
from studio.jobs.runners.local import end_leftovers, process_of
from studio.jobs.slots import BESIDE, Sharing, Slot, device_of
from studio.jobs.states import VerbSpec

logger = logging.getLogger(__name__)

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
        runner_of: returns what carries out a job, by its kind and its folder.
        grace_s: how long an attempt may take to stop by itself.
        max_losses: so many attempts in a row that were killed or crashed and got no further stall a job.
        silence_s: an attempt that has begun and tells no event for so long hangs: it is ended and its job stalls.
        secrets: (job id, has it ended) -> variables for that job's process alone; they are written nowhere. None
            takes one of the others away.
        slots: variables of the environment for each job that may run at the same time.
        beside: kinds of jobs of which one runs while all slots are taken.
        sharing: which pictures are made beside a training on its own device; None keeps every device for one job.
        prepare: brings here what a job's attempt reads, before it begins; raises StudioError where that cannot be.
        works: whether it runs jobs while it leads, always (where several servers may work at once), or never.
        tick_s: how often the worker looks up from what an attempt tells.
    """

    def __init__(
        self,
        store: WorkersQueue,
        home: Path,
        jobs_dir: Path,
        *,
        verbs: Mapping[JobKind, VerbSpec],
        runner_of: Callable[[JobKind, Path], Runner],
        grace_s: float,
        max_losses: int,
        silence_s: float,
        secrets: Callable[[str, bool], Mapping[str, str | None]] = lambda job_id, ended: {},
        slots: Sequence[Slot] = ({},),
        beside: Collection[JobKind] = (),
        sharing: Sharing | None = None,
        prepare: Callable[[str, ShouldStop], None] = lambda job_id, should_stop: None,
        works: WorksName = "lead",
        tick_s: float = 0.2,
    ) -> None:
        self._store = store
        self._home = home
        self._jobs_dir = jobs_dir
        self._verbs = verbs
        self._runner_of = runner_of
        self._grace_s = grace_s
        self._max_losses = max_losses
        self._silence_s = silence_s
        self._secrets = secrets
        self._tick_s = tick_s
        self._works = works
        self._slots = tuple(slots)
        self._beside = frozenset(beside)
        self._sharing = sharing
        self._prepare = prepare
        self._taken = 0
        self._counting = threading.Lock()
        self._lead: Lead | None = None
        self._leads = False
        self._taking_over = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._watchers: list[threading.Thread] = []
        self._renewed_s: dict[str, float] = {}
        """Jobs that run here, and when their leases were renewed last, on the monotonic clock."""
        self._attempts: dict[str, tuple[Runner, str]] = {}
        """Their runners and handles."""
        self._on: dict[str, str] = {}
        """Jobs that run on this machine -> what tells their devices apart."""
        self._runners: set[Runner] = set()
        """Those that have carried out attempts, and may keep something for others."""
        self._parting: set[str] = set()
        """Jobs whose attempts go on without this server."""
        self._adopted: list[tuple[Claim, str]] = []
        """Attempts of an earlier server that wait for a slot here, and where they run."""
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
        more = [*([BESIDE] if self._beside else []), *(self._sharing.beside if self._sharing else ())]
        for number, slot in enumerate((*self._slots, *more)):
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

    def devices(self) -> dict[str, tuple[str, ...]]:
        """Return what tells a device of this machine apart (empty: the only one) -> jobs that run on it."""
        found: dict[str, tuple[str, ...]] = {device_of(slot): () for slot in self._slots}
        with self._counting:
            for job_id, device in self._on.items():
                found[device] = (*found.get(device, ()), job_id)
        return found

    def warm(self) -> dict[str, int]:
        """Return device -> process that waits on it with its base loaded."""
        with self._counting:
            runners = list(self._runners)
        return {device: process for runner in runners for device, process in runner.resting().items()}

    def running(self) -> dict[str, int]:
        """Return job id -> process of the jobs that this server runs on this machine."""
        with self._counting:
            jobs = list(self._attempts)
        return {job_id: found for job_id in jobs if (found := process_of(self._jobs_dir / job_id)) is not None}

    def wake(self) -> None:
        """Say that the store has changed."""
        self._wake.set()

    def busy(self) -> int:
        """Return how many attempts run here."""
        with self._counting:
            return len(self._renewed_s)

    def bound(self) -> int:
        """Return how many attempts run here that end with this server; the others wait where they are for the next."""
        with self._counting:
            waiting = {claim.id for claim, _ in self._adopted}
            runners = [self._attempts.get(job_id) for job_id in self._renewed_s if job_id not in waiting]
            # Not later: a runner knows nothing of an attempt that has been seen off.
            return sum(found is None or not _stays(*found) for found in runners)

    def drain(self) -> None:
        """Take no more jobs; what runs goes on. Where servers share the queue, another one may lead from now on."""
        self._draining.set()
        with self._taking_over:
            if self._lead is not None and not self._lead.is_proof:
                self._leads = False
                self._lead.leave()
        self._rest()
        self._wake.set()

    def close(self) -> None:
        """Stop what runs, put its jobs back into the queue, end the threads, give the lead back."""
        self._draining.set()
        self._closing.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        self._threads.clear()
        self._rest()
        self._closed.set()  # only now: what runs keeps its lease until its end is stored
        for watcher in self._watchers:
            watcher.join()
        self._watchers.clear()
        if self._lead is not None:
            self._lead.leave()
        self._leads = False

    def _rest(self) -> None:
        with self._counting:
            runners = list(self._runners)
        for runner in runners:
            runner.rest()

    # The threads

    def _loop(self, slot: Slot) -> None:
        while not self._closing.is_set():
            self._wake.clear()
            claim, place, now_s = None, None, time.monotonic()
            try:
                may_claim = self._may_claim()
                if not may_claim:  # what is kept for the next job keeps memory from the server that has it
                    self._rest()
                claim, place = self._take_adopted(slot)
                if claim is None and may_claim and not is_paused(self._home):
                    claim = self._claim(slot)
                self._troubles.pop(None, None)
            except ResourceError as error:
                self._troubles[None] = str(error)
                logger.exception("the worker cannot look for jobs")
            if claim is None:
                self._wake.wait(1.0)
                continue
            self._begins(slot, claim)
            with self._counting:
                self._renewed_s[claim.id] = now_s
            try:
                self._run(claim, slot, place)
            finally:
                self._ends(slot)
                with self._counting:
                    self._renewed_s.pop(claim.id, None)

    def _may_claim(self) -> bool:
        """Tell whether this server may take a job now, and take the lead if nobody has it."""
        leads = self._take_over()
        beside_others = self._works == "always" and self._lead is not None and not self._lead.is_proof
        return (leads or beside_others) and not self._draining.is_set()

    def _claim(self, slot: Slot) -> Claim | None:
        """Take a job for this slot. One beside serves only while all others are taken: a free slot does it best."""
        if self._is_own(slot):
            return self._store.claim() if self._sharing is None or self._sharing.may_begin(slot) else None
        blocked = self._sharing.blocked() if self._sharing is not None else 0
        with self._counting:
            if self._taken + blocked < len(self._slots):
                return None
        if slot is BESIDE or self._sharing is None:
            return self._store.claim(self._beside)
        return self._sharing.take(slot, lambda suits: self._store.claim({"generate"}, suits))

    def _is_own(self, slot: Slot) -> bool:
        """Tell whether a slot has a device, and not only a place beside."""
        return any(slot is one for one in self._slots)

    def _take_adopted(self, slot: Slot) -> tuple[Claim, str] | tuple[None, None]:
        with self._counting:
            return self._adopted.pop(0) if self._adopted and self._is_own(slot) else (None, None)

    def _accepts(self, claim: Claim, place: str) -> bool:
        """Tell whether an attempt of an earlier server can be looked after here."""
        runner = self._runner_of(claim.kind, self._jobs_dir / claim.id)
        return runner.survives and place.partition(" ")[0] == runner.name

    def _begins(self, slot: Slot, claim: Claim) -> None:
        if self._is_own(slot):
            with self._counting:
                self._taken += 1
            if self._sharing is not None:
                self._sharing.begins(slot, claim)

    def _ends(self, slot: Slot) -> None:
        if self._is_own(slot):
            with self._counting:
                self._taken -= 1
        if self._sharing is not None and slot is not BESIDE:
            self._sharing.ends(slot)
            self._wake.set()  # the other one of two may have waited for this

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
        with self._counting:
            here = set(self._renewed_s)
        now_s = time.monotonic()
        adopted = self._store.adopt(alone, lambda claim, place: claim.id not in here and self._accepts(claim, place))
        with self._counting:
            self._adopted += adopted
            self._renewed_s.update({claim.id: now_s for claim, _ in adopted})
        here.update(claim.id for claim, _ in adopted)
        for job_id in self._store.recover(_STOPPED, alone=alone, without=here):
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
        """End an attempt before its lease ends, for then another server may run its job; this asks no database."""
        while not self._closed.wait(_GUARD_S):
            with self._counting:
                for job_id in [job_id for job_id in self._attempts if self._lease_ends(job_id)]:
                    logger.warning("job %s: its lease could not be renewed; it is ended or left to others", job_id)
                    runner, handle = self._attempts.pop(job_id)
                    if _stays(runner, handle):
                        self._parting.add(job_id)  # whoever takes the job over finds it there
                    else:
                        runner.cancel(handle, 0.0)

    def _lease_ends(self, job_id: str) -> bool:
        """Tell whether another server may take a job over before long that runs here."""
        if self._lead is None or self._lead.is_proof:  # nobody else can
            return False
        renewed_s = self._renewed_s.get(job_id, math.inf)
        return time.monotonic() - renewed_s > self._store.lease_s - 2 * _GUARD_S

    def _run(self, claim: Claim, slot: Slot, place: str | None) -> None:
        """Run one attempt to its end and store that end; or let it go on without us."""
        told_to_stop = False
        try:
            report = self._attempt(claim, slot, place)
            if report.state == "running":
                return
            outcome, reason = report.outcome, report.reason
            told_to_stop = report.told_to_stop or (outcome is not None and outcome.state == "cancelled")
            if told_to_stop and not report.told_to_stop:
                reason = TOLD_TO_STOP
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

    def _attempt(self, claim: Claim, slot: Slot, place: str | None) -> Report:
        """Run one attempt; return the report of its end, or that it runs on when we go.

        Args:
            claim: the attempt.
            slot: to run it on.
            place: where it runs already, if an earlier server has begun it.
        """
        job_dir = self._jobs_dir / claim.id
        end_leftovers(job_dir)
        if place is None and (ended := self._unprepared(claim)) is not None:
            return ended
        runner = self._runner_of(claim.kind, job_dir)
        verb = self._verbs[claim.kind]
        attempt = Attempt(
            claim,
            verb.path,
            job_dir,
            slot,
            self._secrets(claim.id, False),
            warm_verb=verb.warm_path,
            takes_device=claim.kind not in self._beside,
        )
        handle = runner.start(attempt) if place is None else runner.adopt(attempt, place.partition(" ")[2])
        with self._counting:
            self._attempts[claim.id] = runner, handle
            self._runners.add(runner)
            if not runner.survives:
                self._on[claim.id] = device_of(slot)
        goes_on = False
        try:
            report = self._follow(claim, runner, handle)
            goes_on = report.state == "running"
            return report
        finally:
            with self._counting:
                self._attempts.pop(claim.id, None)
                self._on.pop(claim.id, None)
                self._parting.discard(claim.id)
            if goes_on:
                self._persist(claim, lambda: self._store.part(claim))
                runner.part(handle)
            else:
                runner.leave(handle)
            if self._draining.is_set():
                runner.rest()

    def _unprepared(self, claim: Claim) -> Report | None:
        """Bring here what an attempt reads; return its end if that cannot be, or if it is told to stop meanwhile."""

        def should_stop() -> bool:
            with contextlib.suppress(ResourceError):  # a table that cannot be asked now has not asked to stop
                return self._closing.is_set() or self._store.append(claim, ())
            return False

        try:
            self._prepare(claim.id, should_stop)
        except JobCancelled:
            return Report("ended", reason=TOLD_TO_STOP, told_to_stop=True)
        except StudioError as error:
            return Report("ended", outcome=explain(error))
        return None

    def _follow(self, claim: Claim, runner: Runner, handle: str) -> Report:
        """Carry what the attempt tells into the store until it ends, is silent or was asked to stop for too long.

        One that goes on when this server ends is left to the next one then: the report says that it runs.
        """
        unsaved: list[Event] = []
        is_placed = False
        look_up_s = survey_s = 0.0
        asked_to_stop = False
        heard_s = time.monotonic()  # this clock stands still while the machine sleeps
        while True:
            report = runner.poll(handle, self._tick_s)
            unsaved += report.events
            has_ended = report.state in ("ended", "lost")
            now_s = time.monotonic()
            if report.events or report.state == "queued":
                heard_s = now_s
            if not has_ended and claim.id in self._parting:
                return Report("running")
            if not has_ended and now_s < look_up_s:
                continue  # one transaction per tick, however fast it talks
            look_up_s = now_s + self._tick_s
            stop = self._closing.is_set()
            try:
                wanted = self._store.append(claim, unsaved)
                unsaved = []
                if not is_placed and (place := runner.place(handle)) is not None:
                    self._store.place(claim, f"{runner.name} {place}")
                    is_placed = True
                if stop and is_placed and not wanted and not has_ended and not asked_to_stop:
                    return Report("running")
                stop = wanted or stop
                if now_s >= survey_s:
                    survey_s = now_s + 1.0
                    self._store.survey(device_busy=True)
                self._troubles.pop(claim.id, None)
            except ResourceError as error:  # keep the events and the attempt; there may be room at the next look
                self._troubles[claim.id] = str(error)
                logger.exception("job %s: its events wait for the store", claim.id)
            if not has_ended and not stop and now_s - heard_s > self._silence_s:
                runner.cancel(handle, 0.0)
                report = Report("ended", outcome=Outcome("stalled", cause=_hung(self._silence_s)))
                has_ended = True
            if has_ended:
                break
            if stop and not asked_to_stop:
                asked_to_stop = True
                runner.cancel(handle, self._grace_s)
        if unsaved:
            self._persist(claim, lambda: self._store.append(claim, unsaved))
        return report

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


def _stays(runner: Runner, handle: str) -> bool:
    """Tell whether an attempt goes on without this server."""
    return runner.survives and runner.place(handle) is not None


def _hung(silence_s: float) -> str:
    return (
        f"The job's process reported nothing for {duration_text(silence_s)} and was stopped. Retry the job; it"
        " continues from where it was. If it only needs more time, for example for a download, increase"
        " STUDIO_JOB_SILENCE_S."
    )
