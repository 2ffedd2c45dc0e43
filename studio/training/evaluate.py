"""What a checkpoint is worth: pictures for fixed seeds and prompts, their likeness, bleed, and the choice of the best.

Called by ``studio.train``. All scores are on the calibrated likeness scale (``studio.likeness.base``).
"""

import hashlib
import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from diffusers.training_utils import free_memory
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from studio.core.errors import TrainingError
from studio.core.files import replacing, write_json
from studio.core.progress import TrainingReporter
from studio.core.settings import load_settings
from studio.core.units import likeness_text
from studio.imaging.nudity import open_check
from studio.imaging.provenance import save_picture
from studio.likeness.base import Embeddings, LikenessEngine, centroid, photo_spread, scores, shows_subject, summarise
from studio.likeness.registry import choose_engine
from studio.training import checkpoints
from studio.training.run import SCENES, AdaptedModel, TrainingRun, class_caption, scene_prompts

BLEED_LIMIT = 0.15
"""Rise of the class pictures' likeness that is harmless."""
BLEED_PENALTY = 2.0
"""Likeness that each unit of bleed above the limit costs when checkpoints are compared."""

_PIXELS_PER_CALL = 4 * 512 * 512
_FLAT = 1.0  # standard deviation of a picture's values in [0, 255] below which it shows nothing
_UNMOVED = 1e-9
_LOOKED_AT = 64
_EXPLODED = 10.0  # validation loss against that of the untrained base
_CLASS_SEED = 100_000  # apart from the seeds of the samples
_CLASS_PICTURES_AT_ONCE = 16
_EARLY_LOSSES = 10
_EXPLODED_TRAINING = 30.0  # mean of ten losses against that of the first ten; single ones differ tenfold by timestep


# ---------------------------------------------------------------------------------------------------------- likeness


@dataclass(frozen=True, slots=True)
class SubjectReference:
    """The subject as an engine sees it."""

    engine: LikenessEngine
    photos: Embeddings
    """``(N, D)`` of the photos; at least one row shows the subject."""

    @property
    def centroid(self) -> NDArray[np.float32]:
        """Normalised mean of the photos, ``(D,)``."""
        return centroid(self.photos)

    def measures(self, row: Mapping[str, Any]) -> bool:
        """Say whether the scores of a checkpoint come from this version of this engine."""
        return _ruler(row) == (self.engine.name, self.engine.version)

    def measure(
        self,
        pictures: Sequence[Image.Image],
        of_class: Sequence[Image.Image],
        class_noun: str,
        before: Mapping[str, Any] | None,
    ) -> tuple[dict[str, Any], list[float | None]]:
        """Measure the pictures of one checkpoint.

        Args:
            pictures: of the subject.
            of_class: of the bare class noun.
            class_noun: what the subject is.
            before: the row of step 0; None if this is it.

        Returns:
            likeness, bleed, class_likeness (None where no picture is measured) and likeness_summary, and the likeness
            of each picture of the subject.
        """
        scale = self.engine.scale(class_noun)
        seen = self.engine.embed(pictures)
        found = [_rounded(score) for score in scores(seen, self.centroid, scale)]
        summary = summarise(self.engine, found, class_noun, photo_spread(self.photos, seen, scale))
        bare = scores(self.engine.embed(of_class), self.centroid, scale) if of_class else []
        class_likeness = summarise(self.engine, bare, class_noun)["mean"]
        first = before["class_likeness"] if before else class_likeness
        bleed = None if class_likeness is None or first is None else round(class_likeness - first, 4)
        row = {"likeness": summary["mean"], "bleed": bleed, "class_likeness": class_likeness}
        return {**row, "likeness_summary": summary}, found


def find_reference(run: TrainingRun, reporter: TrainingReporter) -> tuple[SubjectReference | None, str]:
    """Return how likeness is measured in this run, or None, and why.

    Raises:
        MissingExtraError: an engine was asked for by name and its weights are not here.
    """
    config = run.config
    pictures = [photo.look for photo in run.photos]
    choice = choose_engine(config.likeness, base=config.base, class_noun=config.class_noun, pictures=pictures)
    engine, reason = choice.engine, choice.reason
    if engine is not None:
        photos = engine.embed(pictures)
        if shows_subject(photos).any():
            return SubjectReference(engine, photos), reason
        reason = f"{engine.name} does not find the subject in any photo"
    reporter.message(f"Likeness is not measured: {reason}.", level="warning" if engine else "info")
    return None, reason


# ---------------------------------------------------------------------------------------------------------- pictures


def sample(
    run: TrainingRun, model: AdaptedModel, prompts: Sequence[str], seeds: Sequence[int], reporter: TrainingReporter
) -> list[Image.Image]:
    """Make one square picture per pair of prompt and seed, as many at once as the pixels allow.

    The prompts must be among those that ``model.prompts`` encoded: text encoders may be gone.

    Raises:
        JobCancelled: the owner asked to stop.
    """

    def at_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        reporter.check_stop("while sampling")
        return tensors

    if not prompts:
        return []
    model.parts.denoiser.eval()
    pipeline: Any = model.family.pipeline(model.parts)
    per_call = max(1, _PIXELS_PER_CALL // run.resolution_px**2)
    pictures: list[Image.Image] = []
    with torch.no_grad(), run.autocast():
        while len(pictures) < len(prompts):
            now = slice(len(pictures), len(pictures) + per_call)
            wanted, unwanted = (model.prompts.encode(texts) for texts in (prompts[now], [""] * len(prompts[now])))
            try:
                pictures += pipeline(
                    **model.family.pipeline_inputs(wanted, unwanted, run.guidance_scale),
                    # On the CPU: a seed gives the same noise on every device.
                    generator=[torch.Generator().manual_seed(seed) for seed in seeds[now]],
                    height=run.resolution_px,
                    width=run.resolution_px,
                    num_inference_steps=run.config.sample_steps,
                    callback_on_step_end=at_step,
                ).images
                continue
            except torch.OutOfMemoryError:
                if per_call == 1:
                    raise
            per_call = -(-per_call // 2)
            free_memory()
    return pictures


def class_pictures(run: TrainingRun, model: AdaptedModel, reporter: TrainingReporter) -> list[Image.Image]:
    """Return the base's own pictures of the class for prior mode ``images``.

    Each is drawn once per base, class and settings, and shared by all runs of this installation: they depend on
    nothing of the user's. ``STUDIO_HOME/cache/class_images/<digest>/NNN.png``.

    Raises:
        TrainingError: the base makes pictures of one colour.
        JobCancelled: the owner asked to stop; pictures that are done stay.
    """
    prior = run.config.prior
    if prior.mode != "images":
        return []
    about = _class_pictures_key(run)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    folder = load_settings().home.expanduser() / "cache" / "class_images" / digest
    folder.mkdir(parents=True, exist_ok=True)
    # Two runs may write here at the same time: each under a name of its own, the last one stays.
    write_json(folder / "about.json", about, shared=True)
    found: list[Image.Image] = []
    # Always in the same batches, a few at a time: a run that is killed here loses little and draws the same again.
    for start in range(0, prior.class_images, _CLASS_PICTURES_AT_ONCE):
        paths = {
            i: folder / f"{i:03}.png" for i in range(start, min(start + _CLASS_PICTURES_AT_ONCE, prior.class_images))
        }
        pictures = [picture for path in paths.values() if (picture := _picture(path)) is not None]
        if len(pictures) < len(paths):
            reporter.stage("class_images", f"Making class pictures of a {run.config.class_noun}, from {start + 1}.")
            prompts = [model.class_scenes[i % len(model.class_scenes)] for i in paths]
            with model.method.without(model.parts):
                pictures = sample(run, model, prompts, [_CLASS_SEED + i for i in paths], reporter)
            _require_something(pictures, 0)
            for path, picture in zip(paths.values(), pictures, strict=True):
                # Not flushed: a picture that a power cut has torn is drawn again.
                with replacing(path, durable=False, shared=True) as part:
                    picture.save(part, format="PNG")
        found += [picture.convert("RGB") for picture in pictures]
    return found


def _class_pictures_key(run: TrainingRun) -> dict[str, Any]:
    """Return everything that class pictures depend on."""
    base = run.base
    # A folder without a revision is known by its weights' names, sizes and times: reading gigabytes would take minutes.
    files = [] if base.revision else sorted(base.folder.glob("*/*.safetensors"))
    return {
        "base": base.spec.name,
        "revision": base.revision,
        "files": [(str(p.relative_to(base.folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in files],
        "class_noun": run.config.class_noun,
        "resolution_px": run.resolution_px,
        "num_inference_steps": run.config.sample_steps,
        "guidance_scale": run.guidance_scale,
        "device": run.device.type,
        "dtype": str(run.dtype),
        "version": 1,
    }


def _picture(path: Path) -> Image.Image | None:
    """Return a cached picture; None if it is missing or damaged."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError):
        return None


# ------------------------------------------------------------------------------------------------------- checkpoints


def evaluate(
    run: TrainingRun,
    model: AdaptedModel,
    reference: SubjectReference | None,
    step: int,
    val_loss: float,
    before: Mapping[str, Any] | None,
    log: TextIO,
    reporter: TrainingReporter,
) -> dict[str, Any]:
    """Make and score the pictures of one checkpoint.

    Args:
        run: the run.
        model: as it is at ``step``.
        reference: how to measure likeness; None leaves it out.
        step: optimizer steps done; 0 is the untrained base.
        val_loss: validation loss at this step.
        before: scores of step 0; None if these are they.
        log: ``metrics.jsonl``, open for appending.
        reporter: receives the pictures.

    Returns:
        The scores: step, val_loss, likeness, bleed, class_likeness, likeness_summary, samples; None where not measured.

    Raises:
        TrainingError: the pictures show nothing.
        JobCancelled: the owner asked to stop.
    """
    config, started_s = run.config, time.monotonic()
    count = config.samples_per_checkpoint
    scenes = [SCENES[i % len(SCENES)] for i in range(count)]
    seeds = [(config.seed + i) % 2**32 for i in range(count)]
    of_subject = scene_prompts(run)
    prompts = [of_subject[i % len(SCENES)] for i in range(count)]
    class_prompts = [class_caption(scene, config.class_noun) for scene in scenes] if reference else []
    # One call for both kinds, because a batch costs less than its pictures one by one.
    pictures = sample(run, model, prompts + class_prompts, seeds + seeds[: len(class_prompts)], reporter)
    # Apart: a destroyed subject beside an untouched class is a destroyed subject.
    _require_something(pictures[:count], step)
    _require_something(pictures[count:], step)
    names = [f"{i:02}.png" for i in range(count)] + [f"class_{i:02}.png" for i in range(len(class_prompts))]
    folder = run.out_dir / "samples" / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    check = open_check("pictures")
    for name, picture in zip(names, pictures, strict=True):
        save_picture(check.shown(picture) if check else picture, folder / name, "PNG")

    found: list[float | None] = [None] * count
    measured: dict[str, Any] = dict.fromkeys(("likeness", "bleed", "class_likeness", "likeness_summary"))
    if reference and count:
        measured, found = reference.measure(pictures[:count], pictures[count:], config.class_noun, before)
        if measured["likeness"] is None:
            reporter.message(
                f"{reference.engine.name} does not find the subject in any sample of step {step}.", level="warning"
            )
    row = {
        "step": step,
        "val_loss": val_loss,
        **measured,
        "samples": [
            {"path": f"samples/{step}/{name}", "prompt": prompt, "seed": seed, "likeness": score}
            for name, prompt, seed, score in zip(names, prompts, seeds, found, strict=False)
        ],
    }
    metrics = checkpoints.metrics_of(row)
    log.write(json.dumps(metrics) + "\n")
    log.flush()
    checkpoints.write_scores(run.out_dir, step, row)
    reporter.evaluated(row, metrics, time.monotonic() - started_s)
    return row


def measure_again(
    run: TrainingRun, reference: SubjectReference | None, rows: dict[int, dict[str, Any]], reporter: TrainingReporter
) -> None:
    """Measure stored samples again that another engine, or another version of it, has scored.

    A run that goes on after an update would otherwise compare numbers that mean different things. Without an engine
    the old scores stay, and ``choose_best`` compares them with no others.

    Args:
        run: the run.
        reference: how likeness is measured now.
        rows: scores by step, ascending from 0; changed, on disk too.
        reporter: receives the new scores.
    """
    if reference is None or all(reference.measures(row) for row in rows.values() if row["samples"]):
        return
    name = f"{reference.engine.name} {reference.engine.version}"
    reporter.message(f"Earlier samples were measured by another engine than {name}; measuring them again.")
    for step, row in rows.items():
        paths = [run.out_dir / sample["path"] for sample in row["samples"]]
        pictures = [picture for path in paths if (picture := _picture(path)) is not None]
        of_class = [_picture(path) for path in sorted((run.out_dir / "samples" / str(step)).glob("class_*.png"))]
        bare = [picture for picture in of_class if picture is not None]
        if not pictures or len(pictures) < len(paths):
            row |= dict.fromkeys(("likeness", "bleed", "class_likeness", "likeness_summary"))
            found: list[float | None] = [None] * len(paths)
        else:
            measured, found = reference.measure(pictures, bare, run.config.class_noun, rows[0] if step else None)
            row |= measured
        for sample, score in zip(row["samples"], found, strict=True):
            sample["likeness"] = score
        checkpoints.write_scores(run.out_dir, step, row)
        checkpoints.replace_metrics(run.out_dir, row)
        reporter.evaluated(row, checkpoints.metrics_of(row), reporter.evaluation_s)


def worth(row: Mapping[str, Any]) -> float:
    """Return the likeness of a checkpoint less the penalty for bleed above the limit; bleed may not be measured."""
    return float(row["likeness"]) - BLEED_PENALTY * max(0.0, float(row["bleed"] or 0.0) - BLEED_LIMIT)


def choose_best(rows: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """Choose among checkpoints.

    Scores of different engines are not compared. A checkpoint that shows the subject in less than half as many
    pictures as another one does not compete: its mean leaves the failures out.

    Args:
        rows: at least one, by step; each with step, val_loss, likeness and bleed (None where not measured), and
            likeness_summary where an engine was asked.

    Returns:
        The step, and the reason in words. Among equals the earlier one, which was changed less.
    """
    rulers = {_ruler(row) for row in rows}
    scored = [row for row in rows if row["likeness"] is not None]
    if len(rulers) > 1 or not scored:
        best = min(rows, key=lambda row: row["val_loss"])
        reason = f"lowest validation loss of {len(rows)} checkpoints ({best['val_loss']:.4f})"
        if len(rulers) > 1:
            reason += "; their likeness was not measured by one and the same engine"
        elif rulers != {None}:
            reason += "; no sample of any of them shows the subject"
        return best["step"], reason
    most = max(_measured(row) for row in scored)
    competing = [row for row in scored if 2 * _measured(row) >= most]
    best = max(competing, key=worth)
    bleed = likeness_text(best["bleed"], "not measured")
    measured = f"{likeness_text(best['likeness'])}, bleed {bleed}"
    if out := len(rows) - len(competing):
        measured += f"; {out} without enough measured pictures left out"
    if best["likeness"] < max(row["likeness"] for row in competing):
        return best["step"], f"best likeness minus the penalty for bleed above {BLEED_LIMIT} ({measured})"
    return best["step"], f"highest likeness of {len(rows)} checkpoints ({measured})"


def _ruler(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return name and version of the engine that was asked about a checkpoint; None if none was."""
    summary = row.get("likeness_summary")
    if summary:
        return summary["engine"], summary["version"]
    return None if row["likeness"] is None else ("", "")  # a run of before versions were stored


def _measured(row: Mapping[str, Any]) -> int:
    """Return how many pictures of a checkpoint have a score."""
    return int((row.get("likeness_summary") or {}).get("measured", 1))


# --------------------------------------------------------------------------------------------------------- sentinels


class LossMonitor:
    """Ends a run whose training loss is no number or has exploded.

    Args:
        losses: those of the steps before, where a run goes on.
    """

    def __init__(self, losses: Sequence[float] = ()) -> None:
        self._early = list(losses[:_EARLY_LOSSES])
        self._recent = deque(losses[-_EARLY_LOSSES:], maxlen=_EARLY_LOSSES)

    def see(self, loss: float, step: int) -> None:
        """Look at the loss of ``step``.

        Raises:
            TrainingError: with cause and cure.
        """
        if not np.isfinite(loss):
            raise TrainingError(
                f"The loss is {loss} at step {step}: the numbers overflowed; lower learning_rate and "
                "token_learning_rate, or set dtype=float32."
            )
        if len(self._early) < _EARLY_LOSSES:
            self._early.append(loss)
        self._recent.append(loss)
        first, now = sum(self._early) / len(self._early), sum(self._recent) / len(self._recent)
        if len(self._recent) == _EARLY_LOSSES and now > _EXPLODED_TRAINING * first:
            raise TrainingError(
                f"The loss went from {first:.3g} to {now:.3g} by step {step}: the training diverged; lower "
                "learning_rate and token_learning_rate."
            )


EARLY_LOOK_STEPS = 50
"""The first check of a run happens by this step at the latest; waiting for a checkpoint could waste hours."""


def fingerprints(trainable: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return a few numbers of every parameter, to see later whether it moved; a copy of all would not fit."""
    return {name: parameter.detach().flatten()[:_LOOKED_AT].clone() for name, parameter in trainable.items()}


def require_movement(model: AdaptedModel, untouched: Mapping[str, Tensor], step: int) -> None:
    """End a run that learns nothing.

    Args:
        model: as it is at ``step``.
        untouched: the ``fingerprints`` of step 0.
        step: optimizer steps done.

    Raises:
        TrainingError: with cause and cure.
    """
    now = fingerprints(model.method.trainable(model.parts))
    moved = max(float((now[name] - before).abs().max()) for name, before in untouched.items())
    # The first step of a warm-up has a rate of zero.
    if moved < _UNMOVED and step > min(1, model.run.config.lr_warmup_steps):
        raise TrainingError(
            f"After {step} steps the adapter has not changed, so nothing is learned; increase learning_rate."
        )


def require_sane_validation(val_loss: float, first: float, step: int) -> None:
    """End a run that has exploded, or whose base computes no numbers.

    Args:
        val_loss: validation loss at ``step``.
        first: validation loss at step 0.
        step: optimizer steps done.

    Raises:
        TrainingError: with cause and cure.
    """
    if not np.isfinite(first):
        raise TrainingError(
            f"The base's own loss is {first} before the first step: its weights contain NaN or infinity, or overflow "
            "in this precision; download the base again, or set dtype=float32."
        )
    if not np.isfinite(val_loss) or val_loss > _EXPLODED * first:
        raise TrainingError(
            f"The validation loss went from {first:.3g} to {val_loss:.3g} by step {step}: the training diverged; "
            "lower learning_rate and token_learning_rate."
        )


def _require_something(pictures: Sequence[Image.Image], step: int) -> None:
    if pictures and all(float(np.asarray(picture).std()) < _FLAT for picture in pictures):
        cause = (
            "the base itself produces them; choose another base or set dtype=float32"
            if step == 0
            else "the training destroyed the model; lower learning_rate and token_learning_rate"
        )
        raise TrainingError(f"All sample pictures at step {step} have a single colour: {cause}.")


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 4)
