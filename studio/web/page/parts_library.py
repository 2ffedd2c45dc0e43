"""HTML of the library: what there is of one subject."""

from collections.abc import Callable, Iterable

from markupsafe import Markup

from studio.core.domain import JobView
from studio.core.job_words import name_of, place_of, shown_title, waiting_for
from studio.core.units import duration_text, likeness_sentence, mean_words
from studio.web.page import words
from studio.web.page.parts import likeness_scale
from studio.web.page.templates import render
from studio.web.session import outcome_of
from studio.web.shelf import KINDS, Shelf, best_pictures, favourites

MOST_PICTURES = 8
MOST_FAVOURITES = 24
_MOST_JOBS = 20


def subject_caption(shelf: Shelf) -> str:
    """Return what stands below a subject's face: the name, and likeness or what is at work."""
    at_work = shelf.at_work
    likeness = shelf.likeness
    # There is room for some twenty letters; the spread stands below, where the subject's best run is.
    short = mean_words({**likeness, "spread": None}) if likeness else ""
    detail = words.STATES[at_work[0].state] if at_work else short
    return " · ".join(part for part in (shelf.subject, detail) if part)


def subject_shelf(shelf: Shelf, link: Callable[[str, str], str | None]) -> Markup:
    """Return all that there is of a subject: what is at work, the best pictures, and links to every job.

    Args:
        shelf: the subject's jobs.
        link: takes a job and a path below its output folder; returns the link, or None if there is no such file.
    """
    # A preview of a publishing has published nothing.
    done = {kind: [job for job in shelf.jobs[kind] if kind != "publish" or _is_published(job)] for kind in KINDS}
    counts = [words.counted(words.LIBRARY_COUNTS[kind], len(jobs)) for kind, jobs in done.items() if jobs]
    loved = favourites(shelf, MOST_FAVOURITES)
    best = [row for row in best_pictures(shelf, MOST_PICTURES + len(loved)) if row not in loved][:MOST_PICTURES]
    return render(
        "library.subject",
        subject=shelf.subject,
        about=" · ".join(filter(None, (shelf.class_noun, *counts))),
        likeness=words.LIBRARY_LIKENESS.format(likeness=likeness_sentence(shelf.likeness)) if shelf.likeness else "",
        scale=likeness_scale(shelf.likeness),
        at_work=[{"id": job.id, "title": shown_title(job), "detail": _at_work(job)} for job in shelf.at_work],
        groups=[
            {"title": words.LIBRARY_GROUPS[kind], "jobs": [_row(job) for job in shelf.jobs[kind][:_MOST_JOBS]]}
            for kind in KINDS
            if shelf.jobs[kind]
        ],
        rows=[
            {"title": title, "pictures": shown}
            for title, pictures in ((words.LIBRARY_FAVOURITES, loved), ("", best))
            if (shown := _shown(shelf, pictures, link))
        ],
    )


def _shown(
    shelf: Shelf, pictures: Iterable[tuple[str, str]], link: Callable[[str, str], str | None]
) -> list[dict[str, str]]:
    return [
        {"link": found, "alt": words.LIBRARY_PICTURE.format(subject=shelf.subject, file=file)}
        for job, file in pictures
        if (found := link(job, file))
    ]


def _is_published(job: JobView) -> bool:
    return bool((job.result or {}).get("commit"))


def _at_work(job: JobView) -> str:
    """Return how far an open job is: its state, percent and remaining time, or its place in the queue."""
    source = waiting_for(job)
    state = words.WAITING_FOR.format(source=source) if source else words.STATES[job.state]
    step, total = job.progress.get("step") or 0, job.progress.get("total")
    done = f"{100 * min(1.0, step / total):.0f} %" if total and not job.place else ""
    eta_s = job.progress.get("eta_s")
    left = words.LEFT.format(time=duration_text(eta_s)) if done and eta_s is not None else ""
    return " · ".join(filter(None, (state, done, left, place_of(job.place, job.starts_in_s))))


def _row(job: JobView) -> dict[str, str]:
    return {"id": job.id, "name": name_of(job), "detail": outcome_of(job)}
