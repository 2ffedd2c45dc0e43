"""The page: five tabs, what joins them, and what happens when it is opened."""

from typing import Any

import gradio as gr

from studio.core.domain import JobKind, JobView
from studio.core.errors import StudioError
from studio.web.page import parts
from studio.web.page.context import QUIET, TabContext, Updates
from studio.web.page.endpoints import add_endpoints
from studio.web.page.finish_tab import FinishTab, finish_tab
from studio.web.page.generate_tab import GenerateTab, generate_tab
from studio.web.page.history import JobHistories
from studio.web.page.photos_tab import PhotosTab, photos_tab
from studio.web.page.publish_tab import PublishTab, publish_tab
from studio.web.page.train_tab import TrainTab, train_tab
from studio.web.session import StudioSession, is_open

_TAB_OF = {"check": "photos", "train": "train", "generate": "generate", "finish": "finish", "publish": "publish"}
_LOG_IN, _LOG_OUT = "Log in with Hugging Face", "Log out ({})"
_CACHE_SWEEP_S = (3600, 24 * 3600)


def build(session: StudioSession) -> gr.Blocks:
    """Return the page, not yet mounted; ``studio.web.server`` gives it its theme and its address."""
    room = TabContext(session, JobHistories(session))
    with gr.Blocks(title="Likeness Studio", analytics_enabled=False, delete_cache=_CACHE_SWEEP_S) as page:
        gr.HTML(parts.header())
        doors = _login_row() if session.visitor else []
        with gr.Tabs() as tabs:
            with gr.Tab("Photos", id="photos"):
                photos = photos_tab(room)
            with gr.Tab("Train", id="train") as train_door:
                train = train_tab(room)
            with gr.Tab("Generate", id="generate") as generate_door:
                pictures = generate_tab(room)
            with gr.Tab("Finish", id="finish") as finish_door:
                finished = finish_tab(room)
            with gr.Tab("Publish", id="publish") as publish_door:
                published = publish_tab(room)
        gr.HTML(parts.footer())

        def to_training(check: str) -> Updates:
            return {tabs: gr.Tabs(selected="train"), **train.refresh(check)}

        def to_pictures(run: str) -> Updates:
            return {tabs: gr.Tabs(selected="generate"), **pictures.refresh(run)}

        def on_open(request: gr.Request) -> Updates:
            wanted = _wanted(session, request.query_params.get("job"))
            updates: Updates = {}
            tabs_of: dict[JobKind, PhotosTab | TrainTab | GenerateTab | FinishTab | PublishTab]
            tabs_of = {
                "check": photos, "train": train, "generate": pictures, "finish": finished, "publish": published
            }  # fmt: skip
            for kind, tab in tabs_of.items():
                job = wanted if wanted and wanted.kind == kind else session.current(kind)
                updates |= tab.show(job)
                # Not one that waits for another job, like a publishing for its run: that job is the one to be shown.
                if wanted is None and job is not None and is_open(job) and job.state != "pendingImages":
                    updates[tabs] = gr.Tabs(selected=_TAB_OF[kind])
            if wanted is not None:
                updates[tabs] = gr.Tabs(selected=_TAB_OF[wanted.kind])
            if session.visitor:
                updates |= dict(zip(doors, _login_state(session), strict=True))
            updates |= train.refresh(None) | pictures.refresh(None) | finished.refresh(None)
            return updates | published.refresh(None)

        photos.forward.click(to_training, photos.job, [tabs, train.dataset], **QUIET)
        train.forward.click(to_pictures, train.job, [tabs, *pictures.refreshed], **QUIET)
        train_door.select(train.refresh, train.dataset, [train.dataset], **QUIET)
        generate_door.select(pictures.refresh, pictures.run, pictures.refreshed, **QUIET)
        finish_door.select(finished.refresh, finished.made, [finished.made], **QUIET)
        publish_door.select(published.refresh, published.run, published.refreshed, **QUIET)
        everything = [tabs, *photos.outputs, *train.outputs, train.dataset, *pictures.outputs, *pictures.refreshed]
        everything += doors
        everything += [*finished.outputs, finished.made, *published.outputs, *published.refreshed]
        page.load(on_open, None, everything, **QUIET)
        add_endpoints(session)
    # On a Space Gradio's page would ask other machines for a banner and its fonts; our policy forbids that anyway.
    page.space_id = None
    page.queue(max_size=256, default_concurrency_limit=4)
    return page


def _login_row() -> list[gr.components.Component]:
    """Add the button that logs in and out, and the place of a word to those who are not logged in."""
    with gr.Row():
        button = gr.LoginButton(_LOG_IN, logout_value=_LOG_OUT, size="md", scale=0, min_width=260, elem_id="ls-login")
    # Gradio's own event that names the visitor on the button is queued and offered to programs; on_open does it here.
    button.load_event_to_attach = None
    return [button, gr.HTML(elem_id="ls-login-notice")]


def _login_state(session: StudioSession) -> tuple[Any, Any]:
    """Return what the button and the word beside it say to whoever opens the page."""
    if session.visitor is None or not session.has_owner:
        return gr.update(value=_LOG_IN), parts.log_in()
    return gr.update(value=_LOG_OUT.format(session.visitor().name)), ""


def _wanted(session: StudioSession, job_id: str | None) -> JobView | None:
    """Return the job that the address names; None if it names none of the owner's, or one that no tab shows."""
    if not job_id:
        return None
    try:
        job = session.studio.get(job_id, owner=session.owner)
    except StudioError:
        return None
    return job if job.kind in _TAB_OF else None
