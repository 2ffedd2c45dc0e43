"""HTML and captions of generated and finished pictures."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from studio.core import language
from studio.core.domain import JobView
from studio.core.packs import Pack, Shot, subject_kind
from studio.core.presets import Chain
from studio.core.units import bytes_text, caveat_after, likeness_sentence, likeness_text
from studio.web.page import words
from studio.web.page.history import JobHistory
from studio.web.page.parts import Url, hint, likeness_scale, notice, picture_downloads, problem_text, result
from studio.web.page.templates import render


def pack_preview(
    pack: Pack | None, subject: str, class_noun: str = "", pictures: Mapping[str, str] | None = None
) -> Markup:
    """Return a pack's card: what it is about, the shots that show it best, and the prompts of all.

    Args:
        pack: the pack; None where none fits.
        subject: name of the subject.
        class_noun: what the subject is; chooses the prompts. Empty takes those of whom the pack is written for first.
        pictures: name of a shot -> link of a picture that was made of it before.
    """
    if pack is None:
        return hint(words.NO_PACK)
    shots = {
        shot.name: {
            "title": language.say(shot.title),
            "prompt": _readable_prompt(pack, shot, subject, class_noun),
            "link": (pictures or {}).get(shot.name),
        }
        for shot in pack.shots
    }
    about = (words.counted(words.PACK_SHOTS, len(pack.shots)), pack.licence, pack.author)
    return render(
        "pictures.pack",
        bands=_bands(pack),
        description=language.say(pack.description),
        previewed=[shots[shot.name] for shot in pack.previewed()],
        about=" · ".join(part for part in about if part),
        shots=list(shots.values()),
    )


def _readable_prompt(pack: Pack, shot: Shot, subject: str, class_noun: str) -> str:
    """Return a shot's prompt with the subject by name and the first word of each wildcard."""
    class_noun = class_noun or pack.subjects[0]
    text = shot.prompt_for(subject_kind(class_noun))
    for name, options in pack.wildcards.items():
        text = text.replace("{" + name + "}", f"{options[0]} …")
    return text.replace("{subject}", subject).replace("{instance_token}", subject).replace("{class_noun}", class_noun)


def picture_order(
    history: JobHistory, result: Mapping[str, Any] | None, hearts: Collection[str] = ()
) -> list[Mapping[str, Any]]:
    """Return the pictures, best first: those with a heart, then by final rank, by likeness while there are no ranks."""
    images = list(result["images"]) if result else list(history.images.values())
    if result and all(image.get("rank") for image in images):
        images.sort(key=lambda image: image["rank"])
    else:
        images.sort(key=lambda image: (image.get("likeness") is None, -(image.get("likeness") or 0.0)))
    return sorted(images, key=lambda image: image["file"] not in hearts)


def picture_caption(image: Mapping[str, Any], *, measured: bool = True) -> str:
    """Return the caption of one picture: its likeness, unless nobody meant to measure it, and its shot."""
    shot = language.say(str(image.get("shot", "")).replace("-", " ").replace("_", " "))
    likeness = likeness_text(image.get("likeness"), words.NOT_MEASURED) if measured else ""
    return " · ".join(part for part in (likeness, shot) if part)


def pack_choice(pack: Pack) -> str:
    """Return a pack's name on its tile, with the number of its shots below."""
    return f"{language.say(pack.title)}\n{words.counted(words.PACK_SHOTS, len(pack.shots))}"


def pack_tiles(into: str, packs: Iterable[Pack], pictures: Mapping[str, Sequence[str]]) -> Markup:
    """Return the style that turns the choices of a radio group into tiles with pictures, or with the packs' colours.

    Gradio draws the choices of a radio group itself, and as text only; it knows the keys and names them to readers.

    Args:
        into: element id of the radio group.
        packs: in the order of its choices.
        pictures: name of a pack -> links of pictures that were made of it.
    """
    return render("pictures.pack_tiles", into=into, tiles=[_tile(pack, pictures.get(pack.name, ())) for pack in packs])


def _tile(pack: Pack, links: Sequence[str]) -> str:
    shown = links[:4] if len(links) >= 4 else links[:1]
    size = "50% 50%" if len(shown) == 4 else "cover"
    corners = ("0 0", "100% 0", "0 100%", "100% 100%") if len(shown) == 4 else ("50% 50%",)
    # Nothing in a link needs quotes: it is percent-encoded.
    layers = [f"url({link}?small=1) {at}/{size} no-repeat" for link, at in zip(shown, corners, strict=False)]
    return ", ".join([*layers, f"linear-gradient(135deg, {_bands(pack)})"])


def _bands(pack: Pack) -> str:
    colours = pack.preview.colours or ("#d6d1ca",)
    edges = [index * 100 // len(colours) for index in range(len(colours) + 1)]
    return ", ".join(f"{colour} {edges[i]}% {edges[i + 1]}%" for i, colour in enumerate(colours))


def subject_chip(subject: str, into: str) -> Markup:
    """Return the button that writes the subject's placeholder where the cursor is.

    Args:
        subject: its name.
        into: element id of the field.
    """
    return render("pictures.insert", label=words.INSERT_SUBJECT.format(subject=subject), text="{subject}", into=into)


def picture_grid(pictures: Iterable[tuple[str, str]], *, choosing: bool = False) -> Markup:
    """Return thumbnails with their captions below them; nothing where there are none.

    Args:
        pictures: link and caption of each.
        choosing: a press chooses a picture for what the page shows elsewhere; else it shows the original over the page.
    """
    rows = [{"link": link, "caption": caption, "file": "", "loved": False} for link, caption in pictures]
    return render("pictures.grid", pictures=rows, choosing=choosing, words=None, across=0) if rows else Markup()


def heart_grid(images: Iterable[Mapping[str, Any]], url: Url, hearts: Collection[str]) -> Markup:
    """Return thumbnails as ``picture_grid``, each with a heart to press, and a button that leaves the others out.

    Args:
        images: records of the pictures, in order.
        url: links to them.
        hearts: files of those that have a heart.

    Pictures of several strengths of the adapter stand in rows: the same prompt and seed, the weakest first.
    """
    images = list(images)
    across = _strengths(images)
    if across:
        images.sort(key=lambda image: (image["shot"], image["seed"], image["adapter_scale"]))
    caption = strength_caption if across else picture_caption
    rows = [
        {"link": link, "caption": caption(image), "file": image["file"], "loved": image["file"] in hearts}
        for image in images
        if (link := url(image["file"])) is not None
    ]
    if not rows:
        return Markup()
    return render("pictures.grid", pictures=rows, choosing=False, words=words.HEARTS, across=across)


def _strengths(images: Iterable[Mapping[str, Any]]) -> int:
    """Return how many strengths of the adapter pictures compare; 0 where all have the same, or none is known."""
    found = {image["adapter_scale"] for image in images if image.get("adapter_scale") is not None}
    return len(found) if len(found) > 1 else 0


def strength_caption(image: Mapping[str, Any]) -> str:
    """Return the caption of one picture among those of other strengths."""
    return f"{words.STRENGTH_OF.format(strength=image['adapter_scale'])} · {picture_caption({**image, 'shot': ''})}"


def sample_prompt(pack: Pack, class_noun: str = "") -> str:
    """Return the prompt of the shot that shows a pack best, with its placeholders for the subject."""
    (shot, *_), noun = pack.previewed(), class_noun or pack.subjects[0]
    text = shot.prompt_for(subject_kind(noun))
    for name, options in pack.wildcards.items():
        text = text.replace("{" + name + "}", options[0])
    return text


def viewer() -> Markup:
    """Return the window in which ``templates/pictures.js`` shows originals."""
    return render("pictures.viewer", words=words.VIEWER)


def generate_result(job: JobView, url: Url, hearts: int = 0) -> Markup:
    """Return the downloads of generated pictures, how alike they are, and how many were left out.

    Args:
        job: the finished job.
        url: links to its files.
        hearts: how many of its pictures have a heart: these are offered first.
    """
    made = job.result or {}
    mean, mean_of_all = made.get("likeness_mean"), made.get("likeness_mean_made")
    summary = made.get("likeness_summary")
    if _strengths(made.get("images", ())):
        sentences = [words.PICTURES_STRENGTHS]
    elif mean is not None:
        text = likeness_sentence(summary or {"mean": mean})
        sentences = [words.PICTURES_LIKENESS.format(likeness=text) + caveat_after(summary)]
    else:
        sentences = [words.PICTURES_UNMEASURED if summary else words.PICTURES_READY]
    if left_out := len(made.get("left_out") or ()):
        if mean is not None and mean_of_all is not None:
            sentences.append(words.counted(words.PICTURES_LEFT_OUT_OF, left_out, likeness=likeness_text(mean_of_all)))
        else:
            sentences.append(words.counted(words.PICTURES_LEFT_OUT, left_out))
    if cached := made.get("from_cache"):
        sentences.append(words.counted(words.PICTURES_CACHED, cached))
    title = words.counted(words.PICTURES, len(made.get("images", ())))
    scale = likeness_scale(summary or {"mean": mean})
    downloads = picture_downloads(made, url)
    if hearts:
        downloads.insert(0, (f"hearts/{quote(job.id)}", words.counted(words.DOWNLOAD_HEARTS, hearts)))
    return result(title, " ".join(sentences), downloads, scale)


def chain_hint(chain: Chain | None) -> Markup:
    """Return what a chain makes, and its steps."""
    if chain is None:
        return Markup()
    steps = " → ".join(words.CHAIN_STEPS[step.do] for step in chain.steps)
    return render("pictures.chain", description=language.say(chain.description), steps=steps)


def finished_caption(picture: Mapping[str, Any]) -> str:
    """Return the caption of one finished picture."""
    height, width = picture["size_hw"]
    size = bytes_text(picture["size_bytes"])
    caption = words.FINISHED_CAPTION.format(source=picture["source"], width=width, height=height, size=size)
    if picture.get("quality") is None:
        return caption
    return f"{caption} · {words.FINISHED_QUALITY.format(quality=picture['quality'])}"


def finish_result(job: JobView, url: Url) -> Markup:
    """Return the downloads of finished pictures, the pictures that failed, and notes."""
    finished = job.result or {}
    pictures, failed = finished.get("pictures", ()), finished.get("failed", ())
    text = words.FINISHED_SHEET
    if pictures:
        text = words.FINISHED_SIZE.format(size=bytes_text(sum(picture["size_bytes"] for picture in pictures)))
    card = result(words.counted(words.FINISHED, len(pictures)), text, picture_downloads(finished, url))
    if failed:
        lines = [f"{problem['where']}: {problem_text(problem)}" for problem in failed]
        card += notice(words.counted(words.FINISH_FAILED, len(lines)), lines, tone="bad")
    notes = _notes_of(pictures)
    return card + (notice(words.WORTH_KNOWING, notes) if notes else Markup())


def _notes_of(pictures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return each note once, with the picture that it is about, or with how many."""
    sources: dict[str, list[str]] = {}
    for picture in pictures:
        for note in picture["notes"]:
            sources.setdefault(note, []).append(picture["source"])
    return [
        f"{names[0] if len(names) == 1 else words.counted(words.PICTURES, len(names))}: {note}."
        for note, names in sources.items()
    ]
