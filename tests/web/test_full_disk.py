"""A disk without room, under a running server."""

import contextlib
import errno
import resource
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from studio.web.full_disk import FullDisk


def _client(error: BaseException | None, *, status: int = 200) -> TestClient:
    async def store(_: Request) -> Response:
        if error is not None:
            raise error
        return PlainTextResponse("its own words", status)

    return TestClient(FullDisk(Starlette(routes=[Route("/", store, methods=["POST"])])), raise_server_exceptions=False)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_an_upload_without_room_is_refused_with_its_cure(number: int) -> None:
    answer = _client(OSError(number, "as the system says")).post("/", content=b"photo")
    assert answer.status_code == 507 and "disk of the studio is full" in answer.json()["detail"]


def test_a_failure_without_an_answer_of_its_own_is_told_too_but_never_in_the_middle_of_one() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/begun":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise OSError(errno.ENOSPC, "no room")

    client = TestClient(FullDisk(app), raise_server_exceptions=False)
    assert client.post("/").status_code == 507
    assert client.post("/begun").status_code == 200


def test_other_failures_and_answers_pass_as_they_are() -> None:
    for error in (OSError(errno.EIO, "broken"), KeyError("bug")):
        answer = _client(error).post("/")
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")
    for status in (200, 404, 500):
        answer = _client(None, status=status).post("/")
        assert (answer.status_code, answer.text) == (status, "its own words")


@pytest.fixture
def server_without_room(tmp_path: Path) -> Any:
    """``with server_without_room(1000) as address``: files of the server may have so many bytes."""
    import importlib.util
    import sys

    from studio.core.settings import Settings

    spec = importlib.util.spec_from_file_location("ui_conftest", Path(__file__).parents[1] / "web" / "conftest.py")
    assert spec is not None and spec.loader is not None
    edge = importlib.util.module_from_spec(spec)
    sys.modules["ui_conftest"] = edge
    spec.loader.exec_module(edge)

    @contextlib.contextmanager
    def serve(most_bytes: int) -> Any:
        presets = edge.write_presets(tmp_path / "presets")
        settings = Settings(home=tmp_path / "home", port=0, presets_dir=presets)
        with edge.serve(settings, tmp_path / "server.txt") as address:
            port = int(address.rpartition(":")[2])
            listeners = (row for row in psutil.net_connections() if row.status == "LISTEN" and row.laddr[1] == port)
            (server,) = {row.pid for row in listeners}
            resource.prlimit(server, resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
            yield address

    return serve


def test_a_real_upload_that_finds_no_room_gets_words_and_a_small_one_still_passes(server_without_room: Any) -> None:
    with server_without_room(100_000) as address:
        large, small = ({"files": ("a.jpg", bytes(size))} for size in (3_000_000, 1000))
        answer = httpx.post(f"{address}/gradio_api/upload", files=large, timeout=60)
        assert answer.status_code == 507 and "free some space" in answer.json()["detail"]
        assert httpx.post(f"{address}/gradio_api/upload", files=small, timeout=60).status_code == 200
