import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from studio.core.settings import Settings
from studio.web import guard as guard_module


def _client(**settings: Any) -> TestClient:
    async def echo(request: Request) -> JSONResponse:
        return JSONResponse({"bytes": len(await request.body())}, headers={"x-content-type-options": "sniff"})

    inner = Starlette(routes=[Route("/{rest:path}", echo, methods=["GET", "POST", "PUT"])])
    made = Settings(**settings)
    guard = guard_module.GuardMiddleware(guard_module.UploadedFilesMiddleware(inner, made), made)
    return TestClient(guard, base_url="http://127.0.0.1:7860")


def test_every_answer_carries_the_security_headers() -> None:
    client = _client()
    for answer in (client.get("/"), client.get("/gradio_api/proxy=x"), client.post("/", content=b"{}")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy and policy.endswith("frame-ancestors 'self'")
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


def test_where_pictures_stand_in_the_body_it_is_not_read_for_paths(tmp_path: Path) -> None:
    client = _client(home=tmp_path)
    assert client.post("/v1/check", json={"path": "/etc/passwd"}).status_code == 200
    assert client.post("/v1/train", json={"path": "/etc/passwd"}).status_code == 422


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
    place = "/gradio_api/upload"
    assert client.post(place, content=b"x" * (32 * 2**10 + 1), headers=multipart).status_code == 413
    answer = client.post(place, content=stream(), headers=multipart)
    assert answer.status_code == 413 and "fewer or smaller photos" in answer.text
    assert client.post(place, content=b"x" * 2**10, headers=multipart).json() == {"bytes": 2**10}


@pytest.mark.parametrize("path", ["/openai/v1/images/edits", "/openai/v1/images/variations"])
def test_what_is_refused_anyhow_may_bring_a_picture_and_a_mask_and_is_never_kept(path: str) -> None:
    client = _client(max_upload_bytes=6 * 2**20)
    not_json = b'{"image": {"path": "/etc/passwd"}' + b" " * 2**20 + b"}"
    assert client.post(path, content=not_json).json() == {"bytes": len(not_json)}, "nobody has parsed it"
    assert client.post(path, content=b"x" * (12 * 2**20 + 1)).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/v1/check",
        "/v1/finish",
        "/remove",
        "/remove-opacity",
        "/background/remove",
        "/upsampler",
        "/upscaler/upsampler",
    ],
)
def test_files_inside_json_may_be_as_large_as_uploads(path: str) -> None:
    client = _client(max_upload_bytes=6 * 2**20)
    assert client.post(path, content=b"x" * 8 * 2**20).json() == {"bytes": 8 * 2**20}, "6 MiB in base64"
    assert client.post(path, content=b"x" * (8 * 2**20 + 2**16 + 1)).status_code == 413
    assert _client(max_upload_bytes=2**20).post(path, content=b"x" * 4 * 2**20).status_code == 200, "as any other JSON"
    for other in (
        "/v1/train",
        "/v1/check/x",
        "/v1/generate",
        "/v1/checks",
        "/removed",
        "/upscaler/remove",
        "/replicate/v1/trainings",
    ):
        assert client.post(other, content=b"x" * (4 * 2**20 + 1)).status_code == 413, other


def test_a_form_lifts_the_limit_only_where_forms_are_taken() -> None:
    client = _client()
    form = {"content-type": "multipart/form-data; boundary=b"}
    for path in ("/", "/checks", "/gradio_api/run/predict", "/gradio_api/uploads", f"/uploads/{'0' * 64}"):
        assert client.post(path, content=b"x", headers=form).status_code == 415
    assert client.post("/gradio_api/upload", content=b"x" * 5 * 2**20, headers=form).status_code == 200
    assert client.put(f"/uploads/{'0' * 64}", content=b"x" * 5 * 2**20).status_code == 200, "a photo as it is"
    assert client.post("/checks", content=b"x" * 5 * 2**20).status_code == 413


@pytest.mark.parametrize(
    "name", ["Content-Type", "Host", "Content-Length", "Origin", "Authorization", "X-Studio-Token"]
)
def test_a_header_that_may_come_once_is_refused_when_it_comes_twice(name: str) -> None:
    twice = [(name, "application/json"), (name.lower(), "multipart/form-data; boundary=b")]
    others = [] if name == "Host" else [("Host", "127.0.0.1:7860")]
    answer = _client().post("/", content=b"{}", headers=[*others, *twice])
    assert answer.status_code == 400 and name.lower() in answer.json()["error"]


def test_other_sites_may_not_write() -> None:
    client = _client()
    assert client.post("/", content=b"{}", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert client.post("/", content=b"{}", headers={"sec-fetch-site": "same-origin"}).status_code == 200
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).status_code == 200
    read = {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}
    assert client.get("/uploads", headers=read).status_code == 403, "a page of another port"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:7860", 200),
        ("http://127.0.0.1:8000", 403),
        ("http://127.0.0.1", 403),
        ("https://127.0.0.1:7860.evil.example", 403),
        ("http://evil.example", 403),
        ("http://localhost:7860", 403),
        ("null", 403),
        ("http://[", 403),
        ("", 403),
        ("https://studio.example", 200),
    ],
)
def test_a_browser_writes_and_reads_only_for_the_servers_own_pages(origin: str, status: int) -> None:
    client = _client(trusted_hosts="studio.example")
    for ask in (client.post, client.put, client.get, client.options):
        assert ask("/checks", headers={"origin": origin}).status_code in (status, 405), ask
    assert _client().post("/", headers={"host": "127.0.0.1", "origin": "http://127.0.0.1:80"}).status_code == 200


def test_no_answer_allows_another_origin_to_read_it() -> None:
    async def generous(scope: Any, receive: Any, send: Any) -> None:
        allowed = [
            (b"Access-Control-Allow-Origin", b"http://127.0.0.1:7860"),
            (b"access-control-allow-credentials", b"true"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": allowed})
        await send({"type": "http.response.body", "body": b"{}"})

    client = TestClient(guard_module.GuardMiddleware(generous, Settings()), base_url="http://127.0.0.1:7860")
    answer = client.get("/", headers={"origin": "http://127.0.0.1:7860"})
    assert answer.status_code == 200 and not [name for name in answer.headers if name.startswith("access-control")]


def test_a_body_that_trickles_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "FIRST_BYTE_S", 0.2)
    monkeypatch.setattr(guard_module, "SLOWEST_BYTES_PER_S", 100.0)
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def call(pause_s: float) -> int:
        parts = iter(range(8))

        async def receive() -> dict[str, Any]:
            await asyncio.sleep(pause_s)
            return {"type": "http.request", "body": b"x", "more_body": next(parts) < 7}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"127.0.0.1:7860")]
        scope = {"type": "http", "method": "POST", "path": "/checks", "headers": headers}
        await guard_module.GuardMiddleware(app, Settings())(scope, receive, send)
        return next(message["status"] for message in sent if message["type"] == "http.response.start")

    assert asyncio.run(call(0.1)) == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    sent.clear()
    assert asyncio.run(call(0.001)) == 200


@pytest.mark.parametrize(
    ("settings", "host", "status"),
    [
        ({}, "localhost:7860", 200),
        ({}, "[::1]:7860", 200),
        ({}, "evil.example", 421),
        ({}, "127.0.0.1.evil.example:7860", 421),
        ({"trusted_hosts": "studio.example, other.example"}, "Studio.example", 200),
        ({"trusted_hosts": "*"}, "any.example", 200),
        ({"trusted_hosts": "studio.example:8443"}, "studio.example:8443", 200),
        ({"host": "0.0.0.0"}, "any.example", 421),
        ({"host": "0.0.0.0"}, "192.168.1.20:7860", 200),
        ({"host": "0.0.0.0"}, "[fd00::20]:7860", 200),
        ({"host": "0.0.0.0"}, "localhost:7860", 200),
        ({"host": "0.0.0.0", "trusted_hosts": "gpu.example"}, "gpu.example:7860", 200),
        ({"host": "127.0.0.1"}, "192.168.1.20:7860", 421),
        ({}, "", 421),
    ],
)
def test_a_server_answers_only_to_names_that_are_its_own(settings: dict[str, Any], host: str, status: int) -> None:
    assert _client(**settings).get("/", headers={"host": host}).status_code == status
