"""What an observer of the worker's queue is told, and what passes through unchanged."""

from typing import Any

from studio.core.domain import Event
from studio.core.logs import JOB
from studio.jobs.events import Outcome
from studio.jobs.observed import observed
from studio.jobs.queue import NewJob
from studio.jobs.store import Store


class Noted:
    def __init__(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def started(self, kind: str) -> None:
        self.rows.append(("started", kind))

    def stepped(self, kind: str, seconds: float) -> None:
        self.rows.append(("stepped", kind, seconds))

    def ended(self, kind: str, outcome: str, seconds: float) -> None:
        assert seconds >= 0
        self.rows.append(("ended", kind, outcome))


def test_beginnings_steps_and_ends_are_told_and_a_late_word_is_not(store: Store) -> None:
    queue, watched = observed(store)
    watched.observer = noted = Noted()
    for number in range(3):
        store.insert(NewJob(f"check-{number}", "check", "ada", "Photos of Ada", "f"))
    first = queue.claim()
    assert first is not None and JOB.get() == first.id
    steps = [Event("metrics", {"step": 1, "step_s": 0.25}), Event("metrics", {"step": 1, "step_s": float("nan")})]
    assert queue.append(first, [*steps, Event("message", {"level": "info", "text": "x", "step_s": 3})]) is False
    assert queue.finish(first, Outcome("completed", result={})) and not queue.finish(first, Outcome("stalled"))
    second = queue.claim()
    assert second is not None and queue.release(second)
    third = queue.claim()
    assert third is not None and queue.lose(third, "It was lost.", 9)
    told = ["completed", "released", "lost"]
    assert noted.rows == [
        ("started", "check"), ("stepped", "check", 0.25), ("ended", "check", told[0]),
        ("started", "check"), ("ended", "check", told[1]), ("started", "check"), ("ended", "check", told[2]),
    ]  # fmt: skip
    assert queue.lease_s == store.lease_s


def test_without_an_observer_and_without_a_job_nothing_happens(store: Store) -> None:
    queue, _ = observed(store)
    assert queue.claim() is None and JOB.get() is None
