"""The Library tab: who, not which job. One face for each subject, and everything that there is of the chosen one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.web.page import files, parts, parts_library, words
from studio.web.page.context import POLLING, QUIET, TabContext, Updates, faults_in
from studio.web.page.rename_panel import RenamePanel, rename_panel
from studio.web.shelf import Shelf, face_of, shelves_of

_POLL_S = 5.0


@dataclass(frozen=True)
class LibraryTab:
    """The tab as the page sees it."""

    refresh: Callable[..., Updates]
    """Takes the chosen subject, and ``anew`` where it was not the chosen one before; returns updates of ``outputs``."""
    chosen: gr.State
    """Name of the chosen subject; empty for the newest one."""
    outputs: Sequence[Any]
    again: gr.Button
    """Leads to the Train tab with the subject's newest photos."""
    pictures: gr.Button
    """Leads to the Generate tab with the subject's best run."""
    photos_of: Callable[[str], str | None]
    """Takes a subject; returns the id of its newest usable photo set."""
    run_of: Callable[[str], str | None]
    """Takes a subject; returns the id of its best run."""
    renaming: RenamePanel


def library_tab(context: TabContext) -> LibraryTab:
    """Build the tab inside the current ``gr.Tab``."""
    session = context.session
    chosen = gr.State("")
    timer = gr.Timer(_POLL_S, active=False)
    faces = gr.Gallery(
        label=words.LIBRARY_SUBJECTS,
        show_label=False,
        columns=6,
        height="auto",
        object_fit="cover",
        interactive=False,
        allow_preview=False,
        visible=False,
        buttons=[],
        elem_id="ls-subjects",
        elem_classes="ls-plain",
    )
    with gr.Row():
        pictures = gr.Button(words.TRAIN_FORWARD, variant="primary", visible=False, elem_classes="ls-go")
        again = gr.Button(words.LIBRARY_AGAIN, visible=False, elem_classes="ls-go")
    welcome = parts.empty(words.LIBRARY_WELCOME, words.LIBRARY_POINTS)
    shelf_html = gr.HTML(welcome, elem_id="ls-shelf")
    renaming = rename_panel()

    def link(job_id: str, file: str) -> str | None:
        return files.linker(session, job_id)(file)

    def refresh(name: str, *, anew: bool = False) -> Updates:
        return show(shelves_of(session), name, anew=anew)

    def show(shelves: Sequence[Shelf], name: str, *, anew: bool) -> Updates:
        if not shelves:
            return {
                chosen: "",
                timer: gr.Timer(active=False),
                faces: gr.Gallery(value=[], visible=False),
                shelf_html: welcome,
                pictures: gr.Button(visible=False),
                again: gr.Button(visible=False),
                **renaming.hide(),
            }
        shelf = next((row for row in shelves if row.subject == name), shelves[0])
        return {
            chosen: shelf.subject,
            timer: gr.Timer(active=any(row.at_work for row in shelves)),
            faces: gr.Gallery(
                value=[(_face(row), parts_library.subject_caption(row)) for row in shelves],
                selected_index=shelves.index(shelf),
                visible=True,
            ),
            shelf_html: parts_library.subject_shelf(shelf, link),
            pictures: gr.Button(visible=shelf.best_run is not None),
            again: gr.Button(visible=_photos_of(shelf) is not None),
            **renaming.offer(shelf, anew=anew or shelf.subject != name),
        }

    def _face(shelf: Shelf) -> str:
        for job_id, file in face_of(shelf):
            if (path := session.out_file(job_id, file)) is not None:
                return files.served_copy(path)
        return files.initial(shelf.subject)

    def on_select(event: gr.SelectData) -> Updates:
        shelves = shelves_of(session)
        return show(shelves, shelves[event.index].subject if event.index < len(shelves) else "", anew=True)

    def find(name: str) -> Shelf | None:
        return next((row for row in shelves_of(session) if row.subject == name), None)

    def photos_of(name: str) -> str | None:
        return _photos_of(find(name))

    def run_of(name: str) -> str | None:
        shelf = find(name)
        run = shelf.best_run if shelf else None
        return run.id if run else None

    outputs = [chosen, timer, faces, shelf_html, pictures, again, *renaming.outputs]
    faces.select(on_select, None, outputs, **QUIET)
    timer.tick(faults_in(shelf_html)(refresh), chosen, outputs, **POLLING)
    return LibraryTab(refresh, chosen, outputs, again, pictures, photos_of, run_of, renaming)


def _photos_of(shelf: Shelf | None) -> str | None:
    done = (job for job in (shelf.jobs["check"] if shelf else ()) if job.result and job.result["photos"])
    return next((job.id for job in done), None)
