"""The verb ``check``: turns a folder of photos into a training dataset, with a verdict for every photo.

A verb; runs in a child process, from a notebook or in a test::

    dataset = check(CheckConfig(subject="Ada", class_noun="woman"), Path("photos"), Path("dataset"))

It decodes every photo safely, checks each one (size, sharpness, light, face) and all of them together (duplicates, one
subject, variety), then crops and captions those that can be used. All metadata stays behind.
"""

import contextlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from studio.checking.captions import PLAIN_CAPTION, DrawnCaptions, captions_beside
from studio.checking.judge import (
    CandidatePhoto,
    compare_subjects,
    embed_photos,
    keep_at_most,
    look_for_faces,
    mark_duplicates,
    problems_of_set,
    read_candidate,
    refuse_undrawn,
)
from studio.core import folder as output
from studio.core import records
from studio.core.config import CheckConfig
from studio.core.domain import Dataset, Event, OnEvent, Photo, ShouldStop, Verdict, ignore_event, never_stop
from studio.core.errors import InputError, Problem, StudioError
from studio.core.files import full_disk_in_words, sha256_of, write_json
from studio.core.progress import PHOTOS_UNTOUCHED, ProgressReporter
from studio.imaging.apart import decode
from studio.imaging.bucket import nearest_bucket
from studio.imaging.crop import Box, centre_crop, face_crop, whole
from studio.imaging.decode import Decoded, display_name, in_folders, list_photos, no_photos, photos_inside
from studio.likeness.base import LikenessEngine, summarise
from studio.likeness.registry import choose_engine, is_person

PREVIEW_PX = 256
"""Longer side of the previews."""


_DATASET_NAME = "dataset.json"


@full_disk_in_words()
def check(
    config: CheckConfig,
    photos_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> Dataset:
    """Check a folder of photos and prepare those that can be used.

    Args:
        config: settings.
        photos_dir: the photos, and captions as ``<photo's name without ending>.txt`` where there are any, in UTF-8,
            UTF-16 or the western code page. Only read.
        out_dir: becomes ``dataset.json``, ``photos/NNN.png``, ``previews/NNN.webp`` and ``DONE``; an older dataset
            there is replaced once the new one is complete.
        on_event: receives stages, progress, each photo's verdict and warnings.
        should_stop: polled before every photo.

    Returns:
        The dataset, with at least one photo.

    Raises:
        InputError: no photos, too many, captions that cannot be read, or no photo that can be used (every problem is
            listed).
        ConflictError: ``out_dir`` holds something that is not a dataset.
        MissingExtraError: the likeness engine asked for by name is not installed.
        ResourceError: the disk is full.
        JobCancelled: ``should_stop`` returned True; nothing was written.
    """
    out_dir = out_dir.resolve()
    reporter = ProgressReporter(on_event, should_stop, kept=PHOTOS_UNTOUCHED)
    files = _listed(config, photos_dir, reporter)
    _refuse_foreign(out_dir, photos_dir)
    written = captions_beside(files, config.subject)

    reporter.start(3 * len(files))
    reporter.stage("reading", f"Reading {len(files)} photos")
    candidates = []
    for path, name in zip(files, _distinct_names(files), strict=True):
        candidates.append(read_candidate(config, path, name))
        candidates[-1].caption = written.get(path)
        reporter.advance(f"Read {name}")
        reporter.check_stop()

    reporter.stage("looking", "Looking at faces and likeness")
    engine, drawn = _engine(config, [c.look for c in candidates if c.look is not None], reporter)
    embeddings = []
    for candidate in candidates:
        if is_person(config.class_noun) and not drawn:
            look_for_faces(candidate)
        embeddings.append(embed_photos(engine, candidate))
        reporter.advance(f"Looked at {candidate.name}")
        reporter.check_stop()
    if drawn and is_person(config.class_noun):
        refuse_undrawn(candidates, embeddings)
    mark_duplicates(candidates)
    compare_subjects(config, candidates, embeddings, engine)

    chosen = [c for c in candidates if c.look is not None and (config.keep_rejected or not c.serious)]
    if not chosen:
        raise InputError.of(
            Problem(c.name, finding.message, finding.cure, finding.code) for c in candidates for finding in c.findings
        )
    set_problems = problems_of_set(config, chosen, drawn)
    for problem in set_problems:
        reporter.warn(f"{problem['message']}; {problem['cure']}")

    reporter.stage("preparing", f"Preparing {len(chosen)} photos")
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    (partial / "photos").mkdir(parents=True)
    (partial / "previews").mkdir()
    try:
        photos: list[Photo] = []
        verdicts: list[Verdict] = []
        captions = DrawnCaptions() if drawn else None
        for candidate in candidates:
            preview = None
            if candidate in chosen:
                photo = _prepare(config, candidate, len(photos) + 1, partial, captions)
                photos.append(photo)
                preview = f"previews/{len(photos):03d}.webp"
            verdicts.append(_verdict(candidate, preview))
            on_event(Event("verdict", records.to_dict(verdicts[-1])))
            reporter.advance(f"Prepared {candidate.name}" if preview else f"Left out {candidate.name}")
            reporter.check_stop()
        dataset = Dataset(
            subject=config.subject,
            class_noun=config.class_noun,
            photos=tuple(photos),
            verdicts=tuple(verdicts),
            set_problems=set_problems,
            likeness_engine=engine.name if engine else None,
            drawn=drawn,
            likeness_summary=summarise(engine, [c.likeness for c in chosen], config.class_noun) if engine else None,
        )
        write_json(partial / _DATASET_NAME, records.to_dict(dataset), ensure_ascii=False)
        output.finish(partial)
        output.swap(partial, out_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return dataset


def load_dataset(folder: Path) -> Dataset:
    """Read the dataset that ``check`` wrote.

    Raises:
        InputError: the folder holds no finished dataset.
    """
    with contextlib.suppress(StudioError):
        if output.is_finished(folder):
            return records.read(Dataset, folder / _DATASET_NAME)
    raise InputError.of(
        [Problem(display_name(folder.name), "contains no finished dataset", "run the photo check first", "no_dataset")]
    )


def _listed(config: CheckConfig, photos_dir: Path, reporter: ProgressReporter) -> list[Path]:
    """Return the photos of the folder; their number is judged before any of them is opened."""
    files, others = list_photos(photos_dir)
    if not files:
        raise InputError.of([no_photos(photos_dir)])
    if len(files) > config.max_photos:
        text = f"{len(files)} photos are more than the limit of {config.max_photos}"
        cure = f"keep the best {config.max_photos} or fewer; 8 to 20 good photos are enough"
        raise InputError.of([Problem("photos", text, cure, "too_many")])
    if others:
        names = ", ".join(display_name(path.name) for path in others[:5]) + (" ..." if len(others) > 5 else "")
        reporter.message(f"ignored because they are not photos: {names}")
    if deeper := photos_inside(photos_dir):
        reporter.warn(f"photos in subfolders are ignored: {in_folders(deeper)}")
    return files


def _engine(
    config: CheckConfig, looks: Sequence[Image.Image], reporter: ProgressReporter
) -> tuple[LikenessEngine | None, bool]:
    """Return the engine that compares the photos, if any, and whether these are drawn portraits."""
    choice = choose_engine(config.likeness, base=None, class_noun=config.class_noun, pictures=looks)
    if config.likeness == "none" and is_person(config.class_noun):
        # Even where nothing is to be compared, the face detector must not be asked about drawings.
        automatic = choose_engine("auto", base=None, class_noun=config.class_noun, pictures=looks).engine
        return None, automatic is not None and automatic.name == "pocket"
    if choice.engine is None and config.likeness != "none":
        reporter.warn(f"not checked whether all photos show the same subject: {choice.reason}")
    return choice.engine, choice.engine is not None and choice.engine.name == "pocket"


def _refuse_foreign(out_dir: Path, photos_dir: Path) -> None:
    """Refuse to replace anything but an empty folder or an older dataset."""
    if photos_dir.resolve().is_relative_to(out_dir):
        problem = Problem("out", "is the folder of the photos", "choose another folder", "same_folder")
        raise InputError.of([problem])
    if not (out_dir / _DATASET_NAME).is_file():
        output.require_free(out_dir)


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """Return a name to show for each file; what two names have in common once cleaned is told apart by a number."""
    names: list[str] = []
    for path in files:
        name, number = display_name(path.name), 2
        while name in names:
            name, number = f"{display_name(path.name)} ({number})", number + 1
        names.append(name)
    return names


def _verdict(candidate: CandidatePhoto, preview: str | None) -> Verdict:
    status = "rejected" if preview is None else "usable" if candidate.findings else "good"
    return Verdict(
        name=candidate.name,
        status=status,  # type: ignore[arg-type]
        problems=tuple(finding.to_json() for finding in candidate.findings),
        size_hw=candidate.size_hw,
        likeness=candidate.likeness,
        preview=preview,
    )


def _prepare(
    config: CheckConfig, candidate: CandidatePhoto, number: int, folder: Path, captions: "DrawnCaptions | None"
) -> Photo:
    """Crop, shrink, caption and write one photo."""
    decoded = decode(candidate.path, at_least_px=2 * config.crop_px)
    box = _crop_box(config, candidate, decoded.size_hw)
    cut = _cut(decoded, box)
    if max(cut.size) < config.crop_px and decoded.picture.height < decoded.size_hw[0]:
        cut = _cut(decode(candidate.path), box)  # the crop is so small that it deserves the photo's full resolution
    prepared = keep_at_most(cut, config.crop_px)
    file = f"photos/{number:03d}.png"
    prepared.save(folder / file, compress_level=3)
    preview = keep_at_most(prepared, PREVIEW_PX)
    preview.save(folder / f"previews/{number:03d}.webp", quality=85)
    caption = candidate.caption
    if caption is None:
        caption = captions.describe(prepared) if captions else PLAIN_CAPTION
    return Photo(
        file=file,
        name=candidate.name,
        sha256=sha256_of(folder / file),
        size_hw=(prepared.height, prepared.width),
        caption=caption,
        bucket=nearest_bucket((prepared.height, prepared.width)),
        crop_yxhw=box,
        problems=tuple(finding.code for finding in candidate.findings),
    )


def _crop_box(config: CheckConfig, candidate: CandidatePhoto, size_hw: tuple[int, int]) -> Box:
    if config.crop == "none":
        return whole(size_hw)
    if config.crop == "face" and candidate.face is not None and candidate.look is not None:
        scale = size_hw[0] / candidate.look.height
        top, left, height, width = (round(value * scale) for value in candidate.face.box)
        return face_crop(size_hw, (top, left, height, width), at_least_px=config.min_side_px)
    return centre_crop(size_hw)


def _cut(decoded: Decoded, box: Box) -> Image.Image:
    """Cut a box given in the full photo's pixels out of a picture that may have been decoded smaller."""
    top, left, height, width = box
    scale_y = decoded.picture.height / decoded.size_hw[0]
    scale_x = decoded.picture.width / decoded.size_hw[1]
    y0, x0 = round(top * scale_y), round(left * scale_x)
    y1 = max(y0 + 1, round((top + height) * scale_y))
    x1 = max(x0 + 1, round((left + width) * scale_x))
    return decoded.picture.crop((x0, y0, x1, y1))
