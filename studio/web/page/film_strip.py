"""The strip of checkpoints in the Train tab: two that are pressed stand side by side.

What was pressed lies in the frame's ``shown``, as ``JOB:STEP,STEP``: it is the visitor's, and goes with the job.
"""

import gradio as gr

from studio.core.domain import JobView
from studio.web.page import files, parts_train
from studio.web.page.context import QUIET, Updates
from studio.web.page.frame import JobFrame
from studio.web.page.history import JobHistory

_PRESSES = """
element.addEventListener('click', (event) => {
    const frame = event.target.closest('[data-frame]');
    if (frame) trigger('click', {step: Number(frame.dataset.frame)});
});
"""
"""Tells which checkpoint was pressed."""


def film_strip() -> gr.HTML:
    """Return the place for the strip, inside the current layout."""
    return gr.HTML(elem_id="ls-train-samples", js_on_load=_PRESSES)


def filmed(
    frame: JobFrame, strip: gr.HTML, job: JobView, history: JobHistory, seen: str, pressed: int | None = None
) -> Updates:
    """Return the updates that show a run's checkpoints.

    Args:
        frame: of the tab.
        strip: what ``film_strip`` returned.
        job: the run.
        history: what has happened in it.
        seen: what ``frame.shown`` holds.
        pressed: step of the checkpoint that was pressed just now.
    """
    best = (job.result or {}).get("best_step")
    of_job, _, steps = seen.partition(":")
    before = [int(step) for step in steps.split(",") if step] if of_job == job.id else []
    before += [] if pressed is None else [pressed]
    chosen = parts_train.chosen_frames(history, best, before)
    kept = ",".join(str(step) for step in before[-2:])
    html = parts_train.film(history, files.linker(frame.session, job.id), best, chosen)
    return {frame.shown: f"{job.id}:{kept}", strip: html}


def connect_film(frame: JobFrame, strip: gr.HTML) -> None:
    """Let a press on a checkpoint put it beside the one that was pressed before."""

    def on_frame(job_id: str, seen: str, event: gr.EventData) -> Updates:
        job = frame.session.job(job_id, "train")
        return filmed(frame, strip, job, frame.histories.read(job.id), seen, int(event.step))

    # Each press counts: by default Gradio drops one that comes before the last one was answered.
    outputs = [frame.notice, frame.shown, strip]
    strip.click(frame.guarded(on_frame), [frame.job, frame.shown], outputs, trigger_mode="multiple", **QUIET)
