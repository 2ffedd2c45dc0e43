"""How well does an engine tell subjects apart? Asked about a folder with one folder of pictures for each subject.

Every picture is measured against the *other* pictures of its subject (the ceiling) and every subject's pictures against
those of all others (the floor); the other subject that comes nearest is named, since a mean over strangers says nothing
of people who look alike. Then each face is spoilt, as a mosaic of 5 x 6 cells and by a blur that leaves no features: an
engine that gives such a face a number has measured hair and skin. ``python -m studio bench likeness`` shows the answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from studio.core.domain import OnEvent, ShouldStop, ignore_event, never_stop
from studio.core.errors import InputError, MissingExtraError, Problem
from studio.core.progress import ProgressReporter
from studio.imaging.apart import decode
from studio.imaging.decode import display_name, list_photos
from studio.likeness.base import (
    Box,
    Embeddings,
    LikenessEngine,
    Scale,
    centroid,
    likeness,
    photo_likeness,
    shows_subject,
)
from studio.likeness.registry import choose_engine

LEAST_SUBJECTS, LEAST_PICTURES = 2, 2
"""Somebody to be taken for, and a picture to compare a picture with."""
LOOK_PX = 800
"""Shorter side that a decoded picture keeps at least, so that a large photo takes no more memory than it needs."""
MOSAIC_CELLS = (5, 6)
"""Across and down."""
BLUR_SHARE = 1 / 8
"""Standard deviation of the Gaussian, of the face's width: eyes and mouth become one shadow."""
SPOILT = ("mosaic", "blur")
_LOOKS = 6  # pictures that are looked at to choose an engine


@dataclass(frozen=True, slots=True)
class SpoiltFaces:
    """What an engine says of faces that cannot be read."""

    pictures: int
    """How many were spoilt: those that are measured as they are, and whose face the engine can point at."""
    not_measured: float | None
    """Share of them that it rightly does not measure; None without any."""
    likeness: float | None
    """Mean likeness of those that it measures all the same."""


@dataclass(frozen=True, slots=True)
class BenchRow:
    """The numbers of one subject, or of all of them; None where nothing was measured."""

    name: str
    pictures: int
    measured: int
    """Pictures in which the engine finds a subject."""
    ceiling: float | None
    """Mean likeness of a picture to the other pictures of its subject."""
    spread: float | None
    """Standard deviation of that over the pictures."""
    floor: float | None
    """Mean likeness of other subjects' pictures to this one."""
    nearest: str | None
    """The other subject whose pictures are the most alike."""
    nearest_likeness: float | None
    """Mean likeness of its pictures."""
    beats_nearest: float | None
    """Share of pairs in which a picture of the subject scores above one of the nearest other."""
    mosaic: SpoiltFaces
    blur: SpoiltFaces


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What ``measure`` found; likenesses are raw, on the engine's own scale."""

    engine: str
    version: str
    class_noun: str
    caveat: str | None
    """For whom the engine's scores are known to be worse."""
    scale_other: float
    """Cosine that the engine takes for likeness 0."""
    scale_same: float
    """Cosine that it takes for likeness 1."""
    measured_other: float | None
    """Mean cosine of other subjects' pictures to a subject's centroid, here."""
    measured_same: float | None
    """Mean cosine of a picture to the centroid of the subject's other pictures, here."""
    subjects: tuple[BenchRow, ...]
    total: BenchRow
    """Over all subjects, each counting once; ``nearest`` is the pair that is hardest to tell apart."""


@dataclass(slots=True)
class _Subject:
    name: str
    rows: Embeddings
    spoilt: dict[str, Embeddings]


def measure(
    folder: Path,
    engine: str = "auto",
    class_noun: str = "person",
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> BenchResult:
    """Measure an engine on a folder of subjects.

    Args:
        folder: one folder of pictures for each subject, named as the subject.
        engine: a name from ``studio.likeness.registry.ENGINES``, or auto, which looks at the pictures.
        class_noun: what the subjects are; chooses the scale.
        on_event: receives stages and progress.
        should_stop: asked before each picture.

    Raises:
        InputError: fewer than two subjects, or one with fewer than two pictures; a picture that cannot be read.
        MissingExtraError: the engine's weights are not here, or no engine suits.
        JobCancelled: ``should_stop`` returned True.
    """
    files = subjects_in(folder)
    reporter = ProgressReporter(on_event, should_stop, kept="nothing is kept")
    reporter.stage("loading", "Looking for a likeness engine")
    pictures = [path for paths in files.values() for path in paths]
    looks = [_read(path) for path in pictures[:: max(1, len(pictures) // _LOOKS)]]
    choice = choose_engine(engine, base=None, class_noun=class_noun, pictures=looks)
    if choice.engine is None:
        raise MissingExtraError(f"likeness cannot be measured here: {choice.reason}; name an engine with --engine.")
    reporter.stage("measuring", f"Measuring {len(pictures)} pictures with the engine {choice.engine.name}")
    reporter.start(len(pictures))
    subjects = [_measured(choice.engine, name, paths, reporter) for name, paths in files.items()]
    return compare(choice.engine, subjects, class_noun)


def subjects_in(folder: Path) -> dict[str, list[Path]]:
    """Return the pictures of each subject by name, in natural order.

    Raises:
        InputError: there are fewer than two subjects, or one has fewer than two pictures; all of them at once.
    """
    if not folder.is_dir():
        cure = "give a folder that holds one folder of pictures for each subject"
        raise InputError.of([Problem(display_name(folder.name), "is not a folder", cure, "no_folder")])
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {display_name(path.name): list_photos(path)[0] for path in folders}
    problems = [
        Problem(
            name, f"pictures in it: {len(paths)}, needed: {LEAST_PICTURES}", "add some, or move it away", "few_pictures"
        )
        for name, paths in found.items()
        if len(paths) < LEAST_PICTURES
    ]
    if len(found) < LEAST_SUBJECTS:
        text = f"holds the folders of {len(found)} subjects, and {LEAST_SUBJECTS} are needed to compare them"
        cure = "put the pictures of each subject into a folder of its own, and those folders into this one"
        problems.insert(0, Problem(display_name(folder.name), text, cure, "few_subjects"))
    if problems:
        raise InputError.of(problems)
    return found


def spoil(picture: Image.Image, box: Box, how: str) -> Image.Image:
    """Return a picture whose face cannot be read.

    Args:
        picture: RGB.
        box: of the face.
        how: mosaic or blur.
    """
    top, left, height, width = box
    corners = (left, top, left + width, top + height)
    face = picture.crop(corners)
    if how == "mosaic":
        face = face.resize(MOSAIC_CELLS, Image.Resampling.BOX).resize(face.size, Image.Resampling.NEAREST)
    else:
        face = face.filter(ImageFilter.GaussianBlur(max(1.0, width * BLUR_SHARE)))
    spoilt = picture.copy()
    spoilt.paste(face, corners)
    return spoilt


def compare(engine: LikenessEngine, subjects: Sequence[_Subject], class_noun: str) -> BenchResult:
    """Turn embeddings into the numbers of each subject and of all."""
    scale = engine.scale(class_noun)
    rows = [_row(subject, [other for other in subjects if other is not subject], scale) for subject in subjects]
    hardest = min(
        (row for row in rows if row.nearest_likeness is not None and row.ceiling is not None),
        key=lambda row: (row.ceiling or 0.0) - (row.nearest_likeness or 0.0),
        default=None,
    )
    total = BenchRow(
        name="all",
        pictures=sum(row.pictures for row in rows),
        measured=sum(row.measured for row in rows),
        ceiling=_mean([row.ceiling for row in rows]),
        spread=_mean([row.spread for row in rows]),
        floor=_mean([row.floor for row in rows]),
        nearest=None if hardest is None else f"{hardest.name} / {hardest.nearest}",
        nearest_likeness=None if hardest is None else hardest.nearest_likeness,
        beats_nearest=_mean([row.beats_nearest for row in rows]),
        mosaic=_together([row.mosaic for row in rows]),
        blur=_together([row.blur for row in rows]),
    )

    def cosine(value: float | None) -> float | None:
        return None if value is None else round(scale.other + value * (scale.same - scale.other), 4)

    return BenchResult(
        engine=engine.name,
        version=engine.version,
        class_noun=class_noun,
        caveat=engine.caveat or None,
        scale_other=scale.other,
        scale_same=scale.same,
        measured_other=cosine(total.floor),
        measured_same=cosine(total.ceiling),
        subjects=tuple(rows),
        total=total,
    )


def _read(path: Path) -> Image.Image:
    return decode(path, at_least_px=LOOK_PX).picture.convert("RGB")


def _measured(engine: LikenessEngine, name: str, paths: Sequence[Path], reporter: ProgressReporter) -> _Subject:
    rows, spoilt = [], {how: list[Embeddings]() for how in SPOILT}
    for path in paths:
        reporter.check_stop()
        picture = _read(path)
        row = engine.embed([picture])
        rows.append(row)
        box = engine.face_box(picture) if shows_subject(row)[0] else None
        if box is not None:
            for how in SPOILT:
                spoilt[how].append(engine.embed([spoil(picture, box, how)]))
        reporter.advance(f"Measured {name}")
    none = rows[0][:0]
    return _Subject(name, np.concatenate(rows), {how: np.concatenate([none, *found]) for how, found in spoilt.items()})


def _row(subject: _Subject, others: Sequence[_Subject], scale: Scale) -> BenchRow:
    shown = shows_subject(subject.rows)
    own = photo_likeness(subject.rows, scale)
    own = own[~np.isnan(own)]
    reference = centroid(subject.rows) if shown.any() else None
    foreign = {
        other.name: likeness(other.rows[shows_subject(other.rows)], reference, scale)
        for other in others
        if reference is not None and shows_subject(other.rows).any()
    }
    nearest = max(foreign, key=lambda name: float(foreign[name].mean()), default=None)
    beaten = None
    if nearest is not None and len(own):
        beaten = float((own[:, None] > foreign[nearest][None, :]).mean())
    return BenchRow(
        name=subject.name,
        pictures=len(subject.rows),
        measured=int(shown.sum()),
        ceiling=_rounded(own.mean()) if len(own) else None,
        spread=_rounded(own.std(ddof=1)) if len(own) > 1 else None,
        floor=_mean([float(values.mean()) for values in foreign.values()]),
        nearest=nearest,
        nearest_likeness=None if nearest is None else _rounded(foreign[nearest].mean()),
        beats_nearest=None if beaten is None else _rounded(beaten),
        mosaic=_judged(subject.spoilt["mosaic"], reference, scale),
        blur=_judged(subject.spoilt["blur"], reference, scale),
    )


def _judged(rows: Embeddings, reference: NDArray[np.float32] | None, scale: Scale) -> SpoiltFaces:
    if reference is None or not len(rows):
        return SpoiltFaces(0, None, None)
    shown = shows_subject(rows)
    values = likeness(rows[shown], reference, scale)
    return SpoiltFaces(len(rows), _rounded(1 - shown.mean()), _rounded(values.mean()) if len(values) else None)


def _together(parts: Sequence[SpoiltFaces]) -> SpoiltFaces:
    count = sum(part.pictures for part in parts)
    if not count:
        return SpoiltFaces(0, None, None)
    refused = sum((part.not_measured or 0.0) * part.pictures for part in parts) / count
    return SpoiltFaces(count, _rounded(refused), _mean([part.likeness for part in parts]))


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return _rounded(np.mean(found)) if found else None


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)
