"""The Finish tab: a chain of steps over generated or own pictures, a before-and-after slider, a zip to download."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.domain import JobView
from studio.core.errors import InputError, Problem
from studio.core.presets import Chain, parse_assignments
from studio.web.page import files, parts, parts_pictures, words
from studio.web.page.context import QUIET, TabContext, Updates
from studio.web.page.frame import (
    JobTab,
    chosen_among,
    form_column,
    is_completed,
    job_column,
    job_frame,
    picture_gallery,
    progress_or,
)
from studio.web.page.history import JobHistory
from studio.web.session import USABLE_STATES

_LABELS = {"pictures": words.FINISH_PICTURES}


@dataclass(frozen=True)
class _Form:
    what: gr.Radio
    made: gr.Dropdown
    own: gr.File
    chain: gr.Dropdown
    hint: gr.HTML
    changes: gr.Textbox


def _form(chains: dict[str, Chain]) -> _Form:
    first = next(iter(chains), None)
    sources = [words.FINISH_MADE, words.FINISH_OWN]
    return _Form(
        what=gr.Radio(sources, value=sources[0], label=words.FINISH_WHAT),
        made=gr.Dropdown([], label=words.FINISH_PICTURES, info=words.FINISH_PICTURES_INFO, interactive=True),
        own=gr.File(
            label=words.FINISH_DROP,
            file_count="multiple",
            height=190,
            interactive=True,
            visible=False,
            elem_id="ls-finish-drop",
        ),
        chain=gr.Dropdown(
            [(row.title, row.name) for row in chains.values()],
            value=first,
            label=words.FINISH_CHAIN,
            interactive=True,
        ),
        hint=gr.HTML(parts_pictures.chain_hint(chains.get(first or ""))),
        changes=gr.Textbox(
            label=words.FINISH_CHANGES,
            info=words.FINISH_CHANGES_INFO,
            placeholder=words.FINISH_CHANGES_EXAMPLE,
            lines=3,
        ),
    )


def finish_tab(context: TabContext) -> JobTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    chains = {chain.name: chain for chain in session.chains()}
    welcome = parts.empty(words.FINISH_WELCOME, words.FINISH_POINTS)
    frame = job_frame(
        context, "finish", "finish", earlier=words.EARLIER, retry=words.FINISH_RETRY, welcome=welcome, labels=_LABELS
    )
    with gr.Row(equal_height=False):
        with form_column():
            form = _form(chains)
            start = gr.Button(words.FINISH_START, variant="primary")
            frame.place_answer()
            frame.asks({"pictures": form.own, "changes": form.changes})
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
            gallery = picture_gallery("ls-finished", chooser=True, allow_preview=False)

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
            previews = [(session.out_file(job.id, row["after"]), row) for row in pictures]
            shown = [(files.served_copy(path), parts_pictures.finished_caption(row)) for path, row in previews if path]
            updates |= {frame.shown: now, gallery: gr.Gallery(value=shown, visible=bool(shown))}
            updates |= before_and_after(job, pictures[0]) if pictures else {slider: gr.ImageSlider(visible=False)}
        return updates

    def refresh(wanted: str | None) -> Updates:
        choices = session.choices("generate", states=USABLE_STATES)
        return {form.made: gr.Dropdown(choices=choices, value=chosen_among(choices, wanted))}

    def on_start(given: dict[Any, Any]) -> Updates:
        lines = (given[form.changes] or "").splitlines()
        settings = parse_assignments(line for line in lines if line.strip())
        chain = given[form.chain]
        if given[form.what] == words.FINISH_MADE:
            source = session.job(given[form.made], "generate")
            return {**frame.show(session.submit_finish(chain, settings, generate_job=source.id)), form.own: None}
        uploads = files.uploads(given[form.own] or [])
        if not uploads:
            missing = (words.FINISH_NO_PICTURES, words.FINISH_NO_PICTURES_CURE)
            raise InputError.of([Problem("pictures", *missing, "no_pictures")])
        job = session.submit_finish(chain, settings, pictures=uploads)
        files.delete(uploads)
        return {**frame.show(job), form.own: None}

    def on_select(job_id: str, chosen: gr.SelectData) -> Updates:
        job = session.job(job_id, "finish")
        pictures = pictures_of(job, frame.histories.read(job.id))
        index = chosen.index if isinstance(chosen.index, int) else 0
        return before_and_after(job, pictures[index]) if index < len(pictures) else {slider: gr.skip()}

    def on_what(chosen: str) -> Updates:
        made = chosen == words.FINISH_MADE
        return {form.made: gr.Dropdown(visible=made), form.own: gr.File(visible=not made)}

    def on_chain(chosen: str | None) -> Updates:
        return {form.hint: parts_pictures.chain_hint(chains.get(chosen or ""))}

    frame.connect(details, [slider, gallery])
    frame.starts(start, on_start, {form.what, form.made, form.own, form.chain, form.changes}, [form.own])
    form.what.change(on_what, form.what, [form.made, form.own], **QUIET)
    form.chain.input(on_chain, form.chain, form.hint, **QUIET)
    gallery.select(on_select, frame.job, slider, **QUIET)
    return JobTab(frame, form.made, refresh, [form.made])
