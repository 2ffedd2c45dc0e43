from typing import Any

from studio.core.config import CheckConfig
from studio.core.domain import Event
from studio.core.settings import Settings
from studio.web.page.history import JobHistories, JobHistory
from studio.web.session import StudioSession


def _told(*events: tuple[str, dict[str, Any]]) -> JobHistory:
    history = JobHistory()
    for kind, data in events:
        history.add(Event(kind, data))  # type: ignore[arg-type]
    return history


def test_a_step_that_is_told_again_after_a_resume_counts_once() -> None:
    history = _told(
        ("metrics", {"step": 1, "loss": 0.5}),
        ("metrics", {"step": 2, "loss": 0.4, "likeness": None}),
        ("metrics", {"step": 2, "loss": 0.3}),
        ("metrics", {"step": 2, "likeness": 0.7}),
    )
    assert history.loss == {1: 0.5, 2: 0.3}
    assert history.likeness == {2: 0.7}


def test_pictures_verdicts_and_warnings_are_kept_by_name() -> None:
    history = _told(
        ("stage", {"name": "training", "message": "Learning the subject"}),
        ("sample", {"step": 5, "path": "samples/5/00.png", "prompt": "p", "likeness": None}),
        ("sample", {"step": 5, "path": "samples/5/00.png", "prompt": "p", "likeness": 0.5}),
        ("image", {"file": "beach/000.png", "likeness": 0.5}),
        ("verdict", {"name": "a.jpg", "status": "good"}),
        ("message", {"level": "warning", "text": "little memory"}),
        ("message", {"level": "warning", "text": "little memory"}),
        ("message", {"level": "info", "text": "hello"}),
    )
    assert history.stage == "Learning the subject"
    assert [sample["likeness"] for sample in history.samples.values()] == [0.5]
    assert list(history.images) == ["beach/000.png"] and list(history.verdicts) == ["a.jpg"]
    assert history.warnings == ["little memory"]


def test_loading_is_over_where_things_are_being_done() -> None:
    loading = ("stage", {"name": "loading", "message": "Loading the upscaler"})
    assert _told(loading, ("progress", {"step": 0, "total": 3})).stage == "Loading the upscaler"
    assert _told(loading, ("progress", {"step": 1, "total": 3})).stage == ""


def test_each_poll_reads_only_what_is_new(settings: Settings, studio: Any, photos: list[Any]) -> None:
    asked: list[int] = []

    class Counting:
        def events(self, job_id: str, *, owner: str, after: int) -> Any:
            asked.append(after)
            return studio.events(job_id, owner=owner, after=after)

    job = studio.submit_check(CheckConfig(), photos, owner=settings.owner)
    session = StudioSession(Counting(), settings)  # type: ignore[arg-type]
    histories = JobHistories(session)
    first = histories.read(job.id)
    assert histories.read(job.id) is first and len(first.verdicts) == 6
    assert asked == [0, first.seq]


def test_points_of_another_engine_version_leave_the_curve() -> None:
    def sampled(step: int, likeness: float | None, version: str) -> Event:
        summary = {"engine": "stub", "version": version, "mean": likeness}
        known = {} if likeness is None else {"likeness": likeness}
        return Event("metrics", {"step": step, "val_loss": 1.0, "likeness_summary": summary, **known})

    history = JobHistory()
    for event in (sampled(0, 0.1, "1"), sampled(5, 0.9, "1"), sampled(5, 0.6, "2"), sampled(10, None, "2")):
        history.add(event)
    assert history.likeness == {5: 0.6}
    assert history.summaries[10]["mean"] is None
