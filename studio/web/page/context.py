"""What all tabs share: the desk, the stories, how a handler speaks of errors, how polling is set up."""

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

PRIVATE, PUBLIC = "Only me", "Everybody"
"""Who may see what is published."""

POLL_S = 1.5
"""Seconds between two looks at a job."""

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "queue": False,
}
"""Keyword arguments of every event of the page: cheap, without Gradio's own spinner, not offered to programs.

Past the queue: the answer comes with the request itself. A queued event's answer comes by a stream that the server
closes after the last one; an event that joins while that word is on its way is never answered, and its button, which
waits for an answer, is dead from then on.
"""


POLLING: dict[str, Any] = {**QUIET, "trigger_mode": "once"}
"""Keyword arguments of a timer's event: one look at a time."""


@dataclass(frozen=True)
class TabContext:
    """What a tab is built from."""

    session: StudioSession
    histories: JobHistories


def in_view(elem_id: str) -> str:
    """Return the browser's part of a submit: on a narrow screen, scroll down to where the work shows."""
    return (
        "() => { const part = document.getElementById('" + elem_id + "');"
        " if (part && window.innerWidth < 700)"
        " part.closest('.column').scrollIntoView({behavior: 'smooth', block: 'start'}); }"
    )


def kindly(
    notice: gr.HTML, labels: Mapping[str, str] | None = None
) -> Callable[[Callable[..., Updates]], Callable[..., Updates]]:
    """Decorate a handler: a StudioError becomes words in ``notice``, success clears it."""

    def decorate(handler: Callable[..., Updates]) -> Callable[..., Updates]:
        @wraps(handler)
        def spoken(*args: Any) -> Updates:
            try:
                return {notice: "", **handler(*args)}
            except StudioError as caught:
                return {notice: parts.error(caught, labels)}

        return spoken

    return decorate
