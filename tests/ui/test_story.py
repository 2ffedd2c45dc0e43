from typing import Any

from studio.config import CheckConfig
from studio.domain import Event
from studio.settings import Settings
from studio.ui.actions import Desk
from studio.ui.story import Stories, Story


def _told(*events: tuple[str, dict[str, Any]]) -> Story:
    story = Story()
    for kind, data in events:
        story.tell(Event(kind, data))  # type: ignore[arg-type]
    return story


def test_a_step_that_is_told_again_after_a_resume_counts_once() -> None:
    story = _told(
        ("metrics", {"step": 1, "loss": 0.5}),
        ("metrics", {"step": 2, "loss": 0.4, "likeness": None}),
        ("metrics", {"step": 2, "loss": 0.3}),
        ("metrics", {"step": 2, "likeness": 0.7}),
    )
    assert story.loss == {1: 0.5, 2: 0.3}
    assert story.likeness == {2: 0.7}


def test_pictures_verdicts_and_warnings_are_kept_by_name() -> None:
    story = _told(
        ("stage", {"name": "training", "message": "Learning the subject"}),
        ("sample", {"step": 5, "path": "samples/5/00.png", "prompt": "p", "likeness": None}),
        ("sample", {"step": 5, "path": "samples/5/00.png", "prompt": "p", "likeness": 0.5}),
        ("image", {"file": "beach/000.png", "likeness": 0.5}),
        ("verdict", {"name": "a.jpg", "status": "good"}),
        ("message", {"level": "warning", "text": "little memory"}),
        ("message", {"level": "warning", "text": "little memory"}),
        ("message", {"level": "info", "text": "hello"}),
    )
    assert story.stage == "Learning the subject"
    assert [sample["likeness"] for sample in story.samples.values()] == [0.5]
    assert list(story.images) == ["beach/000.png"] and list(story.verdicts) == ["a.jpg"]
    assert story.warnings == ["little memory"]


def test_each_poll_reads_only_what_is_new(settings: Settings, studio: Any, photos: list[Any]) -> None:
    asked: list[int] = []

    class Counting:
        def events(self, job_id: str, *, owner: str, after: int) -> Any:
            asked.append(after)
            return studio.events(job_id, owner=owner, after=after)

    job = studio.submit_check(CheckConfig(), photos, owner=settings.owner)
    desk = Desk(Counting(), settings)  # type: ignore[arg-type]
    stories = Stories(desk)
    first = stories.read(job.id)
    assert stories.read(job.id) is first and len(first.verdicts) == 6
    assert asked == [0, first.seq]
