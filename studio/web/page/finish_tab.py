"""The Finish tab: a chain of steps over generated or own pictures, a before-and-after slider, a zip to download."""

from typing import Any

import gradio as gr

from studio.core.domain import JobView
from studio.core.errors import InputError, Problem
from studio.web.hearts import hearted
from studio.web.page import files, parts, parts_pictures, words
from studio.web.page.context import QUIET, TabContext, Updates
from studio.web.page.finish_form import finish_form
from studio.web.page.frame import (
    JobTab,
    chosen_among,
    form_column,
    is_completed,
    job_column,
    job_frame,
    progress_or,
)
from studio.web.page.history import JobHistory
from studio.web.session import USABLE_STATES

_PRESSES = """
element.addEventListener('click', (event) => {
    const button = event.target.closest('[data-choose]');
    if (button) trigger('click', {index: Number(button.dataset.choose)});
});
"""
"""Tells which picture was pressed."""


def finish_tab(context: TabContext) -> JobTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    chains = {chain.name: chain for chain in session.chains()}
    welcome = parts.empty(words.FINISH_WELCOME, words.FINISH_POINTS)
    frame = job_frame(
        context,
        "finish",
        "finish",
        earlier=words.EARLIER,
        retry=words.FINISH_RETRY,
        welcome=welcome,
        labels={"pictures": words.FINISH_PICTURES},
    )
    with gr.Row(equal_height=False):
        with form_column():
            form = finish_form(chains)
            given_files = gr.State([])
            start = gr.Button(words.FINISH_START, variant="primary")
            frame.place_answer()
            frame.asks({"pictures": form.own, "changes": form.changes, "chain": form.chain})
            frame.earlier.render()
        with job_column(frame):
            slider = gr.ImageSlider(
                label=words.FINISH_SLIDER,
                type="filepath",
                image_mode=None,
                interactive=False,
                visible=False,
                max_height=560,
                buttons=["fullscreen"],
                elem_id="ls-finish-slider",
                elem_classes="ls-chosen",
            )
            gallery = gr.HTML(elem_id="ls-finished", elem_classes="ls-chooser", js_on_load=_PRESSES)

    def pictures_of(job: JobView, history: JobHistory) -> list[Any]:
        return list((job.result or {}).get("pictures", ())) or list(history.images.values())

    def before_and_after(job: JobView, picture: Any) -> Updates:
        paths = [session.out_file(job.id, picture[which]) for which in ("before", "after")]
        pair = tuple(files.served_copy(path) for path in paths if path is not None)
        return {slider: gr.ImageSlider(value=pair, visible=True) if len(pair) == 2 else gr.skip()}

    def details(job: JobView, history: JobHistory, seen: str) -> Updates:
        pictures = pictures_of(job, history)
        link = files.linker(session, job.id)
        status = progress_or(job, history, lambda: parts_pictures.finish_result(job, link))
        updates: Updates = {frame.status: status}
        now = f"{job.id}:{is_completed(job)}:{len(pictures)}"
        if now != seen:
            links = [(link(row["after"]), parts_pictures.finished_caption(row)) for row in pictures]
            grid = parts_pictures.picture_grid([(address or "", caption) for address, caption in links], choosing=True)
            updates |= {frame.shown: now, gallery: grid}
            updates |= before_and_after(job, pictures[0]) if pictures else {slider: gr.ImageSlider(visible=False)}
        return updates

    def refresh(wanted: str | None) -> Updates:
        choices = session.choices("generate", states=USABLE_STATES)
        value = chosen_among(choices, wanted)
        return {form.made: gr.Dropdown(choices=choices, value=value), **on_made(value)}

    def on_made(job_id: str | None) -> Updates:
        has_hearts = bool(job_id and hearted(session.job(job_id, "generate")))
        return {form.hearts: gr.Checkbox(value=has_hearts, visible=has_hearts)}

    def on_start(given: dict[Any, Any]) -> Updates:
        config = form.config(given, chains)
        if given[form.what] == words.FINISH_MADE:
            source = session.job(given[form.made], "generate")
            if given[form.hearts] and (loved := hearted(source)):
                config = config.model_copy(update={"only": tuple(loved)})
            return frame.show(session.finish(config, generate_job=source.id))
        uploads = files.uploads(given[form.own] or [])
        if not uploads:
            missing = (words.FINISH_NO_PICTURES, words.FINISH_NO_PICTURES_CURE)
            raise InputError.of([Problem("pictures", *missing, "no_pictures")])
        job = session.finish(config, pictures=uploads)
        # They stay in the form until the job is completed: who has to try again need not drop them again.
        return {**frame.show(job), given_files: [job.id, *map(str, uploads)]}

    def on_shown(job_id: str, given: list[str]) -> Updates:
        """Empty the form's field, and delete Gradio's copies, once a job on them is completed."""
        if not given or given[0] != job_id or not is_completed(session.job(job_id, "finish")):
            return {form.own: gr.skip(), given_files: gr.skip()}
        files.delete(files.uploads(given[1:]))
        return {form.own: None, given_files: []}

    def on_picture(job_id: str, event: gr.EventData) -> Updates:
        job = session.job(job_id, "finish")
        pictures = pictures_of(job, frame.histories.read(job.id))
        index = int(event.index)
        return before_and_after(job, pictures[index]) if 0 <= index < len(pictures) else {slider: gr.skip()}

    def take(job: JobView) -> tuple[str | None, Updates]:
        # The radio's own event shows the one field and hides the other.
        return job.id, {**refresh(job.id), form.what: words.FINISH_MADE}

    def on_background(chosen: str | None) -> Updates:
        return {form.colour: gr.ColorPicker(visible=chosen == "colour")}

    def on_what(chosen: str, job_id: str | None) -> Updates:
        made = chosen == words.FINISH_MADE
        shown = on_made(job_id) if made else {form.hearts: gr.Checkbox(visible=False)}
        return {form.made: gr.Dropdown(visible=made), form.own: gr.File(visible=not made), **shown}

    def on_chain(chosen: str | None) -> Updates:
        return {form.hint: parts_pictures.chain_hint(chains.get(chosen or ""))}

    frame.connect(details, [slider, gallery])
    frame.starts(start, on_start, form.inputs, [given_files])
    emptied = [frame.status, form.own, given_files]
    frame.status.change(frame.watched(on_shown), [frame.job, given_files], emptied, **QUIET)
    form.what.change(on_what, [form.what, form.made], [form.made, form.hearts, form.own], **QUIET)
    form.made.input(frame.guarded(on_made), form.made, [frame.notice, form.hearts], **QUIET)
    form.chain.input(on_chain, form.chain, form.hint, **QUIET)
    form.background.change(on_background, form.background, form.colour, **QUIET)
    gallery.click(frame.guarded(on_picture), frame.job, [frame.notice, slider], **QUIET)
    return JobTab(frame, form.made, refresh, [form.made, form.hearts, form.what], take)
