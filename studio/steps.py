"""One optimizer step and everything that it reads: cached latents and prompts, batches, priors, the validation set.

The maths of a run without its housekeeping: nothing here writes a file or tells anybody anything. Called by
``studio.train``. Every random number comes from ``Run.generator``, which depends on the seed and a name alone, so a
step is the same whether or not the process was killed before it.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from studio.config import TrainConfig
from studio.device import freed_memory_kept
from studio.diffusion.losses import min_snr_weights, squared_error
from studio.diffusion.timesteps import TIMESTEP_SAMPLERS, noise, spread
from studio.errors import ResourceError, TrainingError
from studio.families.base import Conditioning, Family, Parts
from studio.methods.base import Method
from studio.packs import fill, subject_phrase
from studio.weights import Base

SCENES = (
    "photo of {subject}",
    "photo of {subject} at the beach",
    "photo of {subject} in a forest",
    "photo of {subject} in front of a brick wall",
    "photo of {subject} in the snow",
    "photo of {subject} in a city street",
    "photo of {subject} in a garden",
    "photo of {subject} in a library",
)
"""Prompts of the sample pictures; the same scenes with the bare class noun measure bleed."""

_VALIDATION_ROWS = 16
_ENCODED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class PreparedPhoto:
    """One photo in memory."""

    picture: Image.Image
    """RGB, at the size of its bucket."""
    look: Image.Image
    """RGB, large enough for a likeness engine to find a face in."""
    bucket: str
    caption: str
    """With the instance token."""
    class_caption: str
    """The same without it."""
    source_hw: tuple[int, int] | None = None
    """Height and width of the photo's crop before it was resized; None: ``picture`` was not resized."""
    mask: Image.Image | None = None
    """Where the subject is, mode L, white inside, of ``picture``'s size; None is everywhere."""

    @property
    def framing(self) -> tuple[int, ...]:
        """What the net hears of sizes and cuts, pixels: original h, w; top, left of the cut; h, w of the picture.

        The photo's crop counts as the whole photo: it was placed so that the subject is not cut. What remains is the
        strip that resizing it to the bucket cuts off.
        """
        width, height = self.picture.size
        source_height, source_width = self.source_hw or (height, width)
        scale = max(height / source_height, width / source_width)
        top, left = round((source_height * scale - height) / 2), round((source_width * scale - width) / 2)
        return (source_height, source_width, top, left, height, width)


@dataclass(frozen=True, slots=True)
class Run:
    """What stays the same from the first step to the last."""

    config: TrainConfig
    out_dir: Path
    base: Base
    photos: tuple[PreparedPhoto, ...]
    device: torch.device
    dtype: torch.dtype
    steps: int

    @property
    def resolution_px(self) -> int:
        """Side of a square of the training pictures' area."""
        return self.config.resolution_px or self.base.spec.resolution_px

    @property
    def guidance_scale(self) -> float:
        """Guidance of sample pictures."""
        given = self.config.guidance_scale
        return self.base.spec.guidance_scale if given is None else given

    def generator(self, *salt: object) -> torch.Generator:
        """Return a CPU generator that depends on the run's seed and ``salt`` alone."""
        text = "/".join(map(str, (self.config.seed, *salt)))
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little"))

    def autocast(self) -> AbstractContextManager[Any]:
        """Return a context manager for mixed precision; nothing in float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self.dtype)


class Prompts:
    """Encoded prompts: once for those that nothing trainable touches, at each step for the others."""

    def __init__(self, family: Family, method: Method, parts: Parts, prompts: Sequence[str]) -> None:
        self._family, self._parts = family, parts
        unique = list(dict.fromkeys(prompts))
        live = {prompt for prompt in unique if method.learns_from(parts, prompt)}
        self.learns = bool(live)
        self._fixed: dict[str, dict[str, Tensor]] = {}
        with torch.no_grad(), method.without(parts):
            for prompt in unique:
                encoded = family.encode_prompts(parts, [prompt])
                self._fixed[prompt] = {name: rows[0] for name, rows in encoded.items()}
        self._base = dict(self._fixed)
        for prompt in live:
            del self._fixed[prompt]

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Return the conditioning of N prompts as the trained model understands them, with gradient where it learns."""
        live = list(dict.fromkeys(prompt for prompt in prompts if prompt not in self._fixed))
        rows = self._fixed
        if live:
            fresh = self._family.encode_prompts(self._parts, live)
            rows = rows | {p: {name: values[i] for name, values in fresh.items()} for i, p in enumerate(live)}
        return _stacked(rows, prompts)

    def encode_base(self, prompts: Sequence[str]) -> Conditioning:
        """Return the conditioning of N prompts as the untrained base understands them."""
        return _stacked(self._base, prompts)


def _stacked(rows: Mapping[str, Mapping[str, Tensor]], prompts: Sequence[str]) -> Conditioning:
    return {name: torch.stack([rows[prompt][name] for prompt in prompts]) for name in rows[prompts[0]]}


class Model:
    """Family, method and parts, with the prompts that this run will ever see."""

    def __init__(self, run: Run, family: Family, method: Method, parts: Parts) -> None:
        self.run, self.family, self.method, self.parts = run, family, method, parts
        self.class_prompts = _class_prompts(run)
        self.class_scenes = tuple(class_caption(scene, run.config.class_noun) for scene in SCENES)
        captions = [photo.caption for photo in run.photos]
        self.prompts = Prompts(family, method, parts, ["", *captions, *self.class_prompts, *scene_prompts(run)])

    def conditioning(self, rows: "Rows") -> Conditioning:
        """Return what the denoiser hears beside the noise, as the trained model understands it."""
        return {**self.prompts.encode(rows.prompts), "framing": rows.framing}

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the denoiser's output, shaped like ``noisy``."""
        return self.family.predict(self.parts, noisy, timesteps, conditioning)


@dataclass(frozen=True, slots=True)
class Rows:
    """Samples of one shape that go through the net together."""

    noisy: Tensor
    """``(B, C, h, w)`` float32 on the device."""
    timesteps: Tensor
    """``(B,)`` int64 on the device."""
    prompts: tuple[str, ...]
    target: Tensor
    """``(B, C, h, w)``."""
    weights: Tensor
    """``(B,)`` float32: share of each sample in the loss."""
    mask: Tensor
    """``(B, 1, h, w)`` float32, mean 1: share of each place in a sample's loss."""
    framing: Tensor
    """``(B, 6)`` float32 on the device: ``PreparedPhoto.framing``."""

    def split(self, size: int) -> "Iterator[Rows]":
        """Yield pieces of at most ``size`` samples."""
        for start in range(0, len(self.prompts), size):
            part = slice(start, start + size)
            yield Rows(
                self.noisy[part],
                self.timesteps[part],
                self.prompts[part],
                self.target[part],
                self.weights[part],
                self.mask[part],
                self.framing[part],
            )

    def __add__(self, other: "Rows") -> "Rows":
        return Rows(
            torch.cat([self.noisy, other.noisy]),
            torch.cat([self.timesteps, other.timesteps]),
            self.prompts + other.prompts,
            torch.cat([self.target, other.target]),
            torch.cat([self.weights, other.weights]),
            torch.cat([self.mask, other.mask]),
            torch.cat([self.framing, other.framing]),
        )

    def loss(self, output: Tensor) -> Tensor:
        """Return these samples' part of a step's loss, a scalar."""
        return (squared_error(output, self.target, self.mask) * self.weights).sum()


@dataclass(frozen=True, slots=True)
class Data:
    """Everything that the loop reads, on the device."""

    latents: Mapping[int, Tensor]
    """Photo -> ``(1 or 2, C, h, w)``: as it is and, with ``flip``, mirrored."""
    batches: "Callable[[int], list[int]]"
    """Step -> photos of one bucket."""
    masks: Mapping[int, Tensor]
    """Photo -> ``(1 or 2, 1, h, w)`` like its latents: where the loss counts, mean 1."""
    class_latents: Tensor | None
    """``(N, C, h, w)`` of the base's own class pictures (prior mode images)."""
    validation: tuple[Rows, ...]


def train_step(
    model: Model, data: Data, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, step: int
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
            "The optimizer's own memory does not fit beside the model; set optimizer=adafactor or adamw8bit, or a "
            "smaller method.rank, in a new run."
        ) from None
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return float(total)


def _photo_rows(model: Model, data: Data, step: int) -> Rows:
    run, config, schedule = model.run, model.run.config, model.parts.schedule
    chosen = data.batches(step)
    generator = run.generator("step", step)
    mirrored = torch.rand(len(chosen), generator=generator) < 0.5
    dropped = torch.rand(len(chosen), generator=generator) < config.caption_dropout
    views = [int(flip) % len(data.latents[i]) for i, flip in zip(chosen, mirrored, strict=True)]
    latents = torch.stack([data.latents[i][view] for i, view in zip(chosen, views, strict=True)])
    timesteps = _timesteps(model, len(chosen), generator)
    eps = noise(latents.shape, generator, config.noise_offset).to(run.device)
    weights = min_snr_weights(schedule, timesteps, config.min_snr_gamma) / len(chosen)
    return Rows(
        noisy=schedule.add_noise(latents, eps, timesteps),
        timesteps=timesteps.to(run.device),
        prompts=tuple("" if drop else run.photos[i].caption for i, drop in zip(chosen, dropped, strict=True)),
        target=schedule.target(latents, eps, timesteps),
        weights=weights.to(run.device),
        mask=torch.stack([data.masks[i][view] for i, view in zip(chosen, views, strict=True)]),
        framing=_framing(run, [run.photos[i].framing for i in chosen]),
    )


def _timesteps(model: Model, count: int, generator: torch.Generator) -> Tensor:
    """Draw ``(count,)`` timesteps as the family is trained."""
    draw = TIMESTEP_SAMPLERS[model.family.spec.timestep_density]
    return draw(count, model.parts.schedule.num_train_timesteps, generator)


def _framing(run: Run, rows: Sequence[tuple[int, ...]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32, device=run.device)


def _no_prior(model: Model, data: Data, rows: Rows, step: int) -> None:
    return None


def _image_prior(model: Model, data: Data, rows: Rows, step: int) -> Rows:
    """Class pictures that the base made before, with their prompts."""
    run, prior, schedule = model.run, model.run.config.prior, model.parts.schedule
    assert data.class_latents is not None
    side = run.resolution_px
    count = prior.batch_size or len(rows.prompts)
    generator = run.generator("prior", step)
    chosen = torch.randint(len(data.class_latents), (count,), generator=generator)
    timesteps = _timesteps(model, count, generator)
    latents = data.class_latents[chosen.to(run.device)]
    eps = noise(latents.shape, generator).to(run.device)
    weights = min_snr_weights(schedule, timesteps, run.config.min_snr_gamma) * (prior.weight / count)
    return Rows(
        noisy=schedule.add_noise(latents, eps, timesteps),
        timesteps=timesteps.to(run.device),
        prompts=tuple(model.class_scenes[i % len(model.class_scenes)] for i in chosen.tolist()),
        target=schedule.target(latents, eps, timesteps),
        weights=weights.to(run.device),
        mask=everywhere(latents),
        framing=_framing(run, [(side, side, 0, 0, side, side)] * count),
    )


def _prediction_prior(model: Model, data: Data, rows: Rows, step: int) -> Rows:
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
    return Rows(noisy, timesteps, prompts, target, weights.to(run.device), everywhere(noisy), framing)


_PRIORS: dict[str, Callable[[Model, Data, Rows, int], Rows | None]] = {
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
def _dropout_seed(run: Run, step: int) -> Iterator[None]:
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


def class_caption(template: str, class_noun: str) -> str:
    """Return a caption for the class instead of the subject: "photo of a woman at the beach"."""
    article = "an" if class_noun[0].lower() in "aeiou" else "a"
    subject = "{instance_token} {class_noun}"
    text = template.replace("{subject}", subject)
    for before in (f"a {subject}", f"an {subject}", f"the {subject}", subject):
        text = text.replace(before, f"{article} {class_noun}")
    return " ".join(fill(text, instance_token="", class_noun=class_noun).split())


def scene_prompts(run: Run) -> tuple[str, ...]:
    """Return the prompts of the sample pictures, one for each scene."""
    subject = subject_phrase(run.config.instance_token, run.config.class_noun)
    return tuple(scene.replace("{subject}", subject) for scene in SCENES)


def _class_prompts(run: Run) -> tuple[str, ...]:
    """Return the prompts under which the class must stay as it is."""
    scenes = [class_caption(scene, run.config.class_noun) for scene in SCENES]
    return tuple(dict.fromkeys([*(photo.class_caption for photo in run.photos), *scenes]))


# ------------------------------------------------------------------------------------------------------------ caches


def _pixels(pictures: Sequence[Image.Image]) -> Tensor:
    """Return ``(N, 3, H, W)`` float32 in [-1, 1]; all pictures are of one size."""
    stacked = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))
    return stacked.permute(0, 3, 1, 2).float() / 127.5 - 1.0


@torch.no_grad()
def _encode(model: Model, pictures: Sequence[Image.Image]) -> Tensor:
    """Return latents ``(N, C, h, w)`` of pictures of one size."""
    latents = torch.cat(
        [
            model.family.encode_images(model.parts, _pixels(pictures[start : start + _ENCODED_AT_ONCE]))
            for start in range(0, len(pictures), _ENCODED_AT_ONCE)
        ]
    )
    if not bool(torch.isfinite(latents).all()):
        raise TrainingError("The base's autoencoder made numbers that are not finite; set dtype=float32.")
    return latents


def cache(run: Run, model: Model, class_pictures: Sequence[Image.Image]) -> Data:
    """Encode photos and class pictures (RGB of one size, may be none) once.

    Raises:
        TrainingError: the autoencoder makes numbers that are not finite.
    """
    views = (lambda p: [p, ImageOps.mirror(p)]) if run.config.flip else (lambda p: [p])
    latents = {i: _encode(model, views(photo.picture)) for i, photo in enumerate(run.photos)}
    masks = {i: _mask(run, photo, latents[i]) for i, photo in enumerate(run.photos)}
    class_latents = _encode(model, class_pictures) if class_pictures else None
    return Data(latents, _batches(run), masks, class_latents, _validation_rows(run, model, latents, masks))


def everywhere(latents: Tensor) -> Tensor:
    """Return the mask that weighs every place of ``latents`` ``(B, C, h, w)`` alike, ``(B, 1, h, w)``."""
    return latents.new_ones((len(latents), 1, *latents.shape[2:]), dtype=torch.float32)


def _mask(run: Run, photo: PreparedPhoto, latents: Tensor) -> Tensor:
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


def _batches(run: Run) -> Callable[[int], list[int]]:
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
    run: Run, model: Model, latents: Mapping[int, Tensor], masks: Mapping[int, Tensor]
) -> tuple[Rows, ...]:
    """Return fixed samples whose loss can be compared between steps."""
    schedule, generator = model.parts.schedule, run.generator("validation")
    rows = []
    for i, timestep in enumerate(spread(_VALIDATION_ROWS, schedule.num_train_timesteps)):
        photo = i % len(run.photos)
        x0, timesteps = latents[photo][:1], timestep[None]
        eps = noise(x0.shape, generator).to(run.device)
        weights = min_snr_weights(schedule, timesteps, run.config.min_snr_gamma) / _VALIDATION_ROWS
        rows.append(
            Rows(
                schedule.add_noise(x0, eps, timesteps),
                timesteps.to(run.device),
                (run.photos[photo].caption,),
                schedule.target(x0, eps, timesteps),
                weights.to(run.device),
                masks[photo][:1],
                _framing(run, [run.photos[photo].framing]),
            )
        )
    merged: dict[torch.Size, Rows] = {}
    for row in rows:
        shape = row.noisy.shape
        merged[shape] = merged[shape] + row if shape in merged else row
    return tuple(merged.values())


@torch.no_grad()
def validation_loss(run: Run, model: Model, data: Data) -> float:
    """Return the loss of the fixed validation samples, which can be compared between steps."""
    model.parts.denoiser.eval()
    total = 0.0
    for rows in data.validation:
        for part in rows.split(run.config.micro_batch_size or _VALIDATION_ROWS):
            with run.autocast():
                output = model.predict(part.noisy, part.timesteps, model.conditioning(part))
            total += float(part.loss(output))
    return total
