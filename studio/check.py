"""The verb ``check``: turns a folder of photos into a training dataset, with a verdict for every photo.

A verb; runs in a child process, from a notebook or in a test::

    dataset = check(CheckConfig(subject="Ada", class_noun="woman"), Path("photos"), Path("dataset"))

It decodes every photo safely, checks each one (size, sharpness, light, face) and all of them together (duplicates, one
subject, variety), then crops and captions those that can be used. All metadata stays behind.
"""

import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from studio.checking.advice import advise
from studio.checking.captions import DrawnCaptions, captions_beside, clean_caption
from studio.checking.judge import (
    CandidatePhoto,
    compare_subjects,
    embed_photos,
    judge_faces,
    mark_duplicates,
    problems_of_set,
    read_candidate,
    refuse_undrawn,
)
from studio.checking.prepare import FOLDERS, TAKEN_OUT, SetWriter
from studio.checking.seen import Seen, consent_missing, contradiction, guess, guessed_finding, look_for_faces, sum_up
from studio.core import folder as output
from studio.core import records
from studio.core.config import CheckConfig
from studio.core.domain import Dataset, Event, OnEvent, Photo, ShouldStop, Verdict, ignore_event, never_stop
from studio.core.errors import InputError, Problem, StudioError
from studio.core.files import full_disk_in_words, write_json
from studio.core.names import nearest
from studio.core.progress import PHOTOS_UNTOUCHED, ProgressReporter
from studio.imaging.decode import display_name, in_folders, list_photos, no_photos, photos_inside
from studio.imaging.nudity import open_check
from studio.likeness.base import LikenessEngine, summarise
from studio.likeness.registry import choose_engine, is_person

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
        out_dir: becomes ``dataset.json``, ``photos/NNN.png``, ``previews/*.webp``, ``originals/NNN.jpg`` and
            ``DONE``; an older dataset there is replaced once the new one is complete.
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
    captions = {name: clean_caption(text, config.subject) for name, text in config.captions.items()}

    names = _distinct_names(files)
    _refuse_unknown(config, names)
    reporter.start(3 * len(files), counted=False)
    reporter.stage("reading", f"Reading {len(files)} photos")
    everything, nudity = [], open_check("photos")
    for path, name in zip(files, names, strict=True):
        everything.append(read_candidate(config, path, name, nudity))
        everything[-1].caption = captions[name] if name in captions else written.get(path)
        reporter.advance(f"Read {name}")
        reporter.check_stop()

    reporter.stage("looking", "Looking at faces and likeness")
    candidates = [c for c in everything if c.name not in config.exclude]
    for candidate in candidates:
        look_for_faces(candidate)
        reporter.check_stop()
    seen = sum_up(config, candidates)
    is_guessed = not config.class_noun
    config = config.model_copy(update={"class_noun": config.class_noun or guess(seen)})
    engine, not_compared = _engine(config, seen, [c.look for c in candidates if c.look is not None])
    embeddings = []
    for candidate in candidates:
        if is_person(config.class_noun) and not seen.drawn:
            judge_faces(candidate)
        embeddings.append(embed_photos(engine, candidate))
        reporter.advance(f"Looked at {candidate.name}")
        reporter.check_stop()
    if seen.drawn:
        refuse_undrawn(candidates, embeddings)
    mark_duplicates(candidates)
    compare_subjects(config, candidates, embeddings, engine)

    of_class = guessed_finding(seen, config.class_noun) if is_guessed else contradiction(seen, config.class_noun)
    chosen = [c for c in candidates if c.look is not None and (not c.serious or _is_forced(config, c))]
    of_person = [found for found in (of_class, consent_missing(config, seen)) if found is not None]
    findings = [*of_person, *problems_of_set(config, chosen, not_compared)]
    set_problems = tuple(finding.to_json() for finding in findings)
    advice = tuple(found.to_json() for found in advise(chosen, [problem["code"] for problem in set_problems]))
    for problem in set_problems if chosen else ():
        reporter.warn(f"{problem['message']}; {problem['cure']}")

    reporter.stage("preparing", f"Preparing {len(chosen)} photos")
    dataset = Dataset(
        subject=config.subject,
        class_noun=config.class_noun,
        class_noun_guessed=is_guessed,
        drawn=seen.drawn,
        consent=config.consent,
        advice=advice if chosen else (),
        photos=(),
        verdicts=(),
        set_problems=set_problems,
        likeness_engine=engine.name if engine else None,
        likeness_summary=summarise(engine, [c.likeness for c in chosen], config.class_noun) if engine else None,
    )
    captioner = DrawnCaptions() if seen.drawn else None
    dataset = _write(config, dataset, everything, chosen, out_dir, captioner, reporter)
    if not chosen:
        first = [Problem("class_noun", of_class.message, of_class.cure, of_class.code)] if of_class else []
        told = [(c.name, finding) for c in everything for finding in c.findings]
        raise InputError.of([*first, *(Problem(name, f.message, f.cure, f.code) for name, f in told)])
    return dataset


def _is_forced(config: CheckConfig, candidate: CandidatePhoto) -> bool:
    return config.keep_rejected or candidate.name in config.force


def _write(
    config: CheckConfig,
    dataset: Dataset,
    candidates: Sequence[CandidatePhoto],
    chosen: Sequence[CandidatePhoto],
    out_dir: Path,
    captioner: DrawnCaptions | None,
    reporter: ProgressReporter,
) -> Dataset:
    """Write the dataset's folder and tell the verdicts.

    A set of which nothing can be used is written, too, as one that is not finished: it can be edited. It never takes
    the place of one that is, and without a photo that can be read there is nothing to write.
    """
    partial = out_dir.with_name(f".{out_dir.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name in FOLDERS:
        (partial / name).mkdir(parents=True)
    try:
        writer = SetWriter(config, partial, captioner)
        photos: list[Photo] = []
        verdicts: list[Verdict] = []
        for candidate in candidates:
            if candidate in chosen:
                photo, verdict = writer.use(candidate, is_forced=_is_forced(config, candidate))
                photos.append(photo)
            else:
                if candidate.name in config.exclude:
                    candidate.findings = [TAKEN_OUT]
                verdict = writer.leave_out(candidate)
            verdicts.append(verdict)
            reporter.on_event(Event("verdict", records.to_dict(verdict)))
            reporter.advance(f"Prepared {candidate.name}" if verdict.crop else f"Left out {candidate.name}")
            reporter.check_stop()
        dataset = replace(dataset, photos=tuple(photos), verdicts=tuple(verdicts))
        write_json(partial / _DATASET_NAME, records.to_dict(dataset), ensure_ascii=False)
        if chosen:
            output.finish(partial)
        if chosen or (not output.is_finished(out_dir) and any(verdict.original for verdict in verdicts)):
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


def _engine(config: CheckConfig, seen: Seen, looks: Sequence[Image.Image]) -> tuple[LikenessEngine | None, str]:
    """Return the engine that compares the photos, if any, and why there is none although one is wanted."""
    choice = choose_engine(
        config.likeness, base=None, class_noun=config.class_noun, pictures=looks, drawn=seen.drawn, faces=seen.faces
    )
    return choice.engine, choice.reason if choice.engine is None and config.likeness != "none" else ""


def _refuse_foreign(out_dir: Path, photos_dir: Path) -> None:
    """Refuse to replace anything but an empty folder or an older dataset."""
    if photos_dir.resolve().is_relative_to(out_dir):
        problem = Problem("out", "is the folder of the photos", "choose another folder", "same_folder")
        raise InputError.of([problem])
    if not (out_dir / _DATASET_NAME).is_file():
        output.require_free(out_dir)


def _refuse_unknown(config: CheckConfig, names: Sequence[str]) -> None:
    """Refuse edits of photos that are not there, each with the name that is nearest to it."""
    problems = []
    for where in ("exclude", "force", "captions", "crops"):
        for name in getattr(config, where):
            if name not in names:
                near = nearest(name, names)
                cure = f"did you mean {near}?" if near else "use the names that the verdicts have"
                problems.append(Problem(where, f"there is no photo {name!r}", cure, "unknown_photo"))
    if problems:
        raise InputError.of(problems)


def _distinct_names(files: Sequence[Path]) -> list[str]:
    """Return a name to show for each file; what two names have in common once cleaned is told apart by a number."""
    names: list[str] = []
    for path in files:
        name, number = display_name(path.name), 2
        while name in names:
            name, number = f"{display_name(path.name)} ({number})", number + 1
        names.append(name)
    return names
