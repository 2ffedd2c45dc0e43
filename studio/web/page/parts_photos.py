"""HTML of the photo check: one card per photo and a summary of the set."""

from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from studio.core.units import caveat_after, likeness_sentence, likeness_text
from studio.web.page import words
from studio.web.page.parts import Url, notice, problem_text
from studio.web.page.templates import render


def verdict_cards(verdicts: Iterable[Mapping[str, Any]], url: Url) -> Markup:
    """Return one card per photo: crop, mark, likeness to the others, and what to do about each problem."""
    cards = [_verdict_card(verdict, url) for verdict in verdicts]
    return render("photos.verdict_cards", cards=cards, no_preview=words.NO_PREVIEW)


def _verdict_card(verdict: Mapping[str, Any], url: Url) -> dict[str, Any]:
    likeness, preview = verdict.get("likeness"), verdict.get("preview")
    percent = "" if likeness is None else f"{max(0.0, min(1.0, likeness)) * 100:.0f}"
    return {
        "status": verdict["status"],
        "name": str(verdict["name"]),
        "mark": words.VERDICTS[verdict["status"]],
        "link": url(preview) if preview else None,
        "likeness": "" if likeness is None else words.LIKE_THE_OTHERS.format(likeness=likeness_text(likeness)),
        "percent": percent,
        "problems": [problem_text(problem) for problem in verdict["problems"]],
    }


def check_summary(dataset: Mapping[str, Any], warnings: Iterable[str] = ()) -> Markup:
    """Return the verdict on the whole set and what to do next; ``warnings`` are what else the check has told."""
    verdicts, problems = dataset["verdicts"], dataset["set_problems"]
    ready = len(dataset["photos"])
    left_out = any(verdict["status"] == "rejected" for verdict in verdicts)
    partly = words.SET_PARTLY_READY.format(ready=ready, total=len(verdicts), subject=dataset["subject"])
    if not ready:
        tone, title, text = "bad", words.SET_UNUSABLE, words.SET_UNUSABLE_NEXT
    elif problems:
        tone, title, text = "fair", partly, words.SET_WEAK_NEXT
    else:
        title = partly if left_out else words.SET_READY.format(ready=ready)
        tone, text = "good", words.SET_READY_NEXT
    if dataset.get("likeness_summary"):
        text += " " + words.SET_LIKENESS.format(likeness=likeness_sentence(dataset["likeness_summary"], "photos"))
        text += caveat_after(dataset["likeness_summary"])
    of_set = {f"{problem['message']}; {problem['cure']}" for problem in problems}
    others = [warning for warning in warnings if warning not in of_set]
    summary = render(
        "photos.summary",
        tone=tone,
        title=title,
        text=text,
        problems=[problem_text(problem) for problem in problems],
        better=words.SET_BETTER,
        advice=[problem_text(advice) for advice in dataset.get("advice", ())],
    )
    return summary + (notice(words.WORTH_KNOWING, others) if others else Markup())
