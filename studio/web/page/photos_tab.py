"""The Photos tab: drop photos, see a verdict with a cure on each, continue to training."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr

from studio.core import machine
from studio.core.config import CheckConfig
from studio.core.domain import JobView
from studio.pocket.samples import SAMPLE_CLASS_NOUN, SAMPLE_NAME, sample_photos
from studio.web.page import files, parts, parts_photos, parts_reach, widgets, words
from studio.web.page.context import QUIET, TabContext, Updates
from studio.web.page.frame import JobTab, form_column, job_column, job_frame
from studio.web.page.history import JobHistory
from studio.web.page.visitors import upload_folder
from studio.web.session import DONE

_FIELDS = widgets.describe(CheckConfig, without={"subject", "class_noun", "max_photos"})
_DEFAULTS = widgets.values_of(CheckConfig(), _FIELDS)


def photos_tab(context: TabContext) -> JobTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    here = machine.look(session.settings.device)
    frame = job_frame(
        context,
        "check",
        "photos",
        earlier=words.PHOTOS_EARLIER,
        forward=words.PHOTOS_FORWARD,
        retry=words.PHOTOS_RETRY,
        earlier_states=DONE,
        labels=widgets.labels(_FIELDS),
    )
    with gr.Row(equal_height=False):
        with form_column():
            photos = gr.File(
                label=words.PHOTOS_DROP, file_count="multiple", height=190, elem_id="ls-drop", interactive=True
            )
            with gr.Row():
                subject = gr.Textbox(label=words.PHOTOS_NAME, placeholder=SAMPLE_NAME, max_lines=1, min_width=120)
                class_noun = gr.Dropdown(
                    list(words.CLASS_NOUNS),
                    value=None,
                    label=words.PHOTOS_CLASS_NOUN,
                    info=words.PHOTOS_CLASS_NOUN_INFO,
                    allow_custom_value=True,
                    min_width=120,
                )
            check = gr.Button(words.PHOTOS_START, variant="primary")
            sample = gr.Button(words.PHOTOS_SAMPLE)
            with widgets.folded(words.PHOTOS_SETTINGS):
                form = widgets.build(_FIELDS, _DEFAULTS)
            frame.earlier.render()
        with job_column(frame):
            welcome = parts.empty(words.PHOTOS_WELCOME, words.PHOTOS_POINTS, lead=words.PHOTOS_LEAD)
            cards = gr.HTML(welcome, elem_id="ls-photos-cards")

    def details(job: JobView, history: JobHistory, seen: str) -> Updates:
        verdicts = job.result["verdicts"] if job.result else list(history.verdicts.values())
        return {
            frame.status: parts_photos.check_summary(job.result, history.warnings)
            + parts_reach.real_photos(job.result, here)
            if job.result
            else parts.progress(job, history),
            cards: parts_photos.verdict_cards(verdicts, files.linker(session, job.id)),
            frame.forward: gr.Button(visible=bool(job.result and job.result["photos"])),
        }

    def on_check(given: dict[Any, Any]) -> Updates:
        paths = files.uploads(given[photos] or [])
        changes = widgets.collect(_FIELDS, widgets.given_values(form, given), _DEFAULTS)
        changes["subject"] = given[subject] or words.UNNAMED_SUBJECT
        changes["class_noun"] = given[class_noun] or ""
        job = session.submit_check(paths, changes)
        files.delete(paths)
        return {**frame.show(job), photos: None}

    def on_sample() -> Updates:
        uploads = upload_folder()
        uploads.mkdir(parents=True, exist_ok=True)
        drawn = sample_photos(Path(tempfile.mkdtemp(dir=uploads)))
        return {
            photos: [str(path) for path in drawn],
            subject: SAMPLE_NAME,
            class_noun: SAMPLE_CLASS_NOUN,
            # An engine made for photographed faces finds none in drawings.
            form["likeness"]: "pocket",
        }

    frame.connect(details, [cards])
    frame.starts(check, on_check, {photos, subject, class_noun, *form.values()}, [photos])
    outputs = [frame.notice, photos, subject, class_noun, form["likeness"]]
    sample.click(frame.guarded(on_sample), None, outputs, **QUIET)
    gr.on([photos.upload, photos.clear], lambda: _DEFAULTS["likeness"], None, form["likeness"], **QUIET)
    return JobTab(frame)
