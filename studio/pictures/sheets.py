"""What is written beside the pictures: contact sheets, the zip and the index."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import ceil, sqrt
from pathlib import Path
from typing import Any

from PIL import Image as PILImage

from studio.core import records
from studio.core.domain import GenerateResult, Image
from studio.core.files import replacing, write_zip
from studio.core.units import likeness_sentence, likeness_text
from studio.imaging.nudity import NudityCheck
from studio.imaging.provenance import save_picture
from studio.imaging.quality import Fingerprint
from studio.imaging.sheet import contact_sheet
from studio.pictures.request import PlannedPicture
from studio.pictures.selection import prints_of

INDEX_NAME = "index.json"


SHEET_NAME = "contact_sheet.png"


ARCHIVE_NAME = "pictures.zip"


_SHEET_PICTURES = 96


_SHEET_CELL_PX = 200


class MadePictures:
    """What is there of the plan, by index."""

    def __init__(self, with_prints: bool, check: NudityCheck | None = None) -> None:
        self.thumbnails: dict[int, PILImage.Image] = {}
        self.scores: dict[int, float | None] = {}
        self.prints: dict[int, Fingerprint] = {}
        self.withheld: set[int] = set()
        """Pictures that the operator's check does not let pass; they are written nowhere."""
        self.doubtful: set[int] = set()
        """Pictures about which it only warns."""
        self._with_prints = with_prints
        self._check = check

    def __contains__(self, index: int) -> bool:
        return index in self.scores or index in self.withheld

    def admits(self, index: int, picture: PILImage.Image) -> bool:
        """Put a picture to the operator's check, where there is one; tell whether it may be kept."""
        if self._check is None or not self._check.found(picture):
            return True
        (self.withheld if self._check.refuses else self.doubtful).add(index)
        return not self._check.refuses

    def without_withheld(self, plan: Sequence[PlannedPicture]) -> tuple[list[PlannedPicture], "MadePictures"]:
        """Return the plan without what is withheld, and what is there of it."""
        kept = [index for index in range(len(plan)) if index not in self.withheld]
        made = MadePictures(self._with_prints)
        for place, index in enumerate(kept):
            made.thumbnails[place], made.scores[place] = self.thumbnails[index], self.scores[index]
            if index in self.prints:
                made.prints[place] = self.prints[index]
        return [plan[index] for index in kept], made

    def add(self, index: int, picture: PILImage.Image, score: float | None) -> None:
        """Keep what the sheets need of a picture: a thumbnail, its score and, where asked for, its fingerprint."""
        self.thumbnails[index], self.scores[index] = _thumbnail(picture), score
        if self._with_prints:
            (self.prints[index],) = prints_of([picture])


def mean_likeness(scores: Sequence[float | None]) -> float | None:
    """Return the mean of the scores that were measured; None if there are none."""
    found = [score for score in scores if score is not None]
    return round(sum(found) / len(found), 4) if found else None


def _thumbnail(picture: PILImage.Image) -> PILImage.Image:
    """Return a copy that is small enough to keep hundreds of in memory."""
    copy = picture.copy()
    copy.thumbnail((2 * _SHEET_CELL_PX, 2 * _SHEET_CELL_PX))
    return copy


def write_sheets(
    out_dir: Path,
    plan: Sequence[PlannedPicture],
    made: MadePictures,
    result: GenerateResult,
    subject: str,
    title: str,
    summary: Callable[[Sequence[float | None]], Mapping[str, Any] | None],
) -> GenerateResult:
    """Write one sheet for all that is kept and one for each shot with several pictures; return the result with them."""
    index_of = {item.file: index for index, item in enumerate(plan)}
    by_shot: dict[str, list[Image]] = {}
    for image in result.images:
        by_shot.setdefault(image.shot, []).append(image)
    _write_sheet(out_dir / SHEET_NAME, result.images, index_of, made, f"{subject} · {title}", result.likeness_summary)
    sheets = []
    for shot, images in by_shot.items():
        if len(images) > 1 and len(by_shot) > 1:
            sheets.append(str(Path(images[0].file).parent / SHEET_NAME))
            heading = f"{subject} · {shot.replace('_', ' ')}"
            found = summary([made.scores[index_of[image.file]] for image in images])
            _write_sheet(out_dir / sheets[-1], images, index_of, made, heading, found)
    return replace(result, sheets=tuple(sorted(sheets)))


def _write_sheet(
    path: Path,
    images: Sequence[Image],
    index_of: Mapping[str, int],
    made: MadePictures,
    title: str,
    measured: Mapping[str, Any] | None,
) -> None:
    shown = images[:_SHEET_PICTURES]
    captions = []
    compared = len({image.adapter_scale for image in images}) > 1
    for image in shown:
        facts = [f"seed {image.seed}", *([f"strength {image.adapter_scale or 0:g}"] if compared else [])]
        if measured is not None:
            facts.insert(0, f"likeness {likeness_text(image.likeness, 'not measured')}")
        captions.append((image.shot.replace("_", " "), " · ".join(facts)))
    total = len(images)
    parts = [f"{total} pictures" if len(shown) == total else f"the first {len(shown)} of {total} pictures"]
    if measured is not None:
        parts += ["best likeness first"] * (measured["mean"] is not None) + [likeness_sentence(measured)]
    sheet = contact_sheet(
        [made.thumbnails[index_of[image.file]] for image in shown],
        captions,
        columns=max(3, min(8, ceil(sqrt(len(shown) * 1.4)))),
        cell_px=_SHEET_CELL_PX,
        title=title,
        subtitle=" · ".join(parts),
    )
    with replacing(path, durable=False) as part:
        save_picture(sheet, part, "PNG")


def write_archive(out_dir: Path, result: GenerateResult, subject: str) -> None:
    """Write all pictures and an index; the same pictures give the same bytes."""
    index = {
        "subject": subject,
        "likeness_engine": result.likeness_engine,
        "likeness_version": result.likeness_version,
        "likeness_summary": result.likeness_summary,
        "likeness_mean": result.likeness_mean,
        "images": [records.to_dict(image) for image in result.images],
    }
    members: list[tuple[str, Path | bytes]] = [(name, out_dir / name) for name in sorted(i.file for i in result.images)]
    members.append((INDEX_NAME, (json.dumps(index, indent=1) + "\n").encode()))
    write_zip(out_dir / ARCHIVE_NAME, members)
