"""What a checkpoint is worth: pictures for fixed seeds and prompts, their likeness, bleed, and the choice of the best.

Called by ``studio.train``. All scores are on the calibrated likeness scale (``studio.likeness.base``).
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from studio import checkpoints
from studio.errors import JobCancelled, TrainingError
from studio.likeness.base import LikenessEngine, centroid, likeness
from studio.likeness.registry import choose_engine
from studio.listener import Listener
from studio.steps import SCENES, Model, Run, class_caption, scene_prompts

BLEED_LIMIT = 0.15
"""Rise of the class pictures' likeness that does no harm."""
BLEED_PENALTY = 2.0
"""Likeness that each unit of bleed above the limit costs when checkpoints are compared."""

_PIXELS_PER_CALL = 4 * 512 * 512
_FLAT = 1.0  # standard deviation of a picture's values in [0, 255] below which it shows nothing
_UNMOVED = 1e-9
_EXPLODED = 10.0  # validation loss against that of the untrained base
_CLASS_SEED = 100_000  # apart from the seeds of the samples


# ---------------------------------------------------------------------------------------------------------- likeness


@dataclass(frozen=True, slots=True)
class Reference:
    """The subject as an engine sees it."""

    engine: LikenessEngine
    centroid: NDArray[np.float32]
    """``(D,)`` of unit length, from the photos."""

    def score(self, pictures: Sequence[Image.Image], class_noun: str) -> list[float]:
        """Return each picture's likeness."""
        scores = likeness(self.engine.embed(pictures), self.centroid, self.engine.scale(class_noun))
        return [round(float(score), 4) for score in scores]


def find_reference(run: Run, listener: Listener) -> tuple[Reference | None, str]:
    """Return how likeness is measured in this run, or None, and why.

    Raises:
        MissingExtraError: an engine was asked for by name and its weights are not here.
    """
    config = run.config
    pictures = [photo.look for photo in run.photos]
    choice = choose_engine(config.likeness, base=config.base, class_noun=config.class_noun, pictures=pictures)
    engine, reason = choice.engine, choice.reason
    if engine is not None:
        try:
            return Reference(engine, centroid(engine.embed(pictures))), reason
        except ValueError:
            reason = f"{engine.name} finds the subject in none of the photos"
    listener.message(f"Likeness is not measured: {reason}.", level="warning" if engine else "info")
    return None, reason


# ---------------------------------------------------------------------------------------------------------- pictures


def sample(
    run: Run, model: Model, prompts: Sequence[str], seeds: Sequence[int], listener: Listener
) -> list[Image.Image]:
    """Make one square picture per pair of prompt and seed, as many at once as the pixels allow.

    The prompts must be among those that ``model.prompts`` encoded: text encoders may be gone.

    Raises:
        JobCancelled: the listener asked to stop.
    """

    def at_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if listener.should_stop():
            raise JobCancelled("Stopped while sampling; start again to go on from there.")
        return tensors

    if not prompts:
        return []
    model.parts.denoiser.eval()
    pipeline: Any = model.family.pipeline(model.parts)
    per_call = max(1, _PIXELS_PER_CALL // run.resolution_px**2)
    pictures: list[Image.Image] = []
    with torch.no_grad(), run.autocast():
        for start in range(0, len(prompts), per_call):
            now = prompts[start : start + per_call]
            wanted, unwanted = model.prompts.encode(now), model.prompts.encode([""] * len(now))
            pictures += pipeline(
                **model.family.pipeline_inputs(wanted, unwanted, run.guidance_scale),
                # On the CPU: a seed gives the same noise on every device.
                generator=[torch.Generator().manual_seed(seed) for seed in seeds[start : start + per_call]],
                height=run.resolution_px,
                width=run.resolution_px,
                num_inference_steps=run.config.sample_steps,
                callback_on_step_end=at_step,
            ).images
    return pictures


def class_pictures(run: Run, model: Model, listener: Listener) -> list[Image.Image]:
    """Return the base's own pictures of the class for prior mode ``images``; drawn once, kept in ``class_images/``."""
    prior = run.config.prior
    if prior.mode != "images":
        return []
    folder = run.out_dir / "class_images"
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{i:03}.png" for i in range(prior.class_images)]
    missing = [i for i, path in enumerate(paths) if not path.exists()]
    if missing:
        listener.stage("class_images", f"The base draws {len(missing)} pictures of a {run.config.class_noun}.")
        prompts = [model.class_prompts[i % len(model.class_prompts)] for i in missing]
        with model.method.without(model.parts):
            pictures = sample(
                run, model, prompts, [(run.config.seed + _CLASS_SEED + i) % 2**32 for i in missing], listener
            )
        _require_something(pictures, 0)
        for i, picture in zip(missing, pictures, strict=True):
            part = folder / f".{i:03}.part"
            picture.save(part, format="PNG")
            os.replace(part, paths[i])
    # Read back even when just made, so that a run that goes on sees the very same pixels.
    found = []
    for path in paths:
        with Image.open(path) as image:
            found.append(image.convert("RGB"))
    return found


# ------------------------------------------------------------------------------------------------------- checkpoints


def evaluate(
    run: Run,
    model: Model,
    reference: Reference | None,
    step: int,
    val_loss: float,
    before: Mapping[str, Any] | None,
    log: TextIO,
    listener: Listener,
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
        listener: hears of the pictures.

    Returns:
        The scores: step, val_loss, likeness, bleed, class_likeness, samples; None where not measured.

    Raises:
        TrainingError: the pictures show nothing.
        JobCancelled: the listener asked to stop.
    """
    config, started_s = run.config, time.monotonic()
    count = config.samples_per_checkpoint
    scenes = [SCENES[i % len(SCENES)] for i in range(count)]
    seeds = [(config.seed + i) % 2**32 for i in range(count)]
    of_subject = scene_prompts(run)
    prompts = [of_subject[i % len(SCENES)] for i in range(count)]
    class_prompts = [class_caption(scene, config.class_noun) for scene in scenes] if reference else []
    # One call for both kinds, because a batch costs less than its pictures one by one.
    pictures = sample(run, model, prompts + class_prompts, seeds + seeds[: len(class_prompts)], listener)
    _require_something(pictures, step)
    names = [f"{i:02}.png" for i in range(count)] + [f"class_{i:02}.png" for i in range(len(class_prompts))]
    folder = run.out_dir / "samples" / str(step)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in zip(names, pictures, strict=True):
        picture.save(folder / name)

    scores: list[float | None] = [None] * count
    mean_likeness = class_likeness = bleed = None
    if reference and count:
        found = reference.score(pictures, config.class_noun)
        scores = list(found[:count])
        mean_likeness, class_likeness = _mean(found[:count]), _mean(found[count:])
        bleed = round(class_likeness - (before["class_likeness"] if before else class_likeness), 4)
    row = {
        "step": step,
        "val_loss": val_loss,
        "likeness": mean_likeness,
        "bleed": bleed,
        "class_likeness": class_likeness,
        "samples": [
            {"path": f"samples/{step}/{name}", "prompt": prompt, "seed": seed, "likeness": score}
            for name, prompt, seed, score in zip(names, prompts, seeds, scores, strict=False)
        ],
    }
    metrics = {key: row[key] for key in ("step", "val_loss", "likeness", "bleed") if row[key] is not None}
    log.write(json.dumps(metrics) + "\n")
    log.flush()
    checkpoints.write_scores(run.out_dir, step, row)
    listener.evaluated(row, metrics, time.monotonic() - started_s)
    return row


def worth(row: Mapping[str, Any]) -> float:
    """Return the likeness of a checkpoint less the penalty for bleed above the limit."""
    return float(row["likeness"]) - BLEED_PENALTY * max(0.0, float(row["bleed"]) - BLEED_LIMIT)


def choose_best(rows: Sequence[Mapping[str, Any]]) -> tuple[int, str]:
    """Choose among checkpoints.

    Args:
        rows: at least one, by step; each with step, val_loss, likeness and bleed (None where not measured).

    Returns:
        The step, and the reason in words. Among equals the earlier one, which was changed less.
    """
    if any(row["likeness"] is None for row in rows):
        best = min(rows, key=lambda row: row["val_loss"])
        return best["step"], f"lowest validation loss of {len(rows)} checkpoints ({best['val_loss']:.4f})"
    best = max(rows, key=worth)
    measured = f"{best['likeness']:.2f}, bleed {best['bleed']:.2f}"
    if best["likeness"] < max(row["likeness"] for row in rows):
        return best["step"], f"best likeness less the penalty for bleed above {BLEED_LIMIT} ({measured})"
    return best["step"], f"highest likeness of {len(rows)} checkpoints ({measured})"


# --------------------------------------------------------------------------------------------------------- sentinels


def require_finite(loss: float, step: int) -> None:
    """End a run whose loss is NaN or infinite.

    Raises:
        TrainingError: with cause and cure.
    """
    if not np.isfinite(loss):
        raise TrainingError(
            f"The loss is {loss} at step {step}: the numbers overflowed; lower learning_rate and token_learning_rate, "
            "or set dtype=float32."
        )


def require_health(model: Model, untouched: Mapping[str, Tensor], val_loss: float, first: float, step: int) -> None:
    """End a run that has learned nothing or has exploded.

    Args:
        model: as it is at ``step``.
        untouched: the trainable parameters at step 0.
        val_loss: validation loss at this step.
        first: validation loss at step 0.
        step: optimizer steps done.

    Raises:
        TrainingError: with cause and cure.
    """
    trainable = model.method.trainable(model.parts)
    moved = max(float((p.detach() - untouched[name]).abs().max()) for name, p in trainable.items())
    # The first step of a warm-up has a rate of zero.
    if moved < _UNMOVED and step > min(1, model.run.config.lr_warmup_steps):
        raise TrainingError(
            f"After {step} steps the adapter is still what it was, so nothing is learned; raise learning_rate."
        )
    if not np.isfinite(val_loss) or val_loss > _EXPLODED * first:
        raise TrainingError(
            f"The validation loss went from {first:.3g} to {val_loss:.3g} by step {step}: the training exploded; "
            "lower learning_rate and token_learning_rate."
        )


def _require_something(pictures: Sequence[Image.Image], step: int) -> None:
    if pictures and all(float(np.asarray(picture).std()) < _FLAT for picture in pictures):
        cause = (
            "the base itself makes them so; choose another base or dtype=float32"
            if step == 0
            else "the training destroyed the model; lower learning_rate and token_learning_rate"
        )
        raise TrainingError(f"All pictures at step {step} are of one colour: {cause}.")


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4)
