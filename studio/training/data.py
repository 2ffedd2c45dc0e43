"""From photos to what the training loop reads: latents, masks, batches and the validation set."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from studio.core.errors import TrainingError
from studio.diffusion.losses import min_snr_weights
from studio.diffusion.timesteps import TIMESTEP_SAMPLERS, noise, spread
from studio.training.run import AdaptedModel, PreparedPhoto, TrainingBatch, TrainingData, TrainingRun

VALIDATION_ROWS = 16


_ENCODED_AT_ONCE = 8


def draw_timesteps(model: AdaptedModel, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``(count,)`` timesteps from the distribution that the family is trained with."""
    draw = TIMESTEP_SAMPLERS[model.family.spec.timestep_density]
    return draw(count, model.parts.schedule.num_train_timesteps, generator)


def framing_of(run: TrainingRun, rows: Sequence[tuple[int, ...]]) -> Tensor:
    """Return the size and crop conditioning of a batch, ``(B, 6)`` float32."""
    return torch.tensor(rows, dtype=torch.float32, device=run.device)


def _pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """Return ``(N, 3, H, W)`` float32 in [-1, 1]; all pictures are of one size."""
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1.0


@torch.no_grad()
def _encode(model: AdaptedModel, pictures: Sequence[Image.Image]) -> Tensor:
    """Return latents ``(N, C, h, w)`` of pictures of one size."""
    latents = torch.cat(
        [
            model.family.encode_images(model.parts, _pixels(pictures[start : start + _ENCODED_AT_ONCE]))
            for start in range(0, len(pictures), _ENCODED_AT_ONCE)
        ]
    )
    if not bool(torch.isfinite(latents).all()):
        raise TrainingError("The base's autoencoder produced NaN or infinity; set dtype=float32.")
    return latents


def cache(run: TrainingRun, model: AdaptedModel, class_pictures: Sequence[Image.Image]) -> TrainingData:
    """Encode photos and class pictures (RGB of one size, may be none) once.

    Raises:
        TrainingError: the autoencoder makes numbers that are not finite.
    """
    views = (lambda p: [p, ImageOps.mirror(p)]) if run.config.flip else (lambda p: [p])
    latents = {i: _encode(model, views(photo.picture)) for i, photo in enumerate(run.photos)}
    masks = {i: _mask(run, photo, latents[i]) for i, photo in enumerate(run.photos)}
    class_latents = _encode(model, class_pictures) if class_pictures else None
    return TrainingData(latents, _batches(run), masks, class_latents, _validation_rows(run, model, latents, masks))


def everywhere(latents: Tensor) -> Tensor:
    """Return the mask that weighs every place of ``latents`` ``(B, C, h, w)`` alike, ``(B, 1, h, w)``."""
    return latents.new_ones((len(latents), 1, *latents.shape[2:]), dtype=torch.float32)


def _mask(run: TrainingRun, photo: PreparedPhoto, latents: Tensor) -> Tensor:
    """Return a photo's mask at the latents' resolution, as it is and mirrored like them."""
    background = run.config.background_weight
    if photo.mask is None or background is None:
        return everywhere(latents)
    inside = torch.from_numpy(np.asarray(photo.mask, dtype=np.float32)) / 255.0  # (H, W)
    inside = functional.interpolate(inside[None, None], latents.shape[-2:], mode="area")
    weight = background + (1.0 - background) * inside
    # Mean 1, so that a small subject does not make a small loss. A mask that is empty says nothing.
    weight = weight / weight.mean() if float(weight.mean()) > 0 else torch.ones_like(weight)
    return torch.cat([weight, weight.flip(-1)])[: len(latents)].to(run.device)


def _batches(run: TrainingRun) -> Callable[[int], list[int]]:
    """Return step -> photos: each epoch shuffles every bucket, cuts it into batches, and shuffles the batches."""
    size = run.config.batch_size
    by_bucket: dict[str, list[int]] = {}
    for index, photo in enumerate(run.photos):
        by_bucket.setdefault(photo.bucket, []).append(index)
    per_epoch = sum(-(-len(group) // size) for group in by_bucket.values())

    @lru_cache(maxsize=2)
    def epoch(number: int) -> list[list[int]]:
        generator = run.generator("epoch", number)
        batches = []
        for group in by_bucket.values():
            order = [group[i] for i in torch.randperm(len(group), generator=generator).tolist()]
            full = -(-len(order) // size) * size
            order = [order[i % len(order)] for i in range(full)]  # the last batch is filled from the start
            batches += [order[start : start + size] for start in range(0, full, size)]
        return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]

    return lambda step: epoch(step // per_epoch)[step % per_epoch]


def _validation_rows(
    run: TrainingRun, model: AdaptedModel, latents: Mapping[int, Tensor], masks: Mapping[int, Tensor]
) -> tuple[TrainingBatch, ...]:
    """Return fixed samples whose loss can be compared between steps."""
    schedule, generator = model.parts.schedule, run.generator("validation")
    rows = []
    for i, timestep in enumerate(spread(VALIDATION_ROWS, schedule.num_train_timesteps)):
        photo = i % len(run.photos)
        x0, timesteps = latents[photo][:1], timestep[None]
        eps = noise(x0.shape, generator).to(run.device)
        weights = min_snr_weights(schedule, timesteps, run.config.min_snr_gamma) / VALIDATION_ROWS
        rows.append(
            TrainingBatch(
                schedule.add_noise(x0, eps, timesteps),
                timesteps.to(run.device),
                (run.photos[photo].caption,),
                schedule.target(x0, eps, timesteps),
                weights.to(run.device),
                masks[photo][:1],
                framing_of(run, [run.photos[photo].framing]),
            )
        )
    merged: dict[torch.Size, TrainingBatch] = {}
    for row in rows:
        shape = row.noisy.shape
        merged[shape] = merged[shape] + row if shape in merged else row
    return tuple(merged.values())
