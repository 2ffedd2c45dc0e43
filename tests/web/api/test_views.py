"""Jobs, adapters and pictures as they are answered, and the schemas of these answers."""

from dataclasses import fields

from studio.core.domain import JobView
from studio.web.api import views
from studio.web.codes import code_of

RUN = JobView("train-1", "train", "pendingGpu", "ada", "Ada", 0.0, place=3, starts_in_s=90.0)


def test_a_job_says_its_place_in_the_queue_and_a_training_its_code() -> None:
    data = views.job(RUN)
    assert (data["queue_position"], data["starts_in_s"], data["code"]) == (3, 90.0, code_of("train-1"))
    assert "place" not in data
    assert "code" not in views.job(JobView("check-1", "check", "pending", "ada", "Ada", 0.0))


def test_the_schema_of_a_job_names_every_field_of_the_record() -> None:
    named = set(views.schemas()["Job"]["properties"])
    assert named == {row.name for row in fields(JobView)} - {"place"} | {"queue_position", "code", "publish_job"}
    assert {"JobFacts", "SourceJob"} <= set(views.schemas())


def test_pictures_have_addresses_and_other_jobs_have_none() -> None:
    done = JobView("generate-1", "generate", "completed", "ada", "", 0.0, result={"images": [{"file": "a/001.png"}]})
    (row,) = views.images(done)
    assert row["url"] == "/files/generate-1/a/001.png" and row["small_url"] == f"{row['url']}?small=true"
    assert views.images(RUN) == []
