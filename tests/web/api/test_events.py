"""A job's events as a stream over HTTP: numbered, in order, going on after a cut, ended for good at the end."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from studio.core.domain import Event, JobView
from studio.core.errors import NotFoundError
from studio.web.api import events


def parts(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Read a stream as a browser does: fields until an empty line."""
    fields: dict[str, Any] = {}
    for line in lines:
        if line == "":
            if "data" in fields:
                yield {**fields, "data": json.loads(fields["data"])}
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value


def followed(http: httpx.Client, job: str, **headers: str) -> list[dict[str, Any]]:
    with http.stream("GET", f"/v1/jobs/{job}/events", headers=headers) as answer:
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
        return list(parts(answer.iter_lines()))


def test_a_completed_job_tells_everything_and_its_end(http: httpx.Client, work: dict[str, Any]) -> None:
    told = followed(http, work["train"]["id"])
    numbers = [int(row["id"]) for row in told if "id" in row]
    assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 10
    assert {row["event"] for row in told} == {"stage", "metrics", "progress", "sample", "end"}
    assert told[-1]["event"] == "end" and told[-1]["data"]["state"] == "completed" and "id" not in told[-1]


def test_a_stream_that_was_cut_goes_on_after_the_last_event_and_ends_for_good(
    http: httpx.Client, work: dict[str, Any]
) -> None:
    job = work["train"]["id"]
    whole = followed(http, job)
    last = whole[-2]["id"]
    assert followed(http, job, **{"Last-Event-ID": "5"}) == whole[5:]
    with http.stream("GET", f"/v1/jobs/{job}/events?after=7") as answer:
        assert list(parts(answer.iter_lines())) == whole[7:]
    done = http.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": last})
    assert (done.status_code, done.content) == (204, b""), "a browser asks again until it hears this"
    for wrong in ("x", "-1", "1e3", "9" * 99):
        assert http.get(f"/v1/jobs/{job}/events", headers={"Last-Event-ID": wrong}).status_code == 422
    assert http.get("/v1/jobs/none/events").status_code == 404


def test_a_job_at_work_tells_how_it_stands_as_it_changes(http: httpx.Client, work: dict[str, Any]) -> None:
    job = http.post("/v1/export", json={"run": work["train"]["id"]}).json()["id"]
    with http.stream("GET", f"/v1/jobs/{job}/events") as answer:
        told = parts(answer.iter_lines())
        first = next(told)
        assert first["event"] == "state" and first["data"]["state"] == "pending"
        assert {"queue_position", "starts_in_s"} <= set(first["data"])
        assert http.post(f"/v1/jobs/{job}/cancel").status_code == 200
        (end,) = told
    assert end["event"] == "end" and end["data"]["state"] == "cancelled"


class Played:
    """A call whose job plays a script: one view after the other."""

    def __init__(self, *states: str) -> None:
        self.views = [JobView("train-1", "train", state, "ada", "", 0.0) for state in states]  # type: ignore[arg-type]
        self.session = self.studio = self
        self.owner = "ada"

    def get(self, job_id: str, *, owner: str) -> JobView:
        if not self.views:
            raise NotFoundError("gone.")
        return self.views.pop(0)

    def events(self, job_id: str, *, owner: str, after: int) -> list[tuple[int, Event]]:
        return [(2, Event("message", {"text": "\n\ndata: evil"}))] if after < 2 else []


def lines_of(played: Any) -> str:
    async def read() -> str:
        view, found = events._look(played, "train-1", 0)
        return "".join([part async for part in events._lines(played, "train-1", 0, view, found)])

    return asyncio.run(read())


def test_silence_is_filled_and_a_job_that_is_forgotten_ends_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_PAUSE_S", 0.0)
    monkeypatch.setattr(events, "_SILENCE_S", -1.0)
    text = lines_of(Played("training", "training", "training"))
    assert text.startswith("retry: 2000\n\nid: 2\nevent: message\n") and text.count("event: message") == 1
    assert text.count("event: state") == 1 and text.count(": still here") == 2
    assert text.endswith('event: forgotten\ndata: {"id": "train-1"}\n\n')
    assert "\ndata: evil" not in text, "line ends inside are written as JSON"
