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
        parts_train.film(history, linked, None, ()),
        parts.warnings(history),
    ):
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html


def test_progress_shows_steps_and_remaining_time() -> None:
    job = replace(JOB, progress={"step": 120, "total": 400, "eta_s": 112.0})
    html = parts.progress(job, JobHistory(stage="Step 100 of 400.", stage_name="training"))
    assert "Step 120 of 400 · about 2 min left" in html and "30 %" in html and "Training" in html
    assert html.count(" of 400") == 1, "one sentence tells how far it is"


def test_what_a_job_does_is_what_it_says_last_not_what_its_state_is_called() -> None:
    loading = replace(JOB, state="pendingModel", progress=None)
    html = parts.progress(loading, JobHistory(stage="Making sample pictures at step 0.", stage_name="sampling"))
    assert "Making sample pictures" in html and "Loading" not in html and "step 0" not in html
    assert "Loading the base model" in parts.progress(loading, JobHistory())


def test_a_check_counts_no_photos_as_it_goes_through_them_three_times() -> None:
    job = replace(JOB, kind="check", state="checking", progress={"step": 17, "total": 24, "eta_s": 2.0})
    html = parts.progress(job, JobHistory(stage="Preparing 8 photos", stage_name="preparing"))
    assert "about 2 s left" in html and "71 %" in html and "of 24" not in html


@pytest.mark.parametrize(
    ("kind", "history", "said"),
    [
        ("generate", JobHistory(images={"a": {}, "b": {}}, stage="x"), "2 finished pictures of 400 are kept"),
        ("train", JobHistory(stage="x"), "at step 120 of 400"),
        ("check", JobHistory(), "Nothing was prepared"),
        ("publish", JobHistory(stage="x"), "Nothing was published"),
        ("generate", JobHistory(), "before it began"),
    ],
)
def test_a_cancelled_job_says_what_is_kept(kind: Any, history: JobHistory, said: str) -> None:
    job = replace(JOB, kind=kind, state="cancelled", progress={"step": 120, "total": 400})
    assert said in parts.progress(job, history)


def test_a_likeness_is_a_bar_with_its_spread() -> None:
    html = parts.likeness_scale({"mean": 0.7, "spread": 0.4})
    assert "left:30.0%;right:0.0%" in html and "left:70.0%" in html and "Likeness 0.70" in html
    assert parts.likeness_scale(None) == parts.likeness_scale({"mean": None}) == ""


def test_an_error_names_the_field_that_it_belongs_to() -> None:
    error = InputError.of([Problem("repo", "is <b>", "write it"), Problem("else", "is wrong", "mend it")])
    html = parts.error(error, {"repo": "Repository"}, {"repo": "ls-publish-repo"})
    assert html.count("data-field") == 1
    assert 'data-field="ls-publish-repo" data-says="Is &lt;b&gt;. Write it."' in html


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
