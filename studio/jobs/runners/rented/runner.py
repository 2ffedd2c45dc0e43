"""Runs attempts on rented machines: agents, and the watchdogs that give a machine back on which nothing happens."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from studio.core.units import duration_text
from studio.jobs.events import Outcome
from studio.jobs.runners.agents import AgentRunner
from studio.jobs.runners.base import Attempt, Report, Runner
from studio.jobs.runners.desk import AgentDesk
from studio.jobs.runners.rented.launcher import RentLauncher

logger = logging.getLogger(__name__)

_STEPS = frozenset({"progress", "metrics", "image"})
"""Events that say that a verb gets on."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a machine is waited for, seconds."""

    boot_s: float
    """From when it was rented until its agent is heard of."""
    first_step_s: float
    """From then until the first progress."""
    stall_s: float
    """From one progress to the next."""


@dataclass
class Signs:
    """What has been seen of an attempt, on the monotonic clock; infinite where it has not."""

    rented_s: float = math.inf
    called_s: float = math.inf
    moved_s: float = math.inf
    max_s: float = math.inf


def overdue(signs: Signs, patience: Patience, now_s: float) -> tuple[str, str] | None:
    """Return which watchdog ends an attempt and why, in words; None if none does."""
    if now_s - signs.rented_s > signs.max_s:
        return "maximum", f"The time for which a machine may be rented ({duration_text(signs.max_s)}) was over."
    if signs.moved_s < math.inf:
        if now_s - signs.moved_s > patience.stall_s:
            return "stall", f"The rented machine made no progress for {duration_text(patience.stall_s)}."
    elif signs.called_s < math.inf:
        if now_s - signs.called_s > patience.first_step_s:
            return "first step", f"The rented machine made no first step within {duration_text(patience.first_step_s)}."
    elif now_s - signs.rented_s > patience.boot_s:
        return "boot", f"The rented machine was not heard of within {duration_text(patience.boot_s)}."
    return None


class RentedRunner(Runner):
    """Runs attempts on machines that are rented for them.

    Args:
        desk: answers their agents.
        launcher: rents machines and gives them back.
        patience: how long a machine is waited for.
        grace_s: how long a verb may take to stop by itself.
        clock: monotonic, seconds.
        lost_s: an agent that is silent for so long is looked after.
    """

    def __init__(
        self,
        desk: AgentDesk,
        launcher: RentLauncher,
        patience: Patience,
        *,
        grace_s: float = 20.0,
        clock: Callable[[], float] = time.monotonic,
        lost_s: float = 30.0,
    ) -> None:
        self.name = launcher.name
        self.launcher = launcher
        self._desk = desk
        # An agent that is silent makes no progress either: the watchdogs end it.
        self._inner = AgentRunner(desk, launcher, grace_s=grace_s, lost_s=lost_s, patience_s=math.inf)
        self._patience = patience
        self._clock = clock
        self._signs: dict[str, Signs] = {}
        self._ends: dict[str, Report] = {}

    def start(self, attempt: Attempt) -> str:
        """Rent a machine for an attempt, from a thread of its own."""
        handle = self._inner.start(attempt)
        self._signs.setdefault(handle, Signs())
        return handle

    def poll(self, handle: str, wait_s: float) -> Report:
        """Return what the agent has told; end an attempt on which a watchdog barks."""
        if handle in self._ends:
            return self._ends[handle]
        report = self._inner.poll(handle, wait_s)
        if report.state in ("ended", "lost"):
            return report
        found = overdue(self._seen(handle, report), self._patience, self._clock())
        if found is None:
            return report
        watchdog, why = found
        logger.warning("job %s: %s (watchdog: %s)", handle, why, watchdog)
        self._inner.cancel(handle, 0.0)
        if watchdog == "maximum":
            cause = f"{why} Retry the job to go on from its newest checkpoint; STUDIO_RENT_MAX_MINUTES,"
            cause += " STUDIO_RENT_MAX_PER_JOB and STUDIO_RENT_MONTHLY_BUDGET say how long that is."
            end = Report("ended", report.events, Outcome("stalled", cause=cause))
        else:
            end = Report("lost", report.events, reason=f"{why} It was given back.")
        self._ends[handle] = Report(end.state, (), end.outcome, end.reason)
        return end

    def cancel(self, handle: str, grace_s: float) -> None:
        """Ask the attempt to stop, and end it after the grace."""
        self._inner.cancel(handle, grace_s)

    def logs(self, handle: str, cursor: int) -> tuple[list[str], int]:
        """Return lines of the job's log."""
        return self._inner.logs(handle, cursor)

    def leave(self, handle: str) -> None:
        """Give the machine back and see that it is gone; where that cannot be seen, the sweeper goes on."""
        self._inner.leave(handle)
        self._signs.pop(handle, None)
        self._ends.pop(handle, None)

    def _seen(self, handle: str, report: Report) -> Signs:
        box, signs, now_s = self._desk.box(handle), self._signs[handle], self._clock()
        terms = self.launcher.terms(box.place)
        if terms is not None and signs.rented_s == math.inf:
            signs.rented_s, signs.max_s = now_s, terms.max_s
        if box.called and signs.called_s == math.inf:
            signs.called_s = now_s
        if any(event.kind in _STEPS for event in report.events):
            signs.moved_s = now_s
        if box.called and box.heard_s == math.inf:  # its last word has come, and its files are being brought
            signs.moved_s = now_s
        return signs
