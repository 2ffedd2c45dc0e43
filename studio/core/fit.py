"""The fit plan: how much memory, time and disk a training run will take, known before it starts.

What was measured on this machine with the same settings is reported as it was (``STUDIO_HOME/fit.json``, written by
``studio.plan`` and by every finished run); what was not is estimated from the catalog's figures and called rough.
Ground level: no torch.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.core import records
from studio.core.catalog import BASES
from studio.core.config import GenerateConfig
from studio.core.files import read_json, write_json
from studio.core.language import say
from studio.core.private import make_folder
from studio.core.train_config import TrainConfig, mark_of
from studio.core.units import bytes_text, duration_text

MEASURED_NAME = "fit.json"

_RECORDS = 200
_BITS = {"none": 16.0, "8bit": 8.0, "4bit": 4.5}  # 4 bits and, for each 64 weights, a scale of 32
_FULL = 9.0  # weights, gradients and two moments in float32, and autocast's copy, instead of weights in half precision
_ONE_BLOCK = 0.1  # of the weights: the block on the device, and what is no block
# For the adapter with its moments, the allocator's gaps and the driver. With them the count meets what others measured:
# 10.7 GB for FLUX.2 klein (PEFT's benchmark, 512 px, two pictures), about 17 GB for Z-Image at 1024 px (modl).
_GAPS, _DRIVER_GB = 1.1, 0.8
_KEPT_SHARE, _FREE_SHARE = 0.5, 0.1
# Of a pass of pictures, nearly all in the decoder: about eight layers of 128 channels in half precision and the gaps
# between them. The least is what a pass is filled up to. Counted generously, not measured.
_PASS_MEGAPIXELS, _MEGAPIXEL_GB = 4 * 0.512**2, 4.0


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """What a few real steps took."""

    device: str
    """Name of the device."""
    load_s: float
    """Seconds until the first step."""
    step_s: float
    """Seconds per optimizer step."""
    picture_s: float
    """Seconds per sample picture."""
    peak_bytes: int
    """Most memory in use, of the GPU or of this process."""
    adapter_bytes: int
    """Size of one adapter on the disk."""
    resume_bytes: int
    """Size of what a checkpoint keeps to go on from."""


@dataclass(frozen=True, slots=True)
class FitPlan:
    """What to expect of a run; None where nothing is known."""

    steps: int
    checkpoints: int
    seconds: float | None
    peak_bytes: int | None
    room_bytes: int | None
    """Memory of the device, where it is known."""
    disk_bytes: int | None
    measured: bool
    """False if the figures are the catalog's, which are rough."""
    device: str | None
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings that were reduced to fit into memory."""

    @property
    def fits(self) -> bool | None:
        """Whether the run fits into the device's memory; None where one of both is unknown."""
        if self.peak_bytes is None or self.room_bytes is None:
            return None
        return self.peak_bytes <= self.room_bytes

    def words(self) -> str:
        """Return the plan in one or two sentences."""
        about = say("measured here") if self.measured else say("rough, from the catalogue")
        parts = [say("{steps} steps").format(steps=self.steps)]
        if self.seconds is not None:
            parts.append(say("about {time}").format(time=duration_text(self.seconds)))
        if self.peak_bytes is not None:
            needs = bytes_text(self.peak_bytes)
            if self.room_bytes:
                parts.append(say("{needs} of {room} memory").format(needs=needs, room=bytes_text(self.room_bytes)))
            else:
                parts.append(say("{needs} of memory").format(needs=needs))
        if self.disk_bytes is not None:
            parts.append(say("{size} on the disk").format(size=bytes_text(self.disk_bytes)))
        sentences = [f"{', '.join(parts)} ({about})." if len(parts) > 1 else f"{parts[0]}."]
        if self.seconds is None:
            sentences.append(say("The time is known after a first run on this machine."))
        if self.fits is False:
            told = "That is more than there is: the run will take fewer photos at a time or, at worst, smaller ones."
            sentences.append(say(told))
        if self.changes:
            changes = ", ".join(f"{name}={value}" for name, value in self.changes.items())
            sentences.append(say("To fit, it trains with {changes}.").format(changes=changes))
        return " ".join(sentences)


def plan_of(
    config: TrainConfig,
    photos: int,
    measured: MeasuredRun | None,
    *,
    room_bytes: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> FitPlan:
    """Return the plan of a run.

    Args:
        config: the settings.
        photos: how many photos there are.
        measured: what was measured with these settings; None takes the catalog's figures.
        room_bytes: memory of the device, if known.
        changes: settings that were reduced to fit into memory when it was measured.
    """
    steps = config.total_steps(photos)
    count = len(checkpoint_steps(config, steps))
    if measured is None:
        return FitPlan(steps, count, None, _rough_bytes(config), room_bytes, None, False, None, changes or {})
    # Step 0 is sampled too; where likeness is measured every sample has a twin of the class.
    pictures = (count + 1) * config.samples_per_checkpoint * (1 if config.likeness == "none" else 2)
    pictures += config.prior.class_images if config.prior.mode == "images" else 0
    return FitPlan(
        steps=steps,
        checkpoints=count,
        seconds=round(measured.load_s + steps * measured.step_s + pictures * measured.picture_s, 1),
        peak_bytes=measured.peak_bytes,
        room_bytes=room_bytes,
        disk_bytes=(count + 1) * measured.adapter_bytes + min(count, config.keep_checkpoints) * measured.resume_bytes,
        measured=True,
        device=measured.device,
        changes=changes or {},
    )


def keepable_bytes(room_bytes: int, free_bytes: int, kept_bytes: int, most_bytes: int | None = None) -> int:
    """Return how much of a memory bases may keep that stay loaded between jobs.

    Half of it, and never so much that less than a tenth would be free for everything else.

    Args:
        room_bytes: all of it.
        free_bytes: what is free now.
        kept_bytes: what such bases take now.
        most_bytes: a limit that somebody has set in the place of the half.
    """
    most = room_bytes * _KEPT_SHARE if most_bytes is None else most_bytes
    return max(0, int(min(most, kept_bytes + free_bytes - room_bytes * _FREE_SHARE)))


def bytes_beside(plan: FitPlan) -> int:
    """Return how much of a GPU's memory a run leaves to another process; 0 where nothing is known."""
    if plan.peak_bytes is None or plan.room_bytes is None:
        return 0
    drivers = _DRIVER_GB * 10**9 if plan.measured else 0.0  # a rough figure holds them
    return max(0, int(plan.room_bytes * (1 - _FREE_SHARE) - plan.peak_bytes - drivers))


def drawing_bytes(base: str | None, config: GenerateConfig) -> int | None:
    """Return what pictures take of a GPU's memory at most; None for bases of which nothing is known."""
    row = BASES.get(base or "")
    if row is None or row.memory is None:
        return None
    sides_px = (config.width_px or row.resolution_px, config.height_px or row.resolution_px)
    megapixels = sides_px[0] * sides_px[1] * (config.batch_size or 1) / 1e6
    weights_gb = row.memory.denoiser_gb + row.memory.text_encoders_gb
    # The weights that an adapter touches are there twice.
    drawing_gb = (weights_gb + row.memory.denoiser_gb) * _GAPS + max(_PASS_MEGAPIXELS, megapixels) * _MEGAPIXEL_GB
    return round((drawing_gb + _DRIVER_GB) * 10**9)


def checkpoint_steps(config: TrainConfig, steps: int) -> list[int]:
    """Return the steps at which a run of ``steps`` steps makes checkpoints, ascending; the last step is one."""
    every = config.checkpoint_every_steps or max(1, -(-steps // _CHECKPOINTS))
    return sorted({*range(every, steps + 1, every), steps})


_CHECKPOINTS = 5


def remember(home: Path, config: TrainConfig, measured: MeasuredRun) -> None:
    """Keep what was measured, for plans of runs like this one."""
    known = {**_known(home), _key(config): records.to_dict(measured)}
    make_folder(home)
    write_json(home / MEASURED_NAME, dict(list(known.items())[-_RECORDS:]), shared=True)


def recall(home: Path, config: TrainConfig) -> MeasuredRun | None:
    """Return what was measured with these settings; None if nothing was."""
    record = _known(home).get(_key(config))
    try:
        return records.from_dict(MeasuredRun, record) if record else None
    except ValueError:  # written by another version
        return None


def _known(home: Path) -> dict[str, Any]:
    known = read_json(home / MEASURED_NAME)
    return known if isinstance(known, dict) else {}


def _key(config: TrainConfig) -> str:
    """Return a digest of the settings that memory and the time of a step depend on."""
    what = config.model_dump(mode="json", include={name for name in TrainConfig.model_fields if mark_of(name).fit})
    # Of these two, only a part matters.
    what |= {"prior": [config.prior.mode, config.prior.batch_size], "token": config.token_learning_rate is not None}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]


def _rough_bytes(config: TrainConfig) -> int | None:
    """Return the most that is on the GPU at once: encoding the prompts, or training."""
    base = BASES.get(config.base)
    if base is None or base.memory is None:
        return None
    need = base.memory
    full = config.method.name == "full"
    denoiser = need.denoiser_gb * (_FULL if full else _BITS[config.quantization] / 16)
    denoiser *= _ONE_BLOCK if config.block_offload else 1.0
    encoders = 0.0
    if config.method.text_encoder or config.token_learning_rate is not None:
        encoders = need.text_encoders_gb * (_FULL if full and config.method.text_encoder else 1.0)
    area = ((config.resolution_px or base.resolution_px) / base.resolution_px) ** 2
    picture = need.recomputed_gb if config.gradient_checkpointing else need.kept_gb
    training = denoiser + encoders + picture * area * config.pictures_at_once()
    return round((max(training, need.text_encoders_gb) * _GAPS + _DRIVER_GB) * 10**9)
