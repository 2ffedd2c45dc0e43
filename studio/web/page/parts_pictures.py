"""HTML and captions of generated and finished pictures."""

from collections.abc import Mapping
from html import escape
from typing import Any

from studio.core.domain import JobView
from studio.core.packs import Pack, Shot, subject_kind
from studio.core.presets import Chain
from studio.core.units import bytes_text, likeness_text
from studio.web.page.history import JobHistory
from studio.web.page.parts import Url, notice, page_html, plain_text


def pack_preview(
    pack: Pack | None, subject: str, class_noun: str = "person", pictures: Mapping[str, str] | None = None
) -> str:
    """Return a pack's card: what it is about, the shots that show it best, and all of them in plain words.

    Args:
        pack: the pack; None where none fits.
        subject: name of the subject.
        class_noun: what the subject is; chooses the prompts.
        pictures: name of a shot -> link of a picture that was made of it before.
    """
    if pack is None:
        return page_html("No pack fits this run; write prompts of your own.", "ls-hint")
    colours = pack.preview.colours or ("#d6d1ca",)
    bands = ", ".join(f"{colour} {i * 100 // len(colours)}% {(i + 1) * 100 // len(colours)}%"
                      for i, colour in enumerate(colours))  # fmt: skip
    said = {shot.name: escape(_said(pack, shot, subject, class_noun)) for shot in pack.shots}
    shown = "".join(_shot_tile(shot, said[shot.name], (pictures or {}).get(shot.name)) for shot in pack.previewed())
    shots = "".join(f"<li><b>{escape(shot.title)}</b> {said[shot.name]}</li>" for shot in pack.shots)
    by = " · ".join(escape(part) for part in (f"{len(pack.shots)} shots", pack.licence, pack.author) if part)
    return page_html(
        f'<div class="ls-pack"><i style="background:linear-gradient(90deg, {bands})"></i>'
        f'<p class="ls-hint">{escape(pack.description)}</p><div class="ls-tiles">{shown}</div>'
        f'<details><summary class="ls-hint">{by}</summary><ul class="ls-shots">{shots}</ul></details></div>'
    )


def _shot_tile(shot: Shot, said: str, link: str | None) -> str:
    title = escape(shot.title)
    picture = f'<img src="{escape(link)}" alt="{title}">' if link else ""
    return f'<span title="{said}">{picture}<em>{title}</em></span>'


def _said(pack: Pack, shot: Shot, subject: str, class_noun: str) -> str:
    """Return a shot's prompt for a reader: the subject by name, and of each wildcard the first word."""
    text = shot.prompt_for(subject_kind(class_noun))
    for name, words in pack.wildcards.items():
        text = text.replace("{" + name + "}", f"{words[0]} …")
    return text.replace("{subject}", subject).replace("{instance_token}", subject).replace("{class_noun}", class_noun)


def picture_order(history: JobHistory, result: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the pictures, best first; the final ranks once there are some."""
    images = list(result["images"]) if result else list(history.images.values())
    if result and all(image.get("rank") for image in images):
        return sorted(images, key=lambda image: image["rank"])
    return sorted(images, key=lambda image: -1.0 if image.get("likeness") is None else image["likeness"], reverse=True)


def picture_caption(image: Mapping[str, Any]) -> str:
    """Return the words under one picture: its likeness, its shot."""
    shot = str(image.get("shot", "")).replace("-", " ").replace("_", " ")
    likeness = image.get("likeness")
    return " · ".join(part for part in (likeness_text(likeness, ""), shot) if part)


def generate_result(job: JobView, url: Url) -> str:
    """Return the downloads of finished pictures."""
    result = job.result or {}
    count, mean = len(result.get("images", ())), result.get("likeness_mean")
    title = f"{count} picture{'s' if count != 1 else ''}"
    text = (
        f"Average likeness {likeness_text(mean)}; the most alike come first."
        if mean is not None
        else "Ready to download."
    )
    if left_out := result.get("left_out"):
        text += f" {len(left_out)} others were left out"
        if mean is not None and (before := result.get("likeness_mean_made")) is not None:
            text += f"; the average of all was {likeness_text(before)}"
        text += "."
    if served := result.get("from_cache"):
        text += f" {served} had been made before."
    links = ""
    for name, words, extra in (
        (result.get("archive"), "Download all (zip)", "ls-first"),
        (result.get("contact_sheet"), "Contact sheet", ""),
    ):
        if name and (link := url(name)) is not None:
            links += f'<a class="ls-button {extra}" href="{escape(link)}" download>{words}</a>'
    links = f'<p class="ls-links">{links}</p>'
    return page_html(f'<div class="ls-card"><h2>{title}</h2><p class="ls-soft">{escape(text)}</p>{links}</div>')


def chain_hint(chain: Chain | None) -> str:
    """Return what a chain makes, and its steps in words."""
    if chain is None:
        return ""
    steps = " → ".join(_STEPS_IN_WORDS[step.do] for step in chain.steps)
    return page_html(f"{escape(chain.description)} <br>{escape(steps)}", "ls-hint")


_STEPS_IN_WORDS = {
    "cutout": "cut out",
    "background": "background",
    "upscale": "enlarge",
    "face": "restore faces",
    "fit": "fit size and bytes",
}


def finished_caption(picture: Mapping[str, Any]) -> str:
    """Return the words under one finished picture."""
    height, width = picture["size_hw"]
    quality = f" · quality {picture['quality']}" if picture.get("quality") is not None else ""
    return f"{picture['source']} · {width} x {height} · {bytes_text(picture['size_bytes'])}{quality}"


def finish_result(job: JobView, url: Url) -> str:
    """Return the downloads of finished pictures, what is to be known about them, and those that failed."""
    result = job.result or {}
    pictures, failed = result.get("pictures", ()), result.get("failed", ())
    count = len(pictures)
    title = f"{count} picture{'s' if count != 1 else ''} finished"
    text = (
        f"{bytes_text(sum(picture['size_bytes'] for picture in pictures))} in all."
        if pictures
        else "The sheet is ready."
    )
    links = ""
    for name, words, extra in (
        (result.get("archive"), "Download all (zip)", "ls-first"),
        (result.get("contact_sheet"), "Contact sheet", ""),
    ):
        if name and (link := url(name)) is not None:
            links += f'<a class="ls-button {extra}" href="{escape(link)}" download>{words}</a>'
    words = f'<h2>{title}</h2><p class="ls-soft">{escape(text)}</p><p class="ls-links">{links}</p>'
    card = page_html(f'<div class="ls-card">{words}</div>')
    lines = [f"{problem['where']}: {plain_text(problem)}" for problem in failed]
    card += notice(f"{len(lines)} could not be finished", lines, tone="bad") if lines else ""
    notes = [f"{picture['source']}: {note}." for picture in pictures for note in picture["notes"]]
    return card + (notice("Worth knowing", notes) if notes else "")
