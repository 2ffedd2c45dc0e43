"""HTML of the photo check: one card per photo and a summary of the set."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from studio.core.language import retell
from studio.core.units import caveat_after, likeness_sentence, likeness_text
from studio.web.page import words
from studio.web.page.parts import Url, notice, problem_text
from studio.web.page.photo_edits import Edits, actions
from studio.web.page.templates import render


def verdict_cards(verdicts: Iterable[Mapping[str, Any]], url: Url, edits: Edits | None = None) -> Markup:
    """Return one card per photo: crop, mark, likeness to the others, and what to do about each problem.

    Args:
        verdicts: of the photos.
        url: makes links.
        edits: changes that wait for the next check; None where the set cannot be edited.
    """
    cards = [_verdict_card(verdict, url, edits) for verdict in verdicts]
    return render("photos.verdict_cards", cards=cards, no_preview=words.NO_PREVIEW)


def new_cards(photos: Iterable[tuple[str, str | None]]) -> Markup:
    """Return one card per photo that was dropped: name and thumbnail, as a link or None where it cannot be shown."""
    empty: dict[str, Any] = dict.fromkeys(("likeness", "percent", "will"), "") | {"problems": [], "notes": []}
    cards = [
        {**empty, "status": "new", "name": name, "mark": words.PHOTOS_NEW, "link": link, "actions": []}
        for name, link in photos
    ]
    return render("photos.verdict_cards", cards=cards, no_preview=words.PHOTOS_NO_THUMBNAIL)


def _verdict_card(verdict: Mapping[str, Any], url: Url, edits: Edits | None) -> dict[str, Any]:
    likeness, preview, name = verdict.get("likeness"), verdict.get("preview"), str(verdict["name"])
    percent = "" if likeness is None else f"{max(0.0, min(1.0, likeness)) * 100:.0f}"
    problems = [problem_text(problem) for problem in verdict["problems"]]
    will, buttons = "", []
    if edits is not None:
        risks = [problem["risk"] for problem in verdict["problems"] if problem.get("risk")]
        problems += [words.PHOTO_RISK.format(risk=retell(risk)) for risk in dict.fromkeys(risks)]
        changed = words.PHOTO_CHANGED if name in edits.captions or name in edits.crops else ""
        will = words.PHOTO_WILL.get(edits.action_of(name), changed)
        buttons = [(action, words.PHOTO_ACTIONS[action]) for action in actions(verdict, edits)]
    return {
        "status": verdict["status"],
        "name": name,
        "mark": words.VERDICTS[verdict["status"]],
        "link": url(preview) if preview else None,
        "likeness": "" if likeness is None else words.LIKE_THE_OTHERS.format(likeness=likeness_text(likeness)),
        "percent": percent,
        "notes": [f"{note[:1].upper()}{note[1:]}." for note in map(retell, verdict.get("notes", ()))],
        "problems": problems,
        "will": will,
        "actions": buttons,
    }


def crop_preview(link: str | None, name: str, crop: Sequence[float]) -> Markup:
    """Return a photo with what is used of it in a frame; ``crop`` is top, left, height, width as shares."""
    top, left, height, width = (f"{round(100 * share, 2)}%" for share in crop)
    return render("photos.crop", link=link, title=name, top=top, left=left, height=height, width=width)


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
    others = [retell(warning) for warning in warnings if warning not in of_set]
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


def nothing_usable(problems: Iterable[Mapping[str, str]], photos: Collection[str]) -> Markup:
    """Return the verdict on a set of which no photo can be used.

    Args:
        problems: of the job.
        photos: names of the photos, whose own problems stand on their cards.
    """
    told = [problem_text(problem) for problem in problems if problem.get("where") not in photos]
    return render(
        "photos.summary",
        tone="bad",
        title=words.SET_UNUSABLE,
        text=words.SET_UNUSABLE_NEXT,
        problems=told,
        better="",
        advice=[],
    )
