"""Hearts: which pictures have one, what comes first because of them, and the zip that holds them alone."""

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from studio.core.domain import JobView
from studio.core.settings import Settings
from studio.web.hearts import hearted, zip_of
from studio.web.routes import add_routes
from studio.web.session import StudioSession
from studio.web.shelf import favourites, shelves_from


@pytest.fixture
def made(settings: Settings, studio: Any, photos: list[Path]) -> tuple[StudioSession, str]:
    """A session and a finished job with four pictures."""
    session = StudioSession(studio, settings)
    check = session.submit_check(photos, {"subject": "Ada", "class_noun": "woman"})
    run = session.submit_train(check.id)
    return session, session.submit_generate(run.id, {"pack": "places", "count": 2}).id


def files_of(session: StudioSession, job_id: str) -> list[str]:
    return [row["file"] for row in session.job(job_id, "generate").result["images"]]  # type: ignore[index]


def test_hearts_of_pictures_that_were_left_out_do_not_count(made: tuple[StudioSession, str]) -> None:
    session, job_id = made
    files = files_of(session, job_id)
    job = session.heart(job_id, [files[2], files[0], "gone/001.png"])
    assert hearted(job) == [files[0], files[2]], "in the order of the pictures"
    assert hearted(replace(job, result=None)) == [files[2], files[0], "gone/001.png"], "while it is at work"


def test_the_zip_holds_the_hearts_alone_is_made_anew_with_others_and_goes_with_the_job(
    made: tuple[StudioSession, str], settings: Settings
) -> None:
    session, job_id = made
    files = files_of(session, job_id)
    assert zip_of(session, job_id) is None
    session.heart(job_id, files[1:3])
    first = zip_of(session, job_id)
    assert first is not None and first.is_relative_to(settings.home / "jobs" / job_id)
    with zipfile.ZipFile(first) as archive:
        assert archive.namelist() == sorted(files[1:3]) and archive.testzip() is None
    assert zip_of(session, job_id) == first
    session.heart(job_id, files[1:2], on=False)
    second = zip_of(session, job_id)
    assert second is not None and not first.exists()
    with zipfile.ZipFile(second) as archive:
        assert archive.namelist() == [files[2]]


def test_the_route_serves_the_zip_to_its_owner_and_is_asked_again_after_each_heart(
    made: tuple[StudioSession, str], settings: Settings
) -> None:
    session, job_id = made
    app = FastAPI()
    add_routes(app, lambda request: session, settings)
    client = TestClient(app)
    assert client.get(f"/hearts/{job_id}").status_code == 404
    assert client.get("/hearts/generate-none").status_code == 404
    session.heart(job_id, files_of(session, job_id)[:1])
    answer = client.get(f"/hearts/{job_id}")
    assert answer.status_code == 200 and answer.content[:2] == b"PK"
    assert "hearts.zip" in answer.headers["content-disposition"] and "no-cache" in answer.headers["cache-control"]


def test_a_heart_beats_likeness_in_the_packs_tile_and_the_library_has_a_row_of_them(
    made: tuple[StudioSession, str],
) -> None:
    session, job_id = made
    job = session.job(job_id, "generate")
    worst = [row["file"] for row in job.result["images"] if row["shot"] == "beach"][-1]  # type: ignore[index]
    assert job.source is not None
    assert session.pack_pictures(job.source)["places"]["beach"] != (job_id, worst)
    loved = session.heart(job_id, [worst])
    assert session.pack_pictures(job.source)["places"]["beach"] == (job_id, worst)
    newer: JobView = replace(loved, id="newer", hearts=tuple(files_of(session, job_id)[:2]))
    (shelf,) = shelves_from({"generate": [newer, loved]})
    both = favourites(shelf, 9)
    assert both[-1] == (job_id, worst) and [row[0] for row in both] == ["newer", "newer", job_id]
    assert favourites(shelf, 1) == both[:1]
