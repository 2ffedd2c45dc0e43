from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.web.page.context import Updates
from studio.web.page.frame import JobFrame, chosen_among
from studio.web.page.history import JobHistories
from studio.web.session import DONE, StudioSession


def _frame(session: StudioSession, kind: Any = "check", **more: Any) -> JobFrame:
    """Return a frame around stand-ins for components: a real page in this process would leave event loops unclosed."""
    names = ("name", "job", "shown", "timer", "notice", "status", "cancel", "earlier", "retry")
    parts: Any = {name: f"the {name}" for name in names} | {"forward": None}
    frame = JobFrame(session, JobHistories(session), kind, **parts, earlier_states=(), labels={})
    frame.details = lambda job, history, seen: {frame.status: f"{job.state} {len(history.verdicts)} {seen}"}
    return replace(frame, **more)


def _visible(updates: Updates, component: Any) -> bool:
    return bool(updates[component].constructor_args["visible"])


def test_without_a_job_nothing_is_polled(settings: Settings, studio: Any) -> None:
    frame = _frame(StudioSession(studio, settings), "train")
    updates = frame.show(None)
    assert set(updates) == {frame.timer, frame.earlier}
    assert updates[frame.timer].constructor_args["active"] is False


def test_an_open_job_is_polled_and_can_be_cancelled_and_then_continued(
    settings: Settings, held: Any, photos: list[Path]
) -> None:
    session = StudioSession(held("train"), settings)
    check = session.submit_check(photos, {"subject": "Ada", "class_noun": "woman"})
    run = session.submit_train(check.id)
    frame = _frame(session, "train")
    updates = frame.show(session.job(run.id, "train"))
    assert updates[frame.timer].constructor_args["active"] is True
    assert _visible(updates, frame.cancel) and not _visible(updates, frame.retry)
    updates = frame._cancel(run.id, "")
    assert ">cancelled" in updates[frame.status]
    assert _visible(updates, frame.retry) and not _visible(updates, frame.cancel)


def test_the_tabs_own_updates_come_with_what_has_happened(settings: Settings, studio: Any, photos: list[Path]) -> None:
    session = StudioSession(studio, settings)
    job = session.submit_check(photos, {})
    frame = _frame(session, earlier_states=DONE)
    updates = frame._poll(job.id, "before")
    assert ">completed 6 before</div>" in updates[frame.status] and updates[frame.job] == job.id
    assert updates[frame.earlier].constructor_args["value"] == job.id


def test_an_error_is_shown_beside_the_form(settings: Settings, studio: Any) -> None:
    frame = _frame(StudioSession(studio, settings))
    updates = frame.guarded(frame._poll)("nothere", "")
    assert set(updates) == {frame.notice} and "nothere" in updates[frame.notice]


def test_a_job_that_was_deleted_in_another_window_is_said_to_be_gone_and_not_looked_for_again(
    settings: Settings, studio: Any
) -> None:
    frame = _frame(StudioSession(studio, settings))
    updates = frame.watched(frame._tick)("nothere", "")
    assert set(updates) == {frame.timer, frame.status} and "nothere" in updates[frame.status]
    assert updates[frame.timer].constructor_args["active"] is False


def test_jobs_that_are_not_listed_are_not_chosen_in_the_list(settings: Settings, held: Any, photos: list[Path]) -> None:
    session = StudioSession(held("check"), settings)
    running = session.submit_check(photos, {})
    frame = _frame(session, earlier_states=DONE)
    earlier = frame.show(running)[frame.earlier].constructor_args
    assert earlier["value"] is None and running.id not in [job_id for _, job_id in earlier["choices"]]
    session.studio.cancel(running.id, owner=session.owner)
    everything = _frame(session).show(running)[frame.earlier].constructor_args
    assert everything["value"] == running.id


@pytest.mark.parametrize(("wanted", "chosen"), [("b", "b"), ("gone", "a"), (None, "a")])
def test_what_is_gone_is_replaced_by_the_first_choice(wanted: str | None, chosen: str) -> None:
    assert chosen_among([("A", "a"), ("B", "b")], wanted) == chosen
    assert chosen_among([], wanted) is None
