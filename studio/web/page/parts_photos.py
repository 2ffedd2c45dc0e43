"""HTML of the photo check: one card per photo and a summary of the set."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from studio.core.units import likeness_text
from studio.web.page.parts import Url, page_html, problem_html

_MARKS = {"good": "Good", "usable": "Usable", "rejected": "Left out"}


def verdict_cards(verdicts: Iterable[Mapping[str, Any]], url: Url) -> str:
    """Return one card per photo: crop, mark, likeness to the others, and what to do about each problem."""
    return page_html("".join(_verdict_card(verdict, url) for verdict in verdicts), "ls-cards")


def _verdict_card(verdict: Mapping[str, Any], url: Url) -> str:
    status, name = verdict["status"], str(verdict["name"])
    link = url(verdict["preview"]) if verdict.get("preview") else None
    picture = f'<img src="{escape(link)}" alt="{escape(name)}">' if link else "no preview"
    likeness = verdict.get("likeness")
    like = ""
    if likeness is not None:
        width = max(0.0, min(1.0, likeness)) * 100
        like = (
            f'<div class="ls-soft">Like the others: {likeness_text(likeness)}</div>'
            f'<div class="ls-meter"><i style="width:{width:.0f}%"></i></div>'
        )
    problems = "".join(f'<p class="ls-problem">{problem_html(problem)}</p>' for problem in verdict["problems"])
    return (
        f'<div class="ls-photo {status}"><div class="ls-frame">{picture}<span class="ls-mark">{_MARKS[status]}</span>'
        f'</div><div class="ls-words"><span class="ls-name" title="{escape(name)}">{escape(name)}</span>'
        f"{like}{problems}</div></div>"
    )


def check_summary(dataset: Mapping[str, Any]) -> str:
    """Return the verdict on the whole set and what to do next."""
    verdicts = dataset["verdicts"]
    ready = len(dataset["photos"])
    left_out = sum(verdict["status"] == "rejected" for verdict in verdicts)
    subject = escape(str(dataset["subject"]))
    if not ready:
        title, text = "None of these photos can be used", "The cards say why; add others and check again."
    elif dataset["set_problems"]:
        title = f"{ready} of {len(verdicts)} photos of {subject} are ready"
        text = "You can train with them; the points below would make the result better."
    else:
        title = (
            f"{ready} of {len(verdicts)} photos of {subject} are ready" if left_out else f"All {ready} photos are ready"
        )
        text = "This is a good set. Go on to training."
    likenesses = [verdict["likeness"] for verdict in verdicts if verdict.get("likeness") is not None]
    if likenesses:
        mean = likeness_text(sum(likenesses) / len(likenesses))
        text += f" Likeness between the photos: {mean} on average (1 = the same subject)."
    problems = "".join(f"<li>{problem_html(problem)}</li>" for problem in dataset["set_problems"])
    tone = "bad" if not ready else "fair" if problems else "good"
    listing = f"<ul>{problems}</ul>" if problems else ""
    return page_html(f'<div class="ls-notice {tone}"><h2>{title}</h2><span>{escape(text)}</span>{listing}</div>')
