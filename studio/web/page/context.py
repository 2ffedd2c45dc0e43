"""What all tabs share: the session, what has happened in jobs, how events and errors are handled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any

import gradio as gr

from studio.core.errors import StudioError
from studio.web.page import parts
from studio.web.page.history import JobHistories
from studio.web.session import StudioSession

Updates = dict[Any, Any]
"""Component -> new value or update, as a handler returns it."""

POLL_S = 1.5
"""Seconds between two looks at a job."""

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "queue": False,
}
"""Keyword arguments of every event of the page: cheap, without Gradio's own spinner, not offered to programs.

They bypass the queue, so the answer comes with the request itself. A queued event is answered by a stream, which the
server closes after its last answer; an event that joins while the stream closes is never answered, and its button,
which waits for the answer, stays dead.
"""

POLLING: dict[str, Any] = {**QUIET, "trigger_mode": "once"}
"""Keyword arguments of a timer's event: one look at a time."""


@dataclass(frozen=True)
class TabContext:
    """What a tab is built from."""

    session: StudioSession
    histories: JobHistories


def errors_in(
    notice: gr.HTML, labels: Mapping[str, str] | None = None, fields: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Updates]], Callable[..., Updates]]:
    """Decorate the handler of a press: a StudioError is shown in ``notice``, success clears it.

    What runs by itself (a clock, the opening of the page, a field that changes) must not be decorated with the place of
    answers: it would clear what somebody is reading. See ``faults_in``.

    Args:
        notice: where errors are shown.
        labels: what the form calls a setting.
        fields: element id of a setting's field in the form.
    """

    def decorate(handler: Callable[..., Updates]) -> Callable[..., Updates]:
        @wraps(handler)
        def guarded(*args: Any) -> Updates:
            try:
                return {notice: "", **handler(*args)}
            except StudioError as caught:
                return {notice: parts.error(caught, labels, fields)}

        return guarded

    return decorate


def faults_in(status: gr.HTML) -> Callable[[Callable[..., Updates]], Callable[..., Updates]]:
    """Decorate the handler of what runs by itself: a StudioError is shown in ``status``, which success fills anew."""

    def decorate(handler: Callable[..., Updates]) -> Callable[..., Updates]:
        @wraps(handler)
        def watched(*args: Any) -> Updates:
            try:
                return handler(*args)
            except StudioError as caught:
                return {status: parts.error(caught)}

        return watched

    return decorate
