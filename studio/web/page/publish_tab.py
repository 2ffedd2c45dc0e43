"""The Publish tab: a run to the Hub. A preview shows what would be published; the token is used once and not kept."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.config import PublishConfig
from studio.core.domain import JobView
from studio.web.hearts import hearted
from studio.web.page import files, parts, parts_publish, widgets, words
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
from studio.web.session import DONE, USABLE_STATES, StudioSession, label

_SAMPLES = ""
"""Stands for the run's own samples among the picture sets."""
_GALLERY, _MOST = PublishConfig.model_fields["gallery"].default, 50
"""Pictures of a gallery by itself, and the most that may be chosen for it."""


def _labels() -> dict[str, str]:
    """Return what the form calls its settings."""
    return {
        "repo": words.REPOSITORY,
        "token": words.TOKEN,
        "licence": words.PUBLISH_LICENCE,
        "about": words.PUBLISH_ABOUT,
        "choose": words.PUBLISH_CHOSEN,
    }


@dataclass(frozen=True)
class _Form:
    run: gr.Dropdown
    repo: gr.Textbox
    seen_by: gr.Radio
    form: gr.Dropdown
    made: gr.Dropdown
    chosen: gr.Dropdown
    title: gr.Textbox
    about: gr.Textbox
    licence: gr.Textbox
    update: gr.Checkbox
    token: gr.Textbox

    @property
    def inputs(self) -> set[Any]:
        return set(vars(self).values())

    def settings(self, given: dict[Any, Any]) -> dict[str, Any]:
        """Return settings of PublishConfig."""
        optional = {"title": given[self.title], "licence": given[self.licence]}
        return {
            "repo": (given[self.repo] or "").strip(),
            "public": given[self.seen_by] == words.PUBLIC,
            "form": given[self.form],
            "choose": tuple(given[self.chosen] or ()),
            "gallery": max(_GALLERY, min(_MOST, len(given[self.chosen] or ()))),
            "about": given[self.about] or "",
            "update": bool(given[self.update]),
            **{name: text.strip() for name, text in optional.items() if text and text.strip()},
        }


def _form(*, login: bool) -> _Form:
    return _Form(
        run=gr.Dropdown([], label=words.PUBLISH_RUN, info=words.PUBLISH_RUN_INFO, interactive=True),
        repo=gr.Textbox(
            label=words.REPOSITORY,
            info=words.PUBLISH_REPOSITORY_INFO,
            placeholder=words.PUBLISH_REPOSITORY_EXAMPLE,
            max_lines=1,
        ),
        seen_by=gr.Radio([words.PRIVATE, words.PUBLIC], value=words.PRIVATE, label=words.WHO_CAN_SEE),
        form=gr.Dropdown(
            [(text, name) for name, text in words.PUBLISH_FORMS.items()],
            value="adapter",
            label=words.PUBLISH_FORM,
            interactive=True,
        ),
        made=gr.Dropdown(
            [(words.PUBLISH_SAMPLES, _SAMPLES)], value=_SAMPLES, label=words.PUBLISH_PICTURES, interactive=True
        ),
        chosen=gr.Dropdown(
            [],
            multiselect=True,
            label=words.PUBLISH_CHOSEN,
            info=words.PUBLISH_CHOSEN_INFO,
            interactive=True,
            visible=False,
        ),
        title=gr.Textbox(label=words.PUBLISH_TITLE, placeholder=words.PUBLISH_TITLE_EXAMPLE, max_lines=1),
        about=gr.Textbox(label=words.PUBLISH_ABOUT, info=words.PUBLISH_ABOUT_INFO, lines=3),
        licence=gr.Textbox(
            label=words.PUBLISH_LICENCE,
            info=words.PUBLISH_LICENCE_INFO,
            placeholder=words.PUBLISH_LICENCE_EXAMPLE,
            max_lines=1,
        ),
        update=gr.Checkbox(label=words.PUBLISH_UPDATE),
        token=widgets.token_box(words.PUBLISH_TOKEN_INFO, "ls-token", login=login),
    )


def picture_sets(session: StudioSession) -> list[tuple[str, str]]:
    """Return what the gallery may be taken from, as choices: the samples, finished pictures, generated ones."""
    # Finished uploads are left out: photos are not published.
    finished = [job for job in session.jobs("finish", states=DONE) if job.source]
    return [
        (words.PUBLISH_SAMPLES, _SAMPLES),
        *((words.PUBLISH_FINISHED.format(title=label(job)), job.id) for job in finished),
        *session.choices("generate", states=DONE),
    ]


def publish_tab(context: TabContext) -> JobTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    welcome = parts.empty(words.PUBLISH_WELCOME, words.PUBLISH_POINTS)
    frame = job_frame(
        context,
        "publish",
        "publish",
        earlier=words.EARLIER,
        retry=words.PUBLISH_RETRY,
        welcome=welcome,
        labels=_labels(),
    )
    with gr.Row(equal_height=False):
        with form_column():
            form = _form(login=session.has_login)
            preview = gr.Button(words.PUBLISH_PREVIEW)
            start = gr.Button(words.PUBLISH_START, variant="primary")
            frame.place_answer()
            frame.asks({name: getattr(form, name) for name in ("repo", "title", "about", "licence", "token")})
            frame.earlier.render()
        with job_column(frame):
            gallery = picture_gallery("ls-published", columns=6)
            card = gr.Markdown(visible=False, elem_id="ls-card", sanitize_html=True)

    def details(job: JobView, history: JobHistory, seen: str) -> Updates:
        done = is_completed(job)
        updates: Updates = {frame.status: progress_or(job, history, lambda: parts_publish.publish_result(job))}
        now = f"{job.id}:{done}"
        if now != seen:
            readme = session.out_file(job.id, "repo/README.md") if done else None
            text = parts_publish.card_text(readme.read_text(encoding="utf-8")) if readme else ""
            names = [name for name in (job.result or {}).get("files", ()) if name.startswith("gallery/")]
            found = [session.out_file(job.id, f"repo/{name}") for name in names]
            pictures = [files.served_copy(path) for path in found if path is not None]
            updates |= {
                frame.shown: now,
                card: gr.Markdown(value=text, visible=bool(text)),
                gallery: gr.Gallery(value=pictures, visible=bool(pictures)),
            }
        return updates

    def refresh(wanted: str | None) -> Updates:
        runs = session.choices("train", states=USABLE_STATES)
        return {
            form.run: gr.Dropdown(choices=runs, value=chosen_among(runs, wanted)),
            form.made: gr.Dropdown(choices=picture_sets(session)),
        }

    def take(job: JobView) -> tuple[str | None, Updates]:
        made = job.id if job.kind == "generate" else _SAMPLES
        run = job.source if made else job.id
        updates = refresh(run)
        updates[form.made] = gr.Dropdown(choices=picture_sets(session), value=made)
        return run, updates | on_made(made)

    def on_preview(given: dict[Any, Any]) -> Updates:
        settings = {**form.settings(given), "dry_run": True}
        return frame.show(session.submit_publish(given[form.run], settings, pictures_job=given[form.made]))

    def on_start(given: dict[Any, Any]) -> Updates:
        token = (given[form.token] or "").strip()
        job = session.submit_publish(given[form.run], form.settings(given), pictures_job=given[form.made], token=token)
        # The field is emptied as soon as the studio has taken the token over.
        return {**frame.show(job), form.token: ""}

    def on_made(job_id: str | None) -> Updates:
        job = session.studio.get(job_id, owner=session.owner) if job_id else None
        result = (job.result or {}) if job else {}
        names = [str(row["file"]) for row in result.get("images") or result.get("pictures") or ()]
        loved = hearted(job)[:_MOST] if job and job.kind == "generate" else []
        return {form.chosen: gr.Dropdown(choices=names, value=loved, visible=bool(names))}

    frame.connect(details, [card, gallery])
    frame.starts(preview, on_preview, form.inputs)
    frame.starts(start, on_start, form.inputs, [form.token])
    form.made.input(frame.guarded(on_made), form.made, [frame.notice, form.chosen], **QUIET)
    return JobTab(frame, form.run, refresh, [form.run, form.made, form.chosen], take)
