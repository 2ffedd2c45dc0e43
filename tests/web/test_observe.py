"""The middleware in front of everything, before a small app: ids, log lines, counts, the gateway's prefix."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from studio.core.logs import FIELDS, REQUEST
from studio.core.settings import Settings
from studio.web.observe import ObserveMiddleware

TOKEN = "metrics-0123456789abcdef"


class Counted:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, int]] = []

    def requested(self, method: str, route: str, status: int, seconds: float) -> None:
        assert 0 <= seconds < 60
        self.rows.append((method, route, status))

    def text(self) -> bytes:
        return b"studio_running 1\n"


@pytest.fixture
def client(tmp_path: Path) -> Callable[..., tuple[TestClient, Counted]]:
    def new(**settings: Any) -> tuple[TestClient, Counted]:
        app, inner, counted = FastAPI(), FastAPI(), Counted()

        @app.get("/jobs/{job_id}")
        def job(request: Request, job_id: str) -> dict[str, Any]:
            scope = request.scope
            return {"id": REQUEST.get(), "path": scope["path"], "root": scope["root_path"], "url": str(request.url)}

        @app.get("/broken")
        def broken() -> None:
            raise RuntimeError("planted")

        @inner.get("/file={path:path}")
        def file(path: str) -> str:
            return path

        app.mount("/", inner)
        app.add_middleware(ObserveMiddleware, settings=Settings(home=tmp_path, **settings), metrics=counted)  # type: ignore[arg-type]
        return TestClient(app, raise_server_exceptions=False), counted

    return new


def test_requests_are_counted_by_the_template_of_their_route_and_never_by_their_address(client: Any) -> None:
    http, counted = client()
    for path in ("/jobs/train-secret?token=x", "/file=/home/ada/x.png", "/nowhere/at/all", "/broken"):
        http.get(path)
    assert counted.rows == [
        ("GET", "/jobs/{job_id}", 200),
        ("GET", "/file={path:path}", 200),
        ("GET", "other", 404),
        ("GET", "/broken", 500),
    ]


def test_an_answer_carries_the_id_of_its_request_and_one_that_a_gateway_gave_is_kept(client: Any) -> None:
    http, _ = client()
    made = http.get("/jobs/1")
    assert made.json()["id"] == made.headers["x-request-id"] and len(made.json()["id"]) == 16
    assert http.get("/jobs/1", headers={"X-Request-ID": "from-a-gateway.1"}).json()["id"] == "from-a-gateway.1"
    odd = http.get("/jobs/1", headers={"X-Request-ID": "a b\tc"})
    assert odd.headers["x-request-id"] != "a b\tc" and REQUEST.get() is None


def test_a_line_tells_of_each_request_where_lines_are_wanted(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    client()[0].get("/jobs/train-secret")
    told = [record for record in caplog.records if record.name == "studio.web.requests"]
    assert told == []
    client(log="json")[0].get("/jobs/train-secret?token=planted")
    (record,) = [record for record in caplog.records if record.name == "studio.web.requests"]
    fields = getattr(record, FIELDS)
    assert (fields["method"], fields["route"], fields["status"]) == ("GET", "/jobs/{job_id}", 200)
    assert "secret" not in str(fields) and "planted" not in str(fields)


def test_the_metrics_open_to_their_own_token_before_any_gate_and_to_nothing_else_here(client: Any) -> None:
    http, counted = client(metrics_token=TOKEN)
    opened = http.get("/v1/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert opened.text == "studio_running 1\n" and opened.headers["content-type"].startswith("text/plain; version=")
    for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"X-Studio-Token": TOKEN}):
        assert http.get("/v1/metrics", headers=given).status_code == 404  # passed on to whoever is behind
    assert http.post("/v1/metrics", headers={"Authorization": f"Bearer {TOKEN}"}).status_code in (404, 405)
    assert counted.rows[0] == ("GET", "/v1/metrics", 200)
    assert client()[0].get("/v1/metrics", headers={"Authorization": "Bearer None"}).status_code == 404


@pytest.mark.parametrize("path", ["/jobs/1", "/studio/jobs/1"])
def test_those_behind_see_the_path_without_the_gateways_prefix(client: Any, path: str) -> None:
    http, counted = client(root_path="/studio")
    seen = http.get(path).json()
    assert (seen["path"], seen["root"]) == ("/jobs/1", "/studio")
    assert counted.rows == [("GET", "/jobs/{job_id}", 200)]
    assert http.get("/studious/jobs/1").status_code == 404
