"""A check of the photos in a zip behind a link."""

import asyncio
import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import insert, select
from starlette.testclient import TestClient

from studio.core.settings import Settings
from studio.jobs.queue import NewJob
from studio.jobs.schema import DELIVERIES, WEBHOOKS
from studio.jobs.webhooks.sender import UPLOAD
from studio.service import Studio
from studio.web.api import links
from studio.web.api.errors import ErrorShapes
from studio.web.api.interfaces import SHAPES, add_interfaces
from studio.web.routes import add_routes
from studio.web.session import StudioSession

FILES: dict[str, bytes] = {}
ASKED: list[str] = []
KEY = "0123456789abcdef0123456789abcdef"


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append(self.path)
        if self.path.partition("?")[0] not in FILES:
            return self.send_error(403)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(FILES[self.path.partition("?")[0]])

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    settings = Settings(home=tmp_path / "home", webhook_loopback=True, max_photos=3, max_upload_bytes=10**5)
    studio = Studio(settings)
    session = StudioSession(studio, settings)
    app = FastAPI()
    add_routes(app, lambda request: session, settings)
    add_interfaces(app, lambda request: session, settings)
    app.add_middleware(ErrorShapes, shapes=SHAPES)
    made = TestClient(app, base_url="http://127.0.0.1:7860")
    made.home, made.studio = settings.home, studio
    with made:
        yield made
    studio.close()


def zipped(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


def left(client: Any) -> list[str]:
    """Return what is left of a fetch, and every file that holds the link."""
    stages = [str(path) for path in (client.home / "uploads").rglob("*") if path.is_file()]
    return stages + [
        str(path) for path in client.home.rglob("*") if path.is_file() and b"X-Signature" in path.read_bytes()
    ]


def test_the_photos_of_a_zip_are_checked_and_the_link_is_kept_nowhere(client: Any, server: str, photo: bytes) -> None:
    FILES["/photos.zip"] = zipped(**{"ada/one.png": photo, "two.png": photo + b"0", "__MACOSX/x.png": b"", "a.md": b""})
    url = f"{server}/photos.zip?X-Signature=secret"
    answer = client.post("/v1/check", json={"photos_url": url, "subject": "Ada", "consent": True})
    assert answer.status_code == 202, answer.text
    photos = client.home / "jobs" / answer.json()["id"] / "photos"
    assert sorted(path.read_bytes() for path in photos.rglob("*.*")) == sorted((photo, photo + b"0"))
    assert left(client) == [] and not links._fetching
    again = {"photos_url": url, "subject": "Ada", "photos": [{"name": "own.png", "data": "eHl6"}]}
    both = client.post("/v1/check", json=again)
    assert both.status_code == 202, both.text
    assert len(list((client.home / "jobs" / both.json()["id"] / "photos").rglob("*.*"))) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>expired</html>", "no zip"),
        (zipped(**{f"{number}.png": b"x" for number in range(4)}), "4 photos"),
        (zipped(**{"read.me": b"x"}), "there are none"),
        (b"PK" + b"x" * 2_000_000, "more than 1"),
        (b"PK\x03\x04broken", "none|damaged|no zip"),
    ],
)
def test_what_is_no_zip_of_photos_is_refused_and_nothing_is_left(
    client: Any, server: str, content: bytes, words: str
) -> None:
    FILES["/photos.zip"] = content
    answer = client.post("/v1/check", json={"photos_url": f"{server}/photos.zip?X-Signature=secret"})
    assert answer.status_code == 422, answer.text
    told = answer.json()["problems"][0]
    assert any(word in told["message"] for word in words.split("|")), told
    assert "X-Signature" not in answer.text and left(client) == [] and not links._fetching


def test_an_owner_has_few_links_fetched_at_once(client: Any, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(links._fetching, "local", links.MOST_AT_ONCE)
    answer = client.post("/v1/check", json={"photos_url": f"{server}/photos.zip"})
    assert answer.status_code == 429 and "wait" in answer.text


def test_a_link_into_this_machine_is_refused_where_that_is_not_allowed(tmp_path: Path, server: str) -> None:
    settings = Settings(home=tmp_path / "home")
    studio = Studio(settings)
    app = FastAPI()
    add_routes(app, lambda request: StudioSession(studio, settings), settings)
    add_interfaces(app, lambda request: StudioSession(studio, settings), settings)
    app.add_middleware(ErrorShapes, shapes=SHAPES)
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        for url in (f"{server}/photos.zip", "https://127.0.0.1/photos.zip", "https://[::ffff:7f00:1]/photos.zip"):
            answer = client.post("/v1/check", json={"photos_url": url})
            assert answer.status_code == 422 and answer.json()["problems"][0]["where"] == "photos_url", answer.text
    studio.close()


def test_a_whole_training_takes_its_photos_from_a_link_and_its_adapter_goes_to_another(
    client: Any, server: str, photo: bytes
) -> None:
    FILES["/photos.zip"] = zipped(**{"one.png": photo})
    check = client.post("/v1/check", json={"photos_url": f"{server}/photos.zip", "subject": "Ada"}).json()["id"]
    body = {"check": check, "base": "pocket", "steps": 20, "adapter_url": f"{server}/ada.zip?X-Signature=secret"}
    answers = [client.post("/v1/train", json=body, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202], answers[0].text
    assert answers[0].json()["id"] == answers[1].json()["id"] and "X-Signature" not in answers[0].text
    with client.studio._store._database.read() as db:
        rows = db.execute(select(WEBHOOKS).where(WEBHOOKS.c.form == UPLOAD)).mappings().all()
    assert [(row["job"], row["url"]) for row in rows] == [(answers[0].json()["id"], body["adapter_url"])]
    assert client.get("/v1/webhooks").json()["items"] == []
    for url in ("https://10.0.0.1/ada.zip", "file:///etc/passwd", "http://ada.example/x.zip"):
        refused = client.post("/v1/train", json={**body, "adapter_url": url})
        assert refused.status_code == 422 and refused.json()["problems"][0]["where"] == "adapter_url", refused.text
    assert len(client.get("/v1/jobs?kind=train").json()["items"]) == 1


def test_the_same_request_with_its_key_fetches_nothing_again_also_when_the_link_has_expired(
    client: Any, server: str, photo: bytes
) -> None:
    FILES["/once.zip"] = zipped(**{"one.png": photo})
    body = {"photos_url": f"{server}/once.zip?X-Signature=secret", "subject": "Ada"}
    key = {"Idempotency-Key": "check once"}
    first = client.post("/v1/check", json=body, headers=key)
    assert first.status_code == 202, first.text
    del FILES["/once.zip"]
    asked = len(ASKED)
    again = client.post("/v1/check", json=body, headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = client.post("/v1/check", json={**body, "subject": "Eve"}, headers=key)
    assert other.status_code == 409 and "used for another request" in other.text
    assert len(ASKED) == asked and left(client) == []
    FILES["/new.zip"] = zipped(**{"one.png": photo})
    renewed = client.post("/v1/check", json={**body, "photos_url": f"{server}/new.zip"}, headers=key)
    assert (renewed.status_code, renewed.json()["id"]) == (202, first.json()["id"]), "the same photos by another link"
    assert len(ASKED) == asked + 1
    assert client.post("/v1/check", json=body).status_code == 422, "without the key it is a new request"


def test_links_of_requests_are_sealed_in_the_table_and_open_for_the_sender_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, job = "https://files.example.org/ada.zip?X-Signature=planted", "train-0123456789abcdef"

    def opened(key: str | None) -> Studio:
        return Studio(Settings(home=tmp_path / "home", secrets_key=key))

    def stored(studio: Studio) -> list[str]:
        with studio._store._database.read() as db:
            return list(db.scalars(select(WEBHOOKS.c.url).where(WEBHOOKS.c.form == UPLOAD)))

    def follow(studio: Studio) -> None:
        told = {"url": url, "events": ("job.completed",), "form": UPLOAD, "context": {}}
        studio._store.webhooks.follow("local", job, **told)

    studio = opened(None)
    studio._make_home()
    studio._store.insert(NewJob(job, "train", "local", "Ada", "digest"))
    follow(studio)
    assert stored(studio) == [url], "without a key it lies there as it is"
    studio.close()

    studio = opened(KEY)
    studio._store.webhooks.seal()
    follow(studio)
    (kept,) = stored(studio)
    assert "planted" not in kept and "example" not in kept, "sealed at the next start, and known to be the same"
    with studio._store._database.write() as db:
        made = {"id": "d", "webhook": select(WEBHOOKS.c.id).where(WEBHOOKS.c.form == UPLOAD).scalar_subquery()}
        made |= {"owner": "local", "type": "job.completed", "job": job, "body": "{}", "state": "waiting"}
        db.execute(insert(DELIVERIES).values(attempts=0, due_s=0.0, created_s=0.0, **made))
    (due,) = studio._store.webhooks.due()
    assert due.url == url and "planted" not in repr(due)
    studio.close()

    studio = opened(KEY[::-1])
    (due,) = studio._store.webhooks.due()
    assert due.url == ""
    answer = asyncio.run(studio._sender._post(due))
    assert answer.status is None and "STUDIO_SECRETS_KEY" in str(answer.error)
    studio.close()
