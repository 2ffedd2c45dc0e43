import io
from typing import Any

from rich.console import Console

from studio.cli.tables import job_words, jobs_table

VIEW: dict[str, Any] = {"id": "train-1", "title": "Ada", "state": "training", "progress": {}, "cause": "", "facts": {}}


def test_names_to_type_again_are_never_broken() -> None:
    console = Console(width=44, record=True, file=io.StringIO())
    name = "train-2026-01-01-0123456789"
    console.print(jobs_table([{"id": name, "state": "training", "title": "[bold]Ada[/bold]"}]))
    assert name in console.export_text()


def test_a_line_on_a_job_says_how_far_it_is_and_what_it_waits_for() -> None:
    assert job_words(VIEW) == "train-1 (Ada) is training"
    assert job_words({**VIEW, "progress": {"step": 3, "total": 9}}).endswith("is training, 3 of 9")
    assert job_words({**VIEW, "state": "stalled", "cause": "No room."}).endswith("is stalled: No room.")
    waiting = {**VIEW, "state": "pendingImages", "waits_for": {"kind": "check"}, "facts": {"subject": "Ada"}}
    assert job_words(waiting).endswith("waits for the photo check of Ada")
