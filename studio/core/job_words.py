"""Titles of jobs, and what a job waits for, in words: for the page, the command line and the API alike."""

from studio.core.domain import JobFacts, JobKind, JobView
from studio.core.units import duration_text

_TITLES: dict[JobKind, str] = {
    "check": "Photos of {name}",
    "train": "Training of {name}",
    "generate": "Pictures: {name}",
    "export": "Export: {name}",
    "finish": "Finishing: {name}",
    "publish": "Publishing: {name}",
}
_WORK: dict[JobKind, str] = {
    "check": "the photo check",
    "train": "the training",
    "generate": "the pictures",
    "export": "the export",
    "finish": "the finishing of the pictures",
    "publish": "the publishing",
}
_NAME_CHARACTERS = 60


def short_name(kind: JobKind, facts: JobFacts) -> str:
    """Return what tells a job apart from others of its kind: ``Ada on pocket``; empty if nothing is known of it."""
    names: dict[JobKind, str | None] = {
        "check": ", ".join(filter(None, (facts.subject, facts.name))),
        "train": " on ".join(filter(None, (facts.subject, facts.base))),
        "generate": facts.pack or facts.prompt,
        "export": facts.format,
        "finish": facts.chain or ", ".join(facts.steps) or "contact sheet",
        "publish": facts.repo,
    }
    name = names[kind] or ""
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"


def title_of(kind: JobKind, facts: JobFacts) -> str:
    """Return the title of a job: ``Training of Ada on pocket``."""
    return _TITLES[kind].format(name=short_name(kind, facts))


def name_of(job: JobView) -> str:
    """Return what tells a job apart in a list of its kind; the title of one whose facts were not kept."""
    return short_name(job.kind, job.facts) or job.title


def work_of(kind: JobKind, facts: JobFacts) -> str:
    """Return what a job does, for the middle of a sentence: ``the training of Ada``."""
    subject = f" of {facts.subject}" if facts.subject else ""
    return f"{_WORK[kind]}{subject}"


def waiting_for(job: JobView) -> str | None:
    """Return ``the training of Ada`` for a job that waits for it; None for one that waits for no other job."""
    # A job has the subject of its source.
    return work_of(job.waits_for.kind, job.facts) if job.waits_for else None


def place_of(place: int | None, starts_in_s: float | None) -> str:
    """Return where a job stands in the queue: ``number 3 in the queue, starts in about 12 min``; empty for None."""
    if place is None:
        return ""
    number = "next in the queue" if place == 1 else f"number {place:,} in the queue"
    # Below a few seconds the estimate says no more than "next".
    return (
        number if starts_in_s is None or starts_in_s < 3 else f"{number}, starts in about {duration_text(starts_in_s)}"
    )
