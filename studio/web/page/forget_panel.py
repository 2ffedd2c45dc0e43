"""Delete, below all tabs: choose a job, a subject or everything, see what would go, and let it go."""

import math
from collections.abc import Collection
from typing import Any

import gradio as gr

from studio.core.errors import NotFoundError
from studio.core.receipts import Receipt
from studio.web.page import parts, words
from studio.web.page.context import QUIET, TabContext, Updates, errors_in
from studio.web.page.frame import JobTab
from studio.web.page.library_tab import LibraryTab
from studio.web.session import MAX_LISTED, StudioSession, label

_JOB, _SUBJECT, _EVERYTHING = "job", "subject", "everything"


def forget_panel(context: TabContext, tabs: Collection[JobTab], library: LibraryTab) -> None:
    """Build the panel inside the current layout; ``tabs`` and ``library`` stop to show what is deleted."""
    session = context.session
    frames = [tab.frame for tab in tabs]
    opener = gr.Button(words.FORGET_OPEN, size="sm", elem_id="ls-forget-open")
    with gr.Column(visible=False, elem_id="ls-forget") as panel:
        what = gr.Dropdown([], label=words.FORGET_WHAT, info=words.FORGET_INFO, interactive=True)
        told = gr.HTML(elem_id="ls-forget-told")
        with gr.Row():
            keep = gr.Button(words.FORGET_KEEP)
            sure = gr.Button(words.FORGET_SURE, variant="stop", visible=False)
    guarded = errors_in(told)

    def on_open() -> Updates:
        return {panel: gr.Column(visible=True), sure: gr.Button(visible=False)} | _offered(session, what)

    def on_choose(chosen: str | None) -> Updates:
        receipt = _forget(session, chosen, dry_run=True)
        return {told: _said(receipt), sure: gr.Button(visible=bool(receipt.jobs or receipt.files))}

    def on_sure(chosen: str | None, *shown: str) -> Updates:
        receipt = _forget(session, chosen, dry_run=False)
        context.histories.drop(receipt.jobs)
        updates: Updates = {told: _said(receipt), sure: gr.Button(visible=False)} | _offered(session, what)
        for tab, job_id in zip(tabs, shown, strict=True):
            if job_id in receipt.jobs:
                updates |= tab.frame.blank() | tab.frame.show(session.current(tab.frame.kind))
            else:
                updates |= {tab.frame.earlier: tab.frame.show(None)[tab.frame.earlier]}
            updates |= tab.refresh(None)
        return updates | library.refresh("")

    opener.click(guarded(on_open), None, [panel, what, told, sure], **QUIET)
    what.input(guarded(on_choose), what, [told, sure], **QUIET)
    keep.click(lambda: gr.Column(visible=False), None, panel, **QUIET)
    touched = [component for tab in tabs for component in (*tab.frame.outputs, *tab.refreshed)]
    touched += library.outputs
    sure.click(guarded(on_sure), [what, *(frame.job for frame in frames)], [what, told, sure, *touched], **QUIET)


def _offered(session: StudioSession, what: gr.Dropdown) -> Updates:
    """Return the update that offers what there is now: subjects, everything, then each job."""
    jobs = session.studio.list(owner=session.owner, limit=MAX_LISTED)
    subjects = sorted({job.facts.subject for job in jobs if job.facts.subject})
    choices = [(words.FORGET_SUBJECT.format(subject=name), f"{_SUBJECT}:{name}") for name in subjects]
    choices.append((words.FORGET_EVERYTHING, f"{_EVERYTHING}:"))
    choices += [(words.FORGET_JOB[job.kind].format(job=label(job)), f"{_JOB}:{job.id}") for job in jobs]
    days = session.studio.retention(owner=session.owner).days
    kept = f" {words.counted(words.FORGET_KEPT, math.ceil(days))}" if days is not None else ""
    return {what: gr.Dropdown(choices=choices, value=None, info=words.FORGET_INFO + kept)}


def _forget(session: StudioSession, chosen: str | None, *, dry_run: bool) -> Receipt:
    kind, _, name = (chosen or "").partition(":")
    if not kind:
        raise NotFoundError(words.FORGET_NOTHING)
    given: dict[str, Any] = {_EVERYTHING: True} if kind == _EVERYTHING else {kind: name}
    return session.forget(**given, dry_run=dry_run)


def _said(receipt: Receipt) -> str:
    title, *lines = receipt.words().splitlines()
    return parts.notice(title, lines, tone="fair" if receipt.dry_run or receipt.waits_for else "good")
