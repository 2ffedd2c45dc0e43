import re
from dataclasses import replace
from typing import Any

import pytest

from studio.core.domain import JobFacts, JobView, SourceJob
from studio.core.errors import InputError, NotFoundError, Problem
from studio.core.settings import Settings
from studio.web.page import parts, parts_photos, parts_train
from studio.web.page.history import JobHistory
from studio.web.server import page_options

EVIL = '<img src=x onerror="alert(1)">'
JOB = JobView("train-1", "train", "training", "local", "Ada", created_s=0.0)


def linked(path: str) -> str:
    return f"files/job/{path}"


def _verdict(**changes: Any) -> dict[str, Any]:
    return {"name": "a.jpg", "status": "good", "problems": (), "likeness": 0.9, "preview": "p/0.webp", **changes}


def _tags(html: str) -> str:
    return re.sub(r"<(?!img src=x)[^>]*>", "", html)


def test_foreign_words_are_escaped_wherever_they_appear() -> None:
    problem = {"code": "x", "message": EVIL, "cure": EVIL}
    history = JobHistory(stage=EVIL, warnings=[EVIL])
    history.samples["s"] = {"step": 1, "path": EVIL, "prompt": EVIL, "likeness": 0.1}
    dataset = {"subject": EVIL, "verdicts": [_verdict(name=EVIL)], "photos": [1], "set_problems": [problem]}
    for html in (
        parts.error(InputError.of([Problem(EVIL, EVIL, EVIL)])),
        parts.error(NotFoundError(EVIL)),
        parts_photos.verdict_cards([_verdict(name=EVIL, problems=[problem], preview=EVIL)], linked),
        parts_photos.check_summary(dataset),
        parts.progress(JOB, history),
        parts.progress(replace(JOB, state="stalled", cause=EVIL, problems=({"where": EVIL, **problem},)), history),
        parts_train.samples(history, linked),
        parts.warnings(history),
    ):
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html


def test_progress_shows_steps_and_remaining_time() -> None:
    job = replace(JOB, progress={"step": 120, "total": 400, "eta_s": 112.0})
    html = parts.progress(job, JobHistory(stage="Learning the subject"))
    assert "Step 120 of 400 · about 2 min left" in html and "30 %" in html and "Training" in html


def test_a_waiting_job_shows_no_numbers() -> None:
    html = parts.progress(replace(JOB, state="pending"), JobHistory())
    assert "Waiting for its turn" in html and "waiting" in html and "%" not in _tags(html)


def test_a_waiting_job_says_its_place_in_the_queue() -> None:
    html = parts.progress(replace(JOB, state="pendingGpu", place=3, starts_in_s=720.0), JobHistory())
    assert "Number 3 in the queue, starts in about 12 min" in html


def test_a_job_that_waits_for_an_unknown_one_says_that_it_waits() -> None:
    assert "Waiting for another job" in parts.progress(replace(JOB, state="pendingImages"), JobHistory())


@pytest.mark.parametrize(
    ("kind", "source", "sentence"),
    [("train", "check", "the photo check of Ada"), ("publish", "train", "the training of Ada")],
)
def test_a_job_that_waits_for_another_one_says_for_what(kind: Any, source: Any, sentence: str) -> None:
    waiting = replace(JOB, kind=kind, state="pendingImages", facts=JobFacts(subject="Ada"))
    html = parts.progress(replace(waiting, waits_for=SourceJob("1", source, "x")), JobHistory())
    assert f"Waiting for {sentence}" in html


def test_a_stalled_job_lists_every_problem_with_its_cure() -> None:
    rows = ({"where": "a.jpg", "message": "is no picture", "cure": "export it"},) * 2
    html = parts.progress(replace(JOB, state="stalled", cause="x", problems=rows), JobHistory())
    assert html.count("a.jpg: Is no picture. Export it.") == 2


def test_an_open_job_of_which_nothing_can_be_stored_says_so_above_its_bar() -> None:
    full = "the table of jobs cannot grow because the disk is full; free some disk space <b>"
    html = parts.progress(replace(JOB, cause=full), JobHistory())
    assert "disk is full" in html and "&lt;b&gt;" in html
    assert 'role="alert"' not in parts.progress(JOB, JobHistory())


def test_the_page_links_its_own_description_for_programs() -> None:
    assert 'href="?view=api"' in parts.footer()
    assert page_options(Settings())["footer_links"] == ["api"]  # without it Gradio shows nothing at that address
