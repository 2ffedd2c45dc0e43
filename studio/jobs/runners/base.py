"""What the worker asks of a runner; one test suite holds every runner to it.

A runner knows nothing of the queue. It starts an attempt, tells what the attempt tells, and sees it off; whose word
counts is decided where the words are stored, by the attempt's number.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from studio.core.domain import Event
from studio.jobs.events import Outcome
from studio.jobs.queue import Claim

TOLD_TO_STOP = "The job's process was told to stop by another program of this machine."

RunState = Literal["queued", "running", "ended", "lost"]


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a runner needs to know of one attempt."""

    claim: Claim
    verb: str
    """``module:function``."""
    job_dir: Path
    """The job's folder on this machine; its results must lie there when the attempt has ended with one."""
    slot: Mapping[str, str] = field(default_factory=dict)
    """Variables that tie it to a device of this machine."""
    secrets: Mapping[str, str | None] = field(default_factory=dict)
    """Variables for its process alone, kept in memory only; None takes one of the others away."""
    warm_verb: str | None = None
    """The same verb for a process that carries out one attempt after another; None where there is no such."""
    takes_device: bool = True
    """Whether what is kept on its device for attempts to come has to make room for it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is new of an attempt."""

    state: RunState
    """``queued``: not begun; ``lost``: nobody knows what became of it."""
    events: tuple[Event, ...] = ()
    """What it has told since the last report, in order, each once."""
    outcome: Outcome | None = None
    """Its own word on how it ended."""
    reason: str = ""
    """How it ended without a word of its own, as a full sentence for the owner."""
    told_to_stop: bool = False
    """It ended without a word because it was told to stop, by us or by somebody else."""


class Runner(Protocol):
    """Carries out attempts; safe to be asked by several threads, each for its own attempt."""

    name: str
    """As ``STUDIO_RUNNER`` names it."""
    survives: bool = False
    """Whether attempts go on when this server ends, so that the next one can look after them."""

    def start(self, attempt: Attempt) -> str:
        """Begin an attempt and return its handle; an attempt that has begun is not begun again.

        Raises:
            OSError: it cannot be begun here.
        """

    def poll(self, handle: str, wait_s: float) -> Report:
        """Return what is new, after ``wait_s`` seconds at most unless it ends; its end may be asked for again.

        An attempt whose report says ``ended`` or ``lost`` has no process left that this runner can reach.
        """

    def cancel(self, handle: str, grace_s: float) -> None:
        """Ask the attempt to stop, and end it if it has not after ``grace_s`` seconds; 0 ends it at once.

        Returns at once; a later call can only shorten the time.
        """

    def logs(self, handle: str, cursor: int) -> tuple[list[str], int]:
        """Return the lines of its log after ``cursor``, 0 for all, and the next cursor."""

    def leave(self, handle: str) -> None:
        """See the attempt off, with everything that it started; one that has not ended is ended."""

    def place(self, handle: str) -> str | None:
        """Return where an attempt runs that survives, for the server that looks after it next; None until it does."""
        return None

    def adopt(self, attempt: Attempt, place: str) -> str:
        """Look after an attempt that another server has begun and that survives; return its handle."""
        return self.start(attempt)

    def part(self, handle: str) -> None:
        """Look after an attempt no more; one that survives goes on."""
        self.leave(handle)

    def resting(self) -> Mapping[str, int]:
        """Return what tells a device apart -> process that is kept on it for attempts to come."""
        return {}

    def rest(self) -> None:
        """Give back what is kept for attempts to come; those that run are left alone."""
        return


def log_lines(path: Path, cursor: int) -> tuple[list[str], int]:
    """Return the whole lines of a log after byte ``cursor``, and the byte after the last of them."""
    try:
        with path.open("rb") as file:
            file.seek(cursor)
            data = file.read(2**20)
    except OSError:
        return [], cursor
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode("utf-8", "replace").splitlines(), cursor + len(whole)
