"""The page: its tabs, what joins them, and what happens when it is opened."""

from collections.abc import Callable, Collection
from typing import Any

import gradio as gr

from studio.core import machine
from studio.core.domain import JobKind, JobView
from studio.core.errors import StudioError
from studio.web.page import parts, parts_pictures, parts_reach, words
from studio.web.page.admin_tab import admin_tab
from studio.web.page.context import QUIET, TabContext, Updates
from studio.web.page.endpoints import add_endpoints
from studio.web.page.finish_tab import finish_tab
from studio.web.page.forget_panel import forget_panel
from studio.web.page.frame import JobTab
from studio.web.page.generate_tab import generate_tab
from studio.web.page.history import JobHistories
from studio.web.page.library_tab import LibraryTab, library_tab
from studio.web.page.photos_tab import photos_tab
from studio.web.page.publish_tab import publish_tab
from studio.web.page.rename_panel import connect_renaming
from studio.web.page.train_tab import train_tab
from studio.web.session import StudioSession, is_open

_DOORS = frozenset({"library", "check", "train", "generate", "finish", "publish", "admin"})
"""Ids of the tabs, as an address may name them: those of ``gr.Tab`` below."""
_CACHE_SWEEP_S = (3600, 24 * 3600)


def build(session: StudioSession) -> gr.Blocks:
    """Return the page, not yet mounted; ``studio.web.server`` gives it its theme and its address."""
    context = TabContext(session, JobHistories(session))
    with gr.Blocks(title=words.TITLE, analytics_enabled=False, delete_cache=_CACHE_SWEEP_S) as page:
        head = gr.HTML(parts.header("" if session.has_keys else None))
        login_row = _login_row() if session.has_login else []
        with gr.Tabs(selected="check") as tabs:
            with gr.Tab(words.TAB_LIBRARY, id="library") as library_door:
                library = library_tab(context)
            with gr.Tab(words.TAB_PHOTOS, id="check"):
                intro = gr.HTML(parts_reach.intro(machine.look(session.settings.device)), elem_id="ls-intro")
                photos = photos_tab(context)
            with gr.Tab(words.TAB_TRAIN, id="train") as train_door:
                train = train_tab(context)
            with gr.Tab(words.TAB_GENERATE, id="generate") as generate_door:
                generate = generate_tab(context)
            with gr.Tab(words.TAB_FINISH, id="finish") as finish_door:
                finish = finish_tab(context)
            with gr.Tab(words.TAB_PUBLISH, id="publish") as publish_door:
                publish = publish_tab(context)
            alone = session.visitor is None  # nobody is kept out then, and nobody else is there to be looked after
            label = words.TAB_MACHINE if alone else words.TAB_ADMIN
            # Opened by the link at the foot: on a phone one tab more would push others into a menu.
            with gr.Tab(label, id="admin", visible=False) as admin_door:
                admin = admin_tab(context)
        by_kind = {tab.frame.kind: tab for tab in (photos, train, generate, finish, publish)}
        connect_renaming(context, library.renaming, by_kind.values(), library)
        forget_panel(context, by_kind.values(), library)
        footer = gr.HTML(parts.footer(label if alone else ""))
        gr.HTML(parts_pictures.viewer())

        def on_open(request: gr.Request) -> Updates:
            wanted = _wanted(session, request.query_params.get("job"), by_kind)
            door = request.query_params.get("tab")
            updates: Updates = {intro: gr.HTML(visible=session.current("check") is None)}
            if door == "library":  # it reads all jobs; otherwise that is done when its tab is opened
                updates |= library.refresh("")
            for kind, tab in by_kind.items():
                job = wanted if wanted and wanted.kind == kind else session.current(kind)
                updates |= {**tab.frame.show(job), **tab.refresh(job.source if job else None)}
                # A job that waits for another one, like a publishing for its run, leaves the page to that other one.
                if wanted is None and job is not None and is_open(job) and job.state != "pendingImages":
                    updates[tabs] = gr.Tabs(selected=kind)
            is_admin = session.is_operator
            if not alone:
                updates[footer] = parts.footer(label if is_admin else "")
            updates[admin_door] = gr.Tab(visible=is_admin and door == "admin")
            if is_admin and door == "admin":
                updates |= admin.refresh()
            if wanted is not None:
                updates[tabs] = gr.Tabs(selected=wanted.kind)
            elif door in _DOORS and (door != "admin" or is_admin):
                updates[tabs] = gr.Tabs(selected=door)
            if session.has_keys:
                updates[head] = parts.header(session.owner)
            if session.has_login:
                updates |= dict(zip(login_row, _login_state(session), strict=True))
            return updates

        for tab, following in ((photos, train), (train, generate)):
            _lead(tabs, tab, following)
        for tab in by_kind.values():
            for kind, button in tab.onward.items():
                _hand_over(session, tabs, tab, button, by_kind[kind])
        _lead_the_whole_way(session, tabs, photos, train, generate)
        _lead_from_library(tabs, library, library.again, library.photos_of, train)
        _lead_from_library(tabs, library, library.pictures, library.run_of, generate)
        library_door.select(library.refresh, library.chosen, list(library.outputs), **QUIET)
        doors = ((train_door, train), (generate_door, generate), (finish_door, finish), (publish_door, publish))
        for door, tab in doors:
            door.select(tab.refresh, [tab.source, *tab.kept], list(tab.refreshed), **QUIET)
            _follow(session, tab)
        outputs = [component for tab in by_kind.values() for component in (*tab.frame.outputs, *tab.refreshed)]
        answers = [tab.frame.notice for tab in by_kind.values()]
        outputs = [component for component in outputs if component not in answers]
        outputs += [*library.outputs, footer, admin_door, *admin.outputs]
        admin_door.select(admin.refresh, None, list(admin.outputs), **QUIET)
        page.load(on_open, None, [tabs, head, intro, *login_row, *outputs], **QUIET)
        add_endpoints(session)
    # On a Space Gradio's page would load a banner and fonts from other machines; our policy forbids that anyway.
    page.space_id = None
    page.queue(max_size=256, default_concurrency_limit=4)
    return page


def _follow(session: StudioSession, tab: JobTab) -> None:
    """Keep what a tab works on and what it shows together: choosing one brings the other along."""
    frame, source = tab.frame, tab.source
    assert source is not None

    def on_earlier(job_id: str) -> Updates:
        return tab.refresh(session.job(job_id, frame.kind).source)

    source.input(frame.guarded(frame.show_of), source, frame.outputs, **QUIET)
    frame.earlier.input(frame.guarded(on_earlier), frame.earlier, [frame.notice, *tab.refreshed], **QUIET)


def _lead(tabs: gr.Tabs, tab: JobTab, following: JobTab) -> None:
    """Let a tab's forward button open the following tab with the job chosen there."""

    def on_forward(job_id: str) -> Updates:
        return _opened(tabs, following, job_id)

    assert tab.frame.forward is not None
    outputs = [tabs, *following.refreshed, *following.frame.outputs]
    tab.frame.forward.click(on_forward, tab.frame.job, outputs, **QUIET)


def _lead_the_whole_way(session: StudioSession, tabs: gr.Tabs, photos: JobTab, train: JobTab, generate: JobTab) -> None:
    """Let one press queue a run and pictures with it; the pictures' tab waits for both."""

    def on_press(job_id: str) -> Updates:
        run, pictures = session.submit_whole_way(job_id)
        trains = {**train.refresh(run.source), **train.frame.show(run)}
        return {tabs: gr.Tabs(selected=generate.frame.kind), **trains} | {
            **generate.refresh(run.id),
            **generate.frame.show(pictures),
        }

    assert photos.whole_way is not None
    outputs = [photos.frame.notice, tabs, *train.refreshed, *train.frame.outputs]
    outputs += [*generate.refreshed, *generate.frame.outputs]
    photos.whole_way.click(photos.frame.guarded(on_press), photos.frame.job, outputs, **QUIET)


def _hand_over(session: StudioSession, tabs: gr.Tabs, tab: JobTab, button: gr.Button, following: JobTab) -> None:
    """Let a button open another tab with what this one shows chosen there, and with what was made of that before."""

    def on_press(job_id: str) -> Updates:
        assert following.take is not None
        source, chosen = following.take(session.job(job_id, tab.frame.kind))
        return {**_opened(tabs, following, source), **chosen}

    outputs = [tab.frame.notice, tabs, *following.refreshed, *following.frame.outputs]
    button.click(tab.frame.guarded(on_press), tab.frame.job, outputs, **QUIET)


def _opened(tabs: gr.Tabs, tab: JobTab, source: str | None) -> Updates:
    """Return the updates that open a tab with a job to work on, and with what was made of that."""
    shown = tab.frame.show_of(source) if source else {}
    return {tabs: gr.Tabs(selected=tab.frame.kind), **tab.refresh(source), **shown}


def _lead_from_library(
    tabs: gr.Tabs, library: LibraryTab, button: gr.Button, source_of: Callable[[str], str | None], following: JobTab
) -> None:
    """Let a button of the library open a tab with what it chose of the subject."""

    def on_press(name: str) -> Updates:
        return _opened(tabs, following, source_of(name))

    button.click(on_press, library.chosen, [tabs, *following.refreshed, *following.frame.outputs], **QUIET)


def _login_row() -> list[gr.components.Component]:
    """Add the button that logs in and out, and the place for a notice to those who are not logged in."""
    with gr.Row():
        log_out = words.LOG_OUT.replace("{name}", "{}")  # Gradio fills the name into empty braces
        button = gr.LoginButton(
            words.LOG_IN, logout_value=log_out, size="md", scale=0, min_width=260, elem_id="ls-login"
        )
    # Gradio's own event that names the visitor on the button is queued and offered to programs; on_open does it here.
    button.load_event_to_attach = None
    return [button, gr.HTML(elem_id="ls-login-notice")]


def _login_state(session: StudioSession) -> tuple[Any, Any]:
    """Return the button's text and the notice for whoever opens the page."""
    if session.visitor is None or not session.has_owner:
        return gr.update(value=words.LOG_IN), parts.log_in()
    return gr.update(value=words.LOG_OUT.format(name=session.visitor().name)), ""


def _wanted(session: StudioSession, job_id: str | None, kinds: Collection[JobKind]) -> JobView | None:
    """Return the job that the address names; None if it names none of the owner's, or one that no tab shows."""
    if not job_id:
        return None
    try:
        job = session.studio.get(job_id, owner=session.owner)
    except StudioError:
        return None
    return job if job.kind in kinds else None
