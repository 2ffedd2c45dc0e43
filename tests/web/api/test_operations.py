"""How an operation is called: what is wrong with address and body comes together, faults are told in words."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from starlette.testclient import TestClient

from studio.core.errors import LoginError
from studio.core.settings import Settings
from studio.web.api.operations import Answer, Call, Desk, Operation, add_operations
from studio.web.full_disk import FullDisk
from studio.web.routes import Uploads, add_routes


def client_of(handler: Callable[[Call], Any], tmp_path: Path, session: Any = None, **more: Any) -> TestClient:
    settings = Settings(home=tmp_path)
    app = FastAPI()
    app.add_middleware(FullDisk)
    owned = session or type("Session", (), {"owner": "ada"})()
    add_routes(app, lambda request: owned, settings)
    row = Operation("GET", "/v9/it", "Try it.", handler, dict, **more)
    add_operations(app, [row], Desk(lambda request: owned, settings, Uploads(settings)), below="/v9")
    return TestClient(app, raise_server_exceptions=False)


def test_what_is_no_json_object_is_told_together_with_the_address(http: httpx.Client) -> None:
    for text in (b"{", b"[]", b"1", b"\xff", b"[" * 100_000, b'{"pack": "\\ud800"}'):
        answer = http.post("/v1/generate?sure=1", content=text)
        assert {row["code"] for row in answer.json()["problems"]} == {"not_json", "unknown_setting"}, text[:9]
    whole = http.post("/v1/generate", content=b'{"prompts": ["\\ud83d\\ude00"], "run": "x"}')
    assert whole.status_code == 404, "two halves are a character"
    both = http.post("/v1/generate?sure=1&whatif=perhaps", json={"prompts": ["a"], "colour": 1})
    assert {row["where"] for row in both.json()["problems"]} == {"sure", "whatif", "colour"}
    twice = http.get("/v1/jobs?limit=1&limit=2")
    assert twice.status_code == 422 and twice.json()["problems"][0]["code"] == "repeated"


def test_a_fault_is_told_in_words_and_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    answer = client_of(lambda call: 1 / 0, tmp_path).get("/v9/it")
    assert answer.status_code == 500 and "server's log" in answer.json()["error"]
    assert "ZeroDivisionError" in caplog.text and "GET /v9/it" in caplog.text


def test_a_full_disk_is_told_as_such(tmp_path: Path) -> None:
    def full(call: Call) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    answer = client_of(full, tmp_path).get("/v9/it")
    assert answer.status_code == 507 and "disk" in answer.json()["error"]


def test_nobody_is_told_to_log_in_before_anything_else(tmp_path: Path) -> None:
    class Nobody:
        @property
        def owner(self) -> str:
            raise LoginError("log in first.")

    asked: list[Call] = []
    answer = client_of(asked.append, tmp_path, Nobody()).get("/v9/it?sure=1")
    assert answer.status_code == 401 and not asked


def test_answers_may_carry_a_status_and_headers_or_be_whole_responses(tmp_path: Path) -> None:
    one = client_of(lambda call: Answer({"n": float("nan")}, 202, {"Location": "/x"}), tmp_path).get("/v9/it")
    assert (one.status_code, one.headers["location"], one.json()) == (202, "/x", {"n": None})
    assert client_of(lambda call: Response(b"raw"), tmp_path).get("/v9/it").content == b"raw"

    async def waits(call: Call) -> dict[str, str]:
        return {"owner": call.session.owner}

    assert client_of(waits, tmp_path).get("/v9/it").json() == {"owner": "ada"}
    tagged = client_of(lambda call: {"a": 1}, tmp_path, tagged=True)
    tag = tagged.get("/v9/it").headers["etag"]
    assert tagged.get("/v9/it", headers={"if-none-match": tag}).status_code == 304


def test_another_method_and_another_address_are_told_apart(tmp_path: Path) -> None:
    client = client_of(lambda call: {}, tmp_path)
    wrong = client.delete("/v9/it")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET") and "use GET" in wrong.json()["error"]
    assert client.get("/v9/other").status_code == 404
