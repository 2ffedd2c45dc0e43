"""The verb ``finish``: puts pictures through a chain of steps such as cutout, background and upscale.

The steps: find the pictures -> open the folder (go on, or refuse) -> load what the steps need -> each picture
through all steps (decoded once) -> preview, file, record -> contact sheet, zip, index, DONE. A picture that cannot be
finished does not stop the rest; it is named at the end. Runs in a worker's child process or from a notebook::

    finish(FinishConfig(steps=[CutoutStep(), BackgroundStep()]), Path("photo.jpg"), Path("out"))
"""

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio import __version__
from studio.compute.device import cpu_threads
from studio.core import folder as output
from studio.core import records
from studio.core.domain import Event, FinishedPicture, FinishResult, OnEvent, ShouldStop, ignore_event, never_stop
from studio.core.errors import InputError, Problem, StudioError
from studio.core.files import full_disk_in_words, replacing, sha256_of, write_bytes, write_zip
from studio.core.finish_config import BackgroundStep, FinishConfig, FinishStep, FitStep
from studio.core.progress import PICTURES_KEPT, ProgressReporter
from studio.core.settings import load_settings
from studio.finishing.steps import STEP_OPENERS, Canvas, Step, StepContext, alpha_of, on_white, refused
from studio.imaging import compose
from studio.imaging.apart import decode_bytes, is_generated, made_record
from studio.imaging.decode import display_name, read_photo
from studio.imaging.fit import ENDINGS, encode
from studio.imaging.nudity import NudityCheck, open_check, refusal, warning
from studio.imaging.pictures import PictureSource, find_pictures
from studio.imaging.provenance import save_picture
from studio.imaging.sheet import contact_sheet

INDEX_NAME = "index.json"


SHEET_NAME = "contact_sheet.png"


ARCHIVE_NAME = "pictures.zip"


PICTURES_FOLDER = "pictures"


PREVIEWS_FOLDER = "previews"


_RECORDS_FOLDER = "records"


PREVIEW_PX = 1024


_CELL_PX = 240


_SHEET_PICTURES = 96


@full_disk_in_words()
def finish(
    config: FinishConfig,
    source: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> FinishResult:
    """Put pictures through a chain of steps.

    Writes ``pictures/<name>``, ``previews/``, ``contact_sheet.png``, ``pictures.zip``, ``index.json`` and, last,
    ``DONE``. Called again with the same config on the same folder, it keeps the pictures that are there.

    Args:
        config: the steps.
        source: one picture, a folder of pictures (one that ``generate`` wrote, too), or a zip of pictures.
        out_dir: created if missing; empty, or left by a cancelled call with the same config.
        on_event: receives stages, progress, each picture, and each picture that failed.
        should_stop: polled at each step and tile.

    Returns:
        The finished pictures in order, and those that could not be finished with the reason and its cure.

    Raises:
        NotFoundError: there is nothing at ``source``.
        InputError: no pictures, chosen ones that are not there, none that could be finished (each is named), an
            unknown model, or a background that the operator's check refuses.
        ConflictError: ``out_dir`` holds other things.
        MissingExtraError: weights that a step needs are missing and cannot be fetched.
        ResourceError: the disk is full.
        JobCancelled: ``should_stop`` returned True; finished pictures stay.
    """
    started_s = time.monotonic()
    backdrop = _backdrop_path(config.steps, source)
    sources = find_pictures(source, leave_out=backdrop, only=config.only)
    finished = _open_folder(out_dir, config, [one.name for one in sources], backdrop)
    if finished is not None:
        return finished
    reporter = ProgressReporter(on_event, should_stop, kept=PICTURES_KEPT)
    reporter.start(len(sources))
    settings = load_settings()
    # All of them, also what says of itself that generate made it: whoever brings a folder writes what lies in it.
    nudity = open_check("photos")
    if backdrop is not None:
        _put_to_check(display_name(backdrop.name), read_photo(backdrop), nudity, reporter)
    with cpu_threads(settings.threads):
        steps = [STEP_OPENERS[step.do](step, config, backdrop, reporter) for step in config.steps]
        last = config.steps[-1] if config.steps and isinstance(config.steps[-1], FitStep) else FitStep()
        reporter.stage("finishing", f"Finishing {len(sources)} pictures")
        reporter.start(len(sources))
        pictures: list[FinishedPicture] = []
        thumbnails: list[Image.Image] = []
        any_generated = False
        failed: list[Problem] = []
        names = _file_names([one.name for one in sources])
        for number, (one, stem) in enumerate(zip(sources, names, strict=True), start=1):
            reporter.tick(f"{one.name}: reading")
            try:
                data = one.read()
                _put_to_check(one.name, data, nudity, reporter)
                any_generated = is_generated(data) or any_generated
                picture = _kept(out_dir, number, data) or _finished(
                    one, data, number, stem, steps, last, config, out_dir, reporter
                )
                if picture is None:
                    thumbnails.append(_at_most(_decoded(one.name, data).image(), _CELL_PX))
                else:
                    pictures.append(picture)
                    with Image.open(out_dir / picture.after) as preview:
                        thumbnails.append(_at_most(preview.convert("RGB"), _CELL_PX))
                    on_event(Event("image", records.to_dict(picture)))
            except InputError as error:
                found = [Problem(one.name, p.message, p.cure, p.code) for p in error.problems]
                failed += found
                for problem in found:
                    reporter.warn(str(problem))
            reporter.advance(f"{one.name}: done")
    if not thumbnails:
        raise InputError.of(failed)

    reporter.stage("packing", "Packing the pictures")
    shown = [one.source for one in pictures] or [one.name for one in sources if not _is_in(failed, one.name)]
    title = config.sheet_title or config.chain or ""
    sheet = contact_sheet(
        thumbnails[:_SHEET_PICTURES],
        shown[:_SHEET_PICTURES],
        columns=config.sheet_columns,
        cell_px=_CELL_PX,
        title=title or None,
    )
    with replacing(out_dir / SHEET_NAME, durable=False) as part:
        save_picture(sheet, part, "PNG", generated=any_generated)
    if config.steps:
        write_zip(out_dir / ARCHIVE_NAME, [(Path(one.file).name, out_dir / one.file) for one in pictures])
    result = FinishResult(
        pictures=tuple(pictures),
        failed=tuple(records.to_dict(problem) for problem in failed),
        contact_sheet=SHEET_NAME,
        archive=ARCHIVE_NAME if config.steps else None,
        seconds=round(time.monotonic() - started_s, 3),
        chain=config.chain,
    )
    records.write(out_dir / INDEX_NAME, result)
    output.finish(out_dir)
    return result


def _put_to_check(name: str, data: bytes, check: NudityCheck | None, reporter: ProgressReporter) -> None:
    """Put a picture to the operator's check of photos.

    Raises:
        InputError: it is refused.
    """
    if check is None or not check.found(Image.fromarray(_decoded(name, data).original)):
        return
    if check.refuses:
        raise InputError.of([refusal(name)])
    reporter.warn(str(warning(name)))


def _finished(
    source: PictureSource,
    data: bytes,
    number: int,
    stem: str,
    steps: Sequence[Step],
    last: FitStep,
    config: FinishConfig,
    out_dir: Path,
    reporter: ProgressReporter,
) -> FinishedPicture | None:
    """Put one picture through the steps and write it; None where there are no steps."""
    if not steps:
        return None
    started_s = time.monotonic()
    canvas = _decoded(source.name, data)
    work = StepContext(source.name, lambda message: reporter.tick(f"{source.name}: {message}"))
    for step in steps:
        canvas = step(canvas, work)
    picture = canvas.image()
    if last.format == "jpeg" and picture.mode == "RGBA":
        flat = Image.new("RGB", picture.size, compose.rgb_of(last.fill))
        flat.paste(picture, mask=picture.getchannel("A"))
        picture = flat
    work.tick("writing the file")
    record: dict[str, Any] = {
        "chain": config.chain,
        "steps": [step.model_dump(mode="json", exclude_none=True) for step in config.steps],
        "version": __version__,
    }
    if generated := made_record(data):
        record["made"] = generated
    marked = is_generated(data)  # a photo that was only finished is none
    encoded = encode(
        picture,
        file_format=last.format,
        quality=last.quality,
        min_quality=last.min_quality,
        max_bytes=last.max_bytes,
        record=record,
        software=f"Likeness Studio {__version__}",
        generated=marked,
        parent=data,
    )
    if encoded.quality is not None and encoded.quality < last.quality:
        work.notes.append(f"quality lowered to {encoded.quality} to stay below {last.max_bytes} bytes")
    file = f"{PICTURES_FOLDER}/{stem}{ENDINGS[last.format]}"
    names = [f"{PREVIEWS_FOLDER}/{number:03d}_{which}.webp" for which in ("before", "after")]
    for name, shown in zip(names, (Image.fromarray(canvas.original), picture), strict=True):
        _save_preview(out_dir / name, _at_most(shown, PREVIEW_PX), data, generated=marked)
    write_bytes(out_dir / file, encoded.data, durable=False)
    made = FinishedPicture(
        file=file,
        source=source.name,
        size_hw=(picture.height, picture.width),
        size_bytes=len(encoded.data),
        quality=encoded.quality,
        before=names[0],
        after=names[1],
        seconds=round(time.monotonic() - started_s, 3),
        sha256=hashlib.sha256(encoded.data).hexdigest(),
        notes=tuple(work.notes),
    )
    entry = _FinishedSource(hashlib.sha256(data).hexdigest(), made)
    records.write(_record_path(out_dir, number), entry, durable=False)
    return made


def _decoded(name: str, data: bytes) -> Canvas:
    picture = decode_bytes(data, name, keep_alpha=True).picture
    pixels = np.asarray(picture)
    rgb = np.ascontiguousarray(pixels[..., :3])
    alpha = alpha_of(pixels)
    # What a person sees of it: previews and matting models must not show or judge what lies below transparent parts.
    return Canvas(rgb, alpha, on_white(rgb, alpha))


def _backdrop_path(steps: Sequence[FinishStep], source: Path) -> Path | None:
    """Return the background picture; it is not one of those to finish."""
    wanted = next((step.picture for step in steps if isinstance(step, BackgroundStep) and step.picture), None)
    if wanted is None:
        return None
    inside = source / wanted
    if source.is_dir() and inside.resolve().is_relative_to(source.resolve()) and inside.is_file():
        return inside
    if Path(wanted).expanduser().is_file():
        return Path(wanted).expanduser()
    raise refused("background.picture", f"{display_name(wanted)} does not exist", "give the path of one", "no_picture")


def _open_folder(
    out_dir: Path, config: FinishConfig, names: Sequence[str], backdrop: Path | None
) -> FinishResult | None:
    """Make the folder, or continue in it; return the result if it is finished.

    Raises:
        ConflictError: it holds other things, or pictures made otherwise.
    """
    request = {
        "pictures": list(names),
        "backdrop_sha256": sha256_of(backdrop) if backdrop else None,
    }
    if output.claim(out_dir, request, what="pictures", config=config) and output.is_finished(out_dir):
        return records.read(FinishResult, out_dir / INDEX_NAME)
    for name in (PICTURES_FOLDER, PREVIEWS_FOLDER, _RECORDS_FOLDER):
        (out_dir / name).mkdir(exist_ok=True)
    return None


@dataclass(frozen=True, slots=True)
class _FinishedSource:
    """The record of a picture that an interrupted run finished."""

    source_sha256: str
    picture: FinishedPicture


def _record_path(out_dir: Path, number: int) -> Path:
    return out_dir / _RECORDS_FOLDER / f"{number:03d}.json"


def _kept(out_dir: Path, number: int, data: bytes) -> FinishedPicture | None:
    """Return what an earlier call made of the same bytes, if it is there and whole."""
    try:
        entry = records.read(_FinishedSource, _record_path(out_dir, number))
        picture = entry.picture
        whole = sha256_of(out_dir / picture.file) == picture.sha256
    except (OSError, StudioError):
        return None
    same = entry.source_sha256 == hashlib.sha256(data).hexdigest()
    return picture if same and whole and (out_dir / picture.after).is_file() else None


def _file_names(names: Sequence[str]) -> list[str]:
    """Return a file name without ending for each picture: safe on every system, and unique."""
    stems: list[str] = []
    taken: set[str] = set()
    for name in names:
        bare = re.sub(r"\.[A-Za-z0-9]{1,5}(?=( \(\d+\))?$)", "", name)
        stem = re.sub(r"[^\w\-]+", "-", bare).strip("-_")[:80] or "picture"
        candidate, number = stem, 2
        while candidate.casefold() in taken:
            candidate, number = f"{stem}-{number}", number + 1
        taken.add(candidate.casefold())
        stems.append(candidate)
    return stems


def _is_in(problems: Sequence[Problem], name: str) -> bool:
    return any(problem.where == name for problem in problems)


def _at_most(picture: Image.Image, longest_px: int) -> Image.Image:
    scale = longest_px / max(picture.size)
    if scale >= 1:
        return picture.copy()
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS)


def _save_preview(path: Path, picture: Image.Image, parent: bytes, *, generated: bool) -> None:
    with replacing(path, durable=False) as part:
        save_picture(picture, part, "WEBP", generated=generated, parent=parent, quality=85)
