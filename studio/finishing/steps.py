"""The steps of a chain: each opener takes a step's settings and returns a function from canvas to canvas."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, log
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from studio.compute.device import pick_device
from studio.core.errors import InputError, Problem
from studio.core.finish_config import BackgroundStep, CutoutStep, FaceStep, FinishConfig, FitStep, UpscaleStep
from studio.core.progress import ProgressReporter
from studio.core.settings import load_settings
from studio.core.units import bytes_text
from studio.finishing.matting.registry import open_matter
from studio.finishing.upscaling.faces import restore_faces
from studio.finishing.upscaling.registry import DIFFUSION, open_face_restorer, open_upscaler
from studio.imaging import compose, matte
from studio.imaging.apart import decode
from studio.imaging.decode import display_name
from studio.imaging.faces import find_faces
from studio.imaging.fit import aspect_wh, fit

_DIFFUSION_LONGEST_PX = 2048


_MAX_PASSES = 2


_SPARE = 0.9
"""Share of the free memory that a picture may take."""


Pixels = NDArray[np.uint8]


@dataclass(slots=True)
class Canvas:
    """A picture on its way through the steps: decoded once, handed on as pixels."""

    rgb: Pixels
    """``(H, W, 3)`` sRGB levels."""
    alpha: NDArray[np.float32] | None
    """``(H, W)`` in [0, 1]; None where nothing is transparent."""
    original: Pixels
    """The original, resized and cropped like ``rgb``: for the blurred background and for comparison."""

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.rgb.shape[0], self.rgb.shape[1]

    def image(self) -> Image.Image:
        """Return it as RGB or RGBA; invisible pixels are black, so that they reveal nothing."""
        if self.alpha is None:
            return Image.fromarray(self.rgb)
        levels = self.levels()
        seen = self.rgb * (levels > 0)[..., None].astype(np.uint8)
        return Image.fromarray(np.dstack([seen, levels]))

    def levels(self) -> Pixels:
        """Return its alpha as ``(H, W)`` levels."""
        assert self.alpha is not None
        return (self.alpha * 255).round().astype(np.uint8)

    def bled(self) -> Pixels:
        """Return its pixels with the subject's colours carried on below what is transparent, for all that looks round.

        Networks and resampling mix neighbours; neither black nor an old background may come into the rim.
        """
        return self.rgb if self.alpha is None else matte.bled(self.rgb, self.alpha)


@dataclass(slots=True)
class StepContext:
    """How a step reports its progress on one picture."""

    name: str
    tick: Callable[[str], None]
    """Reports what is being done; raises JobCancelled if the owner asked to stop."""
    notes: list[str] = field(default_factory=list)


Step = Callable[[Canvas, StepContext], Canvas]


def _open_cutout(step: CutoutStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter) -> Step:
    settings = load_settings()
    reporter.stage("loading", f"Loading the matting model {step.model}")
    matter = reporter.wait_for(
        lambda: open_matter(step.model, settings.home, threads=settings.threads, on_bytes=_fetching(reporter))
    )
    if step.refine == "closed_form":
        # pymatting compiles itself when it is first imported, for about a minute, once per installation.
        reporter.stage("loading", "Preparing closed-form matting; the first time this takes a minute or two")
        reporter.wait_for(lambda: importlib.import_module("pymatting.alpha.estimate_alpha_cf"))

    def cutout(canvas: Canvas, work: StepContext) -> Canvas:
        work.tick("cutting out")
        seen = on_white(canvas.rgb, canvas.alpha)
        alpha = matter.matte(Image.fromarray(seen))
        work.tick("refining the edge")
        if step.refine == "guided":
            alpha = matte.guided(alpha, seen)
        elif step.refine == "closed_form":
            alpha = matte.closed_form(alpha, seen)
        if canvas.alpha is not None:  # what was transparent stays so
            alpha = alpha * canvas.alpha
        if float(alpha.max(initial=0)) < 0.5:
            work.notes.append("no subject was found, so almost everything was removed; try another matting model")
        rgb = matte.foreground(canvas.bled(), alpha) if step.clean_edges else canvas.rgb
        return Canvas(rgb, alpha, canvas.original)

    return cutout


def _open_background(
    step: BackgroundStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter
) -> Step:
    picture = decode(backdrop).picture if backdrop is not None else None

    def background(canvas: Canvas, work: StepContext) -> Canvas:
        if canvas.alpha is None:
            work.notes.append("it has no transparent parts, so no background was added")
            return canvas
        if step.fill == "transparent":
            return canvas
        work.tick("adding the background")
        size_hw = canvas.size_hw
        if step.fill == "blur":
            behind = compose.blurred(canvas.original, canvas.alpha, max(size_hw) * step.blur_percent / 100)
        elif step.fill == "gradient":
            behind = compose.gradient(size_hw, step.colour, step.colour_below)
        elif picture is not None:
            behind = compose.covering(picture, size_hw)
        else:
            behind = compose.plain(size_hw, step.colour if step.fill == "colour" else "#ffffff")
        return Canvas(compose.over(canvas.rgb, canvas.alpha, behind), None, canvas.original)

    return background


def _open_upscale(step: UpscaleStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter) -> Step:
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

    def upscale(canvas: Canvas, work: StepContext) -> Canvas:
        target_hw = _target_hw(canvas.size_hw, step, upscaler.scale)
        if step.model == DIFFUSION and max(target_hw) > _DIFFUSION_LONGEST_PX:
            text = f"sd-x4 can make at most {_DIFFUSION_LONGEST_PX} px, not {max(target_hw)}"
            raise refused(work.name, text, "ask for long_side_px 1024 or 2048", "too_large")
        if target_hw == canvas.size_hw:
            work.notes.append("it is already large enough and was not enlarged")
            return canvas
        sizes = _passes(canvas.size_hw, target_hw, upscaler.scale, exact=step.model == DIFFUSION)
        # In and out of the largest pass; then the result, its copy while it is encoded, the original, and alpha.
        needed = 3 * max(height * width for height, width in sizes) * (1 + upscaler.scale**2)
        needed += target_hw[0] * target_hw[1] * (9 if canvas.alpha is None else 17)
        needed += 0 if canvas.alpha is None else canvas.alpha.size * 15  # which visible pixel is nearest
        _require_memory(work.name, target_hw, needed + (upscaler.working_bytes(sizes[-1]) if on_cpu else 0))
        if max(target_hw) > max(canvas.size_hw) * upscaler.scale**_MAX_PASSES:
            work.notes.append(f"enlarged more than {upscaler.scale**_MAX_PASSES} times; no detail is added beyond that")
        total, done = sum(upscaler.ticks(size_hw) for size_hw in sizes), 0

        def tick() -> None:
            nonlocal done
            done += 1
            work.tick(f"enlarging, part {min(done, total)} of {total}")

        rgb = canvas.bled()
        for size_hw in sizes:
            rgb = upscaler.enlarge(_resized(rgb, size_hw), tick=tick)
        alpha = None if canvas.alpha is None else _resized_alpha(canvas.alpha, target_hw)
        return Canvas(_resized(rgb, target_hw), alpha, _resized(canvas.original, target_hw))

    return upscale


def _open_face(step: FaceStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter) -> Step:
    settings = load_settings()
    reporter.stage("loading", f"Loading {Path(step.model).name}")
    restorer = reporter.wait_for(
        lambda: open_face_restorer(step.model, settings.home, device=pick_device(settings.device), seed=config.seed)
    )

    def face(canvas: Canvas, work: StepContext) -> Canvas:
        work.tick("looking for faces")
        found = find_faces(Image.fromarray(canvas.rgb))
        if not found:
            work.notes.append("no face was found, so none was restored")
            return canvas
        restored = restore_faces(
            canvas.bled(), found, restorer, strength=step.strength, tick=lambda: work.tick("restoring a face")
        )
        return Canvas(restored, canvas.alpha, canvas.original)

    return face


def _open_fit(step: FitStep, config: FinishConfig, backdrop: Path | None, reporter: ProgressReporter) -> Step:
    def fitted(canvas: Canvas, work: StepContext) -> Canvas:
        height, width = canvas.size_hw
        target_wh = step.target_wh()
        if step.aspect is not None:
            target_wh = aspect_wh((width, height), step.aspect, step.how)
        if target_wh is None or target_wh == (width, height):
            return canvas
        # The picture and the original, each in and out of Pillow, and a copy while it is encoded.
        _require_memory(work.name, target_wh[::-1], target_wh[0] * target_wh[1] * (15 if canvas.alpha is None else 22))
        work.tick("resizing")
        choose = max if step.how == "cover" else min
        scale = choose(target_wh[0] / width, target_wh[1] / height)
        if scale > 1.01:
            work.notes.append(f"enlarged {scale:.1f} times without added detail; an upscale step before it adds detail")
        focus = _focus(canvas) if step.how == "cover" else None
        fill = compose.rgb_of(step.fill)

        def placed(image: Image.Image, behind: tuple[int, int, int]) -> Image.Image:
            return fit(image, target_wh, how=step.how, fill=behind, focus_yx=focus)

        # Colours and alpha apart: at low alpha, Pillow's premultiplied levels are too coarse to give the colour back.
        made = np.asarray(placed(Image.fromarray(canvas.bled()), fill))
        original = np.asarray(placed(Image.fromarray(canvas.original), fill))
        if canvas.alpha is None:
            return Canvas(made, None, original)
        alpha = np.asarray(placed(Image.fromarray(canvas.levels()), (0, 0, 0)))
        return Canvas(made, alpha.astype(np.float32) / np.float32(255), original)

    return fitted


STEP_OPENERS: dict[str, Callable[[Any, FinishConfig, Path | None, ProgressReporter], Step]] = {
    "cutout": _open_cutout,
    "background": _open_background,
    "upscale": _open_upscale,
    "face": _open_face,
    "fit": _open_fit,
}


def _focus(canvas: Canvas) -> tuple[float, float] | None:
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
    """Refuse a picture that does not fit into the free memory, before anything is computed."""
    free = _free_bytes()
    if needed > free * _SPARE:
        size = f"{target_hw[1]} x {target_hw[0]} px"
        text = f"{size} would need about {bytes_text(needed)} of memory, {bytes_text(free)} are free"
        raise refused(name, text, "ask for a smaller target", "too_much_memory")


def _free_bytes() -> int:
    return int(psutil.virtual_memory().available)


def alpha_of(pixels: Pixels) -> NDArray[np.float32] | None:
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
    def report(done_bytes: int, total_bytes: int) -> None:
        reporter.tick(f"Fetching weights: {bytes_text(done_bytes)} of {bytes_text(total_bytes)}")

    return report


def on_white(rgb: Pixels, alpha: NDArray[np.float32] | None) -> Pixels:
    """Return the picture as a person sees it: what is transparent over white."""
    return rgb if alpha is None else compose.over(rgb, alpha, np.broadcast_to(np.uint8(255), rgb.shape))


def refused(name: str, message: str, cure: str, code: str) -> InputError:
    """Return the error for a picture that a step cannot take."""
    return InputError.of([Problem(display_name(name), message, cure, code)])
