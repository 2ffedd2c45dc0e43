"""The frame that all tabs share: a form on the left, on the right the job that it starts.

A tab adds its own form and results. The frame polls the job, cancels it, continues it, opens earlier ones, and shows
errors. The order of calls in a tab: ``job_frame``, the layout, ``connect``.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from studio.core.domain import JobKind, JobView
from studio.core.errors import NotFoundError
from studio.web.page import parts, parts_admin, words
from studio.web.page.context import POLL_S, POLLING, QUIET, TabContext, Updates, errors_in, faults_in
from studio.web.page.history import JobHistories, JobHistory
from studio.web.session import StudioSession, can_continue, is_open

Details = Callable[[JobView, JobHistory, str], Updates]
"""Takes a job, what has happened in it, and what is shown of it already; returns the tab's own updates."""


def is_completed(job: JobView) -> bool:
    """Tell whether the job is done and has a result."""
    return job.state == "completed"


@dataclass
class JobFrame:
    """The components that every tab has, and what is done with them."""

    session: StudioSession
    histories: JobHistories
    kind: JobKind
    name: str
    """Name of the tab in element ids."""
    job: gr.State
    """Id of the job that is shown."""
    shown: gr.State
    """What is shown of it, in a form that only the tab understands."""
    timer: gr.Timer
    notice: gr.HTML
    status: gr.HTML
    cancel: gr.Button
    earlier: gr.Dropdown
    retry: gr.Button
    """Continues a job that stopped."""
    forward: gr.Button | None
    """Leads to the next tab."""
    earlier_states: Collection[str]
    """States of the jobs that ``earlier`` lists; empty lists all."""
    labels: Mapping[str, str]
    """What the form calls a setting, for errors."""
    fields: dict[str, str] = field(default_factory=dict)
    """Element id of a setting's field, for errors beside it."""
    outputs: list[Any] = field(default_factory=list)
    """Every component that ``show`` may update."""
    details: Details = field(default=lambda job, history, seen: {})

    def place_answer(self) -> None:
        """Lay out where a press is answered that starts nothing: below the button, in the current layout."""
        self.notice.render()

    def place_status(self) -> None:
        """Lay out what says how the job stands, in the current layout."""
        if not self.notice.is_rendered:
            self.notice.render()
        self.status.render()
        for button in (self.forward, self.retry, self.cancel):
            if button is not None:
                button.render()

    def asks(self, fields: Mapping[str, gr.components.Component]) -> None:
        """Name the fields of the form by setting: what is wrong with one is said beside it."""
        for setting, component in fields.items():
            component.elem_id = component.elem_id or f"ls-{self.name}-{setting.replace('.', '-')}"
            self.fields[setting] = component.elem_id

    def guarded(self, handler: Callable[..., Updates]) -> Callable[..., Updates]:
        """Decorate the handler of a press: a StudioError is shown in the tab's notice."""
        return errors_in(self.notice, self.labels, self.fields)(handler)

    def watched(self, handler: Callable[..., Updates]) -> Callable[..., Updates]:
        """Decorate what runs by itself: a StudioError is shown as how the job stands, and no answer is touched."""
        return faults_in(self.status)(handler)

    def connect(self, details: Details, results: Sequence[Any]) -> None:
        """Attach the frame's own events.

        Args:
            details: the tab's updates for a job; they win over the frame's.
            results: the tab's components that these update.
        """
        self.details = details
        buttons = [self.cancel, self.retry, *([] if self.forward is None else [self.forward])]
        self.outputs = [self.job, self.shown, self.timer, self.notice, self.status, *buttons, self.earlier, *results]
        looked = [component for component in self.outputs if component is not self.notice]
        self.timer.tick(self.watched(self._tick), [self.job, self.shown], looked, **POLLING)
        self.cancel.click(self.guarded(self._cancel), [self.job, self.shown], self.outputs, **QUIET)
        self.earlier.input(self.guarded(self._poll), self.earlier, self.outputs, **QUIET)
        self.retry.click(self.guarded(self._retry), self.job, self.outputs, **QUIET)

    def starts(
        self,
        button: gr.Button,
        handler: Callable[[dict[Any, Any]], Updates],
        inputs: Collection[Any],
        emptied: Collection[Any] = (),
    ) -> None:
        """Let a button submit a job.

        Args:
            button: the button.
            handler: takes the form's values by component.
            inputs: the form's components.
            emptied: those of them that the handler may empty.
        """
        button.click(self.guarded(handler), set(inputs), [*self.outputs, *emptied], **QUIET)

    def show(self, job: JobView | None, seen: str = "") -> Updates:
        """Return the updates that show a job, or that there is none."""
        listed = job if job and (not self.earlier_states or job.state in self.earlier_states) else None
        jobs = self.session.choices(self.kind, states=self.earlier_states, also=listed)
        earlier = gr.Dropdown(choices=jobs, value=listed.id if listed else None, visible=bool(jobs))
        if job is None:
            return {self.timer: gr.Timer(active=False), self.earlier: earlier}
        updates: Updates = {
            self.job: job.id,
            self.timer: gr.Timer(active=is_open(job)),
            self.cancel: gr.Button(visible=is_open(job)),
            self.retry: gr.Button(visible=can_continue(job)),
            self.earlier: earlier,
        }
        updates |= self.details(job, self.histories.read(job.id), seen)
        if self.status in updates:
            if job.place is not None and self.session.studio.operation.is_paused():
                updates[self.status] = parts_admin.waits_paused() + updates[self.status]
            updates[self.status] = parts.of_job(job, updates[self.status])
        return updates

    def show_of(self, source: str | None) -> Updates:
        """Return the updates that show the newest job on the output of ``source``, or that there is none.

        What was made of one subject must not stand beside another one.
        """
        job = next(iter(self.session.jobs(self.kind, source=source, limit=1)), None) if source else None
        return self.show(job) if job else self.blank() | self.show(None)

    def blank(self) -> Updates:
        """Return the updates that put the job's column back to how it looks before there is a job."""
        updates: Updates = {self.job: "", self.shown: ""}
        for component in self.outputs:
            if isinstance(component, gr.HTML):
                updates[component] = gr.HTML(value=component.value, visible=component.visible)
            elif isinstance(component, gr.Button | gr.Column):
                updates[component] = type(component)(visible=component.visible)
            elif not isinstance(component, gr.State | gr.Timer | gr.Dropdown):
                updates[component] = type(component)(value=None, visible=component.visible)
        return updates

    def _tick(self, job_id: str, seen: str = "") -> Updates:
        try:
            return self._poll(job_id, seen)
        except NotFoundError as gone:  # deleted in another window: nobody will find it at the next look either
            return {self.timer: gr.Timer(active=False), self.status: parts.error(gone)}

    def _poll(self, job_id: str, seen: str = "") -> Updates:
        return self.show(self.session.job(job_id, self.kind), seen)

    def _cancel(self, job_id: str, seen: str) -> Updates:
        self.session.studio.cancel(self.session.job(job_id, self.kind).id, owner=self.session.owner)
        return self._poll(job_id, seen)

    def _retry(self, job_id: str) -> Updates:
        return self.show(self.session.retry(self.session.job(job_id, self.kind).id))


@dataclass(frozen=True)
class JobTab:
    """A tab as the page sees it."""

    frame: JobFrame
    source: gr.Dropdown | None = None
    """Where the form chooses the job to work on; None where it takes uploads."""
    refresh: Callable[..., Updates] = field(default=lambda wanted: {})
    """Takes the job to choose and, where somebody comes back to the tab, what ``kept`` holds; returns updates of
    ``refreshed`` with the jobs that there are now."""
    refreshed: Sequence[Any] = ()
    take: Callable[[JobView], tuple[str | None, Updates]] | None = None
    """Takes a job whose output another tab hands over; returns what the form works on then, and the updates of
    ``refreshed`` that choose it. None where nothing is handed over."""
    onward: Mapping[JobKind, gr.Button] = field(default_factory=dict)
    """Buttons that hand what is shown over to other tabs, by their kind."""
    whole_way: gr.Button | None = None
    """Orders all that follows in one press."""
    kept: Sequence[gr.components.Component] = ()
    """What else is chosen in the form and depends on the jobs that there are."""


def job_frame(
    context: TabContext,
    kind: JobKind,
    name: str,
    *,
    earlier: str,
    retry: str,
    welcome: str | None = None,
    forward: str = "",
    earlier_states: Collection[str] = (),
    labels: Mapping[str, str] | None = None,
) -> JobFrame:
    """Make the components that every tab has; only the state and the timer are in the layout yet.

    Args:
        context: what a tab is built from.
        kind: kind of the tab's jobs.
        name: name of the tab in element ids, for example ``train`` for ``ls-train-status``.
        earlier: label of the list of earlier jobs.
        retry: label of the button that continues a stopped job.
        welcome: HTML that shows before there is a job; None leaves that to the tab.
        forward: label of the button to the next tab; empty makes none.
        earlier_states: states of the jobs in the list of earlier ones; empty lists all.
        labels: what the form calls a setting, for errors.
    """

    def button(text: str, variant: Any = "secondary") -> gr.Button:
        return gr.Button(text, variant=variant, visible=False, elem_classes="ls-go", render=False)

    return JobFrame(
        context.session,
        context.histories,
        kind,
        name,
        job=gr.State(""),
        shown=gr.State(""),
        timer=gr.Timer(POLL_S, active=False),
        notice=gr.HTML(elem_id=f"ls-{name}-notice", elem_classes="ls-answer", render=False),
        status=gr.HTML(welcome, elem_id=f"ls-{name}-status", elem_classes="ls-status", render=False),
        cancel=button(words.CANCEL),
        earlier=gr.Dropdown([], label=earlier, interactive=True, visible=False, render=False),
        retry=button(retry),
        forward=button(forward, "primary") if forward else None,
        earlier_states=earlier_states,
        labels=labels or {},
    )


def onward_button(text: str) -> gr.Button:
    """Return a button that hands what is shown over to another tab, hidden until there is something."""
    return gr.Button(text, visible=False, elem_classes="ls-go", min_width=150)


@contextmanager
def form_column() -> Iterator[None]:
    """Lay out the form, on the left."""
    with gr.Column(scale=4, min_width=300, elem_classes=["ls-tight", "ls-form"]):
        yield


@contextmanager
def job_column(frame: JobFrame) -> Iterator[None]:
    """Lay out the job, on the right: how it stands, below that the tab's results."""
    with gr.Column(scale=8, min_width=320, elem_classes=["ls-tight", "ls-job"]):
        frame.place_status()
        yield


def picture_gallery(elem_id: str, columns: int = 4) -> gr.Gallery:
    """Return a gallery of a few pictures, hidden until there are some.

    Args:
        elem_id: element id.
        columns: pictures in a row.
    """
    return gr.Gallery(
        show_label=False,
        columns=columns,
        height="auto",
        object_fit="contain",
        interactive=False,
        visible=False,
        elem_id=elem_id,
        elem_classes="ls-plain",
        buttons=[],
    )


def progress_or(job: JobView, history: JobHistory, finished: Callable[[], str]) -> str:
    """Return the status of a job: what it has made once it is completed, before that its progress and warnings."""
    return finished() if is_completed(job) else parts.progress(job, history) + parts.warnings(history)


def chosen_among(choices: Sequence[tuple[str, str]], wanted: str | None) -> str | None:
    """Return the wanted choice; if it is not among them the first one, or None if there are none."""
    values = [value for _, value in choices]
    return wanted if wanted in values else next(iter(values), None)
