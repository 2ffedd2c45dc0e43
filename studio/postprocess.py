"""The verb ``finish``: pictures x a chain of steps -> pictures that people keep.

A straight road: find the pictures -> open the folder (go on, or refuse) -> load what the steps need -> each picture
through all steps (decoded once) -> preview, file, record -> contact sheet, zip, index, DONE. A picture that cannot be
finished does not stop the rest; it is named at the end. Runs in a worker's child process or from a notebook::

    finish(FinishConfig(steps=[CutoutStep(), BackgroundStep()]), Path("photo.jpg"), Path("out"))
"""

import hashlib
import importlib
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import ceil, log
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from studio import __version__
from studio.config import BackgroundStep, CutoutStep, FaceStep, FinishConfig, FinishStep, FitStep, UpscaleStep
from studio.core import folder as output
from studio.core.files import full_disk_in_words, replacing, sha256_of, write_bytes, write_json, write_zip
from studio.core.progress import PICTURES_KEPT, ProgressReporter
from studio.device import cpu_threads, pick_device
from studio.domain import Event, FinishedPicture, FinishResult, OnEvent, ShouldStop, ignore_event, never_stop
from studio.errors import InputError, Problem
from studio.imaging import compose, matte
from studio.imaging.decode import decode, decode_bytes, display_name
from studio.imaging.faces import find_faces
from studio.imaging.fit import ENDINGS, aspect_wh, encode, fit
from studio.imaging.pictures import Source, find_pictures
from studio.imaging.png import made_record
from studio.imaging.sheet import contact_sheet
from studio.matting.registry import open_matter
from studio.settings import load_settings
from studio.upscaling.faces import restore_faces
from studio.upscaling.registry import DIFFUSION, open_face_restorer, open_upscaler

INDEX_NAME = "index.json"
SHEET_NAME = "contact_sheet.png"
ARCHIVE_NAME = "pictures.zip"
PICTURES_FOLDER = "pictures"
PREVIEWS_FOLDER = "previews"
_RECORDS_FOLDER = "records"

PREVIEW_PX = 1024
_CELL_PX = 240
_SHEET_PICTURES = 96
_DIFFUSION_LONGEST_PX = 2048
_MAX_PASSES = 2
_SPARE = 0.9
"""Share of the free memory that a picture may take."""

Pixels = NDArray[np.uint8]


@dataclass(slots=True)
class _Canvas:
    """A picture on its way through the steps: decoded once, handed on as pixels."""

    rgb: Pixels
    """``(H, W, 3)`` sRGB levels."""
    alpha: NDArray[np.float32] | None
    """``(H, W)`` in [0, 1]; None where nothing is transparent."""
    original: Pixels
    """As it came, brought to the size and cut of ``rgb``: for the background out of focus, and to be compared with."""

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.rgb.shape[0], self.rgb.shape[1]

    def image(self) -> Image.Image:
        """Return it as RGB or RGBA; pixels that nobody sees are black, so that nothing of them is given away."""
        if self.alpha is None:
            return Image.fromarray(self.rgb)
        levels = (self.alpha * 255).round().astype(np.uint8)
        seen = self.rgb * (levels > 0)[..., None].astype(np.uint8)
        return Image.fromarray(np.dstack([seen, levels]))


@dataclass(slots=True)
class _Work:
    """What a step may tell while it works on one picture."""

    name: str
    tick: Callable[[str], None]
    """Tells what is being done; raises JobCancelled where the owner asked to stop."""
    notes: list[str] = field(default_factory=list)


_Step = Callable[[_Canvas, _Work], _Canvas]


# ---------------------------------------------------------------------------------------------------------- the verb


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
        on_event: told of stages, progress, each picture, and each picture that failed.
        should_stop: asked at each step and tile.

    Returns:
        The finished pictures in order, and those that could not be finished with the reason and its cure.

    Raises:
        NotFoundError: there is nothing at ``source``.
        InputError: no pictures, none that could be finished (each is named), or an unknown model.
        ConflictError: ``out_dir`` holds other things.
        MissingExtraError: weights that a step needs are not here and cannot be had.
        ResourceError: the disk is full.
        JobCancelled: ``should_stop`` answered True; finished pictures stay.
    """
    started_s = time.monotonic()
    backdrop = _backdrop_path(config.steps, source)
    sources = find_pictures(source, leave_out=backdrop)
    finished = _open_folder(out_dir, config, [one.name for one in sources], backdrop)
    if finished is not None:
        return finished
    reporter = ProgressReporter(on_event, should_stop, kept=PICTURES_KEPT)
    reporter.start(len(sources))
    settings = load_settings()
    with cpu_threads(settings.threads):
        steps = [_OPENERS[step.do](step, config, backdrop, reporter) for step in config.steps]
        last = config.steps[-1] if config.steps and isinstance(config.steps[-1], FitStep) else FitStep()
        reporter.stage("finishing", f"Finishing {len(sources)} pictures")
        reporter.start(len(sources))
        pictures: list[FinishedPicture] = []
        thumbnails: list[Image.Image] = []
        failed: list[Problem] = []
        names = _file_names([one.name for one in sources])
        for number, (one, stem) in enumerate(zip(sources, names, strict=True), start=1):
            reporter.tick(f"{one.name}: reading")
            try:
                data = one.read()
                picture = _kept(out_dir, number, data) or _finished(
                    one, data, number, stem, steps, last, config, out_dir, reporter
                )
                if picture is None:
                    thumbnails.append(_at_most(_decoded(one.name, data).image(), _CELL_PX))
                else:
                    pictures.append(picture)
                    with Image.open(out_dir / picture.after) as preview:
                        thumbnails.append(_at_most(preview.convert("RGB"), _CELL_PX))
                    on_event(Event("image", asdict(picture)))
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
        sheet.save(part, format="PNG")
    if config.steps:
        write_zip(out_dir / ARCHIVE_NAME, [(Path(one.file).name, out_dir / one.file) for one in pictures])
    result = FinishResult(
        pictures=tuple(pictures),
        failed=tuple(asdict(problem) for problem in failed),
        contact_sheet=SHEET_NAME,
        archive=ARCHIVE_NAME if config.steps else None,
        seconds=round(time.monotonic() - started_s, 3),
        chain=config.chain,
    )
    write_json(out_dir / INDEX_NAME, asdict(result))
    output.finish(out_dir)
    return result


def _finished(
    source: Source,
    data: bytes,
    number: int,
    stem: str,
    steps: Sequence[_Step],
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
    work = _Work(source.name, lambda message: reporter.tick(f"{source.name}: {message}"))
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
    encoded = encode(
        picture,
        file_format=last.format,
        quality=last.quality,
        min_quality=last.min_quality,
        max_bytes=last.max_bytes,
        record=record,
        software=f"Likeness Studio {__version__}",
    )
    if encoded.quality is not None and encoded.quality < last.quality:
        work.notes.append(f"quality lowered to {encoded.quality} to stay below {last.max_bytes} bytes")
    file = f"{PICTURES_FOLDER}/{stem}{ENDINGS[last.format]}"
    names = [f"{PREVIEWS_FOLDER}/{number:03d}_{which}.webp" for which in ("before", "after")]
    for name, shown in zip(names, (Image.fromarray(canvas.original), picture), strict=True):
        _save_preview(out_dir / name, _at_most(shown, PREVIEW_PX))
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
    entry = {"source_sha256": hashlib.sha256(data).hexdigest(), "picture": asdict(made)}
    write_json(_record_path(out_dir, number), entry, durable=False)
    return made


# --------------------------------------------------------------------------------------------------------- the steps


def _open_cutout(step: CutoutStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter) -> _Step:
    settings = load_settings()
    reporter.stage("loading", f"Loading the matting model {step.model}")
    matter = reporter.wait_for(
        lambda: open_matter(step.model, settings.home, threads=settings.threads, on_bytes=_fetching(reporter))
    )
    if step.refine == "closed_form":
        # pymatting compiles itself when it is first imported, for about a minute, once per installation.
        reporter.stage("loading", "Preparing closed-form matting; the first time takes a minute or two")
        reporter.wait_for(lambda: importlib.import_module("pymatting.alpha.estimate_alpha_cf"))

    def cutout(canvas: _Canvas, work: _Work) -> _Canvas:
        work.tick("cutting out")
        alpha = matter.matte(Image.fromarray(canvas.rgb))
        work.tick("refining the edge")
        if step.refine == "guided":
            alpha = matte.guided(alpha, canvas.rgb)
        elif step.refine == "closed_form":
            alpha = matte.closed_form(alpha, canvas.rgb)
        if canvas.alpha is not None:  # what was transparent stays so
            alpha = alpha * canvas.alpha
        if float(alpha.max(initial=0)) < 0.5:
            work.notes.append("no subject was found, so hardly anything is left; try another matting model")
        rgb = matte.foreground(canvas.rgb, alpha) if step.clean_edges else canvas.rgb
        return _Canvas(rgb, alpha, canvas.original)

    return cutout


def _open_background(
    step: BackgroundStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter
) -> _Step:
    picture = decode(backdrop).picture if backdrop is not None else None

    def background(canvas: _Canvas, work: _Work) -> _Canvas:
        if canvas.alpha is None:
            work.notes.append("it has no transparent parts, so there was nothing to put a background behind")
            return canvas
        if step.fill == "transparent":
            return canvas
        work.tick("laying the background")
        size_hw = canvas.size_hw
        if step.fill == "blur":
            behind = compose.blurred(canvas.original, canvas.alpha, max(size_hw) * step.blur_percent / 100)
        elif step.fill == "gradient":
            behind = compose.gradient(size_hw, step.colour, step.colour_below)
        elif picture is not None:
            behind = compose.covering(picture, size_hw)
        else:
            behind = compose.plain(size_hw, step.colour if step.fill == "colour" else "#ffffff")
        return _Canvas(compose.over(canvas.rgb, canvas.alpha, behind), None, canvas.original)

    return background


def _open_upscale(step: UpscaleStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter) -> _Step:
    settings = load_settings()
    device = pick_device(settings.device)
    on_cpu = device.type == "cpu"
    reporter.stage("loading", f"Loading the upscaler {Path(step.model).name}")
    upscaler = reporter.wait_for(
        lambda: open_upscaler(
            step.model,
            settings.home,
            device=device,
            tile_px=step.tile_px,
            denoise=step.denoise,
            prompt=step.prompt,
            seed=config.seed,
            num_inference_steps=step.num_inference_steps,
            guidance_scale=step.guidance_scale,
            on_bytes=_fetching(reporter),
        )
    )

    def upscale(canvas: _Canvas, work: _Work) -> _Canvas:
        target_hw = _target_hw(canvas.size_hw, step, upscaler.scale)
        if step.model == DIFFUSION and max(target_hw) > _DIFFUSION_LONGEST_PX:
            text = f"sd-x4 makes at most {_DIFFUSION_LONGEST_PX} px, not {max(target_hw)}"
            raise _refused(work.name, text, "ask for long_side_px 1024 or 2048", "too_large")
        if target_hw == canvas.size_hw:
            work.notes.append("it is large enough already and was not enlarged")
            return canvas
        sizes = _passes(canvas.size_hw, target_hw, upscaler.scale, exact=step.model == DIFFUSION)
        # In and out of the largest pass; then the result, its copy while it is encoded, the original, and alpha.
        needed = 3 * max(height * width for height, width in sizes) * (1 + upscaler.scale**2)
        needed += target_hw[0] * target_hw[1] * (9 if canvas.alpha is None else 17)
        _require_memory(work.name, target_hw, needed + (upscaler.working_bytes(sizes[-1]) if on_cpu else 0))
        if max(target_hw) > max(canvas.size_hw) * upscaler.scale**_MAX_PASSES:
            work.notes.append(f"enlarged more than {upscaler.scale**_MAX_PASSES} times; beyond that no detail is added")
        total, done = sum(upscaler.ticks(size_hw) for size_hw in sizes), 0

        def tick() -> None:
            nonlocal done
            done += 1
            work.tick(f"enlarging, part {min(done, total)} of {total}")

        rgb = canvas.rgb
        for size_hw in sizes:
            rgb = upscaler.enlarge(_resized(rgb, size_hw), tick=tick)
        alpha = None if canvas.alpha is None else _resized_alpha(canvas.alpha, target_hw)
        return _Canvas(_resized(rgb, target_hw), alpha, _resized(canvas.original, target_hw))

    return upscale


def _open_face(step: FaceStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter) -> _Step:
    settings = load_settings()
    reporter.stage("loading", f"Loading {Path(step.model).name}")
    restorer = reporter.wait_for(
        lambda: open_face_restorer(step.model, settings.home, device=pick_device(settings.device), seed=config.seed)
    )

    def face(canvas: _Canvas, work: _Work) -> _Canvas:
        work.tick("looking for faces")
        found = find_faces(Image.fromarray(canvas.rgb))
        if not found:
            work.notes.append("no face was found, so none was restored")
            return canvas
        restored = restore_faces(
            canvas.rgb, found, restorer, strength=step.strength, tick=lambda: work.tick("restoring a face")
        )
        return _Canvas(restored, canvas.alpha, canvas.original)

    return face


def _open_fit(step: FitStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter) -> _Step:
    def fitted(canvas: _Canvas, work: _Work) -> _Canvas:
        picture = canvas.image()
        target_wh = step.target_wh()
        if step.aspect is not None:
            target_wh = aspect_wh(picture.size, step.aspect, step.how)
        if target_wh is None or target_wh == picture.size:
            return canvas
        # The picture and the original, each in and out of Pillow, and a copy while it is encoded.
        _require_memory(work.name, target_wh[::-1], target_wh[0] * target_wh[1] * (15 if canvas.alpha is None else 22))
        work.tick("fitting to size")
        choose = max if step.how == "cover" else min
        scale = choose(target_wh[0] / picture.width, target_wh[1] / picture.height)
        if scale > 1.01:
            work.notes.append(f"enlarged {scale:.1f} times without added detail; an upscale step before adds it")
        focus = _focus(canvas) if step.how == "cover" else None
        made, original = (
            np.asarray(fit(image, target_wh, how=step.how, fill=compose.rgb_of(step.fill), focus_yx=focus))
            for image in (picture, Image.fromarray(canvas.original))
        )
        alpha = _alpha_of(made)
        return _Canvas(np.ascontiguousarray(made[..., :3]), alpha, original)

    return fitted


_OPENERS: dict[str, Callable[[Any, FinishConfig, Path | None, ProgressReporter], _Step]] = {
    "cutout": _open_cutout,
    "background": _open_background,
    "upscale": _open_upscale,
    "face": _open_face,
    "fit": _open_fit,
}


def _focus(canvas: _Canvas) -> tuple[float, float] | None:
    """Return what a cut keeps in its middle: the largest face, else the subject; None where neither is known."""
    faces = find_faces(Image.fromarray(canvas.rgb))
    if faces:
        top, left, height, width = faces[0].box
        return top + height * 0.75, left + width / 2  # a little below the middle of the face: shoulders count too
    if canvas.alpha is not None and (weight := float(canvas.alpha.sum())) > 0:
        rows, columns = canvas.alpha.sum(axis=1), canvas.alpha.sum(axis=0)
        return float(rows @ np.arange(len(rows))) / weight, float(columns @ np.arange(len(columns))) / weight
    return None


def _target_hw(size_hw: tuple[int, int], step: UpscaleStep, scale: int) -> tuple[int, int]:
    """Return the height and width that are asked for, never smaller than ``size_hw``."""
    longest = max(size_hw)
    factor = step.long_side_px / longest if step.long_side_px is not None else step.factor or float(scale)
    if factor <= 1:
        return size_hw
    return max(1, round(size_hw[0] * factor)), max(1, round(size_hw[1] * factor))


def _passes(size_hw: tuple[int, int], target_hw: tuple[int, int], scale: int, *, exact: bool) -> list[tuple[int, int]]:
    """Return the size that goes into each pass of the network.

    A last pass that would overshoot gets a smaller picture, except that the only pass gets all there is: what is
    enlarged too far and shrunk again is better than what is shrunk first. With ``exact`` it must not overshoot.
    """
    factor = max(target_hw) / max(size_hw)
    count = min(_MAX_PASSES, max(1, ceil(log(factor) / log(scale) - 1e-9)))
    last = tuple(max(1, ceil(side / scale)) for side in target_hw)
    if count == 1:
        return [(last[0], last[1]) if exact else size_hw]
    return [size_hw, (last[0], last[1])]


def _require_memory(name: str, target_hw: tuple[int, int], needed: int) -> None:
    """Refuse a picture for which the free memory would not suffice; nothing was computed yet."""
    free = _free_bytes()
    if needed > free * _SPARE:
        size = f"{target_hw[1]} x {target_hw[0]} px"
        text = f"{size} would need about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        raise _refused(name, text, "ask for a smaller target", "too_much_memory")


def _free_bytes() -> int:
    return int(psutil.virtual_memory().available)


def _alpha_of(pixels: Pixels) -> NDArray[np.float32] | None:
    """Return the alpha of ``(H, W, 4)`` levels in [0, 1]; None for ``(H, W, 3)``."""
    if pixels.shape[2] == 3:
        return None
    return pixels[..., 3].astype(np.float32) / np.float32(255)


def _resized(pixels: Pixels, size_hw: tuple[int, int]) -> Pixels:
    if pixels.shape[:2] == size_hw:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size_hw[::-1], Image.Resampling.LANCZOS))


def _resized_alpha(alpha: NDArray[np.float32], size_hw: tuple[int, int]) -> NDArray[np.float32]:
    resized = Image.fromarray(alpha).resize(size_hw[::-1], Image.Resampling.BICUBIC)
    return np.clip(np.asarray(resized), 0, 1)


def _fetching(reporter: ProgressReporter) -> Callable[[int, int], None]:
    def tell(done_bytes: int, total_bytes: int) -> None:
        reporter.tick(f"Fetching weights: {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB")

    return tell


# ------------------------------------------------------------------------------------------------------- the pictures


def _decoded(name: str, data: bytes) -> _Canvas:
    picture = decode_bytes(data, name, keep_alpha=True).picture
    pixels = np.asarray(picture)
    rgb = np.ascontiguousarray(pixels[..., :3])
    alpha = _alpha_of(pixels)
    return _Canvas(rgb, alpha, rgb)


def _backdrop_path(steps: Sequence[FinishStep], source: Path) -> Path | None:
    """Return the picture that stands behind the subjects; it is none of those to finish."""
    wanted = next((step.picture for step in steps if isinstance(step, BackgroundStep) and step.picture), None)
    if wanted is None:
        return None
    inside = source / wanted
    if source.is_dir() and inside.resolve().is_relative_to(source.resolve()) and inside.is_file():
        return inside
    if Path(wanted).expanduser().is_file():
        return Path(wanted).expanduser()
    raise _refused("background.picture", f"{display_name(wanted)} is not there", "give a picture", "no_picture")


# --------------------------------------------------------------------------------------------------------- the folder


def _open_folder(
    out_dir: Path, config: FinishConfig, names: Sequence[str], backdrop: Path | None
) -> FinishResult | None:
    """Make the folder, or go on in it; return the result if it is finished.

    Raises:
        ConflictError: it holds other things, or pictures made otherwise.
    """
    request = {
        "config": config.model_dump(mode="json"),
        "pictures": list(names),
        "backdrop_sha256": sha256_of(backdrop) if backdrop else None,
    }
    if output.claim(out_dir, request, what="pictures") and output.is_finished(out_dir):
        return _read_result(json.loads((out_dir / INDEX_NAME).read_text(encoding="utf-8")))
    for name in (PICTURES_FOLDER, PREVIEWS_FOLDER, _RECORDS_FOLDER):
        (out_dir / name).mkdir(exist_ok=True)
    return None


def _read_result(data: Mapping[str, Any]) -> FinishResult:
    pictures = tuple(_read_picture(row) for row in data["pictures"])
    return FinishResult(**{**data, "pictures": pictures, "failed": tuple(data["failed"])})


def _read_picture(row: Mapping[str, Any]) -> FinishedPicture:
    return FinishedPicture(**{**row, "size_hw": tuple(row["size_hw"]), "notes": tuple(row["notes"])})


def _record_path(out_dir: Path, number: int) -> Path:
    return out_dir / _RECORDS_FOLDER / f"{number:03d}.json"


def _kept(out_dir: Path, number: int, data: bytes) -> FinishedPicture | None:
    """Return what an earlier call made of the same bytes, if it is there and whole."""
    try:
        entry = json.loads(_record_path(out_dir, number).read_text(encoding="utf-8"))
        picture = _read_picture(entry["picture"])
        whole = sha256_of(out_dir / picture.file) == picture.sha256
    except (OSError, ValueError, KeyError, TypeError):
        return None
    same = entry["source_sha256"] == hashlib.sha256(data).hexdigest()
    return picture if same and whole and (out_dir / picture.after).is_file() else None


def _file_names(names: Sequence[str]) -> list[str]:
    """Return a file name without ending for each picture: safe anywhere, and no two alike."""
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


def _save_preview(path: Path, picture: Image.Image) -> None:
    with replacing(path, durable=False) as part:
        picture.save(part, format="WEBP", quality=85)


def _refused(name: str, message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem(display_name(name), message, cure, code)])
