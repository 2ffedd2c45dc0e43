"""Refusals of everybody in front of an interface, too, have the shape that its clients know."""

import json
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from studio.web.api import errors
from studio.web.asgi import answer


def problem(reply: httpx.Response, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert int(reply.headers["content-length"]) == len(reply.content)
    found: dict[str, Any] = reply.json()
    assert found["type"] == "about:blank" and found["status"] == status and found["detail"] and found["title"]
    return found


def test_the_guard_and_the_router_refuse_as_problems_with_their_own_headers(http: httpx.Client) -> None:
    found = problem(http.post("/v1/train", content=b"x" * (4 * 2**20 + 1)), 413)
    assert "too much at once" in found["detail"] and found["title"] in ("Content Too Large", "Request Entity Too Large")
    refused = http.get("/v1/jobs", headers={"host": "evil.example"})
    assert "STUDIO_TRUSTED_HOSTS" in problem(refused, 421)["detail"]
    assert refused.headers["x-content-type-options"] == "nosniff"
    wrong = http.put("/v1/jobs")
    assert "use GET" in problem(wrong, 405)["detail"] and wrong.headers["allow"] == "GET"
    assert "no such address" in problem(http.get("/v1/jubs"), 404)["detail"]
    problem(http.post("/v1/check", content=b"{", headers={"content-type": "multipart/form-data; boundary=b"}), 415)


def test_other_addresses_keep_their_shape(http: httpx.Client) -> None:
    answer = http.get("/files/none")
    assert answer.status_code == 404 and answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"error", "problems"}
    assert http.get("/v1x").headers["content-type"] != "application/problem+json"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"error": "no disk"}, "no disk"),
        ({"detail": "not found"}, "not found"),
        ({"detail": [{"message": "x"}]}, "Unprocessable Entity."),
        ({"error": None}, "Unprocessable Entity."),
    ],
)
def test_words_come_from_wherever_they_stand(body: dict[str, Any], detail: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(errors, "phrase", lambda status: "Unprocessable Entity")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 422, "headers": [(b"content-type", b"application/json")]}
        await send(start)
        text = json.dumps(body).encode()
        await send({"type": "http.response.body", "body": text[:5], "more_body": True})
        await send({"type": "http.response.body", "body": text[5:]})

    client = TestClient(errors.ErrorShapes(app, {"/v1": errors.problem_json}))
    assert client.get("/v1/x").json()["detail"] == detail
    assert client.get("/v2/x").json() == body


def test_problems_arrive_whole_and_what_is_no_object_stays_as_it_is() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/v1/list":
            headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
            await send({"type": "http.response.start", "status": 400, "headers": headers})
            await send({"type": "http.response.body", "body": b"[]"})
        else:
            await answer(send, 422, "wrong", problems=[{"where": "a", "message": "b", "cure": "c", "code": "d"}])

    client = TestClient(errors.ErrorShapes(app, {"/v1": errors.problem_json}))
    assert client.get("/v1/list").json() == []
    assert client.get("/v1").json()["problems"] == [{"where": "a", "message": "b", "cure": "c", "code": "d"}]
