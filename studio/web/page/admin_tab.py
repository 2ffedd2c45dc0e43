"""The operator's tab: the queue of all owners, cancel and retry, pause, what goes on, disk, owners and caches.

Visibility is not access control in Gradio: every handler asks the session for the operation, which refuses others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.domain import TERMINAL_STATES
from studio.core.errors import NotFoundError, StudioError
from studio.core.units import bytes_text
from studio.web.page import parts, parts_admin, words, words_admin
from studio.web.page.context import POLLING, QUIET, TabContext, Updates, errors_in, faults_in
from studio.web.page.frame import form_column

_POLL_S = 3.0


@dataclass(frozen=True)
class AdminTab:
    """The tab as the page sees it."""

    refresh: Callable[[], Updates]
    """Returns updates of ``outputs``: queue and disk as they are now."""
    outputs: Sequence[Any]


def admin_tab(context: TabContext) -> AdminTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    timer = gr.Timer(_POLL_S, active=False)
    with gr.Row():
        with form_column():
            chosen = gr.Dropdown(
                [],
                label=words_admin.ADMIN_JOB,
                info=words_admin.ADMIN_JOB_INFO,
                interactive=True,
                elem_id="ls-admin-job",
            )
            with gr.Row(equal_height=True):
                cancel = gr.Button(words_admin.ADMIN_CANCEL, min_width=120)
                retry = gr.Button(words_admin.ADMIN_RETRY, min_width=120)
            pause = gr.Button(words_admin.ADMIN_PAUSE)
            clear = gr.Button(words_admin.ADMIN_CLEAR)
            gr.HTML(parts.hint(words_admin.ADMIN_CLEAR_INFO))
            again = gr.Button(words_admin.ADMIN_LOOK)
            notice = gr.HTML(elem_id="ls-admin-notice", elem_classes="ls-answer")
        with gr.Column(scale=8, min_width=320, elem_classes=["ls-tight", "ls-job"]):
            welcome = parts.empty(words_admin.ADMIN_WELCOME, words_admin.ADMIN_POINTS)
            queue = gr.HTML(welcome, elem_id="ls-admin-queue", elem_classes="ls-status")
            goes_on = gr.HTML(elem_id="ls-admin-activity")
            holdings = gr.HTML(elem_id="ls-admin-holdings")
    guarded = errors_in(notice)

    def look(wanted: str | None) -> Updates:
        seen = session.operation.look()
        choices = [(parts_admin.choice_of(job), job.id) for job in seen.jobs]
        # The value is left alone where it can be: what was chosen since this was asked must not be taken back.
        gone: dict[str, Any] = {"value": None} if wanted and wanted not in {job_id for _, job_id in choices} else {}
        return {
            queue: parts_admin.queue(seen, session.owner),
            goes_on: parts_admin.activity(session.operation.activity()),
            chosen: gr.Dropdown(choices=choices, **gone),
            pause: gr.Button(words_admin.ADMIN_RESUME if seen.paused else words_admin.ADMIN_PAUSE),
            timer: gr.Timer(active=any(job.state not in TERMINAL_STATES for job in seen.jobs)),
        }

    def measured() -> Updates:
        return {holdings: parts_admin.holdings(session.operation.measure())}

    def refresh(wanted: str | None = None) -> Updates:
        return look(wanted) | measured()

    def on_tick() -> Updates:
        """Show the queue again; what was chosen, and what a press was answered, stay as they are."""
        try:
            seen = look(None)
        except StudioError:
            return {timer: gr.Timer(active=False)}
        return {part: seen[part] for part in (queue, goes_on, pause, timer)}

    def steer(handler: Callable[[str], None], says: str) -> Callable[[str | None], Updates]:
        def on_press(job_id: str | None) -> Updates:
            if not job_id:
                raise NotFoundError(words_admin.ADMIN_NO_JOB)
            handler(job_id)
            return {notice: parts.notice(says, tone="good")} | look(job_id)

        return on_press

    def on_cancel(job_id: str) -> None:
        session.operation.cancel(job_id, by=session.owner)

    def on_retry(job_id: str) -> None:
        session.operation.retry(job_id)

    def on_pause(wanted: str | None) -> Updates:
        paused = session.operation.is_paused()
        session.operation.pause(on=not paused)
        says = parts.notice(words_admin.ADMIN_RESUMED if paused else words_admin.ADMIN_PAUSED, tone="good")
        return {notice: says} | look(wanted)

    def on_clear() -> Updates:
        count, size = session.operation.clear_results()
        says = words.counted(words_admin.ADMIN_CLEARED, count, size=bytes_text(size))
        return {notice: parts.notice(says, tone="good")} | measured()

    looked = [queue, goes_on, chosen, pause, timer]
    timer.tick(on_tick, None, [queue, goes_on, pause, timer], **POLLING)
    for button, handler, says in (
        (cancel, on_cancel, words_admin.ADMIN_CANCELLED),
        (retry, on_retry, words_admin.ADMIN_RETRIED),
    ):
        button.click(guarded(steer(handler, says)), chosen, [notice, *looked], **QUIET)
    pause.click(guarded(on_pause), chosen, [notice, *looked], **QUIET)
    clear.click(guarded(on_clear), None, [notice, holdings], **QUIET)
    again.click(guarded(refresh), chosen, [notice, *looked, holdings], **QUIET)
    return AdminTab(faults_in(queue)(refresh), [*looked, holdings])
