from dataclasses import replace
from typing import Any

from studio.core.domain import JobFacts, JobView
from studio.web.shelf import best_pictures, face_of, shelves_from

ADA = JobFacts(subject="Ada", class_noun="woman", base="pocket")
REX = JobFacts(subject="Rex", class_noun="dog")


def job(job_id: str, kind: Any, facts: JobFacts = ADA, created_s: float = 0.0, **changes: Any) -> JobView:
    return replace(JobView(job_id, kind, "completed", "local", job_id, created_s, facts=facts), **changes)


def check(job_id: str, **changes: Any) -> JobView:
    verdicts = [
        {"status": "rejected", "preview": "previews/0.webp", "likeness": 1.0},
        {"status": "good", "preview": "previews/1.webp", "likeness": 0.8},
        {"status": "usable", "preview": "previews/2.webp", "likeness": 0.9},
    ]
    return job(job_id, "check", **{"result": {"verdicts": verdicts, "photos": [1, 2]}, **changes})


def pictures(job_id: str, *scores: float | None, **changes: Any) -> JobView:
    images = [{"file": f"{job_id}-{number}.png", "likeness": score} for number, score in enumerate(scores)]
    return job(job_id, "generate", **{"result": {"images": images}, **changes})


def run(job_id: str, likeness: float | None, **changes: Any) -> JobView:
    return job(job_id, "train", **{"result": {"likeness_after": likeness}, **changes})


def test_every_job_stands_with_its_own_subject_and_the_newest_subject_comes_first() -> None:
    rex = check("rex", facts=REX, created_s=9.0)
    foreign = job("foreign", "generate", JobFacts(adapter="you/ada"), created_s=99.0)
    shelves = shelves_from({"check": [rex, check("ada")], "train": [run("t", 0.7)], "generate": [foreign]})
    assert [(row.subject, row.class_noun) for row in shelves] == [("Rex", "dog"), ("Ada", "woman")]
    assert [row.id for row in shelves[1].jobs["train"]] == ["t"] and not shelves[0].jobs["train"]
    assert all(foreign not in row.jobs["generate"] for row in shelves)


def test_the_best_run_is_the_most_alike_and_the_newest_of_equals() -> None:
    (shelf,) = shelves_from({"train": [run("new", 0.7), run("best", 0.8), run("old", 0.8), run("blind", None)]})
    assert shelf.best_run is not None and shelf.best_run.id == "best"
    assert shelf.likeness == {"mean": 0.8}
    (unmeasured,) = shelves_from({"train": [run("blind", None), run("open", 0.9, result=None, state="training")]})
    assert unmeasured.best_run is not None and unmeasured.best_run.id == "blind" and unmeasured.likeness is None
    assert [row.id for row in unmeasured.at_work] == ["open"]


def test_the_face_is_the_most_typical_usable_photo_then_the_best_picture() -> None:
    (shelf,) = shelves_from({"check": [check("c")], "generate": [pictures("g", None, 0.4, 0.6)]})
    assert face_of(shelf) == [("c", "previews/2.webp"), ("g", "g-2.png")]
    assert best_pictures(shelf, 2) == [("g", "g-2.png"), ("g", "g-1.png")]
