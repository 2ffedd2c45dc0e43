"""HTML of the library: what there is of one subject."""

from collections.abc import Callable
from datetime import datetime

from markupsafe import Markup

from studio.core.domain import JobKind, JobView
from studio.core.job_words import name_of, place_of, waiting_for
from studio.core.units import duration_text, likeness_sentence, likeness_text
from studio.web.page import words
from studio.web.page.templates import render
from studio.web.session import is_open
from studio.web.shelf import KINDS, Shelf, best_pictures

MOST_PICTURES = 8
_MOST_JOBS = 20


def subject_caption(shelf: Shelf) -> str:
    """Return what stands below a subject's face: the name, and likeness or what is at work."""
    at_work = shelf.at_work
    likeness = shelf.likeness
    detail = words.STATES[at_work[0].state] if at_work else likeness_sentence(likeness) if likeness else ""
    return " · ".join(part for part in (shelf.subject, detail.partition(",")[0]) if part)


def subject_shelf(shelf: Shelf, link: Callable[[str, str], str | None]) -> Markup:
    """Return all that there is of a subject: what is at work, the best pictures, and links to every job.

    Args:
        shelf: the subject's jobs.
        link: takes a job and a path below its output folder; returns the link, or None if there is no such file.
    """
    mean = (shelf.likeness or {}).get("mean")
    # A preview of a publishing has published nothing.
    done = {kind: [job for job in shelf.jobs[kind] if kind != "publish" or _is_published(job)] for kind in KINDS}
    counts = [words.counted(words.LIBRARY_COUNTS[kind], len(jobs)) for kind, jobs in done.items() if jobs]
    pictures = [(link(job, file), file) for job, file in best_pictures(shelf, MOST_PICTURES)]
    return render(
        "library.subject",
        subject=shelf.subject,
        about=" · ".join(filter(None, (shelf.class_noun, *counts))),
        likeness=words.LIBRARY_LIKENESS.format(likeness=likeness_sentence(shelf.likeness)) if shelf.likeness else "",
        share=None if mean is None else min(1.0, max(0.0, mean)),
        at_work=[{"id": job.id, "title": job.title, "detail": _at_work(job)} for job in shelf.at_work],
        groups=[
            {"title": words.LIBRARY_GROUPS[kind], "jobs": [_row(job) for job in shelf.jobs[kind][:_MOST_JOBS]]}
            for kind in KINDS
            if shelf.jobs[kind]
        ],
        pictures=[
            {"link": found, "alt": words.LIBRARY_PICTURE.format(subject=shelf.subject, file=file)}
            for found, file in pictures
            if found
        ],
    )


def _is_published(job: JobView) -> bool:
    return bool((job.result or {}).get("commit"))


def _at_work(job: JobView) -> str:
    """Return how far an open job is: its state, percent and remaining time, or its place in the queue."""
    source = waiting_for(job)
    state = words.WAITING_FOR.format(source=source) if source else words.STATES[job.state]
    step, total = job.progress.get("step") or 0, job.progress.get("total")
    done = f"{100 * min(1.0, step / total):.0f} %" if total and not job.place else ""
    eta_s = job.progress.get("eta_s")
    left = words.LIBRARY_LEFT.format(time=duration_text(eta_s)) if done and eta_s is not None else ""
    return " · ".join(filter(None, (state, done, left, place_of(job.place, job.starts_in_s))))


def _row(job: JobView) -> dict[str, str]:
    moment = datetime.fromtimestamp(job.created_s)
    return {"id": job.id, "name": name_of(job), "detail": f"{_outcome(job)} · {moment.day} {moment:%b %H:%M}"}


def _outcome(job: JobView) -> str:
    result = job.result or {}
    if job.state != "completed":
        return words.JOB_OPEN if is_open(job) else words.JOB_STATES[job.state]
    made: dict[JobKind, str] = {"generate": "images", "finish": "pictures"}
    if job.kind == "check":
        return words.counted(words.JOB_PHOTOS, len(result["photos"]))
    if job.kind == "train" and result.get("likeness_after") is not None:
        return f"{words.LIKENESS.lower()} {likeness_text(result['likeness_after'])}"
    if job.kind in made:
        return words.counted(words.PICTURES, len(result.get(made[job.kind], ())))
    return words.JOB_STATES["completed"]
