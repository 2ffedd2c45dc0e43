import io
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from PIL import Image

from studio.core.settings import Settings
from studio.web.routes import add_routes
from studio.web.session import StudioSession
from studio.web.thumbnails import thumbnail_of


@pytest.fixture
def made(settings: Settings, studio: Any, photos: list[Path]) -> tuple[StudioSession, str, Path]:
    """A session, the id of a job with a large picture, and the picture."""
    session = StudioSession(studio, settings)
    check = session.submit_check(photos, {"subject": "Ada", "class_noun": "woman"})
    job = session.submit_generate(session.submit_train(check.id).id, {"pack": "places"})
    relative = session.job(job.id, "generate").result["images"][0]["file"]
    path = session.out_file(job.id, relative)
    assert path is not None
    Image.new("RGBA", (1200, 800), (200, 0, 0, 90)).save(path)
    return session, job.id, path


def test_a_thumbnail_is_made_once_in_the_jobs_own_folder_where_what_deletes_the_job_finds_it(
    made: tuple[StudioSession, str, Path], settings: Settings
) -> None:
    session, job_id, path = made
    first = thumbnail_of(session, job_id, path)
    assert first is not None and first.is_relative_to(settings.home / "jobs" / job_id)
    with Image.open(first) as small:
        assert (small.format, small.size, small.mode) == ("WEBP", (256, 171), "RGBA")
    stamp = first.stat().st_mtime_ns
    assert thumbnail_of(session, job_id, path) == first and first.stat().st_mtime_ns == stamp
    Image.new("RGB", (300, 300)).save(path)
    assert thumbnail_of(session, job_id, path) != first, "another picture under the same name"


def test_what_cannot_be_read_has_none_and_a_job_that_is_going_is_not_brought_back(
    made: tuple[StudioSession, str, Path], tmp_path: Path
) -> None:
    session, job_id, path = made
    path.write_bytes(b"no picture")
    assert thumbnail_of(session, job_id, path) is None
    folder = session.studio.out_dir(job_id, owner=session.owner).parent
    picture = tmp_path / "read-before.png"
    Image.new("RGB", (300, 300)).save(picture)
    folder.rename(tmp_path / "set-aside")
    assert thumbnail_of(session, job_id, picture) is None and not folder.exists()


def test_the_route_serves_it_in_place_of_the_original_and_the_original_without_asking(
    made: tuple[StudioSession, str, Path], settings: Settings
) -> None:
    session, job_id, path = made
    app = FastAPI()
    add_routes(app, lambda request: session, settings)
    client = TestClient(app)
    relative = path.relative_to(session.studio.out_dir(job_id, owner=session.owner).resolve()).as_posix()
    address = f"/files/{job_id}/{relative}"
    small = client.get(address, params={"small": "1"})
    assert small.headers["content-type"] == "image/webp" and small.headers["content-disposition"].startswith("inline")
    assert Image.open(io.BytesIO(small.content)).size == (256, 171)
    assert client.get(address).content == path.read_bytes()
    path.write_bytes(b"no picture")
    assert client.get(address, params={"small": "1"}).content == b"no picture"
    assert client.get(f"/files/{job_id}/none.png", params={"small": "1"}).status_code == 404
