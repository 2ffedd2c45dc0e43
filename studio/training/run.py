"""The records of a training run: photos, prompts, the adapted model, batches and data."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from studio.bases.resolve import Base
from studio.core.packs import fill, subject_phrase
from studio.core.train_config import TrainConfig
from studio.diffusion.losses import squared_error
from studio.families.base import Conditioning, Family, Parts
from studio.methods.base import Method

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
    """The caption without the instance token."""
    source_hw: tuple[int, int] | None = None
    """Height and width of the photo's crop before it was resized; None: ``picture`` was not resized."""
    mask: Image.Image | None = None
    """Mask of the subject, mode L, white inside, of ``picture``'s size; None: no mask."""
    name: str = ""
    """The photo's original file name."""

    @property
    def framing(self) -> tuple[int, ...]:
        """The size and crop conditioning, pixels: original h, w; top, left of the cut; h, w of the picture.

        The photo's crop counts as the whole photo: it was placed so that the subject is not cut. What remains is the
        strip that resizing it to the bucket cuts off.
        """
        width, height = self.picture.size
        source_height, source_width = self.source_hw or (height, width)
        scale = max(height / source_height, width / source_width)
        top, left = round((source_height * scale - height) / 2), round((source_width * scale - width) / 2)
        return (source_height, source_width, top, left, height, width)


@dataclass(frozen=True, slots=True)
class TrainingRun:
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


class PromptEncodings:
    """Encoded prompts: once for those that nothing trainable touches, at each step for the others."""

    def __init__(self, family: Family, method: Method, parts: Parts, prompts: Sequence[str]) -> None:
        self._family, self._parts = family, parts
        unique = list(dict.fromkeys(prompts))
        live = {prompt for prompt in unique if method.learns_from(parts, prompt)}
        self.learns = bool(live)
        self._pieces = {prompt: family.pieces(parts, prompt) for prompt in unique}
        # Filled up to as many pieces as any other prompt has that may stand beside it in a batch.
        self._base: dict[int, dict[str, dict[str, Tensor]]] = {count: {} for count in sorted({*self._pieces.values()})}
        with torch.no_grad(), method.without(parts):
            for count, rows in self._base.items():
                for prompt in (prompt for prompt in unique if self._pieces[prompt] <= count):
                    encoded = family.encode_in_pieces(parts, [prompt], count)
                    rows[prompt] = {name: values[0] for name, values in encoded.items()}
        self._fixed = {
            count: {prompt: values for prompt, values in rows.items() if prompt not in live}
            for count, rows in self._base.items()
        }

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Return the conditioning of N prompts as the trained model understands them, with gradient where it learns."""
        count = self._count(prompts)
        rows = self._fixed[count]
        live = list(dict.fromkeys(prompt for prompt in prompts if prompt not in rows))
        if live:
            fresh = self._family.encode_in_pieces(self._parts, live, count)
            rows = rows | {p: {name: values[i] for name, values in fresh.items()} for i, p in enumerate(live)}
        return _stacked(rows, prompts)

    def encode_base(self, prompts: Sequence[str]) -> Conditioning:
        """Return the conditioning of N prompts as the untrained base understands them."""
        return _stacked(self._base[self._count(prompts)], prompts)

    def _count(self, prompts: Sequence[str]) -> int:
        return max(self._pieces[prompt] for prompt in prompts)


def _stacked(rows: Mapping[str, Mapping[str, Tensor]], prompts: Sequence[str]) -> Conditioning:
    return {name: torch.stack([rows[prompt][name] for prompt in prompts]) for name in rows[prompts[0]]}


class AdaptedModel:
    """Family, method and parts, with the prompts that this run will ever see."""

    def __init__(self, run: TrainingRun, family: Family, method: Method, parts: Parts) -> None:
        self.run, self.family, self.method, self.parts = run, family, method, parts
        self.class_prompts = _class_prompts(run)
        self.class_scenes = tuple(class_caption(scene, run.config.class_noun) for scene in SCENES)
        captions = [photo.caption for photo in run.photos]
        self.prompts = PromptEncodings(family, method, parts, ["", *captions, *self.class_prompts, *scene_prompts(run)])

    def conditioning(self, rows: "TrainingBatch") -> Conditioning:
        """Return the denoiser's inputs beside the noise, as the trained model expects them."""
        return {**self.prompts.encode(rows.prompts), "framing": rows.framing}

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the denoiser's output, shaped like ``noisy``."""
        return self.family.predict(self.parts, noisy, timesteps, conditioning)


@dataclass(frozen=True, slots=True)
class TrainingBatch:
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

    def split(self, size: int) -> "Iterator[TrainingBatch]":
        """Yield pieces of at most ``size`` samples."""
        for start in range(0, len(self.prompts), size):
            part = slice(start, start + size)
            yield TrainingBatch(
                self.noisy[part],
                self.timesteps[part],
                self.prompts[part],
                self.target[part],
                self.weights[part],
                self.mask[part],
                self.framing[part],
            )

    def __add__(self, other: "TrainingBatch") -> "TrainingBatch":
        return TrainingBatch(
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
class TrainingData:
    """Everything that the loop reads, on the device."""

    latents: Mapping[int, Tensor]
    """Photo -> ``(1 or 2, C, h, w)``: as it is and, with ``flip``, mirrored."""
    batches: "Callable[[int], list[int]]"
    """Step -> photos of one bucket."""
    masks: Mapping[int, Tensor]
    """Photo -> ``(1 or 2, 1, h, w)`` like its latents: where the loss counts, mean 1."""
    class_latents: Tensor | None
    """``(N, C, h, w)`` of the base's own class pictures (prior mode images)."""
    validation: tuple[TrainingBatch, ...]


def class_caption(template: str, class_noun: str) -> str:
    """Return a caption for the class instead of the subject: "photo of a woman at the beach"."""
    article = "an" if class_noun[0].lower() in "aeiou" else "a"
    subject = "{instance_token} {class_noun}"
    text = template.replace("{subject}", subject).replace(f"{{instance_token}} {class_noun}", subject)
    for before in (f"a {subject}", f"an {subject}", f"the {subject}", subject):
        text = text.replace(before, f"{article} {class_noun}")
    return " ".join(fill(text, instance_token="", class_noun=class_noun).split())


def scene_prompts(run: TrainingRun) -> tuple[str, ...]:
    """Return the prompts of the sample pictures, one for each scene."""
    subject = subject_phrase(run.config.instance_token, run.config.class_noun)
    return tuple(scene.replace("{subject}", subject) for scene in SCENES)


def _class_prompts(run: TrainingRun) -> tuple[str, ...]:
    """Return the prompts under which the class must stay as it is."""
    scenes = [class_caption(scene, run.config.class_noun) for scene in SCENES]
    return tuple(dict.fromkeys([*(photo.class_caption for photo in run.photos), *scenes]))
