"""The Train tab: choose photos and a preset, watch the likeness rise, keep the result."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core import language, machine, reach
from studio.core.catalog import BASES
from studio.core.domain import JobView
from studio.core.errors import StudioError
from studio.core.fit import FitPlan
from studio.core.train_config import GROUPS, TrainConfig, mark_of
from studio.web.page import files, parts, parts_publish, parts_reach, parts_train, widgets, words
from studio.web.page.context import QUIET, TabContext, Updates, faults_in
from studio.web.page.film_strip import connect_film, film_strip, filmed
from studio.web.page.frame import JobTab, chosen_among, form_column, is_completed, job_column, job_frame, onward_button
from studio.web.page.history import JobHistory
from studio.web.session import USABLE_STATES, StudioSession, is_open, label

_FIELDS = widgets.describe(TrainConfig, without={"subject", "class_noun", "base"})
_FIRST = frozenset({"steps", "learning_rate", "method.rank"})
"""The numbers that stand in sight; all others are folded away."""


def _labels() -> dict[str, str]:
    """Return what the form calls its settings."""
    return {
        **widgets.labels(_FIELDS),
        "repo": words.REPOSITORY,
        "token": words.TOKEN,
        "form": words.TRAIN_PUBLISH,
        "licence": words.TRAIN_PUBLISH,
    }


class _Presets:
    """What the form offers on this machine, and the values that it starts with."""

    def __init__(self, session: StudioSession) -> None:
        self._session = session
        self._by_name = {preset.name: preset for preset in session.presets()}
        self.here = machine.look(session.settings.device)
        self.first_base = machine.default_base(self.here)

    def bases(self, dataset: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
        """Return the bases as cards; ``dataset`` are the chosen photos, None where none are."""
        return [
            (parts_reach.base_card(spec, self.here, self._plan(self.default(name), dataset)), name)
            for name, spec in BASES.items()
        ]

    def choices(self, base: str, dataset: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
        """Return the presets of a base as cards; arguments as of ``bases``."""
        own = (preset for preset in self._by_name.values() if preset.base == base)
        return [(parts_reach.preset_card(one, self.here, self._plan(one.name, dataset)), one.name) for one in own]

    def _plan(self, name: str | None, dataset: Mapping[str, Any] | None) -> FitPlan | None:
        if name is None or not dataset or not dataset["photos"]:
            return None
        return self._session.studio.plan(self._by_name[name].config, len(dataset["photos"]))

    def default(self, base: str) -> str | None:
        chosen = machine.default_preset(base, self.here, self._by_name.values())
        return chosen.name if chosen else None

    def values(self, name: str | None) -> dict[str, Any]:
        config = self._by_name[name].config if name in self._by_name else TrainConfig()
        return widgets.values_of(config, _FIELDS)

    def hint(self, name: str | None) -> str:
        return parts_train.preset_hint(self._by_name.get(name or ""))


@dataclass(frozen=True)
class _Form:
    dataset: gr.Dropdown
    real_photos: gr.HTML
    base: gr.Radio
    base_hint: gr.HTML
    preset: gr.Radio
    preset_hint: gr.HTML
    advanced: dict[str, Any]
    repo: gr.Textbox
    seen_by: gr.Radio
    token: gr.Textbox

    @property
    def planned(self) -> set[Any]:
        """The components that decide what a run takes."""
        return {self.dataset, self.base, self.preset, *self.advanced.values()}


def _form(presets: _Presets, *, login: bool) -> _Form:
    base, preset = presets.first_base, presets.default(presets.first_base)
    dataset = gr.Dropdown([], label=words.TRAIN_PHOTOS, info=words.TRAIN_PHOTOS_INFO, interactive=True)
    real_photos = gr.HTML(elem_id="ls-train-real")
    base_field = gr.Radio(
        presets.bases(), value=base, label=words.TRAIN_BASE, info=words.TRAIN_CARDS_INFO, elem_classes="ls-choices"
    )
    base_hint = gr.HTML(parts_reach.base_hint(BASES[base], presets.here))
    preset_field = gr.Radio(presets.choices(base), value=preset, label=words.TRAIN_PRESET, elem_classes="ls-choices")
    preset_hint = gr.HTML(presets.hint(preset))
    values = presets.values(preset)
    advanced = widgets.build([field for field in _FIELDS if field.path in _FIRST], values)
    with widgets.folded(words.ADVANCED):
        advanced |= _advanced(values)
    with widgets.folded(words.TRAIN_PUBLISH):
        repo = gr.Textbox(
            label=words.REPOSITORY,
            info=words.TRAIN_REPOSITORY_INFO,
            placeholder=words.TRAIN_REPOSITORY_EXAMPLE,
            max_lines=1,
        )
        seen_by = gr.Radio([words.PRIVATE, words.PUBLIC], value=words.PRIVATE, label=words.WHO_CAN_SEE)
        token = widgets.token_box(words.TRAIN_TOKEN_INFO, "ls-train-token", login=login)
    return _Form(dataset, real_photos, base_field, base_hint, preset_field, preset_hint, advanced, repo, seen_by, token)


def _advanced(values: Mapping[str, Any]) -> dict[str, Any]:
    """Build the generated form: fields of no group first, then one folded group after the other."""
    fields = [field for field in _FIELDS if field.path not in _FIRST]
    form = widgets.build([field for field in fields if not mark_of(field.path).group], values)
    for title in GROUPS:
        with widgets.folded(language.say(title)):
            form |= widgets.build([field for field in fields if mark_of(field.path).group == title], values)
    return form


def dataset_choices(session: StudioSession) -> list[tuple[str, str]]:
    """Return the checks that hold at least one photo, or may yet, newest first, as choices: (label, job id)."""
    checks = session.jobs("check", states=USABLE_STATES)
    return [(label(job), job.id) for job in checks if is_open(job) or (job.result or {}).get("photos")]


def _dataset_of(session: StudioSession, check_job: str | None) -> Mapping[str, Any] | None:
    """Return what a check has found; None where none is chosen, or it is not finished."""
    return session.job(check_job, "check").result if check_job else None


def train_tab(context: TabContext) -> JobTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    presets = _Presets(session)
    frame = job_frame(
        context,
        "train",
        "train",
        earlier=words.TRAIN_EARLIER,
        welcome=parts.empty(words.TRAIN_WELCOME, words.TRAIN_POINTS),
        forward=words.TRAIN_FORWARD,
        retry=words.TRAIN_RETRY,
        labels=_labels(),
    )
    with gr.Row(equal_height=False):
        with form_column():
            form = _form(presets, login=session.has_login)
            plan = gr.HTML(elem_id="ls-train-plan")
            start = gr.Button(words.TRAIN_START, variant="primary", elem_classes="ls-long")
            frame.place_answer()
            frame.asks(
                {
                    "photos": form.dataset,
                    "base": form.base,
                    "preset": form.preset,
                    "repo": form.repo,
                    "token": form.token,
                }
            )
            frame.asks(form.advanced)
            frame.earlier.render()
        with job_column(frame):
            publish_this = onward_button(words.PUBLISH_THIS_RUN)
            curves = gr.HTML(elem_id="ls-train-curves")
            samples = film_strip()

    def details(job: JobView, history: JobHistory, seen: str) -> Updates:
        link = files.linker(session, job.id)
        done = is_completed(job)
        publishing = session.publishing_of(job)
        status = parts_train.train_result(job, link) if done else parts.progress(job, history)
        active = is_open(job) or (done and publishing is not None and is_open(publishing))
        return {
            frame.timer: gr.Timer(active=active),
            frame.status: status + parts_publish.then_published(job, publishing) + parts.warnings(history),
            frame.forward: gr.Button(visible=done),
            publish_this: gr.Button(visible=done),
            curves: parts_train.curves(history, job.result),
            **filmed(frame, samples, job, history, seen),
        }

    def refresh(wanted: str | None) -> Updates:
        choices = dataset_choices(session)
        return {form.dataset: gr.Dropdown(choices=choices, value=chosen_among(choices, wanted))}

    def run_of(given: dict[Any, Any]) -> dict[str, Any]:
        values = widgets.given_values(form.advanced, given)
        changes = widgets.collect(_FIELDS, values, presets.values(given[form.preset]))
        return {"base": given[form.base] or "", "preset": given[form.preset] or "", "changes": changes}

    def on_start(given: dict[Any, Any]) -> Updates:
        repo = (given[form.repo] or "").strip()
        publish = {"repo": repo, "public": given[form.seen_by] == words.PUBLIC} if repo else None
        token = (given[form.token] or "").strip() if publish else None
        job = session.submit_train(given[form.dataset], **run_of(given), publish=publish, token=token)
        # The field is emptied as soon as the studio has taken the token over.
        return {**frame.show(job), form.token: "" if publish else gr.skip()}

    def on_plan(given: dict[Any, Any]) -> Updates:
        try:
            return {plan: parts_train.plan(session.plan_train(given[form.dataset], **run_of(given)))}
        except StudioError:  # a form that is not filled in yet has no plan; the button says what is wrong with it
            return {plan: ""}

    def on_preset(name: str | None) -> Updates:
        values = presets.values(name)
        updates: Updates = {component: values[path] for path, component in form.advanced.items()}
        return updates | {form.preset_hint: presets.hint(name)}

    def on_base(name: str | None, check_job: str | None) -> Updates:
        preset = presets.default(name) if name else None
        cards = presets.choices(name or "", _dataset_of(session, check_job))
        return {
            form.base_hint: parts_reach.base_hint(BASES.get(name or ""), presets.here),
            form.preset: gr.Radio(choices=cards, value=preset),
        } | on_preset(preset)

    def on_dataset(check_job: str | None, base: str | None) -> Updates:
        dataset = _dataset_of(session, check_job)
        told = parts_reach.real_photos(dataset, presets.here)
        wanted = base
        if told and reach.draws_cartoons(base or ""):
            wanted = None  # a base that cannot draw what is on the photos is chosen for nobody
        elif not told and not base:
            wanted = presets.first_base
        cards = presets.bases(dataset)
        if wanted != base:
            return {form.real_photos: told, form.base: gr.Radio(cards, value=wanted), **on_base(wanted, check_job)}
        own = presets.choices(base or "", dataset)
        return {form.real_photos: told, form.base: gr.Radio(choices=cards), form.preset: gr.Radio(choices=own)}

    frame.connect(details, [publish_this, curves, samples])
    frame.starts(start, on_start, {*form.planned, form.repo, form.seen_by, form.token}, [form.token])
    connect_film(frame, samples)
    of_preset = [form.preset_hint, *form.advanced.values()]
    of_base = [form.base_hint, form.preset, *of_preset]
    # The plan comes after the form has taken the new preset's values: a plan of half the old ones would be wrong.
    form.base.input(frame.guarded(on_base), [form.base, form.dataset], [frame.notice, *of_base], **QUIET).then(
        on_plan, form.planned, plan, **QUIET
    )
    form.preset.input(on_preset, form.preset, of_preset, **QUIET).then(on_plan, form.planned, plan, **QUIET)
    of_dataset = [form.real_photos, form.base, *of_base]
    form.dataset.change(faults_in(form.real_photos)(on_dataset), [form.dataset, form.base], of_dataset, **QUIET).then(
        on_plan, form.planned, plan, **QUIET
    )
    touched: list[Any] = [*(component.input for component in form.advanced.values())]
    gr.on(touched, on_plan, form.planned, plan, trigger_mode="always_last", **QUIET)
    return JobTab(frame, form.dataset, refresh, [form.dataset], onward={"publish": publish_this})
