"""The Train tab: choose photos and a preset, watch the likeness rise, keep the result."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core import machine
from studio.core.catalog import BASES
from studio.core.domain import JobView
from studio.core.errors import StudioError
from studio.core.train_config import GROUPS, TrainConfig, mark_of
from studio.web.page import files, parts, parts_publish, parts_train, widgets
from studio.web.page.context import POLL_S, POLLING, PRIVATE, PUBLIC, QUIET, TabContext, Updates, in_view, kindly
from studio.web.session import StudioSession, is_open, label

_FIELDS = widgets.describe(TrainConfig, without={"subject", "class_noun", "base"})
_WELCOME = parts.empty(
    "What happens here",
    [
        "a small adapter (a LoRA) learns the subject; the base model itself stays as it is",
        "at every checkpoint the studio draws samples and measures how much they look like the subject",
        "the best checkpoint is kept, not the last one",
        "you may close this page: the training goes on, and the page finds it again",
    ],
)


@dataclass(frozen=True)
class TrainTab:
    """Handles for the page."""

    job: gr.State
    dataset: gr.Dropdown
    forward: gr.Button
    outputs: list[Any]
    show: Callable[[JobView | None], Updates]
    refresh: Callable[[str | None], Updates]


def dataset_choices(session: StudioSession) -> list[tuple[str, str]]:
    """Return the finished checks that hold at least one photo, newest first, as (words, job id)."""
    finished = [job for job in session.jobs("check") if job.result and job.result["photos"]]
    return [(label(job), job.id) for job in finished]


def train_tab(room: TabContext) -> TrainTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = room.session
    presets = {preset.name: preset for preset in session.presets()}
    here = machine.look(session.settings.device)
    first_base = machine.default_base(here)

    def offered(base: str) -> list[tuple[str, str]]:
        return [(preset.title, preset.name) for preset in presets.values() if preset.base == base]

    def default_preset(base: str) -> str | None:
        chosen = machine.default_preset(base, here, presets.values())
        return chosen.name if chosen else None

    def starting_values(preset: str | None) -> dict[str, Any]:
        config = presets[preset].config if preset in presets else TrainConfig()
        return widgets.values_of(config, _FIELDS)

    first_preset = default_preset(first_base)
    job_id = gr.State("")
    timer = gr.Timer(POLL_S, active=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300, elem_classes="ls-tight"):
            dataset = gr.Dropdown([], label="Photos", info="A set that you have checked.", interactive=True)
            base = gr.Dropdown(
                [(spec.title, name) for name, spec in BASES.items()], value=first_base, label="Base model"
            )
            base_hint = gr.HTML(parts_train.base_hint(BASES[first_base]))
            preset = gr.Dropdown(offered(first_base), value=first_preset, label="Preset")
            preset_hint = gr.HTML(parts_train.preset_hint(presets.get(first_preset or "")))
            with widgets.folded("Advanced"):
                form = _advanced(starting_values(first_preset))
            with widgets.folded("Publish when done"):
                repo = gr.Textbox(
                    label="Repository",
                    info="On the Hugging Face Hub; empty publishes nothing.",
                    placeholder="owner/name",
                    max_lines=1,
                )
                seen_by = gr.Radio([PRIVATE, PUBLIC], value=PRIVATE, label="Who may see it")
                token = widgets.token_box(
                    "Asked before the training whether it may write; used for this one job and not kept.",
                    "ls-train-token",
                    login=session.visitor is not None,
                )
            plan = gr.HTML(elem_id="ls-train-plan")
            train = gr.Button("Train", variant="primary")
            earlier = gr.Dropdown([], label="Earlier runs", interactive=True, visible=False)
        with gr.Column(scale=8, min_width=320, elem_classes="ls-tight"):
            notice = gr.HTML(elem_id="ls-train-notice")
            status = gr.HTML(_WELCOME, elem_id="ls-train-status")
            forward = gr.Button("Make pictures", variant="primary", visible=False, elem_classes="ls-go")
            again = gr.Button("Go on with this run", visible=False, elem_classes="ls-go")
            cancel = gr.Button("Cancel", visible=False, elem_classes="ls-go")
            curves = gr.HTML(elem_id="ls-train-curves")
            samples = gr.HTML(elem_id="ls-train-samples")

    def show(job: JobView | None) -> Updates:
        runs = [(label(row), row.id) for row in session.jobs("train")]
        if job is None:
            return {timer: gr.Timer(active=False), earlier: gr.Dropdown(choices=runs, value=None, visible=bool(runs))}
        history = room.histories.read(job.id)
        link = files.linker(session, job.id)
        done = job.state == "completed"
        then = session.publishing_of(job)
        told = parts_train.train_result(job, link) if done else parts.progress(job, history)
        return {
            job_id: job.id,
            timer: gr.Timer(active=is_open(job) or (done and then is not None and is_open(then))),
            status: told + parts_publish.then_published(job, then) + parts.warnings(history),
            curves: parts_train.curves(history, job.result),
            samples: parts_train.samples(history, link, (job.result or {}).get("best_step")),
            cancel: gr.Button(visible=is_open(job)),
            again: gr.Button(visible=job.state in ("stalled", "cancelled")),
            forward: gr.Button(visible=done),
            earlier: gr.Dropdown(choices=runs, value=job.id, visible=True),
        }

    def refresh(chosen: str | None) -> Updates:
        choices = dataset_choices(session)
        known = [value for _, value in choices]
        value = chosen if chosen in known else next(iter(known), None)
        return {dataset: gr.Dropdown(choices=choices, value=value)}

    words = {"repo": "Repository", "token": "Token", "form": "Publish when done", "licence": "Publish when done"}
    said = kindly(notice, {**widgets.labels(_FIELDS), **words})
    outputs = [job_id, timer, notice, status, curves, samples, cancel, again, forward, earlier]

    def asked(given: dict[Any, Any]) -> dict[str, Any]:
        settings = {path: given[component] for path, component in form.items()}
        changes = widgets.collect(_FIELDS, settings, starting_values(given[preset]))
        return {"base": given[base], "preset": given[preset] or "", "changes": changes}

    @said
    def on_train(given: dict[Any, Any]) -> Updates:
        name = (given[repo] or "").strip()
        then = {"repo": name, "public": given[seen_by] == PUBLIC} if name else None
        secret = (given[token] or "").strip() if then else None
        job = session.submit_train(given[dataset], **asked(given), publish=then, token=secret)
        # The field is emptied as soon as the token was taken over.
        return {**show(job), token: "" if then else gr.skip()}

    def on_plan(given: dict[Any, Any]) -> Updates:
        try:
            return {plan: parts_train.plan(session.plan_train(given[dataset], **asked(given)))}
        except StudioError:  # a half-filled form has no plan; the button says what is wrong with it
            return {plan: ""}

    @said
    def on_poll(current: str) -> Updates:
        return show(session.job(current, "train"))

    @said
    def on_cancel(current: str) -> Updates:
        session.studio.cancel(session.job(current, "train").id, owner=session.owner)
        return show(session.job(current, "train"))

    @said
    def on_again(current: str) -> Updates:
        return show(session.retry_train(current))

    def on_preset(name: str | None) -> Updates:
        values = starting_values(name)
        return {preset_hint: parts_train.preset_hint(presets.get(name or ""))} | {
            component: values[path] for path, component in form.items()
        }

    def on_base(name: str) -> Updates:
        chosen = default_preset(name)
        return {
            base_hint: parts_train.base_hint(BASES[name]),
            preset: gr.Dropdown(choices=offered(name), value=chosen),
        } | on_preset(chosen)

    shaped = [preset_hint, *form.values()]
    filled_in = {dataset, base, preset, *form.values()}
    # After the form has taken the new preset's values: a plan of half the old ones would be wrong.
    base.input(on_base, base, [base_hint, preset, *shaped], **QUIET).then(on_plan, filled_in, plan, **QUIET)
    preset.input(on_preset, preset, shaped, **QUIET).then(on_plan, filled_in, plan, **QUIET)
    touched: list[Any] = [dataset.change, *(component.input for component in form.values())]
    gr.on(touched, on_plan, filled_in, plan, trigger_mode="always_last", **QUIET)
    started = train.click(on_train, {*filled_in, repo, seen_by, token}, [*outputs, token], **QUIET)
    started.then(None, js=in_view("ls-train-status"), api_visibility="private")
    timer.tick(on_poll, job_id, outputs, **POLLING)
    cancel.click(on_cancel, job_id, outputs, **QUIET)
    again.click(on_again, job_id, outputs, **QUIET)
    earlier.input(on_poll, earlier, outputs, **QUIET)
    return TrainTab(job_id, dataset, forward, outputs, show, refresh)


def _advanced(values: Mapping[str, Any]) -> dict[str, Any]:
    """Build the generated form: fields of no group first, then one folded group after the other."""
    form = widgets.build([field for field in _FIELDS if not mark_of(field.path).group], values)
    for title in GROUPS:
        with widgets.folded(title):
            form |= widgets.build([field for field in _FIELDS if mark_of(field.path).group == title], values)
    return form


def subject_of(session: StudioSession, run: JobView | None) -> dict[str, str]:
    """Return the subject's name and class noun behind a run; empty if its check is gone."""
    try:
        check = session.job(run.source, "check") if run else None
    except StudioError:
        check = None
    if check is None or check.result is None:
        return {}
    return {"subject": check.result["subject"], "class_noun": check.result["class_noun"]}
