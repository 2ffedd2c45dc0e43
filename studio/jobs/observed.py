"""The queue as the worker sees it, with somebody who watches: when jobs begin, how fast they go, how they end.

It also notes which job a thread of the worker is at, so that a line of the log can name it.
"""

import math
import time
from collections.abc import Collection, Sequence
from typing import Any, Protocol, cast

from studio.core.domain import Event, JobKind
from studio.core.logs import JOB
from studio.jobs.events import Outcome
from studio.jobs.queue import Claim, Suits, WorkersQueue


class Observer(Protocol):
    """Is told what happens here; times are in seconds."""

    def started(self, kind: str) -> None:
        """An attempt begins."""

    def stepped(self, kind: str, seconds: float) -> None:
        """One training step took so long."""

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        """An attempt has ended: completed, stalled, cancelled, lost, or released because the server stops."""


class ObservedQueue:
    """Passes every call on to the queue of the worker and tells ``observer`` about some.

    Args:
        queue: what is asked.
    """

    def __init__(self, queue: WorkersQueue) -> None:
        self._queue = queue
        self._since_s: dict[str, float] = {}
        """Job -> when its attempt began here, on the monotonic clock."""
        self.observer: Observer | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    def claim(self, kinds: Collection[JobKind] | None = None, suits: Suits | None = None) -> Claim | None:
        """Take a job; see ``WorkersQueue.claim``."""
        claim = self._queue.claim(kinds, suits)
        JOB.set(None if claim is None else claim.id)
        if claim is not None:
            self._since_s[claim.id] = time.monotonic()
            if self.observer is not None:
                self.observer.started(claim.kind)
        return claim

    def append(self, claim: Claim, events: Sequence[Event]) -> bool:
        """Store what an attempt tells; see ``WorkersQueue.append``."""
        stop = self._queue.append(claim, events)
        if self.observer is not None:
            for event in events:
                seconds = event.data.get("step_s") if event.kind == "metrics" else None
                if isinstance(seconds, int | float) and math.isfinite(seconds):
                    self.observer.stepped(claim.kind, seconds)
        return stop

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Store how an attempt ended; see ``WorkersQueue.finish``."""
        return self._ended(claim, outcome.state, self._queue.finish(claim, outcome))

    def lose(self, claim: Claim, reason: str, max_losses: int) -> bool:
        """Store that an attempt ended without an outcome; see ``WorkersQueue.lose``."""
        return self._ended(claim, "lost", self._queue.lose(claim, reason, max_losses))

    def release(self, claim: Claim) -> bool:
        """Store that an attempt ended because the server stops; see ``WorkersQueue.release``."""
        return self._ended(claim, "released", self._queue.release(claim))

    def _ended(self, claim: Claim, outcome: str, counts: bool) -> bool:
        began_s = self._since_s.pop(claim.id, None)
        if counts and began_s is not None and self.observer is not None:
            self.observer.ended(claim.kind, outcome, time.monotonic() - began_s)
        return counts


def observed(queue: WorkersQueue) -> tuple[WorkersQueue, ObservedQueue]:
    """Return the queue to give to the worker, and the same as what an observer is given to."""
    made = ObservedQueue(queue)
    return cast(WorkersQueue, made), made
