"""The demo: a drawn sample person goes through check, train and generate, and onto one contact sheet.

Sits between the command line and the verbs, and only combines them. Run it with ``python -m studio demo --out DIR``.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from studio.core import records
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import Dataset, Event, GenerateResult, OnEvent, TrainResult, ignore_event
from studio.core.errors import InputError, Problem
from studio.core.files import replacing
from studio.core.folder import contents
from studio.core.presets import PRESETS_DIR, train_config
from studio.core.strict import StrictModel
from studio.core.units import likeness_sentence, likeness_text
from studio.imaging.provenance import save_picture
from studio.imaging.sheet import PAPER, contact_sheet
from studio.pocket.samples import SAMPLE_CLASS_NOUN, SAMPLE_NAME, sample_photos

Runner = Callable[[str, StrictModel, Path, Path], Any]
"""``(verb, config, source, out) -> result``: runs one verb to its end."""

PRESET = "pocket_lora_cpu"
PACK = "pocket_scenes"
_COLUMNS = 6
_CELL_PX = 192


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What the demo found; all paths are absolute."""

    likeness_before: float | None
    """Mean likeness of the untrained base's pictures, for the same prompts and seeds as after."""
    likeness_after: float | None
    """Mean likeness of the trained adapter's pictures."""
    seconds: float
    contact_sheet: str
    pictures: str
    run: str
    dataset: str
    train: TrainResult
    """Likeness and bleed as measured while training, on its own prompts."""
    likeness_summary_before: Mapping[str, Any] | None = None
    """Of the untrained base's pictures, as ``studio.likeness.base.summarise`` puts it."""
    likeness_summary: Mapping[str, Any] | None = None
    """Of the trained adapter's."""


def demo(
    run: Runner,
    out: Path,
    *,
    seed: int = 0,
    class_noun: str = SAMPLE_CLASS_NOUN,
    presets_dir: Path = PRESETS_DIR,
    on_event: OnEvent = ignore_event,
) -> DemoResult:
    """Draw a person, train on the photos, and show what changed.

    Called again on the same folder, it goes on where it was stopped.

    Args:
        run: runs a verb by name, for example a wrapped ``Studio.run``.
        out: created if missing; receives photos, dataset, run, before, pictures and demo_sheet.png.
        seed: of the person; another seed draws another one.
        class_noun: woman or man.
        presets_dir: holds train/*.yaml.
        on_event: receives the stages between the verbs.

    Returns:
        The measured difference and where everything lies.

    Raises:
        InputError: nothing can be drawn for ``class_noun``.
        StudioError: whatever a verb raises.
    """
    from studio.pocket.renderer.words import CLASS_NOUNS

    if class_noun not in CLASS_NOUNS:
        cure = f"use one of: {', '.join(CLASS_NOUNS)}"
        raise InputError.of([Problem("--class-noun", f"nobody can draw a sample {class_noun}", cure, "unknown_noun")])
    started_s = time.monotonic()
    out = out.resolve()
    photos_dir = out / "photos"
    if not contents(photos_dir):
        on_event(Event("stage", {"name": "drawing", "message": "Drawing a sample person"}))
        sample_photos(photos_dir, seed=seed, class_noun=class_noun)

    checking = CheckConfig.parse({"subject": SAMPLE_NAME, "class_noun": class_noun})
    dataset: Dataset = run("check", checking, photos_dir, out / "dataset")
    training = train_config(PRESET, subject=SAMPLE_NAME, class_noun=class_noun, presets_dir=presets_dir)
    trained: TrainResult = run("train", training, out / "dataset", out / "run")
    wanted = GenerateConfig.parse({"pack": PACK, "seed": seed})
    untrained = wanted.model_copy(update={"adapter_scale": 0.0})
    before: GenerateResult = run("generate", untrained, out / "run", out / "before")
    after: GenerateResult = run("generate", wanted, out / "run", out / "pictures")

    sheet = out / "demo_sheet.png"
    _write(sheet, _sheet(dataset, before, after, out))
    result = DemoResult(
        likeness_before=before.likeness_mean,
        likeness_after=after.likeness_mean,
        seconds=round(time.monotonic() - started_s, 1),
        contact_sheet=str(sheet),
        pictures=str(out / "pictures"),
        run=str(out / "run"),
        dataset=str(out / "dataset"),
        train=trained,
        likeness_summary_before=before.likeness_summary,
        likeness_summary=after.likeness_summary,
    )
    records.write(out / "demo.json", result)
    return result


def _sheet(dataset: Dataset, before: GenerateResult, after: GenerateResult, out: Path) -> Image.Image:
    """Return three blocks on one page: the photos, then the same prompts and seeds before and after training."""

    def opened(path: Path) -> Image.Image:
        with Image.open(path) as picture:
            return picture.convert("RGB")

    def block(pictures: list[tuple[Path, str, str]], title: str, subtitle: str) -> Image.Image:
        # Padded to a full row, so that all blocks are equally wide.
        blank = Image.new("RGB", (_CELL_PX, _CELL_PX), PAPER)
        missing = max(0, _COLUMNS - len(pictures))
        return contact_sheet(
            [*(opened(path) for path, _, _ in pictures), *[blank] * missing],
            [*((head, faint) for _, head, faint in pictures), *[("", "")] * missing],
            columns=_COLUMNS,
            cell_px=_CELL_PX,
            title=title,
            subtitle=subtitle,
        )

    def pictures_of(result: GenerateResult, folder: Path, rows: int) -> list[tuple[Path, str, str]]:
        shown = sorted(result.images, key=lambda image: (image.seed, image.file))[: rows * _COLUMNS]
        return [(folder / image.file, image.shot, _likeness_text(image.likeness)) for image in shown]

    likeness_of = {verdict.name: verdict.likeness for verdict in dataset.verdicts}
    photos = [
        (out / "dataset" / photo.file, f"photo {number}", _likeness_text(likeness_of.get(photo.name)))
        for number, photo in enumerate(dataset.photos[:_COLUMNS], start=1)
    ]
    blocks = [
        block(photos, "Photos", f"{len(dataset.photos)} photos of one drawn {dataset.class_noun}"),
        block(pictures_of(before, out / "before", 1), "Before training", _mean_text(before)),
        block(pictures_of(after, out / "pictures", 2), "After training", _mean_text(after)),
    ]
    page = Image.new("RGB", (max(item.width for item in blocks), sum(item.height for item in blocks)), PAPER)
    top = 0
    for item in blocks:
        page.paste(item, (0, top))
        top += item.height
    return page


def _likeness_text(value: float | None) -> str:
    return "" if value is None else f"likeness {likeness_text(value)}"


def _mean_text(result: GenerateResult) -> str:
    return f"{likeness_sentence(result.likeness_summary)} (0 = another person, 1 = a photo of this one)"


def _write(path: Path, picture: Image.Image) -> None:
    with replacing(path) as part:
        save_picture(picture, part, "PNG")
