"""The line format between a child and its worker: one JSON object per line, events and then one outcome.

``{"event": [kind, data]}`` any number of times, ``{"outcome": {...}}`` at most once, at the end. A line that is
neither (something printed by a foreign library before the child was ready) is ignored.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_type_hints

from studio.core.domain import Event, plain
from studio.core.progress import Throttle

KINDS: frozenset[str] = frozenset(get_args(get_type_hints(Event)["kind"]))
"""All kinds of event."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, as the child reports it."""

    state: Literal["completed", "stalled", "cancelled"]
    result: Mapping[str, Any] | None = None
    cause: str | None = None
    problems: tuple[Mapping[str, str], ...] = field(default=())
    status: int | None = None
    """Of an attempt that stalled: the HTTP status of the error that ended it; None where nobody said."""


def event_line(event: Event) -> str:
    """Return the event as one line, with its line end."""
    return json.dumps({"event": [event.kind, plain(event.data)]}) + "\n"


def outcome_line(outcome: Outcome) -> str:
    """Return the outcome as one line, with its line end."""
    return json.dumps({"outcome": plain(outcome)}) + "\n"


def parse_line(line: bytes | str) -> Event | Outcome | None:
    """Read a line back; None if it is neither an event nor an outcome."""
    try:
        row = json.loads(line)
        if "event" in row:
            kind, data = row["event"]
            return Event(kind, dict(data)) if kind in KINDS else None
        answer = row["outcome"]
        return Outcome(**{**answer, "problems": tuple(answer["problems"])})
    except (ValueError, TypeError, KeyError):
        return None


class ProgressThrottle:
    """A listener that passes on at most one ``progress`` event per ``interval_s``; every other event passes.

    The last step always passes, so that a finished bar is full. This is for verbs that do not throttle their own
    progress; without ``interval_s`` it uses the interval of ``ProgressReporter``.
    """

    def __init__(
        self,
        listener: Callable[[Event], None],
        interval_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        self._throttle = Throttle(interval_s, clock)

    def __call__(self, event: Event) -> None:
        """Pass on one event, or drop it."""
        if event.kind == "progress":
            last = event.data.get("step") is not None and event.data.get("step") == event.data.get("total")
            if not self._throttle.is_due(always=last):
                return
        self._listener(event)
