"""The Finish tab: a chain of steps over made or own pictures, a slider between before and after, a zip to take home."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.domain import JobView
from studio.core.presets import parse_assignments
from studio.web.page import files, parts, parts_pictures
from studio.web.page.context import POLL_S, POLLING, QUIET, TabContext, Updates, in_view, kindly
from studio.web.session import DONE, StudioSession, can_go_on, is_open

MADE, OWN = "Generated pictures", "My own pictures"

_WELCOME = parts.empty(
    "Pictures that people keep",
    [
        "cut the subject out, put white, a colour, a gradient or a blur behind it",
        "enlarge with Real-ESRGAN, up to 8192 px",
        "exact sizes for passports, portraits, banners and avatars, below a number of bytes",
        "one picture, many, or a zip; one that fails does not stop the others",
    ],
)


@dataclass(frozen=True)
class FinishTab:
    """Handles for the page."""

    job: gr.State
    made: gr.Dropdown
    outputs: list[Any]
    show: Callable[[JobView | None], Updates]
    refresh: Callable[[str | None], Updates]


def made_choices(session: StudioSession) -> list[tuple[str, str]]:
    """Return the finished generate jobs, newest first, as (words, job id)."""
    return session.choices("generate", states=DONE)


def finish_tab(room: TabContext) -> FinishTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = room.session
    chains = {chain.name: chain for chain in session.chains()}
    first = next(iter(chains), None)
    job_id, shown = gr.State(""), gr.State("")
    timer = gr.Timer(POLL_S, active=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300, elem_classes="ls-tight"):
            where = gr.Radio([MADE, OWN], value=MADE, label="What to finish")
            made = gr.Dropdown([], label="Pictures", info="A set that you have generated.", interactive=True)
            own = gr.File(
                label="Drop pictures or a zip here",
                file_count="multiple",
                height=190,
                interactive=True,
                visible=False,
                elem_id="ls-finish-drop",
            )
            chain = gr.Dropdown(
                [(row.title, row.name) for row in chains.values()], value=first, label="Chain", interactive=True
            )
            hint = gr.HTML(parts_pictures.chain_hint(chains.get(first or "")))
            changes = gr.Textbox(
                label="Changes",
                info="Settings of the steps, one per line; leave it empty for the chain as it is.",
                placeholder="fit.max_bytes=2000000\nbackground.fill=colour\nupscale.long_side_px=2048",
                lines=3,
            )
            start = gr.Button("Finish", variant="primary")
            earlier = gr.Dropdown([], label="Earlier", interactive=True, visible=False)
        with gr.Column(scale=8, min_width=320, elem_classes="ls-tight"):
            notice = gr.HTML(elem_id="ls-finish-notice")
            status = gr.HTML(_WELCOME, elem_id="ls-finish-status")
            again = gr.Button("Go on with finishing", visible=False, elem_classes="ls-go")
            cancel = gr.Button("Cancel", visible=False, elem_classes="ls-go")
            slider = gr.ImageSlider(
                label="Before and after",
                type="filepath",
                image_mode=None,
                interactive=False,
                visible=False,
                max_height=560,
                buttons=["fullscreen"],
                elem_id="ls-finish-slider",
            )
            gallery = gr.Gallery(
                show_label=False,
                columns=4,
                height="auto",
                object_fit="contain",
                interactive=False,
                visible=False,
                allow_preview=False,
                elem_id="ls-finished",
                elem_classes="ls-plain",
            )

    def pair(job: JobView, pictures: list[Any], index: int) -> Updates:
        paths = [session.out_file(job.id, pictures[index][which]) for which in ("before", "after")]
        there = [files.lent(path) for path in paths if path is not None]
        return {slider: gr.ImageSlider(value=(there[0], there[1]), visible=True) if len(there) == 2 else gr.skip()}

    def finished(job: JobView) -> list[Any]:
        result = job.result or {}
        return list(result.get("pictures", ())) or list(room.histories.read(job.id).images.values())

    def show(job: JobView | None, seen: str = "") -> Updates:
        jobs = session.choices("finish", also=job)
        if job is None:
            return {timer: gr.Timer(active=False), earlier: gr.Dropdown(choices=jobs, value=None, visible=bool(jobs))}
        history = room.histories.read(job.id)
        done = job.state == "completed"
        pictures = finished(job)
        now = f"{job.id}:{done}:{len(pictures)}"
        above = (
            parts_pictures.finish_result(job, files.linker(session, job.id)) if done else parts.progress(job, history)
        )
        updates: Updates = {
            job_id: job.id,
            timer: gr.Timer(active=is_open(job)),
            status: above if done else above + parts.warnings(history),
            cancel: gr.Button(visible=is_open(job)),
            again: gr.Button(visible=can_go_on(job)),
            earlier: gr.Dropdown(choices=jobs, value=job.id, visible=True),
        }
        if now != seen:
            small = [(session.out_file(job.id, row["after"]), parts_pictures.finished_caption(row)) for row in pictures]
            shown_now = [(files.lent(path), caption) for path, caption in small if path is not None]
            updates |= {shown: now, gallery: gr.Gallery(value=shown_now, visible=bool(shown_now))}
            updates |= pair(job, pictures, 0) if pictures else {slider: gr.ImageSlider(visible=False)}
        return updates

    def refresh(chosen: str | None) -> Updates:
        choices = made_choices(session)
        known = [value for _, value in choices]
        return {made: gr.Dropdown(choices=choices, value=chosen if chosen in known else next(iter(known), None))}

    said = kindly(notice)
    outputs = [job_id, shown, timer, notice, status, cancel, again, slider, gallery, earlier]

    @said
    def on_start(given: dict[Any, Any]) -> Updates:
        settings = parse_assignments(line for line in (given[changes] or "").splitlines() if line.strip())
        if given[where] == MADE:
            job = session.job(given[made], "generate")
            return {**show(session.submit_finish(given[chain], settings, generate_job=job.id)), own: None}
        taken = files.uploads(given[own] or [])
        job = session.submit_finish(given[chain], settings, pictures=taken)
        files.sweep(taken)
        return {**show(job), own: None}

    @said
    def on_poll(current: str, seen: str) -> Updates:
        return show(session.job(current, "finish"), seen)

    @said
    def on_again(current: str) -> Updates:
        return show(session.retry(session.job(current, "finish").id))

    @said
    def on_open(current: str) -> Updates:
        return show(session.job(current, "finish"))

    @said
    def on_cancel(current: str, seen: str) -> Updates:
        session.studio.cancel(session.job(current, "finish").id, owner=session.owner)
        return show(session.job(current, "finish"), seen)

    def on_select(current: str, chosen: gr.SelectData) -> Updates:
        job = session.job(current, "finish")
        pictures = finished(job)
        index = chosen.index if isinstance(chosen.index, int) else 0
        return pair(job, pictures, index) if index < len(pictures) else {slider: gr.skip()}

    def on_where(chosen: str) -> Updates:
        return {made: gr.Dropdown(visible=chosen == MADE), own: gr.File(visible=chosen == OWN)}

    def on_chain(chosen: str | None) -> Updates:
        return {hint: parts_pictures.chain_hint(chains.get(chosen or ""))}

    where.change(on_where, where, [made, own], **QUIET)
    chain.input(on_chain, chain, hint, **QUIET)
    started = start.click(on_start, {where, made, own, chain, changes}, [*outputs, own], **QUIET)
    started.then(None, js=in_view("ls-finish-status"), api_visibility="private")
    timer.tick(on_poll, [job_id, shown], outputs, **POLLING)
    cancel.click(on_cancel, [job_id, shown], outputs, **QUIET)
    again.click(on_again, job_id, outputs, **QUIET)
    earlier.input(on_open, earlier, outputs, **QUIET)
    gallery.select(on_select, job_id, slider, **QUIET)
    return FinishTab(job_id, made, outputs, show, refresh)
