"""The Generate tab: a pack or prompts of one's own, a gallery with the best first, a zip to take home."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.config import GenerateConfig
from studio.core.domain import JobView
from studio.core.errors import StudioError
from studio.core.packs import Pack
from studio.web.page import files, parts, parts_pictures, widgets
from studio.web.page.context import POLL_S, POLLING, QUIET, TabContext, Updates, in_view, kindly
from studio.web.page.train_tab import subject_of
from studio.web.session import DONE, StudioSession, can_go_on, is_open

PACK, PROMPTS = "A prompt pack", "My own prompts"

_ASKED = {"pack", "prompts", "count", "keep", "seed", "adapter_scale", "adapter"}
_FIELDS = widgets.describe(GenerateConfig, without=_ASKED)
_DEFAULTS = widgets.values_of(GenerateConfig(pack="any"), _FIELDS)
_WELCOME = parts.empty(
    "Ready when a run is",
    [
        "a pack is a set of prepared shots: backgrounds, clothes, styles",
        "or write prompts of your own, one per line; {subject} stands for your subject",
        "every picture is compared with the photos; the most alike come first",
    ],
)


@dataclass(frozen=True)
class GenerateTab:
    """Handles for the page."""

    job: gr.State
    run: gr.Dropdown
    outputs: list[Any]
    refreshed: list[Any]
    show: Callable[[JobView | None], Updates]
    refresh: Callable[[str | None], Updates]


def run_choices(session: StudioSession) -> list[tuple[str, str]]:
    """Return the finished runs, newest first, as (words, job id)."""
    return session.choices("train", states=DONE)


def generate_tab(room: TabContext) -> GenerateTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = room.session
    job_id, shown = gr.State(""), gr.State("")
    timer = gr.Timer(POLL_S, active=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300, elem_classes="ls-tight"):
            run = gr.Dropdown([], label="Subject", info="A run that you have trained.", interactive=True)
            mode = gr.Radio([PACK, PROMPTS], value=PACK, label="What to picture")
            pack = gr.Dropdown([], label="Pack", interactive=True)
            preview = gr.HTML()
            prompts = gr.Textbox(
                label="Prompts",
                info="One per line; {subject} stands for your subject.",
                placeholder="a photo of {subject} at the beach\na pencil sketch of {subject}",
                lines=5,
                visible=False,
            )
            count = gr.Slider(1, 16, value=2, step=1, label="Pictures of each")
            keep = gr.Slider(
                0, 16, value=0, step=1, label="Keep the best", info="Of each, by likeness, no two alike; 0 keeps all."
            )
            strength = gr.Slider(0, 2, value=1, step=0.05, label="Strength", info="Less is freer, more is more alike.")
            seed = gr.Number(value=0, precision=0, label="Seed", info="The same seed gives the same pictures.")
            with widgets.folded("Advanced"):
                form = widgets.build(_FIELDS, _DEFAULTS)
            generate = gr.Button("Generate", variant="primary")
            earlier = gr.Dropdown([], label="Earlier pictures", interactive=True, visible=False)
        with gr.Column(scale=8, min_width=320, elem_classes="ls-tight"):
            notice = gr.HTML(elem_id="ls-generate-notice")
            status = gr.HTML(_WELCOME, elem_id="ls-generate-status")
            again = gr.Button("Go on with these pictures", visible=False, elem_classes="ls-go")
            cancel = gr.Button("Cancel", visible=False, elem_classes="ls-go")
            gallery = gr.Gallery(
                show_label=False,
                columns=4,
                height="auto",
                object_fit="contain",
                interactive=False,
                visible=False,
                buttons=["download", "fullscreen"],
                elem_id="ls-pictures",
                elem_classes="ls-plain",
            )

    def show(job: JobView | None, seen: str = "") -> Updates:
        jobs = session.choices("generate", also=job)
        if job is None:
            return {timer: gr.Timer(active=False), earlier: gr.Dropdown(choices=jobs, value=None, visible=bool(jobs))}
        history = room.histories.read(job.id)
        done = job.state == "completed"
        link = files.linker(session, job.id)
        found = []
        for image in parts_pictures.picture_order(history, job.result):
            if (path := session.out_file(job.id, image["file"])) is not None:
                found.append((path, parts_pictures.picture_caption(image)))
        now = f"{job.id}:{done}:{len(found)}"
        updates = {
            job_id: job.id,
            timer: gr.Timer(active=is_open(job)),
            status: (parts_pictures.generate_result(job, link) if done else parts.progress(job, history))
            + parts.warnings(history),
            cancel: gr.Button(visible=is_open(job)),
            again: gr.Button(visible=can_go_on(job)),
            earlier: gr.Dropdown(choices=jobs, value=job.id, visible=True),
        }
        # An untouched gallery keeps its place while somebody looks at one picture.
        if now != seen:
            pictures = [(files.lent(path), caption) for path, caption in found]
            updates |= {shown: now, gallery: gr.Gallery(value=pictures, visible=bool(pictures))}
        return updates

    def packs_for(run_id: str | None) -> tuple[list[Pack], str, str]:
        if not run_id:
            return session.packs(), "the subject", "person"
        facts = session.adapter_facts(run_id)
        about = subject_of(session, session.job(run_id, "train"))
        noun = facts.get("class_noun") or about.get("class_noun")
        found = session.packs(base=facts.get("base"), class_noun=noun)
        return found, about.get("subject", "the subject"), noun or "person"

    def pack_updates(run_id: str | None, chosen: str | None) -> Updates:
        packs, subject, noun = packs_for(run_id)
        by_name = {row.name: row for row in packs}
        value = chosen if chosen in by_name else next(iter(by_name), None)
        seen = session.pack_pictures(value, run_id) if value and run_id else {}
        links = {shot: link for shot, (job, file) in seen.items() if (link := files.linker(session, job)(file))}
        return {
            pack: gr.Dropdown(choices=[(row.title, row.name) for row in packs], value=value),
            preview: parts_pictures.pack_preview(by_name.get(value or ""), subject, noun, links),
        }

    def refresh(chosen: str | None) -> Updates:
        choices = run_choices(session)
        known = [value for _, value in choices]
        value = chosen if chosen in known else next(iter(known), None)
        return {run: gr.Dropdown(choices=choices, value=value), **pack_updates(value, None)}

    said = kindly(notice, widgets.labels(_FIELDS))
    outputs = [job_id, shown, timer, notice, status, cancel, again, gallery, earlier]

    @said
    def on_generate(given: dict[Any, Any]) -> Updates:
        settings = {path: given[component] for path, component in form.items()}
        asked: dict[str, Any] = widgets.collect(_FIELDS, settings, _DEFAULTS)
        asked |= {"count": given[count], "seed": given[seed], "adapter_scale": given[strength]}
        if given[keep]:
            asked["keep"] = given[keep]
        if given[mode] == PACK:
            asked["pack"] = given[pack]
        else:
            asked["prompts"] = [line.strip() for line in (given[prompts] or "").splitlines() if line.strip()]
        return show(session.submit_generate(given[run], asked))

    @said
    def on_poll(current: str, seen: str) -> Updates:
        return show(session.job(current, "generate"), seen)

    @said
    def on_again(current: str) -> Updates:
        return show(session.retry(session.job(current, "generate").id))

    @said
    def on_open(current: str) -> Updates:
        return show(session.job(current, "generate"))

    @said
    def on_cancel(current: str, seen: str) -> Updates:
        session.studio.cancel(session.job(current, "generate").id, owner=session.owner)
        return show(session.job(current, "generate"), seen)

    def on_mode(chosen: str) -> Updates:
        by_pack = chosen == PACK
        return {
            pack: gr.Dropdown(visible=by_pack),
            preview: gr.HTML(visible=by_pack),
            prompts: gr.Textbox(visible=not by_pack),
        }

    def on_pack(run_id: str | None, chosen: str | None) -> Updates:
        try:
            return {preview: pack_updates(run_id, chosen)[preview]}
        except StudioError as caught:
            return {preview: parts.error(caught)}

    @said
    def on_run(run_id: str | None, chosen: str | None) -> Updates:
        return pack_updates(run_id, chosen)

    mode.change(on_mode, mode, [pack, preview, prompts], **QUIET)
    run.input(on_run, [run, pack], [notice, pack, preview], **QUIET)
    pack.input(on_pack, [run, pack], preview, **QUIET)
    started = generate.click(
        on_generate, {run, mode, pack, prompts, count, keep, strength, seed, *form.values()}, outputs, **QUIET
    )
    started.then(None, js=in_view("ls-generate-status"), api_visibility="private")
    timer.tick(on_poll, [job_id, shown], outputs, **POLLING)
    cancel.click(on_cancel, [job_id, shown], outputs, **QUIET)
    again.click(on_again, job_id, outputs, **QUIET)
    earlier.input(on_open, earlier, outputs, **QUIET)
    return GenerateTab(job_id, run, outputs, [run, pack, preview], show, refresh)
