"""The plain HTTP routes: uploads by digest, checks of uploads, files with digests; each only for its owner."""

import hashlib
import importlib.util
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from studio.core.domain import JobView
from studio.core.errors import NotFoundError, UnavailableError
from studio.core.evicted import Evicted, mark
from studio.core.settings import Settings
from studio.service import Studio
from studio.web.routes import UPLOAD_LIFE_S, add_routes
from studio.web.session import StudioSession

PHOTO, CAPTION = b"RIFF photo", b"photo of {instance_token} {class_noun}, beach"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", max_photos=2, max_upload_bytes=5 * 2**20)


@pytest.fixture
def studio(settings: Settings) -> Any:
    made = Studio(settings)
    yield made
    made.close()


@pytest.fixture
def client(settings: Settings, studio: Studio) -> TestClient:
    return TestClient(load("remote_server").create_app(settings, studio), base_url="http://127.0.0.1:7860")


def put(client: TestClient, data: bytes, sha256: str | None = None) -> Any:
    return client.put(f"/uploads/{sha256 or digest(data)}", content=data)


def test_an_upload_is_kept_once_under_its_digest(client: TestClient, settings: Settings) -> None:
    assert client.get("/uploads").json() == {"held": []}
    first = put(client, PHOTO)
    assert (first.status_code, first.json()) == (201, {"sha256": digest(PHOTO), "bytes": len(PHOTO)})
    assert put(client, PHOTO).status_code == 200
    assert client.get("/uploads").json() == {"held": [digest(PHOTO)]}
    (kept,) = [path for path in (settings.home / "uploads").rglob("*") if path.is_file()]
    assert kept.read_bytes() == PHOTO and kept.parent.stat().st_mode & 0o077 == 0


def test_bytes_that_do_not_match_their_digest_are_refused_and_not_kept(client: TestClient) -> None:
    for sha256 in (digest(b"other"), "..", "A" * 64, "0" * 63):
        answer = client.put(f"/uploads/{sha256}", content=PHOTO)
        assert answer.status_code in (404, 405, 422), sha256
    assert put(client, PHOTO, digest(b"other")).json()["problems"][0]["code"] == "digest"
    assert client.get("/uploads").json() == {"held": []}


def test_too_many_uploads_and_too_large_ones_are_refused(client: TestClient) -> None:
    for number in range(4):
        assert put(client, b"%d" % number).status_code == 201
    assert put(client, b"one more").status_code == 409
    assert put(client, b"0").status_code == 200
    assert put(client, b"x" * (5 * 2**20 + 1)).status_code == 413


def test_uploads_that_nobody_took_for_a_day_are_gone(client: TestClient, settings: Settings) -> None:
    put(client, PHOTO)
    (kept,) = [path for path in (settings.home / "uploads").rglob("*") if path.is_file()]
    old_s = time.time() - UPLOAD_LIFE_S - 1
    os.utime(kept, (old_s, old_s))
    assert client.get("/uploads").json() == {"held": []} and not kept.exists()


def order(**changes: Any) -> dict[str, Any]:
    photos = [{"sha256": digest(PHOTO), "name": "001.webp"}, {"sha256": digest(CAPTION), "name": "001.txt"}]
    return {"photos": photos, "subject": "Ada", "class_noun": "woman", "settings": {"crop": "none"}, **changes}


def test_a_check_takes_uploads_over_and_may_be_repeated(client: TestClient, studio: Studio, settings: Settings) -> None:
    for data in (PHOTO, CAPTION):
        put(client, data)
    job = client.post("/checks", json=order(key="once")).json()
    assert (job["kind"], job["state"], job["owner"]) == ("check", "pending", settings.owner)
    taken = settings.home / "jobs" / job["id"] / "photos"
    assert {path.name: path.read_bytes() for path in taken.iterdir()} == {"001.webp": PHOTO, "001.txt": CAPTION}
    assert json.loads((taken.parent / "request.json").read_text())["config"]["crop"] == "none"
    assert client.get("/uploads").json() == {"held": []}
    assert not [path for path in (settings.home / "uploads").rglob("*") if path.is_file()]

    missing = client.post("/checks", json=order(key="once"))
    assert missing.status_code == 409
    assert [row["where"] for row in missing.json()["problems"]] == [digest(PHOTO), digest(CAPTION)]
    assert {row["code"] for row in missing.json()["problems"]} == {"not_uploaded"}
    for data in (PHOTO, CAPTION):
        put(client, data)
    assert client.post("/checks", json=order(key="once")).json()["id"] == job["id"]


def test_everything_wrong_with_a_check_comes_in_one_answer(client: TestClient) -> None:
    answer = client.post("/checks", json={"photos": [{"sha256": "x", "name": ""}], "colour": "red"})
    assert answer.status_code == 422
    assert {row["where"] for row in answer.json()["problems"]} == {"photos.0.sha256", "photos.0.name", "colour"}
    assert client.post("/checks", content=b"{").status_code == 422
    assert "add 5 to 20 photos" in client.post("/checks", json={}).json()["error"]
    put(client, PHOTO)
    photos = [{"sha256": digest(PHOTO), "name": f"{number}.webp"} for number in range(3)]
    assert "more than the limit of 2" in client.post("/checks", json={"photos": photos}).json()["error"]
    assert client.get("/uploads").json() == {"held": [digest(PHOTO)]}, "a refused check keeps its uploads"


class Finished:
    """A studio that holds one completed run of Ada's."""

    def __init__(self, home: Path) -> None:
        self.out = home / "jobs" / "train-1" / "out"
        self.brought: list[str] = []
        self.failure: Exception | None = None
        (self.out / "adapter").mkdir(parents=True)
        (self.out / "adapter" / "adapter.json").write_text("{}")
        (self.out / "report.json").write_text("{ }")
        (self.out.parent / "request.json").write_text("{}")
        for name in ("config.yaml", "samples/4/00.png", "samples/4/scores.json", "checkpoints/4/resume.safetensors"):
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            (self.out / name).write_text("{}")
        self.job = JobView("train-1", "train", "completed", "ada", "", 0.0, result={"adapter": "adapter"})

    def get(self, job_id: str, *, owner: str) -> JobView:
        if (job_id, owner) != (self.job.id, "ada"):
            raise NotFoundError(f"there is no job {job_id!r}.")
        return self.job

    def out_dir(self, job_id: str, *, owner: str) -> Path:
        self.get(job_id, owner=owner)
        return self.out

    def bring_weights(self, job_id: str, file: str | None = None, *, owner: str) -> int:
        self.get(job_id, owner=owner)
        self.brought.append(str(file))
        if self.failure is not None:
            raise self.failure
        (self.out / str(file)).write_bytes(b"weights")
        return 1


def files_client(tmp_path: Path, owner: str) -> tuple[TestClient, Finished]:
    settings = Settings(home=tmp_path / "home", owner=owner)
    studio = Finished(settings.home)
    app = FastAPI()
    session = StudioSession(studio, settings)  # type: ignore[arg-type]
    add_routes(app, lambda request: session, settings)
    return TestClient(app), studio


def test_a_job_lists_its_files_with_their_digests_and_serves_parts_of_them(tmp_path: Path) -> None:
    client, studio = files_client(tmp_path, "ada")
    listed = client.get("/files/train-1").json()
    run = ["adapter/adapter.json", "report.json", "config.yaml", "samples/4/scores.json", "samples/4/00.png"]
    assert [row["path"] for row in listed["files"]] == run
    assert client.get("/files/train-1/config.yaml").headers["content-disposition"].startswith("attachment")
    assert listed["files"][1] == {"path": "report.json", "bytes": 3, "sha256": digest(b"{ }")}
    assert client.get("/files/train-1/report.json").content == b"{ }"
    rest = client.get("/files/train-1/report.json", headers={"range": "bytes=2-"})
    assert (rest.status_code, rest.content) == (206, b"}")
    for path in ("../request.json", "%2e%2e/request.json", "adapter", "none.json", "%00.json"):
        assert client.get(f"/files/train-1/{path}").status_code == 404
    studio.job = replace(studio.job, state="training")
    assert client.get("/files/train-1").json()["files"] == []


def test_weights_in_the_backup_alone_are_listed_without_fetching_them_and_fetched_when_asked_for(
    tmp_path: Path,
) -> None:
    client, studio = files_client(tmp_path, "ada")
    name = "adapter/pytorch_lora_weights.safetensors"
    mark(studio.out / name, Evicted(7, digest(b"weights")))
    listed = {row["path"]: row for row in client.get("/files/train-1").json()["files"]}
    assert listed[name] == {"path": name, "bytes": 7, "sha256": digest(b"weights")} and not studio.brought
    assert client.get("/files/train-1/report.json").status_code == 200 and not studio.brought
    studio.failure = UnavailableError("the backup cannot be reached.")
    refused = client.get(f"/files/train-1/{name}")
    assert refused.status_code == 503 and "the backup cannot be reached" in refused.text
    studio.failure = None
    assert client.get(f"/files/train-1/{name}").content == b"weights" and studio.brought == [name] * 2
    missing = "adapter/other.safetensors"
    studio.failure = NotFoundError("no such job")
    assert client.get(f"/files/train-1/{missing}").status_code == 404


@pytest.mark.parametrize(
    ("kind", "result", "wanted", "media_type"),
    [
        ("finish", {"pictures": [{"file": "pictures/one.jpg"}]}, "pictures/one.jpg", "image/jpeg"),
        ("finish", {"pictures": [{"file": "pictures/one.webp"}]}, "pictures/one.webp", "image/webp"),
        ("export", {"files": ["tokenizer/merges.txt"]}, "tokenizer/merges.txt", "application/octet-stream"),
        ("export", {"files": ["tokenizer/spiece.model"]}, "tokenizer/spiece.model", "application/octet-stream"),
        ("publish", {"files": ["README.md"]}, "repo/README.md", "application/octet-stream"),
    ],
)
def test_every_file_that_a_result_names_is_listed_and_served(
    kind: Any, result: dict[str, Any], wanted: str, media_type: str, tmp_path: Path
) -> None:
    client, studio = files_client(tmp_path, "ada")
    for name in (wanted, "private/notes.txt"):
        (studio.out / name).parent.mkdir(parents=True, exist_ok=True)
        (studio.out / name).write_bytes(PHOTO)
    result = {"archive": None, "contact_sheet": None, **result}
    studio.job = JobView("train-1", kind, "completed", "ada", "", 0.0, result=result)
    listed = client.get("/files/train-1").json()["files"]
    assert listed == [{"path": wanted, "bytes": len(PHOTO), "sha256": digest(PHOTO)}]
    answer = client.get(f"/files/train-1/{wanted}")
    assert (answer.status_code, answer.content) == (200, PHOTO)
    assert answer.headers["content-type"].startswith(media_type)
    kept_apart = "inline" if media_type.startswith("image/") else "attachment"
    assert answer.headers["content-disposition"].startswith(kept_apart)
    assert client.get("/files/train-1/private/notes.txt").status_code == 404, "no result names it"


def test_files_of_another_owner_are_not_there(tmp_path: Path) -> None:
    client, _ = files_client(tmp_path, "bob")
    assert client.get("/files/train-1").status_code == 404
    assert client.get("/files/train-1/report.json").status_code == 404


def test_uploads_of_another_owner_are_not_there(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    sessions = {
        name: StudioSession(Finished(tmp_path / name), settings.model_copy(update={"owner": name}))
        for name in ("a", "b")
    }  # type: ignore[arg-type]
    app = FastAPI()
    add_routes(app, lambda request: sessions[request.headers["who"]], settings)
    client = TestClient(app)
    client.put(f"/uploads/{digest(PHOTO)}", content=PHOTO, headers={"who": "a"})
    assert client.get("/uploads", headers={"who": "a"}).json() == {"held": [digest(PHOTO)]}
    assert client.get("/uploads", headers={"who": "b"}).json() == {"held": []}
    photos = [{"sha256": digest(PHOTO), "name": "001.webp"}]
    answer = client.post("/checks", json={"photos": photos}, headers={"who": "b"})
    assert answer.status_code == 409 and answer.json()["problems"][0]["code"] == "not_uploaded"
