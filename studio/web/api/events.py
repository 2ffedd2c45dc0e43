"""The events of a job as a stream (server-sent events), which goes on after a cut where the client says it was.

Source: WHATWG HTML, "Server-sent events": ``id``, ``event``, ``data``; ``Last-Event-ID``; 204 ends the reconnecting.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from studio.core.domain import TERMINAL_STATES, JobView, plain
from studio.core.errors import InputError, NotFoundError, Problem
from studio.web.api import views
from studio.web.api.operations import Call

_PAUSE_S = 0.5
"""Between two looks at a job."""
_SILENCE_S = 15.0
"""After so long without an event a comment keeps proxies from closing the connection."""
_RETRY_MS = 2000
"""After so long a client that was cut off asks again."""


async def stream(call: Call) -> Response:
    """Answer with the events after the one that the client saw last; 204 where the job has ended and told all.

    Raises:
        NotFoundError: the owner has no such job. InputError: ``Last-Event-ID`` is no number.
    """
    job_id = call.path["job_id"]
    seen, is_back = _last_seen(call)
    view, found = await run_in_threadpool(_look, call, job_id, seen)
    if is_back and view.state in TERMINAL_STATES and not found:
        return Response(status_code=204)
    lines = _lines(call, job_id, seen, view, found)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(lines, media_type="text/event-stream", headers=headers)


def _last_seen(call: Call) -> tuple[int, bool]:
    given = call.request.headers.get("last-event-id", "").strip()
    if not given:
        return call.query.after, False
    if not (given.isascii() and given.isdigit() and len(given) < 16):
        raise InputError.of([Problem("Last-Event-ID", "is not the number of an event", "leave it out", "no_number")])
    return int(given), True


def _look(call: Call, job_id: str, after: int) -> tuple[JobView, list[tuple[int, Any]]]:
    """Return a job and its new events; the job first, so that no event of an ended job is missed."""
    owner = call.session.owner
    view = call.session.studio.get(job_id, owner=owner)
    return view, call.session.studio.events(job_id, owner=owner, after=after)


async def _lines(call: Call, job_id: str, seen: int, view: JobView, found: list[tuple[int, Any]]) -> AsyncIterator[str]:
    yield f"retry: {_RETRY_MS}\n\n"
    told: Any = None
    said_s = time.monotonic()
    while True:
        for number, event in found:
            seen = number
            yield _event(event.kind, event.data, number)
        state = {"state": view.state, "queue_position": view.place, "waits_for": view.waits_for, "cause": view.cause}
        if view.state in TERMINAL_STATES:
            yield _event("end", views.job(view))
            return
        if state != told:
            told = state
            yield _event("state", {**state, "starts_in_s": view.starts_in_s})
            said_s = time.monotonic()
        elif found:
            said_s = time.monotonic()
        elif time.monotonic() - said_s > _SILENCE_S:
            said_s = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(_PAUSE_S)
        try:
            view, found = await run_in_threadpool(_look, call, job_id, seen)
        except NotFoundError:
            yield _event("forgotten", {"id": job_id})
            return


def _event(kind: str, data: Any, number: int | None = None) -> str:
    begin = "" if number is None else f"id: {number}\n"
    return f"{begin}event: {kind}\ndata: {json.dumps(plain(data))}\n\n"
