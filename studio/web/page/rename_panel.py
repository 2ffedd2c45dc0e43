"""Rename, in the Library tab: the chosen subject, or one of its photo sets."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.errors import NotFoundError
from studio.web.page import parts, widgets, words
from studio.web.page.context import QUIET, TabContext, Updates, errors_in
from studio.web.page.frame import JobTab
from studio.web.session import StudioSession, label
from studio.web.shelf import Shelf

_SUBJECT, _SET = "subject", "set"


@dataclass(frozen=True)
class RenamePanel:
    """The fields, below what there is of the chosen subject."""

    what: gr.Dropdown
    name: gr.Textbox
    sure: gr.Button
    told: gr.HTML
    place: gr.Column

    @property
    def outputs(self) -> list[Any]:
        """What ``offer`` and ``hide`` update."""
        return [self.what, self.name, self.place]

    def offer(self, shelf: Shelf, *, anew: bool) -> Updates:
        """Return the updates that offer a subject and its photo sets.

        Args:
            shelf: the subject.
            anew: also choose the subject; otherwise what somebody is about to rename stays chosen.
        """
        first = f"{_SUBJECT}:{shelf.subject}"
        sets = [(words.RENAME_SET.format(job=label(job)), f"{_SET}:{job.id}") for job in shelf.jobs["check"]]
        choices = [(words.RENAME_SUBJECT.format(subject=shelf.subject), first), *sets]
        if not anew:
            return {self.what: gr.Dropdown(choices=choices), self.place: gr.Column(visible=True)}
        what = gr.Dropdown(choices=choices, value=first)
        return {self.what: what, self.name: shelf.subject, self.place: gr.Column(visible=True)}

    def hide(self) -> Updates:
        """Return the updates for a library without anybody in it."""
        return {self.what: gr.Dropdown(choices=[], value=None), self.place: gr.Column(visible=False)}


def rename_panel() -> RenamePanel:
    """Build the panel inside the current layout; ``connect_renaming`` makes it work."""
    with gr.Column(visible=False, elem_id="ls-rename") as place, widgets.folded(words.RENAME_OPEN):
        what = gr.Dropdown([], label=words.RENAME_WHAT, interactive=True)
        name = gr.Textbox(label=words.RENAME_NAME, max_lines=1)
        sure = gr.Button(words.RENAME_SURE, elem_classes="ls-go")
        told = gr.HTML(elem_id="ls-rename-told", elem_classes="ls-answer")
    return RenamePanel(what, name, sure, told, place)


def connect_renaming(context: TabContext, panel: RenamePanel, tabs: Collection[JobTab], library: Any) -> None:
    """Let the panel rename; ``tabs`` and ``library`` show what they show under the new name."""
    session = context.session
    frames = [tab.frame for tab in tabs]

    def on_choose(chosen: str | None) -> Updates:
        kind, _, which = (chosen or "").partition(":")
        if kind != _SET:
            return {panel.name: which}
        return {panel.name: session.job(which, "check").facts.name or ""}

    def on_sure(chosen: str | None, name: str | None, *shown: str) -> Updates:
        subject, said = _rename(session, chosen, name or "")
        updates: Updates = {panel.told: said}
        for frame, job_id in zip(frames, shown, strict=True):
            updates |= frame.show(session.studio.get(job_id, owner=session.owner) if job_id else None)
        return updates | library.refresh(subject, anew=True)

    guarded = errors_in(panel.told, {"name": words.RENAME_NAME})
    panel.what.input(guarded(on_choose), panel.what, [panel.told, panel.name], **QUIET)
    touched = [component for frame in frames for component in frame.outputs]
    panel.sure.click(
        guarded(on_sure),
        [panel.what, panel.name, *(frame.job for frame in frames)],
        [panel.told, *library.outputs, *touched],
        **QUIET,
    )


def _rename(session: StudioSession, chosen: str | None, name: str) -> tuple[str, str]:
    """Rename what is chosen; return the subject's name then, and what to say."""
    kind, _, which = (chosen or "").partition(":")
    if kind == _SUBJECT:
        first, *_ = session.rename(name, subject=which)
        subject = session.studio.get(first, owner=session.owner).facts.subject or ""
        title = words.RENAMED.format(before=which, name=subject)
        return subject, parts.notice(title, [words.RENAMED_STAYS], tone="good")
    if kind != _SET:
        raise NotFoundError(words.RENAME_NOTHING)
    session.rename(name, check_job=which)
    facts = session.job(which, "check").facts
    said = words.RENAMED_SET.format(name=facts.name) if facts.name else words.RENAMED_SET_PLAIN
    return facts.subject or "", parts.notice(said, tone="good")
