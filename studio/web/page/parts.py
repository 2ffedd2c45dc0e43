"""Pieces of the page as HTML strings: pure functions of records, every foreign word escaped.

``url`` arguments turn a path below a job's output folder into a link, or into None if the file is not there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape

from studio.core.domain import JobView
from studio.core.errors import StudioError
from studio.core.units import duration_text
from studio.web.page.history import JobHistory
from studio.web.session import is_open

Url = Callable[[str], str | None]


_STATES = {
    "pending": "Waiting for its turn",
    "pendingGpu": "Waiting for a free device",
    "pendingImages": "Reading the photos",
    "pendingModel": "Loading the base model",
    "checking": "Looking at the photos",
    "training": "Training",
    "generating": "Making pictures",
    "exporting": "Exporting",
    "finishing": "Finishing pictures",
    "publishing": "Publishing",
    "completed": "Finished",
    "stalled": "Stopped early",
    "cancelled": "Cancelled",
}


def page_html(inner: str, classes: str = "") -> str:
    """Wrap HTML in the page's own container; nothing stays nothing."""
    return f'<div class="ls {classes}">{inner}</div>' if inner else ""


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def problem_html(problem: Mapping[str, str]) -> str:
    """Return a problem and its cure as two sentences of HTML."""
    return f"{escape(_sentence(problem['message']))} {escape(_sentence(problem['cure']))}"


def header() -> str:
    """Return the top of the page."""
    return page_html(
        '<div class="ls-head"><h1>Likeness Studio</h1><span>A few photos in, a portrait series out.</span></div>'
    )


def log_in() -> str:
    """Return what those are told who are not logged in."""
    lines = [
        "With your Hugging Face account: your photos, runs and pictures are then yours alone.",
        "Without it you can look around, and nothing is stored.",
    ]
    return notice("Log in to begin", lines)


def footer() -> str:
    """Return the bottom of the page."""
    return page_html('<div class="ls-foot">Photos and pictures stay on the machine that runs this studio.</div>')


def empty(title: str, lines: Sequence[str], *, lead: str = "") -> str:
    """Return what a tab shows before anything has happened."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    start = f"<p>{escape(lead)}</p>" if lead else ""
    return page_html(f'<div class="ls-empty"><h2>{escape(title)}</h2>{start}<ul>{items}</ul></div>')


def fold(title: str) -> str:
    """The head of a folded part of a form; the style sheet hides the next part while it says that it is closed."""
    toggle = "this.setAttribute('aria-expanded', this.getAttribute('aria-expanded') !== 'true')"
    return page_html(f'<button type="button" aria-expanded="false" onclick="{toggle}">{escape(title)}</button>')


def notice(title: str, lines: Iterable[str] = (), *, tone: str = "fair") -> str:
    """Return a message box; ``tone`` is good, fair or bad."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    body = f"<ul>{items}</ul>" if items else ""
    return page_html(f'<div class="ls-notice {escape(tone)}" role="alert"><b>{escape(title)}</b>{body}</div>')


def error(caught: StudioError, labels: Mapping[str, str] | None = None) -> str:
    """Return an error with all its problems; ``labels`` say what the form calls a setting."""
    if caught.problems:
        count = len(caught.problems)
        title = "One thing to change" if count == 1 else f"{count} things to change"
        names = labels or {}
        lines = [f"{names.get(row.where, row.where)}: {row.message}; {row.cure}." for row in caught.problems]
        return notice(title, lines, tone="bad")
    return notice(_sentence(str(caught)), tone="bad")


def progress(job: JobView, history: JobHistory) -> str:
    """Return where a job stands: state in words, bar, step, remaining time; its cause if it stopped."""
    state = _STATES[job.state]
    if not is_open(job):
        return _stopped(job) if job.state != "completed" else ""
    done = job.progress or {}
    step, total, eta_s = done.get("step"), done.get("total"), done.get("eta_s")
    detail, share = "", None
    if total:
        share = min(1.0, (step or 0) / total)
        what = {"check": "photo", "train": "step", "export": "file", "publish": "file"}.get(job.kind, "picture")
        detail = f"{what.capitalize()} {step or 0:,} of {total:,}"
        if eta_s is not None:
            detail += f" · about {duration_text(eta_s)} left"
    stage = history.stage if job.state not in ("pending", "pendingGpu") else ""
    bar = '<div class="ls-bar waiting"><i></i></div>'
    if share is not None:
        bar = f'<div class="ls-bar"><i style="width:{share * 100:.1f}%"></i></div>'
    right = f"{share * 100:.0f} %" if share is not None else ""
    return page_html(
        f'<div class="ls-card" data-state="{job.state}"><div class="ls-row"><h2>{escape(state)}</h2>'
        f'<span class="ls-soft">{right}</span></div>{bar}'
        f'<div class="ls-row ls-soft"><span>{escape(detail or stage)}</span>'
        f"<span>{escape(stage if detail and stage.lower() != state.lower() else '')}</span></div></div>"
    )


def _stopped(job: JobView) -> str:
    if job.state == "cancelled":
        return notice("Cancelled. What was done so far is kept.")
    lines = [f"{problem.get('where', '')}: {plain_text(problem)}".lstrip(": ") for problem in job.problems]
    causes = [line for line in (job.cause or "").splitlines() if line.strip()]
    if lines or len(causes) > 1:
        return notice("This could not be finished", lines or causes, tone="bad")
    return notice(_sentence(job.cause or "This could not be finished"), tone="bad")


def plain_text(problem: Mapping[str, str]) -> str:
    """Return a problem and its cure as two sentences of plain text."""
    return f"{_sentence(problem['message'])} {_sentence(problem['cure'])}"


def warnings(history: JobHistory) -> str:
    """Return what the verb wanted the user to know."""
    return notice("Worth knowing", history.warnings) if history.warnings else ""
