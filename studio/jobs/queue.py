"""What may be asked of the queue, and by whom; ``store`` answers it, on SQLite or on Postgres.

Importing this imports no database: a command that needs no queue does not wait for one.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from studio.core.domain import Event, JobFacts, JobKind, JobView
from studio.core.keys import Use
from studio.jobs.events import Outcome

Suits = Callable[[str, JobFacts], bool]
"""(id of a waiting job, its facts) -> whether it may run beside what runs."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request as it is stored."""

    id: str
    kind: JobKind
    owner: str
    title: str
    fingerprint: str
    """Hash of the whole request, to tell a repeated request from another one with the same key."""
    source: str | None = None
    key: str | None = None
    facts: JobFacts = field(default_factory=JobFacts)
    sealed: str | None = None
    """The token that it came with, sealed; see ``jobs/sealed.py``."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of one job; a later claim voids it."""

    id: str
    kind: JobKind
    attempt: int
    """The fence: whatever is told in the name of another number than the job's own changes nothing."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The jobs of one kind in one state."""

    kind: str
    state: str
    jobs: int
    oldest_s: float
    """Seconds since the oldest of them was submitted."""


class Lead(Protocol):
    """The right to dispatch: of all servers on one queue one has it at a time."""

    is_proof: bool
    """Whether to have it proves that every other server is gone, so that nobody needs to wait for leases to end."""

    def take(self) -> bool:
        """Take it if nobody has it, or see that it is still ours; raises ResourceError."""

    def leave(self) -> None:
        """Give it back."""

    def is_taken(self) -> bool:
        """Tell whether anybody has it."""


class OwnersQueue(Protocol):
    """What the service asks in the name of owners."""

    def insert(self, job: NewJob) -> tuple[JobView, bool]:
        """Store a request unless its key is known.

        Returns:
            The job, and whether it is new; it is not if the same request was stored with this key before.

        Raises:
            ConflictError: the key belongs to another request. NotFoundError: its source has been forgotten.
        """

    def find(self, owner: str, key: str, fingerprints: Collection[str]) -> JobView | None:
        """Return the job that was stored with this key; ConflictError if its fingerprint is none of these."""

    def expire(self, longest_s: float) -> list[str]:
        """End the jobs that have waited longer for their turn, seconds, as stalled; return their ids."""

    def end_pause(self, length_s: float) -> None:
        """Count a pause of so many seconds, which ends now, not as time that jobs have waited."""

    def id_of_key(self, owner: str, key: str) -> str | None:
        """Return the id of the job that was stored with this key; None if there is none."""

    def knows_key(self, owner: str, key: str) -> bool:
        """Return whether the owner has used this key."""

    def get(self, job_id: str, owner: str) -> JobView:
        """Return one job; raises NotFoundError for unknown jobs and those of other owners alike."""

    def newest(
        self,
        owner: str,
        limit: int,
        *,
        kind: JobKind | None = None,
        states: Collection[str] = (),
        source: str | None = None,
        before: str | None = None,
    ) -> list[JobView]:
        """Return the owner's newest jobs that fit, newest first.

        Args:
            owner: whose jobs.
            limit: most jobs, -1 for all; the others are older than the last one, which ``before`` takes.
            kind: of this kind only.
            states: in one of these states only; none means any.
            source: only those that read the output of this job.
            before: only those that are older than this job.

        Raises:
            NotFoundError: the owner has no job ``before``.
        """

    def owner_of(self, job_id: str) -> str:
        """Return whose a job is; raises NotFoundError."""

    def sealed_of(self, job_id: str) -> str | None:
        """Return the sealed token of a job; None if there is none, or no such job."""

    def keep_sealed(self, job_id: str, sealed: str | None) -> None:
        """Keep another sealed token with a job, or none."""

    def events(self, job_id: str, owner: str, after: int) -> list[tuple[int, Event]]:
        """Return the job's events with a sequence number above ``after``, in order; raises NotFoundError."""

    def cancel(self, job_id: str, owner: str) -> JobView:
        """Cancel a waiting job at once, ask a running one to stop, leave an ended one; raises NotFoundError."""

    def retry(self, job_id: str, owner: str) -> JobView:
        """Put a stalled or cancelled job back into the queue; raises ConflictError for any other."""

    def heart(self, job_id: str, owner: str, files: Collection[str], *, on: bool) -> JobView:
        """Give hearts to pictures of a job, or take them back; the newest one comes last. Raises NotFoundError."""

    def use(self, owner: str) -> tuple[Use, list[str]]:
        """Return what an owner has of what quotas limit, and the ids of checks whose photos it does not count."""

    def kept_days(self, owner: str) -> float | None:
        """Return for how many days an owner wants jobs kept; None if they have not said."""

    def keep_for(self, owner: str, days: float | None) -> None:
        """Write down for how many days an owner wants jobs kept, or with None that the operator's days hold."""

    def rename(self, owner: str, facts: Mapping[str, JobFacts]) -> None:
        """Change what jobs of an owner are about, by id, and with it their titles and the subject in their results.

        Raises:
            NotFoundError: one of them is not there; then none is changed.
        """


class WorkersQueue(Protocol):
    """What the worker asks."""

    lease_s: float
    """How long a claim holds without a heartbeat, in seconds on the database's clock."""

    def lead(self, home: Path) -> Lead:
        """Return the right to dispatch, not taken yet; ``home`` is the server's folder."""

    def survey(self, device_busy: bool) -> None:
        """Bring the states of waiting jobs up to date; a job whose source has ended without a result is stalled."""

    def claim(self, kinds: Collection[JobKind] | None = None, suits: Suits | None = None) -> Claim | None:
        """Take the job whose turn it is, with a lease on it; None if none may run.

        Owners take turns, whoever was served longest ago comes first, and each one's oldest job goes first: one owner's
        thirty jobs keep another's single one waiting for no more than the jobs that run already.

        Args:
            kinds: take a job of one of these kinds only, beside the jobs that hold the devices; None takes any.
            suits: (job id, facts) -> whether that job may share a device that is taken; without it none may.
        """

    def beat(self) -> None:
        """Renew the leases of all jobs that run here. One that somebody else has taken over stays theirs."""

    def append(self, claim: Claim, events: Sequence[Event]) -> bool:
        """Store what the attempt tells; nothing if another attempt has taken its place.

        Of ``progress`` events only the newest is kept, so that a long run does not bloat the table.

        Returns:
            True if the owner wants the attempt to stop, or if it is no longer the job's.
        """

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Store how the attempt ended. A requested cancel wins over any outcome.

        Returns:
            False if the attempt's word no longer counts.
        """

    def lose(self, claim: Claim, reason: str, max_losses: int) -> bool:
        """The attempt ended without an outcome of its own: back to pending, or stalled if it leads nowhere.

        Args:
            claim: the attempt.
            reason: a full sentence in the user's words.
            max_losses: so many attempts lost in a row stall the job. The count begins anew when an attempt gets
                further than every one before it, and when the owner retries.

        Returns:
            False if the attempt's word no longer counts.
        """

    def release(self, claim: Claim) -> bool:
        """The server is closing: the job goes back to pending and this attempt counts against nothing."""

    def adopt(self, alone: bool, accepts: Callable[[Claim, str], bool]) -> list[tuple[Claim, str]]:
        """Take over attempts that went on when their server went, and return them with where they run.

        Args:
            alone: as for ``recover``.
            accepts: tells of an attempt and its place whether this server can look after it from now on.
        """

    def recover(self, reason: str, *, alone: bool = False, without: Collection[str] = ()) -> list[str]:
        """Put jobs whose server is dead back into the queue and return their ids; that is no fault of theirs.

        Args:
            reason: a full sentence in the user's words.
            alone: every other server is known to be gone, so all jobs that run are meant; otherwise those only whose
                lease has ended, on the database's clock, and none of this server's own.
            without: ids of jobs that stay as they are.
        """

    def place(self, claim: Claim, place: str) -> None:
        """Note where an attempt runs that goes on without this server; nothing if it is no longer the job's."""

    def part(self, claim: Claim) -> None:
        """Give up the lease of an attempt that goes on without this server, so that the next one may take it over."""


class KeepersQueue(Protocol):
    """What the backup, the forgetter and the clock ask."""

    def ids(self) -> frozenset[str]:
        """Return the ids of all jobs of all owners."""

    def completed(self) -> list[str]:
        """Return the ids of all completed jobs of all owners, the oldest first."""

    def dump(self, job_id: str) -> dict[str, Any]:
        """Return a job's row and events as plain data for ``restore``."""

    def restore(self, job_id: str, dump: Mapping[str, Any]) -> bool:
        """Put a completed job back in its place among the others; False if the table has it.

        Raises:
            KeyError, TypeError, ValueError: ``dump`` is not what the method ``dump`` returned for that job.
        """

    def figures(self) -> list[Figure]:
        """Return how many jobs of all owners there are of each kind in each state."""

    def owners(self) -> list[str]:
        """Return everybody who has a job."""

    def all_kept_days(self) -> Mapping[str, float]:
        """Return owner -> days of all who have said how long they want jobs kept."""

    def whose(self) -> dict[str, str]:
        """Return job id -> owner of all jobs."""

    def is_attempt(self, job_id: str, attempt: int) -> bool:
        """Tell whether an attempt is the one of its job that runs."""

    def newest_of_all(self, limit: int, *, states: Collection[str]) -> list[JobView]:
        """Return the newest jobs of all owners in one of these states, newest first."""

    def erase(self, jobs: Collection[str]) -> frozenset[str]:
        """Delete jobs with their events, what is queued behind them by now, and turns of owners without a job left.

        Returns:
            The ids of all that are deleted, also of those that were before.
        """

    def scrub(self) -> None:
        """Rewrite the tables without a byte of what was deleted; raises ResourceError."""

    def tell(self, job_id: str, level: str, text: str, *, instead_of: str | None = None) -> None:
        """Add a message to a job's events; ``instead_of`` is the text of an earlier one that no longer holds."""

    def close(self) -> None:
        """Close all connections; a later call opens a new one."""


class JobQueue(OwnersQueue, WorkersQueue, KeepersQueue, Protocol):
    """All of it: the durable queue of one installation, safe for many threads and several servers.

    What a call has changed is on the disk before it returns.

    Raises:
        ResourceError: by every call, when the database cannot be read or written.
        ConflictError: by the first call, when a newer version of the studio made the table.
    """

    webhooks: Any
    """Webhooks of owners, and what is to be told to them: a ``studio.jobs.webhooks.ledger.Ledger``."""
    rentals: Any
    """Machines that were rented, and what they cost: a ``studio.jobs.rentals.Rentals``."""


class _Late:
    """A queue that is opened when it is first asked something."""

    def __init__(self, make: Callable[[], JobQueue]) -> None:
        self._make = make
        self._made: JobQueue | None = None
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        with self._lock:
            self._made = self._made or self._make()
        return getattr(self._made, name)

    def close(self) -> None:
        if self._made is not None:
            self._made.close()


def late(make: Callable[[], JobQueue]) -> JobQueue:
    """Return the queue that ``make`` returns, made when it is first asked something."""
    return cast(JobQueue, _Late(make))
