"""Answers that wait for a job: for interfaces whose clients expect the picture itself and know of no jobs."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from fastapi.concurrency import run_in_threadpool

from studio.core.domain import TERMINAL_STATES, JobView
from studio.core.errors import ConflictError, InputError, Problem, StudioError
from studio.web.session import StudioSession

WAIT_S = 90.0
"""Longest wait: many proxies give up on an answer after 100 seconds."""
_OF_A_PROBLEM = ("where", "message", "cure", "code")
_TOLD = frozenset({404, 409, 422, 501, 507})
"""Statuses of causes that are the answer's, too; others, such as 401, would speak of the request itself."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


async def _nobody_is() -> bool:
    return False


class StillAtWorkError(StudioError):
    """The job did not end in time; it goes on."""

    status = 504


async def watched(
    session: StudioSession, job_id: str, wait_s: float = WAIT_S, *, is_gone: Callable[[], Awaitable[bool]] = _nobody_is
) -> JobView:
    """Return a job once it has ended, or as it is after ``wait_s`` seconds; holds no thread meanwhile.

    Args:
        session: of the owner.
        job_id: the job.
        wait_s: longest wait, seconds.
        is_gone: tells whether nobody waits for the answer any more; then the wait is over, too.
    """
    end_s, pause_s = time.monotonic() + wait_s, _FIRST_PAUSE_S
    while True:
        view = await run_in_threadpool(session.studio.get, job_id, owner=session.owner)
        left_s = end_s - time.monotonic()
        if view.state in TERMINAL_STATES or left_s <= 0 or await is_gone():
            return view
        await asyncio.sleep(min(pause_s, left_s))
        pause_s = min(1.3 * pause_s, _LONGEST_PAUSE_S)


async def completed(
    session: StudioSession, job_id: str, wait_s: float = WAIT_S, *, is_gone: Callable[[], Awaitable[bool]] = _nobody_is
) -> JobView:
    """Return a job that is completed; the arguments are those of ``watched``.

    Raises:
        StillAtWorkError: it has not ended after ``wait_s`` seconds; it goes on.
        InputError: it stalled over what it was given, with its problems. StudioError: it stalled otherwise, with the
            status of what ended it.
        ConflictError: it was cancelled.
    """
    view = await watched(session, job_id, wait_s, is_gone=is_gone)
    if view.state == "completed":
        return view
    if view.state == "cancelled":
        raise ConflictError(f"the job {view.id} was cancelled.")
    if view.state == "stalled":
        problems = [Problem(**{name: row.get(name, "") for name in _OF_A_PROBLEM}) for row in view.problems]
        error = (InputError if problems else StudioError)(view.cause or f"the job {view.id} stalled.", problems)
        if view.cause_status in _TOLD:
            error.status = view.cause_status
        raise error
    raise StillAtWorkError(
        f"this takes longer than {wait_s:.0f} s; it goes on as job {view.id}. Send the same request again later, or"
        f" look at GET /v1/jobs/{view.id}."
    )
