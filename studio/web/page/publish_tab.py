"""The Publish tab: a run to the Hub. What would be pushed is shown first; the token is used once and not kept."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core.domain import JobView
from studio.web.page import files, parts, parts_publish, widgets
from studio.web.page.context import POLL_S, POLLING, PRIVATE, PUBLIC, QUIET, TabContext, Updates, in_view, kindly
from studio.web.page.finish_tab import made_choices
from studio.web.page.generate_tab import run_choices
from studio.web.session import StudioSession, is_open, label

SAMPLES = ("The run's own samples", "")
_FORMS = [
    ("Adapter, for diffusers and ComfyUI", "adapter"),
    ("Whole model, a diffusers folder", "merged"),
    ("Whole model, one file", "single_file"),
]

_WELCOME = parts.empty(
    "On the Hugging Face Hub",
    [
        "one commit: the adapter for diffusers and ComfyUI, read back and certified",
        "a model card with your pictures, trigger words, measured likeness and the base's licence",
        "private unless you say otherwise; nothing of your photos goes along",
        "Preview shows what would be pushed and needs no token",
    ],
)


@dataclass(frozen=True)
class PublishTab:
    """Handles for the page."""

    job: gr.State
    run: gr.Dropdown
    outputs: list[Any]
    refreshed: list[Any]
    show: Callable[[JobView | None], Updates]
    refresh: Callable[[str | None], Updates]


def picture_sets(session: StudioSession) -> list[tuple[str, str]]:
    """Return what the gallery may be taken from, as (words, job id): finished pictures, generated ones, the samples."""
    # Only those that were made of generated pictures: photos are not published.
    finished = [
        (f"Finished: {label(job)}", job.id) for job in session.jobs("finish") if job.state == "completed" and job.source
    ]
    return [SAMPLES, *finished, *made_choices(session)]


def publish_tab(room: TabContext) -> PublishTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = room.session
    job_id, shown = gr.State(""), gr.State("")
    timer = gr.Timer(POLL_S, active=False)
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300, elem_classes="ls-tight"):
            run = gr.Dropdown([], label="Run", info="A finished training run.", interactive=True)
            repo = gr.Textbox(label="Repository", info="As owner/name.", placeholder="you/ada", max_lines=1)
            seen_by = gr.Radio([PRIVATE, PUBLIC], value=PRIVATE, label="Who may see it")
            form = gr.Dropdown(_FORMS, value="adapter", label="What is published", interactive=True)
            made = gr.Dropdown([SAMPLES], value="", label="Pictures for the gallery", interactive=True)
            chosen = gr.Dropdown(
                [],
                multiselect=True,
                label="Chosen pictures",
                info="None takes the best ones.",
                interactive=True,
                visible=False,
            )
            title = gr.Textbox(label="Title", placeholder="the subject's name", max_lines=1)
            about = gr.Textbox(label="About", info="Your own text for the model card.", lines=3)
            licence = gr.Textbox(
                label="Licence", info="Only for a base outside the catalog.", placeholder="of the base", max_lines=1
            )
            update = gr.Checkbox(label="Update a repository that exists")
            token = widgets.token_box(
                "With write access; used for this one job and not kept.", "ls-token", login=session.visitor is not None
            )
            preview = gr.Button("Preview")
            start = gr.Button("Publish", variant="primary")
            earlier = gr.Dropdown([], label="Earlier", interactive=True, visible=False)
        with gr.Column(scale=8, min_width=320, elem_classes="ls-tight"):
            notice = gr.HTML(elem_id="ls-publish-notice")
            status = gr.HTML(_WELCOME, elem_id="ls-publish-status")
            cancel = gr.Button("Cancel", visible=False, elem_classes="ls-go")
            gallery = gr.Gallery(
                show_label=False,
                columns=6,
                height="auto",
                object_fit="contain",
                interactive=False,
                visible=False,
                allow_preview=False,
                elem_id="ls-published",
                elem_classes="ls-plain",
            )
            card = gr.Markdown(visible=False, elem_id="ls-card", sanitize_html=True)

    def show(job: JobView | None, seen: str = "") -> Updates:
        jobs = [(label(row), row.id) for row in session.jobs("publish")]
        if job is None:
            return {timer: gr.Timer(active=False), earlier: gr.Dropdown(choices=jobs, value=None, visible=bool(jobs))}
        history = room.histories.read(job.id)
        done = job.state == "completed"
        updates: Updates = {
            job_id: job.id,
            timer: gr.Timer(active=is_open(job)),
            status: parts_publish.publish_result(job)
            if done
            else parts.progress(job, history) + parts.warnings(history),
            cancel: gr.Button(visible=is_open(job)),
            earlier: gr.Dropdown(choices=jobs, value=job.id, visible=True),
        }
        now = f"{job.id}:{done}"
        if now != seen:
            readme = session.out_file(job.id, "repo/README.md") if done else None
            text = parts_publish.card_text(readme.read_text(encoding="utf-8")) if readme else ""
            names = [name for name in (job.result or {}).get("files", ()) if name.startswith("gallery/")]
            found = [session.out_file(job.id, f"repo/{name}") for name in names]
            pictures = [files.lent(path) for path in found if path is not None]
            updates |= {
                shown: now,
                card: gr.Markdown(value=text, visible=bool(text)),
                gallery: gr.Gallery(value=pictures, visible=bool(pictures)),
            }
        return updates

    def refresh(wanted: str | None) -> Updates:
        runs = run_choices(session)
        known = [value for _, value in runs]
        return {
            run: gr.Dropdown(choices=runs, value=wanted if wanted in known else next(iter(known), None)),
            made: gr.Dropdown(choices=picture_sets(session)),
        }

    def pictures_of(wanted: str | None) -> list[str]:
        if not wanted:
            return []
        job = session.studio.get(wanted, owner=session.owner)
        result = job.result or {}
        return [str(row["file"]) for row in result.get("images") or result.get("pictures") or ()]

    said = kindly(
        notice, {"repo": "Repository", "token": "Token", "licence": "Licence", "about": "About", "choose": "Pictures"}
    )
    outputs = [job_id, shown, timer, notice, status, cancel, card, gallery, earlier]
    asked: set[Any] = {run, repo, seen_by, form, made, chosen, title, about, licence, update, token}

    def submit(given: dict[Any, Any], *, dry_run: bool) -> Updates:
        words = {"title": given[title], "licence": given[licence]}
        settings = {
            "repo": (given[repo] or "").strip(),
            "public": given[seen_by] == PUBLIC,
            "form": given[form],
            "choose": tuple(given[chosen] or ()),
            "about": given[about] or "",
            "update": bool(given[update]),
            "dry_run": dry_run,
            **{name: text.strip() for name, text in words.items() if text and text.strip()},
        }
        secret = (given[token] or "").strip()
        job = session.submit_publish(given[run], settings, pictures_job=given[made], token=None if dry_run else secret)
        # The field is emptied as soon as the token was taken over.
        return {**show(job), token: gr.skip() if dry_run else ""}

    @said
    def on_preview(given: dict[Any, Any]) -> Updates:
        return submit(given, dry_run=True)

    @said
    def on_start(given: dict[Any, Any]) -> Updates:
        return submit(given, dry_run=False)

    @said
    def on_poll(current: str, seen: str) -> Updates:
        return show(session.job(current, "publish"), seen)

    @said
    def on_open(current: str) -> Updates:
        return show(session.job(current, "publish"))

    @said
    def on_cancel(current: str, seen: str) -> Updates:
        session.studio.cancel(session.job(current, "publish").id, owner=session.owner)
        return show(session.job(current, "publish"), seen)

    @said
    def on_made(wanted: str | None) -> Updates:
        names = pictures_of(wanted)
        return {chosen: gr.Dropdown(choices=names, value=[], visible=bool(names))}

    made.input(on_made, made, [notice, chosen], **QUIET)
    preview.click(on_preview, asked, [*outputs, token], **QUIET)
    started = start.click(on_start, asked, [*outputs, token], **QUIET)
    started.then(None, js=in_view("ls-publish-status"), api_visibility="private")
    timer.tick(on_poll, [job_id, shown], outputs, **POLLING)
    cancel.click(on_cancel, [job_id, shown], outputs, **QUIET)
    earlier.input(on_open, earlier, outputs, **QUIET)
    return PublishTab(job_id, run, outputs, [run, made], show, refresh)
