"""The guard in front of the app, tried on a trivial app behind it."""

import asyncio
import json
import logging
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from studio.core.errors import InputError, ResourceError
from studio.core.settings import Settings
from studio.web import guard as guard_module
from studio.web import server

ROOT = Path(__file__).resolve().parents[2]


def _client(**settings: Any) -> TestClient:
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())}, headers={"x-content-type-options": "sniff"})

    inner = Starlette(routes=[Route("/{rest:path}", echo, methods=["GET", "POST"])])
    guard = guard_module.GuardMiddleware(inner, Settings(**settings))
    return TestClient(guard, base_url="http://127.0.0.1:7860")


def test_every_answer_carries_the_security_headers() -> None:
    client = _client()
    for answer in (client.get("/"), client.get("/gradio_api/proxy=x"), client.post("/", content=b"{}")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "https://*.hf.space" in policy
        assert "http://" not in policy


def test_the_pages_that_may_frame_the_app_can_be_set() -> None:
    answer = _client(frame_ancestors="'none'").get("/")
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://example.org/x",
        "/gradio_api/file=HTTPS://example.org/x",
        "/gradio_api/file%3Dhttp://example.org/x",
        "/gradio_api/proxy=http://example.org",
        "/gradio_api/dev/reload",
        "/gradio_api/vibe-edit/",
        "/gradio_api/run-history/records",
        "/monitoring/summary",
    ],
)
def test_doors_that_nobody_needs_are_closed(path: str) -> None:
    assert _client().get(path).status_code == 404


def test_ordinary_paths_stay_open() -> None:
    client = _client()
    for path in ("/", "/gradio_api/file=/tmp/picture.png", "/gradio_api/info", "/theme.css"):
        assert client.get(path).status_code == 200


@pytest.mark.parametrize("path", ["http://a/b", " HTTPS://a/b", "/etc/passwd", "{uploads}/../jobs.sqlite3", "x.png"])
def test_a_file_that_was_not_uploaded_is_refused(path: str, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    node = {"meta": {"_type": "gradio.FileData"}, "path": path.format(uploads=guard_module.upload_folder(settings))}
    answer = _client(home=tmp_path).post("/gradio_api/queue/join", json={"data": [[node]]})
    assert answer.status_code == 422 and "Upload the file itself" in answer.text


def test_an_upload_and_a_link_inside_a_prompt_pass(tmp_path: Path) -> None:
    upload = guard_module.upload_folder(Settings(home=tmp_path)) / "abc" / "face.jpg"
    body = {"data": [{"path": str(upload), "url": "http://a/b"}, "see http://a/b"]}
    answer = _client(home=tmp_path).post("/gradio_api/queue/join", json=body)
    assert answer.json() == {"bytes": len(json.dumps(body, separators=(",", ":")))}


def test_too_large_bodies_are_refused_with_and_without_a_length() -> None:
    client = _client(max_upload_bytes=2**10)

    def stream() -> Any:
        for _ in range(5):
            yield b"x" * 2**20

    assert client.post("/", content=b"x" * (4 * 2**20 + 1)).status_code == 413
    assert client.post("/", content=stream()).status_code == 413
    multipart = {"content-type": "multipart/form-data; boundary=b"}
    assert client.post("/", content=b"x" * (32 * 2**10 + 1), headers=multipart).status_code == 413
    answer = client.post("/", content=stream(), headers=multipart)
    assert answer.status_code == 413 and "fewer or smaller photos" in answer.text
    assert client.post("/", content=b"x" * 2**10, headers=multipart).json() == {"bytes": 2**10}


def test_other_sites_may_not_write() -> None:
    client = _client()
    assert client.post("/", content=b"{}", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/", content=b"{}", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "localhost:7860", 200),
        ({}, "[::1]:7860", 200),
        ({}, "evil.example", 421),
        ({}, "127.0.0.1.evil.example:7860", 421),
        ({"trusted_hosts": "studio.example, other.example"}, "Studio.example", 200),
        ({"trusted_hosts": "*"}, "any.example", 200),
        ({"host": "0.0.0.0"}, "any.example", 200),
    ],
)
def test_a_local_app_answers_only_to_its_own_name(settings: dict[str, Any], host: str, status: int) -> None:
    assert _client(**settings).get("/", headers={"host": host}).status_code == status


def test_a_taken_port_is_explained() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(port=taken.getsockname()[1])
        with pytest.raises(ResourceError, match="STUDIO_PORT"):
            server.serve(settings, on_ready=lambda address: None)


def test_a_login_without_a_platform_or_an_account_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSTEM", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="STUDIO_LOGIN: has no account"):
        server._require_account()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_write0123456789")
    server._require_account()


def test_uploads_of_an_earlier_server_are_wiped_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "GRADIO_TEMP_DIR",
        "GRADIO_ANALYTICS_ENABLED",
        "HF_HUB_DISABLE_TELEMETRY",
        "GRADIO_ANALYTICS_CACHE_FREQUENCY",
    ):
        monkeypatch.setenv(name, "")
    left = tmp_path / "web-cache" / "abc" / "face.jpg"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    server.prepare_environment(Settings(home=tmp_path))
    assert not left.parent.exists() and (tmp_path / "web-cache").is_dir()


OTHER_SERVER = """
import sys
from studio.web import server
from studio.core.settings import Settings
server.prepare_environment(Settings(home=sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_second_server_on_the_same_home_leaves_the_firsts_uploads_alone(tmp_path: Path) -> None:
    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", OTHER_SERVER, str(tmp_path)]
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        return child

    def end(child: "subprocess.Popen[str]") -> None:
        child.kill()
        child.communicate()

    first = start()
    photo = tmp_path / "web-cache" / "abc" / "face.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"x")
    second = start()
    assert photo.is_file(), "the first one has not given it to a job yet"
    end(first)
    third = start()
    assert photo.is_file(), "the second one lives on; it may have uploads, too"
    end(second)
    end(third)
    end(start())
    assert not photo.exists()


def test_a_home_that_cannot_be_used_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="STUDIO_HOME"):
        server.prepare_environment(Settings(home=tmp_path / "file"))


def test_pages_cut_off_at_the_end_leave_no_trace_in_the_log() -> None:
    def record(error: type[BaseException] | None, words: str) -> logging.LogRecord:
        trace = None if error is None else (error, error(), None)
        return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, words, (), trace)

    quiet = server._ShutdownLogFilter()
    assert not quiet.filter(record(asyncio.CancelledError, "Exception in ASGI application"))
    assert not quiet.filter(record(None, "Cancel 2 running task(s), timeout graceful shutdown exceeded"))
    assert quiet.filter(record(ValueError, "Exception in ASGI application"))
    assert quiet.filter(record(None, "other words"))
