"""The Photos tab: drop photos, see a verdict with a cure on each, go on to training."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from studio.core.config import CheckConfig
from studio.core.domain import JobView
from studio.pocket.samples import SAMPLE_CLASS_NOUN, SAMPLE_NAME, sample_photos
from studio.web.page import files, parts, parts_photos, widgets
from studio.web.page.context import POLL_S, POLLING, QUIET, TabContext, Updates, in_view, kindly
from studio.web.page.visitors import upload_folder
from studio.web.session import DONE, can_go_on, is_open

CLASS_NOUNS = ("woman", "man", "girl", "boy", "person", "dog", "cat", "thing")
"""Offered in the form; any other noun may be typed."""

_FIELDS = widgets.describe(CheckConfig, without={"subject", "class_noun", "max_photos"})
_DEFAULTS = widgets.values_of(CheckConfig(), _FIELDS)
_WELCOME = parts.empty(
    "What makes a good set",
    [
        "5 to 20 photos of one person, pet or thing, alone in the picture",
        "sharp, in good light, the face clearly visible",
        "different backgrounds, clothes, angles and expressions",
        "JPEG, PNG, WebP, AVIF or HEIC straight from a phone or camera",
    ],
    lead="Each photo is checked, cropped and freed of all hidden data before anything is learned from it.",
)


@dataclass(frozen=True)
class PhotosTab:
    """Handles for the page."""

    job: gr.State
    forward: gr.Button
    outputs: list[Any]
    show: Callable[[JobView | None], Updates]


def photos_tab(room: TabContext) -> PhotosTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = room.session
    job_id = gr.State("")
    timer = gr.Timer(POLL_S, active=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300, elem_classes="ls-tight"):
            photos = gr.File(
                label="Drop photos here", file_count="multiple", height=190, elem_id="ls-drop", interactive=True
            )
            with gr.Row():
                subject = gr.Textbox(label="Name", placeholder="Ada", max_lines=1, min_width=120)
                class_noun = gr.Dropdown(
                    list(CLASS_NOUNS), value="woman", label="Is a", allow_custom_value=True, min_width=120
                )
            check = gr.Button("Check photos", variant="primary")
            sample = gr.Button("Try it with sample photos")
            with widgets.folded("How strictly to look"):
                form = widgets.build(_FIELDS, _DEFAULTS)
            earlier = gr.Dropdown([], label="Earlier sets", interactive=True, visible=False)
        with gr.Column(scale=8, min_width=320, elem_classes="ls-tight"):
            notice = gr.HTML(elem_id="ls-photos-notice")
            status = gr.HTML(elem_id="ls-photos-status")
            forward = gr.Button("Continue to training", variant="primary", visible=False, elem_classes="ls-go")
            again = gr.Button("Go on with these photos", visible=False, elem_classes="ls-go")
            cancel = gr.Button("Cancel", visible=False, elem_classes="ls-go")
            cards = gr.HTML(_WELCOME, elem_id="ls-photos-cards")

    def show(job: JobView | None) -> Updates:
        done = job if job is not None and job.state == "completed" else None
        choices = session.choices("check", states=DONE, also=done)
        if job is None:
            return {
                timer: gr.Timer(active=False),
                earlier: gr.Dropdown(choices=choices, value=None, visible=bool(choices)),
            }
        history = room.histories.read(job.id)
        link = files.linker(session, job.id)
        verdicts = job.result["verdicts"] if job.result else list(history.verdicts.values())
        return {
            job_id: job.id,
            timer: gr.Timer(active=is_open(job)),
            status: parts_photos.check_summary(job.result) if job.result else parts.progress(job, history),
            cards: parts_photos.verdict_cards(verdicts, link),
            cancel: gr.Button(visible=is_open(job)),
            again: gr.Button(visible=can_go_on(job)),
            forward: gr.Button(visible=bool(job.result and job.result["photos"])),
            earlier: gr.Dropdown(
                choices=choices,
                value=job.id if job.id in dict(choices).values() else None,
                visible=bool(choices),
            ),
        }

    said = kindly(notice, widgets.labels(_FIELDS))
    outputs = [job_id, timer, notice, status, cards, cancel, again, forward, earlier]

    @said
    def on_check(given: dict[Any, Any]) -> Updates:
        paths = files.uploads(given[photos] or [])
        settings = {path: given[component] for path, component in form.items()}
        changes = widgets.collect(_FIELDS, settings, _DEFAULTS)
        about = {"subject": given[subject] or "Subject", "class_noun": given[class_noun] or ""}
        job = session.submit_check(paths, {**changes, **about})
        files.sweep(paths)
        return {**show(job), photos: None}

    @said
    def on_sample() -> Updates:
        mine = upload_folder()
        mine.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=mine))
        drawn = sample_photos(folder)
        return {
            photos: [str(path) for path in drawn],
            subject: SAMPLE_NAME,
            class_noun: SAMPLE_CLASS_NOUN,
            # A face engine made for people says nothing about drawings.
            form["likeness"]: "pocket",
        }

    @said
    def on_poll(current: str) -> Updates:
        return show(session.job(current, "check"))

    @said
    def on_cancel(current: str) -> Updates:
        session.studio.cancel(session.job(current, "check").id, owner=session.owner)
        return show(session.job(current, "check"))

    @said
    def on_again(current: str) -> Updates:
        return show(session.retry(session.job(current, "check").id))

    started = check.click(on_check, {photos, subject, class_noun, *form.values()}, [*outputs, photos], **QUIET)
    started.then(None, js=in_view("ls-photos-status"), api_visibility="private")
    sample.click(on_sample, None, [notice, photos, subject, class_noun, form["likeness"]], **QUIET)
    gr.on([photos.upload, photos.clear], lambda: _DEFAULTS["likeness"], None, form["likeness"], **QUIET)
    timer.tick(on_poll, job_id, outputs, **POLLING)
    cancel.click(on_cancel, job_id, outputs, **QUIET)
    again.click(on_again, job_id, outputs, **QUIET)
    earlier.input(on_poll, earlier, outputs, **QUIET)
    return PhotosTab(job_id, forward, outputs, show)
