"""Titles of jobs, and what a job waits for, in words: for the page, the command line and the API alike."""

from collections.abc import Callable

from studio.core.domain import JobFacts, JobKind, JobView
from studio.core.language import say
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


def short_name(kind: JobKind, facts: JobFacts, tell: Callable[[str], str] = say) -> str:
    """Return what tells a job apart from others of its kind: ``Ada on pocket``; empty if nothing is known of it."""
    on = tell("{subject} on {base}").format(subject=facts.subject, base=facts.base)
    names: dict[JobKind, str | None] = {
        "check": ", ".join(filter(None, (facts.subject, facts.name))),
        "train": on if facts.subject and facts.base else facts.subject or facts.base,
        "generate": facts.pack or facts.prompt,
        "export": facts.format,
        "finish": facts.chain or ", ".join(facts.steps) or tell("contact sheet"),
        "publish": facts.repo,
    }
    name = names[kind] or ""
    return name if len(name) <= _NAME_CHARACTERS else f"{name[: _NAME_CHARACTERS - 1]}…"


def title_of(kind: JobKind, facts: JobFacts) -> str:
    """Return the title of a job, ``Training of Ada on pocket``, in English: it is stored."""
    return _TITLES[kind].format(name=short_name(kind, facts, str))


def shown_title(job: JobView) -> str:
    """Return the title of a job in the language that is spoken."""
    name = short_name(job.kind, job.facts)
    return say(_TITLES[job.kind]).format(name=name) if name else job.title


def name_of(job: JobView) -> str:
    """Return what tells a job apart in a list of its kind; the title of one whose facts were not kept."""
    return short_name(job.kind, job.facts) or job.title


def work_of(kind: JobKind, facts: JobFacts) -> str:
    """Return what a job does, for the middle of a sentence: ``the training of Ada``."""
    work = say(_WORK[kind])
    return say("{work} of {subject}").format(work=work, subject=facts.subject) if facts.subject else work


def waiting_for(job: JobView) -> str | None:
    """Return ``the training of Ada`` for a job that waits for it; None for one that waits for no other job."""
    # A job has the subject of its source.
    return work_of(job.waits_for.kind, job.facts) if job.waits_for else None


def place_of(place: int | None, starts_in_s: float | None) -> str:
    """Return where a job stands in the queue: ``number 3 in the queue, starts in about 12 min``; empty for None."""
    if place is None:
        return ""
    number = say("next in the queue") if place == 1 else say("number {place:,} in the queue").format(place=place)
    if starts_in_s is None or starts_in_s < 3:  # below a few seconds the estimate says no more than "next"
        return number
    return say("{number}, starts in about {time}").format(number=number, time=duration_text(starts_in_s))
