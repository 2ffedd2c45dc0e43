import hashlib
from types import SimpleNamespace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from studio.jobs.storage.folder import FolderStorage
from studio.jobs.storage.links import LinkSigner
from studio.web.machines import MachinesMiddleware

DATA = b"a checkpoint" * 100


@pytest.fixture
def signer():
    return LinkSigner(b"k" * 32, "http://testserver")


@pytest.fixture
def storage(tmp_path, signer):
    return FolderStorage(tmp_path / "objects", signer)


@pytest.fixture
def client(storage, signer):
    app = FastAPI()

    @app.get("/{path:path}")
    def behind(path: str) -> str:
        return "behind"

    unasked = dict.fromkeys(("beat", "links", "inputs", "snapshot", "end"))
    app.add_middleware(MachinesMiddleware, desk=SimpleNamespace(storage=storage, signer=signer, **unasked))
    return TestClient(app)


def link(storage, method, name="jobs/a/file", max_bytes=1300, expires_s=60):
    return storage.link(method, name, expires_s=expires_s, max_bytes=max_bytes).url


def test_a_link_brings_and_another_fetches(client, storage):
    assert client.put(link(storage, "PUT"), content=DATA).status_code == 201
    assert storage.digest("jobs/a/file") == hashlib.sha256(DATA).hexdigest()
    answer = client.get(link(storage, "GET"))
    assert (answer.status_code, answer.content) == (200, DATA)
    assert "no-store" in answer.headers["cache-control"]


def test_a_link_is_for_nothing_else(client, storage):
    storage.put("jobs/b/file", b"somebody else's")
    put, get = link(storage, "PUT"), link(storage, "GET")
    assert client.get(put).status_code == 403
    assert client.put(get, content=DATA).status_code == 403
    assert client.get(get.replace("jobs/a", "jobs/b")).status_code == 403
    assert client.get(link(storage, "GET", "jobs/b/file", expires_s=-1)).status_code == 403
    assert client.get("/objects/jobs/b/file").status_code == 403
    assert client.get(link(storage, "GET", "jobs/none")).status_code == 404
    assert storage.size("jobs/a/file") is None


def test_more_than_the_link_is_for_is_refused_and_not_kept(client, storage):
    assert client.put(link(storage, "PUT", max_bytes=10), content=DATA).status_code == 413
    assert client.put(link(storage, "PUT", max_bytes=10), content=iter([DATA, DATA])).status_code == 413
    assert storage.names("jobs") == []


def test_what_must_be_new_replaces_nothing(client, storage):
    headers = {"If-None-Match": "*"}
    assert client.put(link(storage, "PUT"), content=DATA, headers=headers).status_code == 201
    assert client.put(link(storage, "PUT"), content=b"other", headers=headers).status_code == 412
    assert storage.read("jobs/a/file") == DATA


def test_all_other_addresses_are_passed_on(client):
    assert client.get("/attempts").json() == "behind"
    assert client.get("/attempts/check-0123456789abcdef/1/other").json() == "behind"
    assert client.get("/").json() == "behind"
