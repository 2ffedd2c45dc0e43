"""Parts of the page as HTML: pure functions of records.

``url`` arguments turn a path below a job's output folder into a link, or into None if the file is not there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from studio.core.domain import JobView
from studio.core.errors import StudioError
from studio.core.job_words import place_of, shown_title, waiting_for
from studio.core.language import retell
from studio.core.units import duration_text, likeness_text
from studio.web.page import words
from studio.web.page.history import JobHistory
from studio.web.page.templates import render
from studio.web.session import is_open

Url = Callable[[str], str | None]

_NO_SCALE = Markup()


def header(signed_in: str | None = None) -> Markup:
    """Return the top of the page.

    Args:
        signed_in: who signed in with a key, to be shown beside the button that signs out; empty as long as it is not
            known, None where nobody signs in with keys.
    """
    who = words.SIGNED_IN.format(name=signed_in) if signed_in else ""
    account = None if signed_in is None else {"who": who, "leave": words.SIGN_OUT}
    return render("page.header", title=words.TITLE, tagline=words.TAGLINE, account=account)


def footer(admin: str = "") -> Markup:
    """Return the bottom of the page; ``admin`` is what the link to the operator's tab says, empty for others."""
    return render("page.footer", text=words.FOOTER, link=words.FOOTER_LINK, admin=admin)


def log_in() -> Markup:
    """Return what a visitor who is not logged in reads."""
    return notice(words.LOG_IN_NOTICE, words.LOG_IN_WHY)


def empty(title: str, points: Sequence[str], *, lead: str = "") -> Markup:
    """Return what a tab shows before there is a job."""
    return render("page.empty", title=title, lead=lead, points=points)


def hint(text: str) -> Markup:
    """Return a small explanation below a field; nothing for no text."""
    return render("page.hint", text=text) if text else Markup()


def fold(title: str) -> Markup:
    """Return the head of a folded part of a form; the style sheet hides the next part while it is closed."""
    return render("page.fold", title=title)


def notice(title: str, lines: Iterable[str] = (), *, tone: str = "fair") -> Markup:
    """Return a message box; ``tone`` is good, fair or bad."""
    return render("page.notice", title=title, lines=list(lines), tone=tone)


def error(
    caught: StudioError, labels: Mapping[str, str] | None = None, fields: Mapping[str, str] | None = None
) -> Markup:
    """Return an error with all its problems.

    Args:
        caught: the error.
        labels: the form's name of a setting.
        fields: the id of a setting's field; the page's script says the problem there once more.
    """
    if not caught.problems:
        return notice(_sentence(retell(str(caught))), tone="bad")
    names = labels or {}
    lines = [
        render(
            "page.problem",
            text=f"{names.get(row.where, row.where)}: {retell(row.message)}; {retell(row.cure)}.",
            field=(fields or {}).get(row.where, ""),
            says=problem_text({"message": row.message, "cure": row.cure}),
        )
        for row in caught.problems
    ]
    return notice(words.counted(words.PROBLEMS, len(lines)), lines, tone="bad")


def progress(job: JobView, history: JobHistory) -> Markup:
    """Return where an open job stands, as one sentence: what it does, how far it is, how long it takes.

    Of a stopped job, why it stopped and what is kept.
    """
    if not is_open(job):
        return _stopped(job, history) if job.state != "completed" else Markup()
    source = waiting_for(job)
    title = words.WAITING_FOR.format(source=source) if source else _doing(job, history)
    newest = job.progress or {}
    step, total, eta_s = newest.get("step") or 0, newest.get("total"), newest.get("eta_s")
    detail = []
    if total and job.kind in words.PROGRESS:
        detail.append(words.PROGRESS[job.kind].format(step=step, total=total))
    if total and eta_s is not None:
        detail.append(words.LEFT.format(time=duration_text(eta_s)))
    if job.place is not None:
        detail.append(capital(place_of(job.place, job.starts_in_s)))
    trouble = notice(words.NOT_STORED, [_sentence(retell(job.cause))]) if job.cause else Markup()
    return trouble + render(
        "page.progress",
        state=job.state,
        title=title,
        share=min(1.0, step / total) if total else None,
        detail=" · ".join(detail),
    )


def _doing(job: JobView, history: JobHistory) -> str:
    """Return what a job does now: its stage, which is nearer to the truth than its state while it works."""
    if job.state in ("pending", "pendingGpu", "pendingImages") or not history.stage:
        return words.STATES[job.state]
    return words.DOING.get(f"{job.kind}.{history.stage_name}") or retell(history.stage.removesuffix("."))


def _cancelled(job: JobView, history: JobHistory) -> str:
    newest = job.progress or {}
    step, total = newest.get("step") or 0, newest.get("total")
    if job.kind == "train" and total and step:
        return words.CANCELLED_AT.format(step=step, total=total)
    if history.images and total:
        return words.counted(words.CANCELLED_PICTURES, len(history.images), total=total)
    return words.CANCELLED[job.kind] if history.stage or job.kind == "check" else words.CANCELLED_EARLY


def _stopped(job: JobView, history: JobHistory) -> Markup:
    if job.state == "cancelled":
        return notice(_cancelled(job, history))
    lines = [f"{problem.get('where', '')}: {problem_text(problem)}".lstrip(": ") for problem in job.problems]
    causes = [retell(line.strip()) for line in (job.cause or "").splitlines() if line.strip()]
    if lines or len(causes) > 1:
        return notice(words.NOT_FINISHED, lines or causes, tone="bad")
    return notice(_sentence(causes[0] if causes else words.NOT_FINISHED), tone="bad")


def of_job(job: JobView, html: str) -> Markup:
    """Return what is shown of a job, marked with the job, its state and its share done: see ``script``."""
    step, total = job.progress.get("step") or 0, job.progress.get("total")
    share = f"{min(1.0, step / total):.4f}" if total and is_open(job) else ""
    return render("page.of_job", id=job.id, state=job.state, title=shown_title(job), share=share, html=html)


def warnings(history: JobHistory) -> Markup:
    """Return the warnings of a job."""
    return notice(words.WORTH_KNOWING, [retell(text) for text in history.warnings]) if history.warnings else Markup()


def result(
    title: str, text: str, downloads: Iterable[tuple[str | None, str]] = (), scale: Markup = _NO_SCALE
) -> Markup:
    """Return the card of a finished job.

    Args:
        title: what was made.
        text: what to know of it.
        downloads: pairs of link (None leaves it out) and text.
        scale: how alike it is, from ``likeness_scale``.
    """
    links = [{"link": link, "text": label} for link, label in downloads if link is not None]
    return render("page.result", title=title, text=text, downloads=links, scale=scale)


def likeness_scale(summary: Mapping[str, Any] | None) -> Markup:
    """Return a bar from 0 to 1 with the mean likeness and its spread; nothing where it was not measured."""
    mean = (summary or {}).get("mean")
    if summary is None or mean is None:
        return Markup()
    spread = summary.get("spread") or 0.0
    low, middle, high = (100 * max(0.0, min(1.0, value)) for value in (mean - spread, mean, mean + spread))
    says = words.LIKENESS_SCALE.format(likeness=likeness_text(mean))
    return render("page.scale", low=low, middle=middle, high=high, says=says, ends=words.LIKENESS_ENDS)


def picture_downloads(result: Mapping[str, Any], url: Url) -> list[tuple[str | None, str]]:
    """Return links to the zip and the contact sheet of a job that made pictures, as ``result`` takes them."""
    offered = ((result.get("archive"), words.DOWNLOAD_ALL), (result.get("contact_sheet"), words.CONTACT_SHEET))
    return [(url(path), label) for path, label in offered if path]


def problem_text(problem: Mapping[str, str]) -> str:
    """Return a problem and its cure as two sentences."""
    return f"{_sentence(retell(problem['message']))} {_sentence(retell(problem['cure']))}"


def capital(text: str) -> str:
    """Return a text with a capital at its beginning; the others stay, which is more than ``str.capitalize`` does."""
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    text = capital(text.strip())
    return text + ("" if text.endswith((".", "!", "?")) else ".")
