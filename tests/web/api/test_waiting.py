"""Waiting for a job: until it ends, or until there is no more time, in words for each."""

import asyncio
from typing import Any

import pytest

from studio.core.domain import JobView
from studio.core.errors import ConflictError, InputError, StudioError
from studio.web.api.waiting import StillAtWorkError, completed, watched


class Session:
    """A session with one job that plays a script of states, the last one for ever."""

    owner = "ada"

    def __init__(self, *states: str, **facts: Any) -> None:
        self.states, self.facts, self.studio = list(states), facts, self

    def get(self, job_id: str, *, owner: str) -> JobView:
        state: Any = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return JobView(job_id, "finish", state, owner, "", 0.0, **self.facts)


def test_a_completed_job_comes_back_as_soon_as_it_is() -> None:
    session: Any = Session("pending", "finishing", "completed")
    assert asyncio.run(completed(session, "finish-1")).state == "completed"


def test_a_job_that_goes_on_is_named_and_504() -> None:
    session: Any = Session("finishing")
    assert asyncio.run(watched(session, "finish-1", 0.1)).state == "finishing"
    with pytest.raises(StillAtWorkError, match="goes on as job finish-1") as caught:
        asyncio.run(completed(session, "finish-1", 0.1))
    assert caught.value.status == 504


def test_a_job_without_a_result_says_why() -> None:
    row = {"where": "a.png", "message": "is broken", "cure": "send it again", "code": "broken"}
    at_fault: Any = Session("stalled", cause="a.png: is broken; send it again.", problems=(row,))
    with pytest.raises(InputError, match=r"a\.png: is broken") as caught:
        asyncio.run(completed(at_fault, "finish-1"))
    assert caught.value.problems[0].code == "broken"
    killed: Any = Session("stalled", cause="the process was killed three times.")
    with pytest.raises(StudioError, match="killed") as failed:
        asyncio.run(completed(killed, "finish-1"))
    assert failed.value.status == 500
    for status, told in ((507, 507), (409, 409), (501, 501), (401, 500), (None, 500)):
        other: Any = Session("stalled", cause="the disk is full.", cause_status=status)
        with pytest.raises(StudioError, match="full") as failed:
            asyncio.run(completed(other, "finish-1"))
        assert failed.value.status == told, "what speaks of the request itself, such as a login, is not its answer"
    assert StudioError.status == 500
    for status, told in ((507, 507), (409, 409), (501, 501), (401, 500), (None, 500)):
        other: Any = Session("stalled", cause="the disk is full.", cause_status=status)
        with pytest.raises(StudioError, match="full") as failed:
            asyncio.run(completed(other, "finish-1"))
        assert failed.value.status == told, "what speaks of the request itself, such as a login, is not its answer"
    assert StudioError.status == 500
    gone: Any = Session("cancelled")
    with pytest.raises(ConflictError, match="was cancelled"):
        asyncio.run(completed(gone, "finish-1"))


def test_nobody_waits_for_a_client_that_is_gone() -> None:
    """Who is cut off asks again, and again; a training of ten hours must not be waited for by all of them."""
    asked = []

    async def is_gone() -> bool:
        asked.append(len(asked))
        return len(asked) > 2

    session: Any = Session("training")
    assert asyncio.run(watched(session, "train-1", 1000.0, is_gone=is_gone)).state == "training"
    assert len(asked) == 3
