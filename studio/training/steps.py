"""One optimizer step and everything that it reads: cached latents and prompts, batches, priors, the validation set.

The maths of a run without its housekeeping: nothing here writes a file or reports progress. Called by
``studio.train``. Every random number comes from ``Run.generator``, which depends on the seed and a name alone, so a
step is the same whether or not the process was killed before it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import cos, pi
from typing import Any

import torch

from studio.compute.device import freed_memory_kept
from studio.core.errors import ResourceError
from studio.diffusion.losses import min_snr_weights
from studio.diffusion.timesteps import noise
from studio.training.data import VALIDATION_ROWS, draw_timesteps, everywhere, framing_of
from studio.training.run import AdaptedModel, TrainingBatch, TrainingData, TrainingRun


def train_step(
    model: AdaptedModel, data: TrainingData, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, step: int
) -> float:
    """Do one optimizer step; everything random depends on the run's seed and ``step`` alone.

    Args:
        model: the base with its adapter.
        data: cached latents.
        optimizer: over the adapter's parameters, learning rates set.
        scaler: disabled except for float16.
        step: steps done before this one.

    Returns:
        The loss of the photos and, weighted, of the prior.

    Raises:
        torch.OutOfMemoryError: nothing has moved yet; the same step can be done again with less memory.
        ResourceError: the optimizer itself has no room.
    """
    run, config = model.run, model.run.config
    rows = _photo_rows(model, data, step)
    prior = _PRIORS[config.prior.mode](model, data, rows, step)
    together = [rows] if prior is None else [rows, prior]
    if prior is not None and prior.noisy.shape[1:] == rows.noisy.shape[1:]:
        together = [rows + prior]  # one forward pass instead of two
    micro = config.micro_batch_size or max(len(part.prompts) for part in together)
    model.parts.denoiser.train()
    total = torch.zeros((), device=run.device)
    with _dropout_seed(run, step):
        for part in (piece for whole in together for piece in whole.split(micro)):
            with run.autocast():
                output = model.predict(part.noisy, part.timesteps, model.conditioning(part))
            loss = part.loss(output)
            scaler.scale(loss).backward()
            total += loss.detach()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
    try:
        scaler.step(optimizer)
    except torch.OutOfMemoryError:
        # Some parameters may have moved already, so this step cannot be done again with less.
        raise ResourceError(
            "The optimizer state does not fit into memory beside the model; set optimizer=adafactor or adamw8bit, or a "
            "smaller method.rank, in a new run."
        ) from None
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return float(total)


def _photo_rows(model: AdaptedModel, data: TrainingData, step: int) -> TrainingBatch:
    run, config, schedule = model.run, model.run.config, model.parts.schedule
    chosen = data.batches(step)
    generator = run.generator("step", step)
    mirrored = torch.rand(len(chosen), generator=generator) < 0.5
    dropped = torch.rand(len(chosen), generator=generator) < config.caption_dropout
    views = [int(flip) % len(data.latents[i]) for i, flip in zip(chosen, mirrored, strict=True)]
    latents = torch.stack([data.latents[i][view] for i, view in zip(chosen, views, strict=True)])
    timesteps = draw_timesteps(model, len(chosen), generator)
    eps = noise(latents.shape, generator, config.noise_offset).to(run.device)
    weights = min_snr_weights(schedule, timesteps, config.min_snr_gamma) / len(chosen)
    return TrainingBatch(
        noisy=schedule.add_noise(latents, eps, timesteps),
        timesteps=timesteps.to(run.device),
        prompts=tuple("" if drop else run.photos[i].caption for i, drop in zip(chosen, dropped, strict=True)),
        target=schedule.target(latents, eps, timesteps),
        weights=weights.to(run.device),
        mask=torch.stack([data.masks[i][view] for i, view in zip(chosen, views, strict=True)]),
        framing=framing_of(run, [run.photos[i].framing for i in chosen]),
    )


def _no_prior(model: AdaptedModel, data: TrainingData, rows: TrainingBatch, step: int) -> None:
    return None


def _image_prior(model: AdaptedModel, data: TrainingData, rows: TrainingBatch, step: int) -> TrainingBatch:
    """Class pictures that the base made before, with their prompts."""
    run, prior, schedule = model.run, model.run.config.prior, model.parts.schedule
    assert data.class_latents is not None
    side = run.resolution_px
    count = prior.batch_size or len(rows.prompts)
    generator = run.generator("prior", step)
    chosen = torch.randint(len(data.class_latents), (count,), generator=generator)
    timesteps = draw_timesteps(model, count, generator)
    latents = data.class_latents[chosen.to(run.device)]
    eps = noise(latents.shape, generator).to(run.device)
    weights = min_snr_weights(schedule, timesteps, run.config.min_snr_gamma) * (prior.weight / count)
    return TrainingBatch(
        noisy=schedule.add_noise(latents, eps, timesteps),
        timesteps=timesteps.to(run.device),
        prompts=tuple(model.class_scenes[i % len(model.class_scenes)] for i in chosen.tolist()),
        target=schedule.target(latents, eps, timesteps),
        weights=weights.to(run.device),
        mask=everywhere(latents),
        framing=framing_of(run, [(side, side, 0, 0, side, side)] * count),
    )


def _prediction_prior(model: AdaptedModel, data: TrainingData, rows: TrainingBatch, step: int) -> TrainingBatch:
    """The photos' own noisy latents under class prompts; the target is what the untrained base says of them."""
    run, prior = model.run, model.run.config.prior
    count = prior.batch_size or len(rows.prompts)
    generator = run.generator("prior", step)
    chosen = torch.randint(len(model.class_prompts), (count,), generator=generator).tolist()
    prompts = tuple(model.class_prompts[i] for i in chosen)
    taken = torch.arange(count, device=run.device) % len(rows.prompts)
    noisy, timesteps, framing = rows.noisy[taken], rows.timesteps[taken], rows.framing[taken]
    with torch.no_grad(), model.method.without(model.parts), run.autocast():
        conditioning = {**model.prompts.encode_base(prompts), "framing": framing}
        target = model.predict(noisy, timesteps, conditioning).float()
    weights = min_snr_weights(model.parts.schedule, timesteps.cpu(), run.config.min_snr_gamma) * (prior.weight / count)
    return TrainingBatch(noisy, timesteps, prompts, target, weights.to(run.device), everywhere(noisy), framing)


_PRIORS: dict[str, Callable[[AdaptedModel, TrainingData, TrainingBatch, int], TrainingBatch | None]] = {
    "none": _no_prior,
    "images": _image_prior,
    "prediction": _prediction_prior,
}


def learning_rate_factor(name: str, step: int, warmup_steps: int, total_steps: int) -> float:
    """Return the share of the learning rate at ``step`` (steps done before); depends on nothing else.

    Golden: diffusers.optimization.get_scheduler in the tests.
    """
    if step < warmup_steps:
        return step / warmup_steps
    left = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return {"cosine": max(0.0, 0.5 * (1.0 + cos(pi * left))), "linear": max(0.0, 1.0 - left)}.get(name, 1.0)


@contextmanager
def _dropout_seed(run: TrainingRun, step: int) -> Iterator[None]:
    """Seed the global generator for LoRA dropout, which knows no other; without dropout nothing draws from it."""
    if not run.config.method.dropout:
        yield
        return
    devices = [run.device] if run.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(run.generator("dropout", step).initial_seed())
        yield


@contextmanager
def exact_arithmetic(device: torch.device, threads: int | None) -> Iterator[None]:
    """Set what makes a run fast and repeatable, and put back what was set before."""
    before = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    memory: Any = torch.utils.deterministic  # type checkers do not see its switch
    fills = memory.fill_uninitialized_memory
    if threads is not None:
        torch.set_num_threads(threads)
    # On a GPU exactness is not promised, and some of its kernels have no deterministic form.
    torch.use_deterministic_algorithms(device.type == "cpu")
    # The deterministic mode would also write over every fresh tensor, which costs time and guards against nothing here.
    memory.fill_uninitialized_memory = False
    flushed = torch.set_flush_denormal(True)  # numbers near zero are very slow on a CPU otherwise
    try:
        # Not with a GPU: there the text encoders that have done their work would stay in main memory.
        with freed_memory_kept() if device.type == "cpu" else nullcontext():
            yield
    finally:
        if flushed:
            torch.set_flush_denormal(False)
        memory.fill_uninitialized_memory = fills
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(before)


@torch.no_grad()
def validation_loss(run: TrainingRun, model: AdaptedModel, data: TrainingData) -> float:
    """Return the loss of the fixed validation samples, which can be compared between steps."""
    model.parts.denoiser.eval()
    total = 0.0
    for rows in data.validation:
        for part in rows.split(run.config.micro_batch_size or VALIDATION_ROWS):
            with run.autocast():
                output = model.predict(part.noisy, part.timesteps, model.conditioning(part))
            total += float(part.loss(output))
    return total
