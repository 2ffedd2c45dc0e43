"""The Photos tab: drop photos, see a verdict with a cure on each, edit the set, continue to training."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from studio.core import language, machine
from studio.core.config import CheckConfig
from studio.core.domain import JobView
from studio.core.errors import StudioError
from studio.pocket.samples import SAMPLE_CLASS_NOUN, SAMPLE_NAME, sample_photos
from studio.web.page import files, parts, parts_photos, parts_reach, widgets, words
from studio.web.page.context import QUIET, TabContext, Updates
from studio.web.page.frame import JobFrame, JobTab, form_column, job_column, job_frame, onward_button
from studio.web.page.history import JobHistories, JobHistory
from studio.web.page.photo_editor import PhotoEditor, photo_editor
from studio.web.page.photo_edits import OPEN, Edits
from studio.web.page.visitors import upload_folder
from studio.web.session import DONE, StudioSession, can_continue, is_open

_ELSEWHERE = {"subject", "class_noun", "consent", "max_photos"}
_FIELDS = widgets.describe(CheckConfig, without=_ELSEWHERE)
_DEFAULTS = widgets.values_of(CheckConfig(), _FIELDS)


def _labels() -> dict[str, str]:
    """Return what the form calls its settings."""
    return {
        "subject": words.PHOTOS_NAME,
        "class_noun": words.PHOTOS_CLASS_NOUN,
        "consent": words.PHOTOS_CONSENT,
        "photos": words.TAB_PHOTOS,
    }


_CLASS_NOUNS = ("woman", "man", "girl", "boy", "person", "dog", "cat", "thing")
"""Offered in the form; any other noun may be typed. They go into prompts, so their values stay English."""
_PRESSES = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-do]');
    if (button) trigger('click', {action: button.dataset.do, photo: button.dataset.photo});
});
"""
"""Tells which button of which photo's card was pressed."""


@dataclass(frozen=True)
class _About:
    """What a photo set is about: fields that stand in two forms."""

    subject: gr.Textbox
    class_noun: gr.Dropdown
    consent: gr.Checkbox

    def fields(self) -> set[Any]:
        return {self.subject, self.class_noun, self.consent}

    def given(self, given: Mapping[Any, Any]) -> dict[str, Any]:
        """Return what was filled in."""
        texts = {"subject": given[self.subject] or "", "class_noun": given[self.class_noun] or ""}
        return {name: text for name, text in texts.items() if text} | {"consent": bool(given[self.consent])}


def _about(**info: str) -> _About:
    with gr.Row():
        subject = gr.Textbox(
            label=words.PHOTOS_NAME, placeholder=SAMPLE_NAME, info=info.get("name"), max_lines=1, min_width=120
        )
        class_noun = gr.Dropdown(
            [(language.say(noun), noun) for noun in _CLASS_NOUNS],
            value=None,
            label=words.PHOTOS_CLASS_NOUN,
            info=words.PHOTOS_CLASS_NOUN_INFO,
            allow_custom_value=True,
            min_width=120,
        )
    consent = gr.Checkbox(label=words.PHOTOS_CONSENT, info=words.PHOTOS_CONSENT_INFO)
    return _About(subject, class_noun, consent)


def photos_tab(context: TabContext) -> JobTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    frame = job_frame(
        context,
        "check",
        "photos",
        earlier=words.PHOTOS_EARLIER,
        forward=words.PHOTOS_FORWARD,
        retry=words.PHOTOS_RETRY,
        earlier_states=DONE,
        labels={**widgets.labels(_FIELDS), **_labels()},
    )
    with gr.Row(equal_height=False):
        with form_column():
            photos = gr.File(
                label=words.PHOTOS_DROP, file_count="multiple", height=190, elem_id="ls-drop", interactive=True
            )
            about = _about()
            check = gr.Button(words.PHOTOS_START, variant="primary")
            add = gr.Button(words.PHOTOS_ADD, visible=False, elem_id="ls-photos-add")
            sample = gr.Button(words.PHOTOS_SAMPLE)
            with widgets.folded(words.PHOTOS_SETTINGS):
                form = widgets.build(_FIELDS, _DEFAULTS)
            frame.earlier.render()
        with job_column(frame):
            whole_way = onward_button(words.PHOTOS_WHOLE_WAY)
            editor = photo_editor(session)
            recheck = gr.Button(words.SET_RECHECK[0], visible=False, elem_classes="ls-go", elem_id="ls-recheck")
            with gr.Column(visible=False, elem_id="ls-change-set") as change, widgets.folded(words.SET_CHANGE):
                renamed = _about(name=words.SET_NAME_INFO)
            welcome = parts.empty(words.PHOTOS_WELCOME, words.PHOTOS_POINTS, lead=words.PHOTOS_LEAD)
            cards = gr.HTML(welcome, elem_id="ls-photos-cards", js_on_load=_PRESSES)
    tab = _PhotosTab(
        session,
        context.histories,
        frame,
        whole_way,
        photos,
        about,
        form,
        add,
        editor,
        recheck,
        change,
        renamed,
        cards,
        gr.State({}),
    )
    frame.connect(tab.details, [*tab.editing, *renamed.fields(), add, whole_way])
    frame.starts(check, tab.on_check, {photos, *about.fields(), *form.values()}, [photos])
    frame.starts(sample, tab.on_sample, {frame.job})
    frame.starts(recheck, tab.on_recheck, {frame.job, tab.edits, *renamed.fields()})
    frame.starts(add, tab.on_add, {frame.job, tab.edits, photos}, [photos])
    cards.click(frame.guarded(tab.on_card), [frame.job, tab.edits], [frame.notice, *tab.editing], **QUIET)
    inputs = {frame.job, tab.edits, *editor.fields()}
    for button, handler in ((editor.keep, tab.on_edited), (editor.automatic, editor.without_crop(tab.on_edited))):
        button.click(frame.guarded(handler), inputs, [frame.notice, *tab.editing], **QUIET)
    outputs = [frame.notice, cards, add, recheck, change, *editor.outputs]
    dropped = [photos.upload, photos.delete, photos.clear]
    gr.on(dropped, frame.guarded(tab.on_drop), [photos, frame.job], outputs, **QUIET)
    return JobTab(frame, whole_way=whole_way)


@dataclass(frozen=True)
class _PhotosTab:
    """The tab's components and what happens with them."""

    session: StudioSession
    histories: JobHistories
    frame: JobFrame
    whole_way: gr.Button
    photos: gr.File
    about: _About
    """What a new set is about."""
    form: Mapping[str, Any]
    add: gr.Button
    editor: PhotoEditor
    recheck: gr.Button
    change: gr.Column
    renamed: _About
    """What the set that is shown is about."""
    cards: gr.HTML
    edits: gr.State

    @property
    def editing(self) -> list[Any]:
        """Components that a change of the shown set may update."""
        return [self.edits, self.cards, self.recheck, self.change, *self.editor.outputs]

    def details(self, job: JobView, history: JobHistory, seen: str) -> Updates:
        known = editable(self.session, job)
        can_edit = known is not None
        if job.result:
            here = machine.look(self.session.settings.device)
            status = parts_photos.check_summary(job.result, history.warnings)
            status += parts_reach.real_photos(job.result, here)
        elif can_edit and job.problems:
            status = parts_photos.nothing_usable(job.problems, history.verdicts)
        else:
            status = parts.progress(job, history)
        updates: Updates = {
            self.frame.status: status,
            # What cannot be used does not become better by looking at it again.
            self.frame.retry: gr.Button(visible=can_continue(job) and not can_edit),
            self.frame.forward: gr.Button(visible=bool(job.result and job.result["photos"])),
            self.whole_way: gr.Button(visible=bool(job.result and job.result["photos"])),
            **self._shown(job, Edits(), can_edit),
            **self.editor.closed(),
            self.edits: {},
        }
        if seen != f"{job.id} {can_edit}":
            known = known or CheckConfig()
            updates |= {
                self.frame.shown: f"{job.id} {can_edit}",
                self.renamed.subject: known.subject,
                self.renamed.class_noun: known.class_noun or None,
                self.renamed.consent: known.consent,
                self.add: gr.Button(visible=False),
            }
        return updates

    def _shown(self, job: JobView, changes: Edits, can_edit: bool) -> Updates:
        plain, *several = words.SET_RECHECK
        label = words.counted((several[0], several[1]), len(changes)) if len(changes) else plain
        url = files.linker(self.session, job.id)
        verdicts = self._verdicts(job)
        return {
            self.cards: parts_photos.verdict_cards(verdicts, url, changes if can_edit else None),
            self.recheck: gr.Button(label, visible=can_edit, variant="primary" if len(changes) else "secondary"),
            self.change: gr.Column(visible=can_edit),
        }

    def on_card(self, job_id: str, state: dict[str, Any], event: gr.EventData) -> Updates:
        job, changes = self.session.job(job_id, "check"), Edits.of(state)
        action, name = str(event.action), str(event.photo)
        verdict = next((row for row in self._verdicts(job) if row["name"] == name), None)
        if verdict is None:
            return {}
        if action == OPEN:
            return self.editor.opened(job, verdict, changes)
        changes.pressed(action, name)
        return {self.edits: changes.state(), **self._shown(job, changes, True), **self.editor.closed()}

    def on_edited(self, given: dict[Any, Any]) -> Updates:
        job, changes = self.session.job(given[self.frame.job], "check"), Edits.of(given[self.edits])
        self.editor.note(given, changes)
        return {self.edits: changes.state(), **self._shown(job, changes, True), **self.editor.closed()}

    def on_recheck(self, given: dict[Any, Any]) -> Updates:
        job = self.session.job(given[self.frame.job], "check")
        changed = self._changed(job, given) | self.renamed.given(given)
        return self.frame.show(self.session.submit_check([], changed, edits=job.id))

    def on_add(self, given: dict[Any, Any]) -> Updates:
        paths = files.uploads(given[self.photos] or [])
        job = self.session.job(given[self.frame.job], "check")
        added = self.session.submit_check(paths, self._changed(job, given), edits=job.id)
        files.delete(paths)
        return {**self.frame.show(added), self.photos: None}

    def on_check(self, given: dict[Any, Any]) -> Updates:
        paths = files.uploads(given[self.photos] or [])
        changes = widgets.collect(_FIELDS, widgets.given_values(self.form, given), _DEFAULTS)
        asked = {"subject": words.UNNAMED_SUBJECT, **changes, **self.about.given(given)}
        job = self.session.submit_check(paths, asked)
        files.delete(paths)
        return {**self.frame.show(job), self.photos: None}

    def on_sample(self, given: dict[Any, Any]) -> Updates:
        uploads = upload_folder()
        uploads.mkdir(parents=True, exist_ok=True)
        drawn = sample_photos(Path(tempfile.mkdtemp(dir=uploads)))
        # An engine made for photographed faces finds none in drawings.
        asked = {"subject": SAMPLE_NAME, "class_noun": SAMPLE_CLASS_NOUN, "likeness": "pocket"}
        job = self.session.submit_check(drawn, asked)
        files.delete(drawn)
        return self.frame.show(job)

    def on_drop(self, given: list[str] | None, job_id: str) -> Updates:
        paths = files.uploads(given or [])
        job = self.session.job(job_id, "check") if job_id else None
        if not paths:
            again = {} if job is None else self._shown(job, Edits(), editable(self.session, job) is not None)
            return {**again, self.add: gr.Button(visible=False)}
        dropped = [(path.name, files.thumbnail(path)) for path in paths if path.suffix.lower() != ".txt"]
        return {
            self.cards: parts_photos.new_cards(dropped),
            self.add: gr.Button(visible=job is not None and editable(self.session, job) is not None),
            self.recheck: gr.Button(visible=False),
            self.change: gr.Column(visible=False),
            **self.editor.closed(),
        }

    def _changed(self, job: JobView, given: dict[Any, Any]) -> dict[str, Any]:
        """Return the settings that the waiting edits change."""
        before = self.session.studio.check_settings(job.id, owner=self.session.owner)
        return Edits.of(given[self.edits]).settings(before.model_dump(mode="json"))

    def _verdicts(self, job: JobView) -> list[Mapping[str, Any]]:
        return list(job.result["verdicts"] if job.result else self.histories.read(job.id).verdicts.values())


def editable(session: StudioSession, job: JobView) -> CheckConfig | None:
    """Return the settings of a check that has ended and kept its photos, to edit its set with; None for any other."""
    if is_open(job) or session.out_file(job.id, "dataset.json") is None:
        return None
    try:
        return session.studio.check_settings(job.id, owner=session.owner)
    except StudioError:  # a set of an earlier version keeps no photos
        return None
