"""Hearts and names: on a real studio, without a worker; what a job has made is planted."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import JobKind, JobView
from studio.core.errors import ConflictError, InputError, NotFoundError
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs.events import Outcome
from studio.service import Studio

ME = "ada"
FILES = ("Ada_beach/001.png", "Ada_beach/002.png", "left_out/Ada_beach/003.png")


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = Studio(Settings(home=tmp_path / "home"))
    yield made
    made.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "one.jpg"
    path.write_bytes(b"photo")
    return path


def done(studio: Studio, job: JobView, result: dict[str, Any], **files: Any) -> str:
    """Let a job be completed, with JSON files below its output folder."""
    for name, data in files.items():
        path = studio.out_dir(job.id, owner=ME) / name.replace("__", "/")
        path.with_suffix(".json").parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(json.dumps(data))
    claim = studio._store.claim()
    assert claim is not None and claim.id == job.id
    studio._store.finish(claim, Outcome("completed", result=result))
    return job.id


@pytest.fixture
def made(studio: Studio, photo: Path) -> dict[JobKind, str]:
    """A check, a run and pictures of Ada."""
    check = studio.submit_check(CheckConfig(subject="Ada", class_noun="woman"), [photo], owner=ME)
    dataset = {"subject": "Ada", "photos": [1]}
    ids: dict[JobKind, str] = {"check": done(studio, check, dataset, dataset=dataset)}
    train = studio.submit_train(TrainConfig(subject="Ada", class_noun="woman"), check.id, owner=ME)
    ids["train"] = done(studio, train, {"likeness_after": 0.8}, adapter__adapter={"subject": "Ada", "base": "pocket"})
    pictures = studio.submit_generate(GenerateConfig(prompts=("{subject}",)), train.id, owner=ME)
    images = [{"file": file} for file in FILES]
    ids["generate"] = done(studio, pictures, {"images": images[:2], "left_out": images[2:]})
    return ids


def test_hearts_are_kept_with_the_job_per_owner_and_go_with_it(
    studio: Studio, made: dict[JobKind, str], tmp_path: Path
) -> None:
    job = made["generate"]
    assert studio.heart(job, FILES[1:], owner=ME).hearts == FILES[1:]
    with pytest.raises(NotFoundError):
        studio.heart(job, FILES[:1], owner="bob")
    with pytest.raises(InputError) as caught:
        studio.heart(job, ["../../x.png", FILES[0], "contact_sheet.png"], owner=ME)
    assert [row.where for row in caught.value.problems] == ["../../x.png", "contact_sheet.png"]
    with pytest.raises(InputError):
        studio.heart(made["train"], FILES[:1], owner=ME)
    studio.close()

    again = Studio(Settings(home=tmp_path / "home"))  # a restart of the server
    assert again.get(job, owner=ME).hearts == FILES[1:]
    assert again.heart(job, FILES[1:2], owner=ME, on=False).hearts == FILES[2:]
    again.forget(owner=ME, job=job)
    again.close()
    assert b"left_out" not in (tmp_path / "home" / "jobs.sqlite3").read_bytes()


def test_a_renamed_subject_has_the_new_name_in_all_its_jobs_and_in_all_that_is_made_from_them(
    studio: Studio, made: dict[JobKind, str], photo: Path
) -> None:
    assert set(studio.rename("Ada", "Grace O'Neil", owner=ME)) == set(made.values())
    jobs = {job.kind: job for job in studio.list(owner=ME)}
    assert {job.facts.subject for job in jobs.values()} == {"Grace O'Neil"}
    assert jobs["check"].title == "Photos of Grace O'Neil" and jobs["check"].result["subject"] == "Grace O'Neil"
    assert jobs["train"].title == "Training of Grace O'Neil on pocket"
    out = studio.out_dir(made["train"], owner=ME)
    assert json.loads((out / "adapter" / "adapter.json").read_text()) == {"subject": "Grace O'Neil", "base": "pocket"}
    dataset = studio.out_dir(made["check"], owner=ME) / "dataset.json"
    assert json.loads(dataset.read_text())["subject"] == "Grace O'Neil"
    request = json.loads((out.parent / "request.json").read_text())
    assert request["config"]["subject"] == "Grace O'Neil" and request["config"]["instance_token"] == "sks"
    new = studio.submit_train(TrainConfig(), made["check"], owner=ME)
    assert new.facts.subject == "Grace O'Neil"
    assert studio.forget(owner=ME, subject="Grace O'Neil", dry_run=True).jobs


def test_a_name_is_refused_that_is_taken_or_none_and_while_something_of_the_subject_is_at_work(
    studio: Studio, made: dict[JobKind, str], photo: Path
) -> None:
    other = studio.submit_check(CheckConfig(subject="Rex", class_noun="dog"), [photo], owner=ME)
    with pytest.raises(ConflictError, match="'Rex' already"):
        studio.rename("Ada", "Rex", owner=ME)
    with pytest.raises(ConflictError, match="has not ended"):
        studio.rename("Rex", "Max", owner=ME)
    studio.cancel(other.id, owner=ME)
    assert studio.rename("Rex", "Max", owner=ME) == (other.id,)
    for name in ("", "a/b", "x" * 41):
        with pytest.raises(InputError):
            studio.rename("Ada", name, owner=ME)
    with pytest.raises(NotFoundError, match="Ada, Max"):
        studio.rename("Eve", "Ida", owner=ME)
    with pytest.raises(NotFoundError):
        studio.rename("Ada", "Ida", owner="bob")


def test_a_photo_set_has_a_name_beside_its_subjects(studio: Studio, made: dict[JobKind, str]) -> None:
    named = studio.name_set(made["check"], "summer", owner=ME)
    assert (named.title, named.facts.name, named.facts.subject) == ("Photos of Ada, summer", "summer", "Ada")
    assert studio.get(made["train"], owner=ME).title == "Training of Ada on pocket"
    studio.rename("Ada", "Grace", owner=ME)
    assert studio.get(made["check"], owner=ME).title == "Photos of Grace, summer"
    assert studio.name_set(made["check"], "", owner=ME).title == "Photos of Grace"
    with pytest.raises(InputError):
        studio.name_set(made["train"], "summer", owner=ME)
