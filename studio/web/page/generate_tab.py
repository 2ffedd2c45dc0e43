"""The Generate tab: a pack or one's own prompts, a gallery with the best first, a zip to download."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.config import GenerateConfig
from studio.core.domain import JobKind, JobView
from studio.core.errors import StudioError
from studio.core.packs import Pack
from studio.web.hearts import hearted
from studio.web.page import files, parts, parts_pictures, widgets, words
from studio.web.page.context import QUIET, TabContext, Updates
from studio.web.page.frame import (
    JobTab,
    chosen_among,
    form_column,
    is_completed,
    job_column,
    job_frame,
    onward_button,
)
from studio.web.page.history import JobHistory
from studio.web.session import USABLE_STATES, StudioSession

_STRENGTHS = (0.5, 0.75, 1.0, 1.25)
"""Strengths that one press compares: from half of what was trained to a quarter more."""
_ASKED = {"pack", "prompts", "count", "keep", "seed", "adapter_scale", "adapter"}
"""Settings that the form asks for outside of the advanced ones."""
_FIELDS = widgets.describe(GenerateConfig, without=_ASKED)
_DEFAULTS = widgets.values_of(GenerateConfig(pack="any"), _FIELDS)


_PACKS, _PROMPTS = "ls-generate-pack", "ls-generate-prompts"
"""Element ids that style and script name."""
_PRESSES = """
element.addEventListener('click', (event) => {
    const heart = event.target.closest('[data-heart]');
    if (!heart) return;
    const on = heart.getAttribute('aria-pressed') !== 'true';
    heart.setAttribute('aria-pressed', on);
    trigger('click', {file: heart.dataset.heart, on});
});
"""
"""Tells which picture's heart was pressed, and shows it at once."""


@dataclass(frozen=True)
class _Form:
    run: gr.Dropdown
    mode: gr.Radio
    pack: gr.Radio
    tiles: gr.HTML
    preview: gr.HTML
    prompts: gr.Textbox
    chip: gr.HTML
    count: gr.Slider
    keep: gr.Slider
    strength: gr.Slider
    compare: gr.Button
    seed: gr.Number
    advanced: dict[str, gr.components.Component]

    @property
    def inputs(self) -> set[Any]:
        fields = (self.run, self.mode, self.pack, self.prompts, self.count, self.keep, self.strength, self.seed)
        return {*fields, *self.advanced.values()}

    def settings(self, given: dict[Any, Any]) -> dict[str, Any]:
        """Return settings of GenerateConfig."""
        changes = widgets.collect(_FIELDS, widgets.given_values(self.advanced, given), _DEFAULTS)
        changes |= {"count": given[self.count], "seed": given[self.seed], "adapter_scale": given[self.strength]}
        if given[self.keep]:
            changes["keep"] = given[self.keep]
        if given[self.mode] == words.GENERATE_PACK_MODE:
            return changes | {"pack": given[self.pack]}
        lines = (given[self.prompts] or "").splitlines()
        return changes | {"prompts": [line.strip() for line in lines if line.strip()]}

    def comparison(self, given: dict[Any, Any], pack: Pack | None, noun: str) -> dict[str, Any]:
        """Return settings of GenerateConfig that draw one prompt from one seed at several strengths.

        Args:
            given: the form's values.
            pack: the chosen pack; the shot that shows it best is drawn where the form is about packs.
            noun: what the subject is.
        """
        settings = self.settings(given)
        by_pack = settings.pop("pack", None) is not None
        prompts = [parts_pictures.sample_prompt(pack, noun)] if by_pack and pack else settings.get("prompts", [])[:1]
        settings.pop("keep", None)
        return {**settings, "prompts": prompts, "count": 1, "strengths": _STRENGTHS}


def _form() -> _Form:
    modes = [words.GENERATE_PACK_MODE, words.GENERATE_PROMPTS_MODE]
    run = gr.Dropdown([], label=words.GENERATE_RUN, info=words.GENERATE_RUN_INFO, interactive=True)
    mode = gr.Radio(modes, value=modes[0], label=words.GENERATE_MODE)
    pack = gr.Radio([], label=words.GENERATE_PACK, elem_id=_PACKS, elem_classes="ls-packs")
    tiles = gr.HTML()
    preview = gr.HTML()
    prompts = gr.Textbox(
        label=words.GENERATE_PROMPTS,
        info=words.GENERATE_PROMPTS_INFO,
        placeholder=words.GENERATE_PROMPTS_EXAMPLE,
        lines=5,
        visible=False,
        elem_id=_PROMPTS,
    )
    chip = gr.HTML(parts_pictures.subject_chip(words.SOME_SUBJECT, _PROMPTS), visible=False)
    count = gr.Slider(1, 16, value=2, step=1, label=words.GENERATE_COUNT, buttons=[])
    keep = gr.Slider(0, 16, value=0, step=1, label=words.GENERATE_KEEP, info=words.GENERATE_KEEP_INFO, buttons=[])
    strengths_info = words.GENERATE_STRENGTH_INFO.format(strengths=", ".join(f"{one:g}" for one in _STRENGTHS))
    strength = gr.Slider(0, 2, value=1, step=0.05, label=words.GENERATE_STRENGTH, info=strengths_info, buttons=[])
    compare = gr.Button(words.GENERATE_COMPARE)
    seed = gr.Number(value=0, precision=0, label=words.GENERATE_SEED, info=words.GENERATE_SEED_INFO)
    with widgets.folded(words.ADVANCED):
        advanced = widgets.build(_FIELDS, _DEFAULTS)
    return _Form(run, mode, pack, tiles, preview, prompts, chip, count, keep, strength, compare, seed, advanced)


def _packs_for(session: StudioSession, run_id: str | None) -> tuple[list[Pack], str, str]:
    """Return the packs that fit a run, with its subject and class noun."""
    if not run_id:
        return session.packs(), words.SOME_SUBJECT, ""
    facts = session.adapter_facts(run_id)
    run = session.job(run_id, "train")
    about = session.subject_of(run)
    noun = facts.get("class_noun") or about.get("class_noun")
    found = session.packs(base=facts.get("base") or run.facts.base, class_noun=noun)
    return found, about.get("subject", words.SOME_SUBJECT), noun or ""


def generate_tab(context: TabContext) -> JobTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    welcome = parts.empty(words.GENERATE_WELCOME, words.GENERATE_POINTS)
    frame = job_frame(
        context,
        "generate",
        "generate",
        earlier=words.GENERATE_EARLIER,
        retry=words.GENERATE_RETRY,
        welcome=welcome,
        labels=widgets.labels(_FIELDS),
    )
    with gr.Row(equal_height=False):
        with form_column():
            form = _form()
            start = gr.Button(words.GENERATE_START, variant="primary")
            frame.place_answer()
            asked = {"pack": form.pack, "prompts": form.prompts, "count": form.count, "keep": form.keep}
            frame.asks({**asked, "seed": form.seed, "adapter_scale": form.strength, **form.advanced})
            frame.earlier.render()
        with job_column(frame):
            with gr.Row():
                onward: dict[JobKind, gr.Button] = {
                    "finish": onward_button(words.FINISH_THESE),
                    "publish": onward_button(words.PUBLISH_THESE),
                }
            gallery = gr.HTML(elem_id="ls-pictures", js_on_load=_PRESSES)

    def details(job: JobView, history: JobHistory, seen: str) -> Updates:
        done = is_completed(job)
        link = files.linker(session, job.id)
        images = parts_pictures.picture_order(history, job.result, job.hearts)
        updates: Updates = {frame.status: summary(job, history)}
        # While pictures come, hearts count, too: a look at the job may have begun before a heart was stored.
        now = f"{job.id}:{done}:{len(images)}:{'' if done else len(job.hearts)}"
        # A gallery that is not touched stays where it is while somebody looks at one picture.
        if now != seen:
            updates |= {frame.shown: now, gallery: parts_pictures.heart_grid(images, link, job.hearts)}
        updates[onward["finish"]] = gr.Button(visible=done and bool(images))
        # Pictures with a published adapter come from no run of this studio that could be published.
        updates[onward["publish"]] = gr.Button(visible=done and bool(images) and job.source is not None)
        return updates

    def summary(job: JobView, history: JobHistory) -> str:
        done = is_completed(job)
        link = files.linker(session, job.id)
        made = parts_pictures.generate_result(job, link, len(hearted(job))) if done else parts.progress(job, history)
        return made + parts.warnings(history)

    def on_heart(job_id: str, event: gr.EventData) -> Updates:
        # The pictures stay where they are: one that moved away below the finger would be lost from sight.
        job = session.heart(job_id, [str(event.file)], on=bool(event.on))
        return {frame.status: parts.of_job(job, summary(job, frame.histories.read(job.id)))}

    def pack_updates(run_id: str | None, wanted: str | None) -> Updates:
        packs, subject, noun = _packs_for(session, run_id)
        by_name = {row.name: row for row in packs}
        choices = [(parts_pictures.pack_choice(row), row.name) for row in packs]
        value = chosen_among(choices, wanted)
        made = session.pack_pictures(run_id) if run_id else {}
        links = {
            pack: {shot: link for shot, (job, file) in shots.items() if (link := files.linker(session, job)(file))}
            for pack, shots in made.items()
        }
        shown = parts_pictures.pack_preview(by_name.get(value or ""), subject, noun, links.get(value or ""))
        return {
            form.pack: gr.Radio(choices=choices, value=value),
            form.tiles: parts_pictures.pack_tiles(_PACKS, packs, {name: [*of.values()] for name, of in links.items()}),
            form.preview: shown,
            form.chip: parts_pictures.subject_chip(subject, _PROMPTS),
        }

    def refresh(wanted: str | None, pack: str | None = None) -> Updates:
        choices = session.choices("train", states=USABLE_STATES)
        value = chosen_among(choices, wanted)
        if pack is None and value:  # whoever comes back finds the pack that this run drew last
            last = session.jobs("generate", source=value, limit=1)
            pack = last[0].facts.pack if last else None
        return {form.run: gr.Dropdown(choices=choices, value=value), **pack_updates(value, pack)}

    def on_start(given: dict[Any, Any]) -> Updates:
        return frame.show(session.submit_generate(given[form.run], form.settings(given)))

    def on_compare(given: dict[Any, Any]) -> Updates:
        packs, _, noun = _packs_for(session, given[form.run])
        pack = next((row for row in packs if row.name == given[form.pack]), None)
        return frame.show(session.submit_generate(given[form.run], form.comparison(given, pack, noun)))

    def on_mode(chosen: str) -> Updates:
        by_pack = chosen == words.GENERATE_PACK_MODE
        return {
            form.pack: gr.Radio(visible=by_pack),
            form.preview: gr.HTML(visible=by_pack),
            form.prompts: gr.Textbox(visible=not by_pack),
            form.chip: gr.HTML(visible=not by_pack),
        }

    def on_pack(run_id: str | None, chosen: str | None) -> Updates:
        try:
            return {form.preview: pack_updates(run_id, chosen)[form.preview]}
        except StudioError as caught:
            return {form.preview: parts.error(caught)}

    frame.connect(details, [gallery, *onward.values()])
    frame.starts(start, on_start, form.inputs)
    frame.starts(form.compare, on_compare, form.inputs)
    form.mode.change(on_mode, form.mode, [form.pack, form.preview, form.prompts, form.chip], **QUIET)
    of_run = [form.pack, form.tiles, form.preview, form.chip]
    form.run.input(frame.guarded(pack_updates), [form.run, form.pack], [frame.notice, *of_run], **QUIET)
    # Each press counts: by default Gradio drops one that comes before the last one was answered.
    gallery.click(
        frame.guarded(on_heart), frame.job, [frame.notice, frame.status], trigger_mode="multiple", **QUIET
    )  # fmt: skip
    form.pack.input(on_pack, [form.run, form.pack], form.preview, **QUIET)
    return JobTab(frame, form.run, refresh, [form.run, *of_run], onward=onward, kept=[form.pack])
