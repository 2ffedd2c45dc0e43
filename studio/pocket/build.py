"""The recipe of the pocket base model: from drawn portraits to a folder that Stable Diffusion's pipeline opens.

Run all of it with ``python -m studio.pocket.build all --work DIR --out studio/pocket/base``, or one stage at a time:

1. ``render``       draw pictures, captions and labels to ``DIR/data``
2. ``autoencoder``  fit the linear encoder (4 times smaller), cache the latents, train the decoder
3. ``identity``     train the identity encoder and the attribute classifier, calibrate likeness
4. ``denoiser``     train text encoder and UNet together on the cached latents (v-prediction)
5. ``export``       write the averaged weights as fp16 in diffusers' layout
6. ``report``       measure what was exported: ``report.json`` and a sheet of samples

Only the decoder of the autoencoder learns, so its stage may be extended at any later time: the latents stay.

Each training stage stops after its ``--minutes`` (paused time does not count), writes a checkpoint every minute and
goes on from the newest one, so a stage that was killed is resumed by the same command, and a finished one is extended
by a larger ``--minutes``. Each logs JSON lines to ``DIR/<stage>.jsonl``.

A work folder that is gone can be begun again from what was exported: ``--base studio/pocket/base`` puts the weights of
a shipped model into an empty work folder, and the stages go on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor

# Not from diffusers itself: its lazy names are placeholders to a type checker.
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from studio.pocket import portraits
from studio.pocket.identity import AttributeClassifier, IdentityEncoder, load_classifier, load_encoder, save
from studio.pocket.tokenizer import train_tokenizer

log = logging.getLogger(__name__)

STAGES = ("render", "autoencoder", "identity", "denoiser", "export", "report")

#: The stages that learn; each has a folder of checkpoints.
TRAINED = ("autoencoder", "identity", "denoiser")

#: Attribute -> the values it can take; the classifier has one head for each.
HEADS: dict[str, tuple[str, ...]] = {
    "class_noun": tuple(portraits.CLASS_NOUNS),
    "background": tuple(portraits.BACKGROUNDS),
    "accessory": tuple(portraits.ACCESSORIES),
    "hair_colour": tuple(portraits.HAIR_COLOURS),
    "clothes": tuple(portraits.CLOTHES),
    "clothing_colour": tuple(portraits.CLOTHING_COLOURS),
    "style": tuple(portraits.STYLES),
    "expression": tuple(portraits.EXPRESSIONS),
}

#: The attributes that a generated picture must follow (the report's hard targets).
FOLLOWED = ("background", "accessory", "hair_colour", "clothing_colour")

NOISE_SCHEDULE: dict[str, Any] = {
    # DDPM's linear schedule ends at a signal of 0.006: practically pure noise, so a generation that starts from pure
    # noise starts where training ended, without the special cases of a zero terminal SNR.
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what the model becomes; times and folders are not part of it."""

    size_px: int = 64
    """Side of a picture."""
    pictures: int = 120_000
    """Pictures to train on."""
    held_out: int = 1_000
    """Pictures of other identities, to measure on."""
    scenes_per_identity: int = 8
    """Scenes in which each identity is drawn."""
    captions_per_picture: int = 3
    """Texts for each picture; a step takes one at random."""
    latent_channels: int = 12
    """Channels of the latents, at most 48; their sides are 4 times smaller than the picture's."""
    vae_channels: int = 48
    """Width of the decoder (AutoencoderTiny has one width for all its stages)."""
    vae_decoder_blocks: tuple[int, int, int] = (3, 3, 1)
    """Residual blocks of the decoder, from a quarter to full resolution."""
    vae_batch: int = 16
    """Pictures in a step of the autoencoder."""
    vae_lr: float = 2.5e-3
    """Peak learning rate of the autoencoder."""
    identity_group: tuple[int, int] = (24, 4)
    """Identities in a step, pictures of each."""
    calibration_subjects: int = 32
    """Held-out subjects of each class noun that fix the likeness scale."""
    identity_lr: float = 1.5e-3
    """Peak learning rate of the two measuring nets."""
    vocabulary: int = 2048
    """Tokens of the text encoder at most."""
    prompt_tokens: int = 40
    """Tokens of a prompt, start and end included."""
    text_width: int = 192
    """Width of the text encoder."""
    text_layers: int = 3
    """Layers of the text encoder."""
    unet_channels: tuple[int, ...] = (96, 128, 192)
    """Widths of the UNet, from 16x16 to 4x4; the first stage has no attention."""
    unet_layers: int = 1
    """Residual blocks in each stage of the UNet."""
    denoiser_batch: int = 96
    """Latents in a step of the denoiser."""
    denoiser_lr: float = 1.5e-3
    """Peak learning rate of UNet and text encoder."""
    empty_captions: float = 0.1
    """Share of captions replaced by the empty one, for classifier-free guidance."""
    snr_gamma: float = 5.0
    """Cap on the weight of nearly clean timesteps."""
    seed: int = 0
    """Of initial weights, batches and noise."""


@dataclass(frozen=True)
class Budget:
    """How long a stage trains, and how often it says so."""

    minutes: float = 10.0
    """Training time of the stage over all its runs."""
    steps: int | None = None
    """Stop after so many steps instead; exactly repeatable, for tests."""
    stop_after: int | None = None
    """Leave early after this step, as if interrupted."""
    log_every: int = 25
    """Steps between log lines."""
    checkpoint_s: float = 60.0
    """Seconds between checkpoints."""
    observe_s: float = 180.0
    """Seconds between measurements on held-out pictures; infinite for none at all."""

    def progress(self, step: int, elapsed_s: float) -> float:
        """Return the share of the budget that is used, 0 at the start, 1 or more at the end."""
        return step / self.steps if self.steps else elapsed_s / (60 * self.minutes)


# --------------------------------------------------------------------------------------------------------------------
# Files: JSON lines and checkpoints that survive kill -9
# --------------------------------------------------------------------------------------------------------------------


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line with the time (seconds since 1970)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"time": round(time.time(), 1), **record}) + "\n")


def write_atomic(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then put it in place of ``path``; a reader sees the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    write(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file in one piece."""

    def write(temporary: Path) -> None:
        temporary.write_text(json.dumps(value), encoding="utf-8")

    write_atomic(path, write)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def edit_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Rewrite a JSON object, indented for readers."""
    path.write_text(json.dumps(change(read_json(path)), indent=2) + "\n", encoding="utf-8")


def save_checkpoint(folder: Path, state: dict[str, Any], keep: int = 2) -> Path:
    """Write ``step-XXXXXXXX.pt`` in one piece and delete all but the newest ``keep``.

    Args:
        folder: of one stage's checkpoints.
        state: what ``torch.save`` takes; must hold ``step``.
        keep: how many checkpoints stay.

    Returns:
        The checkpoint's path.
    """
    path = folder / f"step-{state['step']:08d}.pt"
    write_atomic(path, lambda temporary: torch.save(state, temporary))
    for old in sorted(folder.glob("step-*.pt"))[:-keep]:
        old.unlink()
    return path


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that can be read.

    Returns:
        Its state on the CPU, or ``None``. Half-written files (``.tmp``, or cut off by a full disk) are passed over.
    """
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError ... for a damaged file
            log.warning("%s cannot be read and is passed over: %s", path, error)
            continue
        return state
    return None


# --------------------------------------------------------------------------------------------------------------------
# Devices
# --------------------------------------------------------------------------------------------------------------------


def pick_device(name: str = "auto") -> torch.device:
    """Return the named device; ``auto`` takes CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def has_fast_bf16(device: torch.device) -> bool:
    """Say whether bfloat16 is faster than float32 (CPUs: only with AVX512-BF16; 1.5 to 2 times on Zen 4)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which a training step's networks run; ``precision`` is auto, fp32 or bf16."""
    enabled = has_fast_bf16(device) if precision == "auto" else precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled)


@dataclass(frozen=True)
class Bench:
    """Where a stage works."""

    work: Path
    """Folder of data, checkpoints and logs."""
    device: torch.device
    """Where tensors live."""
    precision: str = "auto"
    """auto, fp32 or bf16."""

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which networks run."""
        return autocast(self.device, self.precision)


# --------------------------------------------------------------------------------------------------------------------
# Optimizers
# --------------------------------------------------------------------------------------------------------------------


def orthogonalised(matrices: Tensor) -> Tensor:
    """Replace the singular values of matrices by about 1 (a quintic Newton-Schulz iteration, five rounds).

    Args:
        matrices: ``(B, m, n)``.

    Returns:
        ``(B, m, n)``, float32; singular values in about [0.7, 1.2].

    Source: Jordan 2024, https://kellerjordan.github.io/posts/muon (the coefficients are his).
    """
    x = matrices.bfloat16()
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalised steps, for matrices and convolution kernels (flattened to ``(out, rest)``).

    In the minutes that a CPU has, the autoencoder reached with it in 4 000 pictures what took AdamW 24 000.
    The step has the size of AdamW's, so both take the same learning rate.

    Source: Jordan 2024 (as above); step size after Liu et al. 2025, arXiv:2502.16982, section 2.2.
    """

    def __init__(self, params: Sequence[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Take one step; ``closure`` is not used."""
        for group in self.param_groups:
            momentum = group["momentum"]
            alike: dict[tuple[int, int], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault((len(p), p[0].numel()), []).append(p)
            # Matrices of one shape go through the iteration together: many small products cost more than one large.
            for shape, params in alike.items():
                ahead = []
                for p in params:
                    gradient = p.grad
                    assert gradient is not None
                    state = self.state[p]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(p)
                    state["momentum"].lerp_(gradient, 1 - momentum)
                    ahead.append(gradient.lerp(state["momentum"], momentum).reshape(shape))  # Nesterov
                scale = -group["lr"] * 0.2 * max(shape) ** 0.5
                for p, update in zip(params, orthogonalised(torch.stack(ahead)), strict=True):
                    p.add_(update.reshape(p.shape), alpha=scale)


def optimizers_for(net: nn.Module, lr: float) -> list[torch.optim.Optimizer]:
    """Give matrices and kernels to Muon; embeddings, first and last layers, biases and norms to AdamW.

    Args:
        net: what is trained.
        lr: peak learning rate.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    embeddings = {id(m.weight) for m in net.modules() if isinstance(m, nn.Embedding)}
    for p in net.parameters():
        inner = p.ndim >= 2 and p.shape[0] > 3 and p.shape[1] > 3
        (matrices if inner and id(p) not in embeddings else others).append(p)
    adam = torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    return [Muon(matrices, lr=lr), adam]


# --------------------------------------------------------------------------------------------------------------------
# The training loop that all stages share
# --------------------------------------------------------------------------------------------------------------------


def learning_rate(progress: float, step: int, warmup_steps: int, flat: float) -> float:
    """Return the factor of the learning rate: linear warm-up, flat, then half a cosine down to 1 %.

    Args:
        progress: used share of the budget, >= 0.
        step: finished steps of the optimizers.
        warmup_steps: length of the warm-up.
        flat: share of the budget at which the descent starts, in [0, 1).
    """
    warm = min(1.0, (step + 1) / warmup_steps)
    down = min(1.0, max(0.0, (progress - flat) / (1 - flat)))
    return warm * (0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * down))))


def fit(
    stage: str,
    net: nn.Module,
    loss_of: Callable[[], tuple[Tensor, dict[str, float]]],
    *,
    bench: Bench,
    budget: Budget,
    lr: float,
    batch: int,
    flat: float,
    warmup_steps: int = 100,
    ema_decay: float = 0.999,
    observe: Callable[[int, nn.Module], dict[str, Any]] | None = None,
) -> nn.Module:
    """Train until the budget is used, from the newest checkpoint on.

    Args:
        stage: names the log and the folder of checkpoints.
        net: all trained weights; changed in place.
        loss_of: draws a batch from torch's global generator and returns its loss and further numbers to log.
        bench: folders and device.
        budget: when to stop, when to log.
        lr: peak learning rate.
        batch: pictures in a step, for the log.
        flat: see :func:`learning_rate`.
        warmup_steps: see :func:`learning_rate`.
        ema_decay: of the weights' moving average; shorter at the start.
        observe: called with the step and the averaged weights now and then; its numbers are logged.

    Returns:
        The averaged weights, in evaluation mode.
    """
    folder, lines = bench.work / stage, bench.work / f"{stage}.jsonl"
    net.to(bench.device).train()
    ema = copy.deepcopy(net).eval().requires_grad_(False)
    optimizers = optimizers_for(net, lr)
    step, elapsed_s = 0, 0.0
    begun = 0  # the step at which the optimizers knew nothing
    state = newest_checkpoint(folder)
    if state is not None:
        net.load_state_dict(state["net"])
        ema.load_state_dict(state["ema"])
        step, elapsed_s = state["step"], state["elapsed_s"]
        if state["optimizers"] is None:  # adopted weights come without, and without a generator's state
            begun = step
        else:
            begun = state["begun"]
            for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            torch.set_rng_state(state["rng"])
            if bench.device.type == "cuda" and state["rng_cuda"] is not None:
                torch.cuda.set_rng_state(state["rng_cuda"])
        append_line(lines, {"event": "resumed", "step": step, "elapsed_s": round(elapsed_s, 1)})

    def checkpoint() -> None:
        save_checkpoint(
            folder,
            {
                "step": step,
                "begun": begun,
                "elapsed_s": elapsed_s,
                "net": net.state_dict(),
                "ema": ema.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "rng": torch.get_rng_state(),
                "rng_cuda": torch.cuda.get_rng_state() if bench.device.type == "cuda" else None,
            },
        )

    def look() -> None:
        if observe is not None and budget.observe_s != float("inf"):
            # A measurement must not move the generator, or a run that measures more often would be another run.
            with torch.random.fork_rng(devices=[bench.device] if bench.device.type == "cuda" else []), torch.no_grad():
                append_line(lines, {"event": "observed", "step": step, **observe(step, ema)})

    weights: list[Tensor] = [p for p in net.parameters() if p.requires_grad]
    averages: list[Tensor] = [p for p, q in zip(ema.parameters(), net.parameters(), strict=True) if q.requires_grad]
    saved_at = looked_at = elapsed_s
    loss_sum = 0.0
    extra_sum: dict[str, float] = {}
    counted, counted_s = 0, 0.0
    trained = False
    usual_s: float | None = None
    while budget.progress(step, elapsed_s) < 1 and step != budget.stop_after:
        started = time.monotonic()
        factor = learning_rate(budget.progress(step, elapsed_s), step - begun, warmup_steps, flat)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
        loss, extra = loss_of()
        if not torch.isfinite(loss):
            raise RuntimeError(f"{stage}: the loss is {loss.item()} at step {step}; lower the learning rate")
        net.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(ema_decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(averages, weights, 1 - decay)
        trained = True
        seconds = time.monotonic() - started
        # A stopped process or a sleeping laptop must not eat the budget: such a step counts as a usual one.
        usual_s = seconds if usual_s is None else min(seconds, usual_s + 0.1 * min(seconds - usual_s, 2 * usual_s))
        seconds = min(seconds, 5 * usual_s)
        elapsed_s += seconds
        loss_sum += float(loss.detach())
        for name, value in extra.items():
            extra_sum[name] = extra_sum.get(name, 0.0) + value
        counted, counted_s = counted + 1, counted_s + seconds
        if step % budget.log_every == 0:
            record = {"step": step, "elapsed_s": round(elapsed_s, 1), "loss": loss_sum / counted}
            record |= {name: round(value / counted, 5) for name, value in extra_sum.items()}
            record |= {"lr": round(lr * factor, 7), "pictures_per_s": round(batch * counted / max(counted_s, 1e-9), 1)}
            append_line(lines, record)
            loss_sum, extra_sum, counted, counted_s = 0.0, {}, 0, 0.0
        if elapsed_s - saved_at >= budget.checkpoint_s:
            checkpoint()
            saved_at = elapsed_s
        if elapsed_s - looked_at >= budget.observe_s:
            look()
            looked_at = elapsed_s
    if trained:
        checkpoint()
        if step != budget.stop_after:
            look()
    return ema


# --------------------------------------------------------------------------------------------------------------------
# 1. render
# --------------------------------------------------------------------------------------------------------------------

Split = Literal["train", "held"]


@dataclass(frozen=True)
class Pictures:
    """One split of the drawn pictures, read from ``DIR/data/<split>``."""

    pixels: NDArray[np.uint8]
    """``(N, H, W, 3)``, a memory map."""
    labels: NDArray[np.int16]
    """``(N, heads)``, indices into :data:`HEADS`, -1 where the picture cannot show the attribute."""
    seeds: NDArray[np.int64]
    """``(N,)``, the identity's seed; rows of one identity are neighbours."""
    captions: list[list[str]]
    """N times the caption variants."""

    def __len__(self) -> int:
        return len(self.seeds)

    def batch(self, rows: NDArray[np.int64] | Tensor, device: torch.device) -> Tensor:
        """Return pictures ``(B, 3, H, W)``, float32 in [-1, 1]."""
        return to_tensor(self.pixels[np.asarray(rows)], device)

    def label(self, rows: NDArray[np.int64] | Tensor, head: str) -> Tensor:
        """Return one attribute's indices, ``(B,)``, int64."""
        return torch.from_numpy(self.labels[np.asarray(rows), list(HEADS).index(head)].astype(np.int64))


def to_tensor(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Turn ``(B, H, W, 3)`` uint8 into ``(B, 3, H, W)`` float32 in [-1, 1] (channels-last in memory)."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def attribute(identity: portraits.Identity, scene: portraits.Scene, head: str) -> str:
    """Return an attribute's value, whichever of the two holds it."""
    return str(getattr(identity if hasattr(identity, head) else scene, head))


def label_row(identity: portraits.Identity, scene: portraits.Scene) -> list[int]:
    """Return the attributes as indices into :data:`HEADS`, -1 where the picture cannot show them."""
    hidden = set()
    if scene.style in portraits.COLOURLESS_STYLES:
        hidden |= {"hair_colour", "clothing_colour"}
        if scene.background.startswith("plain"):
            hidden.add("background")
    if identity.hair_style == "bald":
        hidden.add("hair_colour")
    return [-1 if head in hidden else v.index(attribute(identity, scene, head)) for head, v in HEADS.items()]


def texts(identity: portraits.Identity, scene: portraits.Scene, count: int) -> list[str]:
    """Write ``count`` different captions for a picture; each leaves other things out."""
    return [portraits.caption(identity, scene, seed=seed) for seed in range(count)]


@dataclass(frozen=True)
class _Chunk:
    folder: Path
    index: int
    first_row: int
    rows: int
    first_seed: int
    scenes: int
    captions: int
    size_px: int


def _render_chunk(chunk: _Chunk) -> int:
    """Draw the rows of one chunk into the memory maps; the captions' file says that it is complete."""
    pixels = np.lib.format.open_memmap(chunk.folder / "pixels.npy", mode="r+")
    labels = np.lib.format.open_memmap(chunk.folder / "labels.npy", mode="r+")
    seeds = np.lib.format.open_memmap(chunk.folder / "seeds.npy", mode="r+")
    captions = []
    for row in range(chunk.first_row, chunk.first_row + chunk.rows):
        identity_seed, scene_seed = chunk.first_seed + row // chunk.scenes, chunk.first_seed + row
        identity = portraits.sample_identity(identity_seed)
        scene = portraits.sample_scene(scene_seed)
        pixels[row] = portraits.render(identity, scene, size_px=chunk.size_px)
        labels[row] = label_row(identity, scene)
        seeds[row] = identity_seed
        captions.append(texts(identity, scene, chunk.captions))
    for array in (pixels, labels, seeds):
        array.flush()
    write_json(chunk.folder / "chunks" / f"{chunk.index:05d}.json", captions)
    return chunk.rows


def render_stage(recipe: Recipe, bench: Bench, *, workers: int = 2, chunk_rows: int = 2000) -> None:
    """Draw both splits to ``DIR/data``; finished chunks are not drawn again."""
    for split, count, first_seed in (
        ("train", recipe.pictures, 0),
        ("held", recipe.held_out, portraits.HELD_OUT_SEED),
    ):
        if split == "train" and count > portraits.HELD_OUT_SEED:
            raise ValueError(f"{count} pictures reach the held-out seeds; at most {portraits.HELD_OUT_SEED}")
        folder = bench.work / "data" / split
        if (folder / "done.json").exists() and read_json(folder / "done.json")["pictures"] == count:
            if np.load(folder / "labels.npy", mmap_mode="r").shape != (count, len(HEADS)):
                write_atomic(folder / "labels.npy", lambda p, c=count, f=first_seed: _label(p, c, f, recipe))  # type: ignore[misc]
            continue
        (folder / "chunks").mkdir(parents=True, exist_ok=True)
        size = recipe.size_px
        shapes: list[tuple[str, tuple[int, ...], type]] = [
            ("pixels", (count, size, size, 3), np.uint8),
            ("labels", (count, len(HEADS)), np.int16),
            ("seeds", (count,), np.int64),
        ]
        for name, shape, dtype in shapes:
            path = folder / f"{name}.npy"
            if not path.exists() or np.load(path, mmap_mode="r").shape != shape:
                for old in (folder / "chunks").glob("*.json"):
                    old.unlink()
                write_atomic(path, lambda p, s=shape, d=dtype: _create_npy(p, s, d))  # type: ignore[misc]
        chunks = [
            _Chunk(
                folder,
                index,
                first,
                min(chunk_rows, count - first),
                first_seed,
                recipe.scenes_per_identity,
                recipe.captions_per_picture,
                size,
            )
            for index, first in enumerate(range(0, count, chunk_rows))
        ]
        missing = [c for c in chunks if not (folder / "chunks" / f"{c.index:05d}.json").exists()]
        started, drawn = time.monotonic(), 0
        for rows in _map_processes(_render_chunk, missing, workers):
            drawn += rows
            speed = round(drawn / (time.monotonic() - started), 1)
            append_line(bench.work / "render.jsonl", {"split": split, "drawn": drawn, "pictures_per_s": speed})
        captions = [row for c in chunks for row in read_json(folder / "chunks" / f"{c.index:05d}.json")]
        write_json(folder / "captions.json", captions)
        write_json(folder / "done.json", {"pictures": count, "size_px": size})


def _label(path: Path, count: int, first_seed: int, recipe: Recipe) -> None:
    """Write the labels of finished pictures again, after a change of :data:`HEADS`; nothing has to be drawn for it."""
    labels = np.empty((count, len(HEADS)), np.int16)
    for row in range(count):
        identity = portraits.sample_identity(first_seed + row // recipe.scenes_per_identity)
        labels[row] = label_row(identity, portraits.sample_scene(first_seed + row))
    with path.open("wb") as file:
        np.save(file, labels)


def _create_npy(path: Path, shape: tuple[int, ...], dtype: type) -> None:
    # open_memmap leaves a file of zeros; the name must end in .npy only for np.save, not here.
    np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape).flush()


def _map_processes(function: Callable[[_Chunk], int], tasks: Sequence[_Chunk], workers: int) -> Iterator[int]:
    """Run tasks in processes; with one worker or one task in this one."""
    if workers <= 1 or len(tasks) <= 1:
        yield from map(function, tasks)
        return
    # Not fork: torch's threads do not survive it.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, tasks)


def open_pictures(work: Path, split: Split) -> Pictures:
    """Open a drawn split.

    Raises:
        FileNotFoundError: the render stage has not finished.
    """
    folder = work / "data" / split
    if not (folder / "done.json").exists():
        raise FileNotFoundError(f"{folder} is not complete; run the render stage first")
    return Pictures(
        np.load(folder / "pixels.npy", mmap_mode="r"),
        np.load(folder / "labels.npy"),
        np.load(folder / "seeds.npy"),
        read_json(folder / "captions.json"),
    )


# --------------------------------------------------------------------------------------------------------------------
# 2. autoencoder
# --------------------------------------------------------------------------------------------------------------------


#: The latents' sides are this many times smaller than the picture's.
FACTOR = 4


@dataclass(frozen=True)
class Patches:
    """A linear code of patches of ``FACTOR`` x ``FACTOR`` pixels, fitted by :func:`fit_patches`."""

    mean: Tensor
    """``(3 * FACTOR**2,)``, in [-1, 1]."""
    code: Tensor
    """``(3 * FACTOR**2, channels)``: latent = (patch - mean) @ code."""


def fit_patches(pixels: Tensor, channels: int) -> Patches:
    """Fit the principal components of a picture's patches; the latents' overall deviation becomes 1.

    Each component is scaled by the square root of what would make its deviation 1. Left as they are, fine detail lies
    so far below the coarse forms that it is decided at noise levels which training hardly visits; made all equal,
    nothing tells the denoiser what matters.

    Args:
        pixels: ``(N, 3, H, W)`` in [-1, 1].
        channels: components to keep, at most 48.
    """
    patches = F.unfold(pixels, FACTOR, stride=FACTOR).mT.reshape(-1, 3 * FACTOR**2).double()
    mean = patches.mean(0)
    variances, axes = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    variances, axes = variances.flip(0)[:channels].clamp(min=1e-8), axes.flip(1)[:, :channels]
    # An eigenvector's sign is the solver's whim: its largest entry is made positive, so that a fit can be repeated.
    axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))
    scales = variances**-0.25
    scales = scales / (variances * scales**2).mean().sqrt()
    return Patches(mean.float(), (axes * scales).float())


def new_autoencoder(recipe: Recipe, patches: Patches) -> AutoencoderTiny:
    """Build the autoencoder: a linear encoder that is finished, and a decoder of convolutions and ReLU that learns.

    A learned encoder packs what it needs to know about 8x8 pixels into 32 equally loud channels, and after 175 thousand
    pictures a denoiser of this size still drew smudges for faces. Principal components of 4x4 pixels are ordered from
    coarse to fine, shift with the picture, and cost no training; the decoder makes up for what they leave out.
    """
    stages = len(recipe.vae_decoder_blocks)
    width = recipe.vae_channels
    components = 3 * FACTOR**2
    vae = AutoencoderTiny(
        encoder_block_out_channels=(components,) * stages,
        decoder_block_out_channels=(width,) * stages,
        # Without blocks AutoencoderTiny's encoder is a chain of convolutions, without anything between them.
        num_encoder_blocks=(0,) * stages,
        num_decoder_blocks=recipe.vae_decoder_blocks,
        latent_channels=recipe.latent_channels,
        # The decoder squeezes its input into (-3, 3); at a third of their size the latents stay where that is harmless.
        scaling_factor=3.0,
    )
    # Without norms, PyTorch's own initial weights lose the signal on the way. These keep its size, and each residual
    # block starts as (nearly) nothing but its skip: half the pictures for the same loss.
    for module in vae.decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in vae.decoder.modules():
        if isinstance(module, AutoencoderTinyBlock):
            nn.init.normal_(module.conv[-1].weight, std=1e-3)
    nn.init.constant_(vae.decoder.layers[-1].bias, 0.5)  # mid grey
    _write_encoder(vae, patches)
    return vae


@torch.no_grad()
def _write_encoder(vae: AutoencoderTiny, patches: Patches) -> None:
    """Write the linear code as AutoencoderTiny's convolutions: two of them gather patches, the last one codes them."""
    layers: Any = vae.encoder.layers
    first, *gathering, last = layers
    for layer in layers:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for colour in range(3):
        first.weight[colour, colour, 1, 1] = 1
    # After each gathering the channels are (row, column, what was there); a 3x3 kernel of stride 2 with a border of 1
    # sees the pixels (2i, 2i + 1) at its taps 1 and 2.
    places = [(0, 0)]
    for layer in gathering:
        known = 3 * len(places)
        for row in (0, 1):
            for column in (0, 1):
                for channel in range(known):
                    layer.weight[(2 * row + column) * known + channel, channel, 1 + row, 1 + column] = 1
        side = int(len(places) ** 0.5)
        places = [(y + side * row, x + side * column) for row in (0, 1) for column in (0, 1) for y, x in places]
    # F.unfold orders a patch's entries by (colour, y, x); the encoder sees pixels in [0, 1] instead of [-1, 1].
    order = [colour * FACTOR**2 + y * FACTOR + x for y, x in places for colour in range(3)]
    code = patches.code / vae.config["scaling_factor"]
    last.weight[:, :, 1, 1] = 2 * code[order].T
    last.bias.copy_(-(patches.mean + 1) @ code)


def _edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures[..., 1:, :] - pictures[..., :-1, :], pictures[..., :, 1:] - pictures[..., :, :-1]


def reconstruction_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Compare pictures ``(B, 3, H, W)``: Charbonnier (a smooth L1), squares, and L1 of the edges."""
    difference = made - wanted
    smooth = (difference.square() + 1e-4).sqrt().mean()
    edges = sum((a - b).abs().mean() for a, b in zip(_edges(made), _edges(wanted), strict=True))
    return smooth + 16 * difference.square().mean() + 0.5 * edges


def psnr(made: Tensor, wanted: Tensor) -> Tensor:
    """Return each picture's peak signal-to-noise ratio, ``(B,)`` in dB, of pictures in [-1, 1] cut to that range."""
    error = (made.clamp(-1, 1) - wanted).float().square().mean((1, 2, 3))
    return 10 * torch.log10(4 / error.clamp(min=1e-10))


def autoencoder_stage(recipe: Recipe, bench: Bench, budget: Budget) -> None:
    """Fit the encoder, write all pictures' scaled latents to ``DIR/latents``, train the decoder, write ``DIR/vae``.

    The encoder and with it all cached latents stay as they are, so this may be extended also after the denoiser.
    """
    train, held = open_pictures(bench.work, "train"), open_pictures(bench.work, "held")
    torch.manual_seed(recipe.seed)
    sample = train.batch(np.arange(0, len(train), max(1, len(train) // 2000)), torch.device("cpu"))
    untrained: Any = new_autoencoder(recipe, fit_patches(sample, recipe.latent_channels))
    vae = untrained.to(bench.device)
    assert isinstance(vae, AutoencoderTiny)
    if (bench.work / "vae" / "config.json").exists():
        # The encoder that a denoiser knows stays, also when it was adopted and fitted to other pictures.
        vae.encoder.load_state_dict(load_autoencoder(bench).encoder.state_dict())
    else:
        vae.save_pretrained(bench.work / "vae")
    vae.encoder.requires_grad_(False)
    cache_latents(recipe, bench, vae, train)
    latents = np.load(bench.work / "latents" / "train.npy", mmap_mode="r")
    scale = float(vae.config["scaling_factor"])
    decoder = vae.decoder.to(memory_format=torch.channels_last)  # 1.4 times faster than NCHW on Zen 4
    with torch.no_grad():
        held_pixels = held.batch(np.arange(min(256, len(held))), bench.device)
        held_latents = vae.encode(held_pixels).latents

    def loss_of() -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(train), (recipe.vae_batch,))
        z = torch.from_numpy(latents[rows.numpy()]).to(bench.device).float()
        # The denoiser's latents are never exact; a decoder that has seen noise forgives them.
        z = z + 0.15 * torch.rand(len(rows), 1, 1, 1, device=bench.device) * torch.randn_like(z)
        with bench.autocast():
            made = decoder((z / scale).contiguous(memory_format=torch.channels_last))
        return reconstruction_loss(made.float(), train.batch(rows, bench.device)), {}

    def observe(step: int, ema: nn.Module) -> dict[str, Any]:
        made = ema(held_latents)
        noisy = ema(held_latents + 0.2 / scale * torch.randn_like(held_latents))
        both = torch.stack([held_pixels[:16], made[:16]], 1).flatten(0, 1)
        sheet(both, 8).save(_made(bench.work / "autoencoder") / "reconstructions.png")
        return {
            "psnr_db": round(float(psnr(made, held_pixels).mean()), 3),
            "psnr_noisy_db": round(float(psnr(noisy, held_pixels).mean()), 3),
        }

    ema = fit(
        "autoencoder",
        decoder,
        loss_of,
        bench=bench,
        budget=budget,
        lr=recipe.vae_lr,
        batch=recipe.vae_batch,
        flat=0.3,
        observe=observe,
    )
    if budget.stop_after is None:
        vae.decoder.load_state_dict(ema.state_dict())
        vae.save_pretrained(bench.work / "vae")


@torch.no_grad()
def cache_latents(recipe: Recipe, bench: Bench, vae: AutoencoderTiny, train: Pictures) -> None:
    """Write the scaled latents of all pictures to ``DIR/latents/train.npy`` (fp16), unless they are there."""
    path = bench.work / "latents" / "train.npy"
    side = recipe.size_px // FACTOR
    shape = (len(train), recipe.latent_channels, side, side)
    if path.exists() and np.load(path, mmap_mode="r").shape == shape:
        return

    def fill(temporary: Path) -> None:
        latents = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        for first in range(0, len(train), 500):
            rows = np.arange(first, min(first + 500, len(train)))
            z = vae.encode(train.batch(rows, bench.device)).latents.float()
            latents[rows] = (z * vae.config["scaling_factor"]).half().cpu()
        latents.flush()

    write_atomic(path, fill)


def load_autoencoder(bench: Bench) -> AutoencoderTiny:
    """Read the autoencoder that the cached latents belong to."""
    vae = AutoencoderTiny.from_pretrained(bench.work / "vae").to(bench.device)
    assert isinstance(vae, AutoencoderTiny)
    return vae.eval().requires_grad_(False)


# --------------------------------------------------------------------------------------------------------------------
# 3. identity
# --------------------------------------------------------------------------------------------------------------------


def supervised_contrast(vectors: Tensor, subjects: Tensor, temperature: float = 0.1) -> Tensor:
    """Pull pictures of one subject together and push others away.

    Args:
        vectors: unit vectors, ``(B, E)``.
        subjects: who each shows, ``(B,)``.
        temperature: smaller looks at the nearest neighbours only.

    Source: Khosla et al. 2020, arXiv:2004.11362, equation 2.
    """
    itself = torch.eye(len(vectors), dtype=torch.bool, device=vectors.device)
    scores = (vectors @ vectors.T / temperature).masked_fill(itself, -1e9)
    logs = scores - scores.logsumexp(1, keepdim=True)
    same = (subjects[:, None] == subjects[None]) & ~itself
    return -((logs * same).sum(1) / same.sum(1).clamp(min=1)).mean()


def known_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of logits ``(B, values)`` over the rows whose label is known; 0 if none is."""
    return F.cross_entropy(logits, labels, ignore_index=-1, reduction="sum") / (labels >= 0).sum().clamp(min=1)


def disturb(pixels: Tensor) -> Tensor:
    """Shift, blur, recolour slightly and add noise to pictures ``(B, 3, H, W)`` in [-1, 1]; each in its own way."""
    batch, _, height, width = pixels.shape
    device = pixels.device
    padded = F.pad(pixels, (2, 2, 2, 2), mode="replicate")
    top, left = torch.randint(0, 5, (2,)).tolist()
    pixels = padded[..., top : top + height, left : left + width]
    small = F.interpolate(pixels, scale_factor=0.5, mode="bilinear", antialias=True)
    blurred = F.interpolate(small, (height, width), mode="bilinear")
    share = torch.rand(batch, 1, 1, 1, device=device) * (torch.rand(batch, 1, 1, 1, device=device) < 0.5)
    pixels = pixels.lerp(blurred, share)
    pixels = pixels * (1 + 0.1 * torch.randn(batch, 1, 1, 1, device=device))
    pixels = pixels + 0.05 * torch.randn(batch, 1, 1, 1, device=device)
    return pixels + 0.1 * torch.rand(batch, 1, 1, 1, device=device) * torch.randn_like(pixels)


def identity_stage(recipe: Recipe, bench: Bench, budget: Budget) -> None:
    """Train identity encoder and attribute classifier on the same batches; write them to ``DIR/nets``."""
    train, held = open_pictures(bench.work, "train"), open_pictures(bench.work, "held")
    latents = np.load(bench.work / "latents" / "train.npy", mmap_mode="r")
    vae = load_autoencoder(bench)
    torch.manual_seed(recipe.seed)
    nets = nn.ModuleDict(
        {"encoder": IdentityEncoder(recipe.size_px), "classifier": AttributeClassifier(HEADS, recipe.size_px)}
    )
    subjects, per_subject = recipe.identity_group
    starts = np.arange(0, len(train) - recipe.scenes_per_identity + 1, recipe.scenes_per_identity)
    # All subjects of a step share their class noun, and half of the time their hair colour too: telling a woman from a
    # man, or red hair from blue, teaches nothing about faces.
    nouns, hair = train.label(starts, "class_noun").numpy(), train.label(starts, "hair_colour").numpy()
    alike = [starts[nouns == noun] for noun in range(len(HEADS["class_noun"]))]
    twins = [
        starts[(nouns == noun) & (hair == colour)]
        for noun in range(len(HEADS["class_noun"]))
        for colour in range(len(HEADS["hair_colour"]))
    ]
    pools = [
        [torch.from_numpy(rows) for rows in kind if len(rows) >= subjects] or [torch.from_numpy(starts)]
        for kind in (alike, twins)
    ]

    def muddled(rows: Tensor) -> Tensor:
        """Decode latents whose face is jumbled: the right hair and skin, but nobody; likeness must see that."""
        z = torch.from_numpy(latents[rows.numpy()]).to(bench.device).float() / vae.config["scaling_factor"]
        side = z.shape[-1]
        low, high = side // 4, side - side // 4
        face = z[..., low:high, low:high].flatten(2)
        face = face[..., torch.randperm(face.shape[-1], device=face.device)]
        z[..., low:high, low:high] = face.unflatten(2, (high - low, high - low))
        with torch.no_grad(), bench.autocast():
            return vae.decode(z).sample.float().clamp(-1, 1)

    def loss_of() -> tuple[Tensor, dict[str, float]]:
        kind = pools[int(torch.randint(len(pools), ()))]
        pool = kind[int(torch.randint(len(kind), ()))]
        chosen = pool[torch.randperm(len(pool))[:subjects]]
        scenes = torch.rand(len(chosen), recipe.scenes_per_identity).argsort(1)[:, :per_subject]
        rows = (chosen[:, None] + scenes).flatten()
        pixels = train.batch(rows, bench.device)
        # A third are decoded from noisy latents: what the denoiser will make looks like these.
        decoded = torch.rand(len(rows)) < 0.35
        if decoded.any():
            z = torch.from_numpy(latents[rows[decoded].numpy()]).to(bench.device).float() / vae.config["scaling_factor"]
            with torch.no_grad(), bench.autocast():
                z = z + 0.4 * torch.rand(len(z), 1, 1, 1, device=bench.device) * torch.randn_like(z)
                pixels[decoded.to(bench.device)] = vae.decode(z).sample.float().clamp(-1, 1)
        pixels = disturb(pixels).contiguous()
        nobodies = disturb(muddled(rows[: len(chosen)])).contiguous()
        with bench.autocast():
            vectors = nets["encoder"](torch.cat([pixels, nobodies]))
            logits = nets["classifier"](pixels)
        # Each jumbled face is a subject of its own: it has nobody to be close to, and everybody to be far from.
        subject_of = torch.cat([chosen.repeat_interleave(per_subject), -1 - torch.arange(len(nobodies))])
        contrast = supervised_contrast(vectors, subject_of.to(bench.device))
        entropies = {h: known_entropy(logits[h], train.label(rows, h).to(bench.device)) for h in HEADS}
        attributes = torch.stack(list(entropies.values())).sum()
        return contrast + attributes, {"contrast": float(contrast.detach()), "attributes": float(attributes.detach())}

    def observe(step: int, ema: nn.Module) -> dict[str, Any]:
        assert isinstance(ema, nn.ModuleDict)
        calibration = calibrate(recipe, bench, ema["encoder"], subjects=8)
        return {
            "accuracy": accuracies(ema["classifier"], held, bench),
            "calibration": {noun: {k: round(v, 3) for k, v in entry.items()} for noun, entry in calibration.items()},
        }

    ema = fit(
        "identity",
        nets,
        loss_of,
        bench=bench,
        budget=budget,
        lr=recipe.identity_lr,
        batch=subjects * per_subject,
        flat=0.3,
        observe=observe,
    )
    assert isinstance(ema, nn.ModuleDict)
    encoder, classifier = ema["encoder"], ema["classifier"]
    assert isinstance(encoder, IdentityEncoder) and isinstance(classifier, AttributeClassifier)
    if budget.stop_after is None:
        encoder.calibration = calibrate(recipe, bench, encoder, subjects=recipe.calibration_subjects)
        save(encoder, bench.work / "nets" / "identity")
        save(classifier, bench.work / "nets" / "attributes")


@torch.no_grad()
def accuracies(classifier: nn.Module, pictures: Pictures, bench: Bench) -> dict[str, float]:
    """Return the share of pictures that each head names rightly, among those that show the attribute."""
    right, shown = dict.fromkeys(HEADS, 0), dict.fromkeys(HEADS, 0)
    for first in range(0, len(pictures), 250):
        rows = np.arange(first, min(first + 250, len(pictures)))
        logits = classifier(pictures.batch(rows, bench.device).contiguous())
        for head in HEADS:
            labels = pictures.label(rows, head)
            right[head] += int((logits[head].argmax(-1).cpu() == labels).sum())
            shown[head] += int((labels >= 0).sum())
    return {head: round(right[head] / max(1, shown[head]), 4) for head in HEADS}


@torch.no_grad()
def calibrate(
    recipe: Recipe, bench: Bench, encoder: nn.Module, subjects: int, references: int = 8, photos: int = 4
) -> dict[str, dict[str, float]]:
    """Measure the two ends of the likeness scale on held-out subjects.

    Args:
        recipe: for the size of pictures.
        bench: for the device.
        encoder: an :class:`IdentityEncoder`.
        subjects: drawn for each class noun.
        references: pictures in a subject's centroid.
        photos: held-out pictures of each subject.

    Returns:
        For each class noun ``other`` and ``same`` (see the module ``identity``), and ``nearest``: the share of
        held-out pictures that are closer to their own subject's centroid than to every other one's.
    """
    result = {}
    for place, noun in enumerate(HEADS["class_noun"]):
        drawn = []
        for subject in range(subjects):
            identity = portraits.sample_identity(
                portraits.HELD_OUT_SEED + 500_000 + place * 10_000 + subject, class_noun=noun
            )
            for photo in range(references + photos):
                scene = portraits.sample_scene(
                    portraits.HELD_OUT_SEED + 500_000 + (place * 100 + subject) * 50 + photo, style="photo"
                )
                drawn.append(portraits.render(identity, scene, size_px=recipe.size_px))
        pixels = to_tensor(np.stack(drawn), bench.device).contiguous()
        vectors = torch.cat([encoder(part) for part in pixels.split(256)]).unflatten(0, (subjects, -1))
        centroids = F.normalize(vectors[:, :references].mean(1), dim=-1)
        cosines = torch.einsum("spe,ce->spc", vectors[:, references:], centroids)  # (subjects, photos, centroids)
        own = torch.eye(subjects, dtype=torch.bool, device=cosines.device)[:, None].expand_as(cosines)
        nearest = cosines.argmax(-1) == torch.arange(subjects, device=cosines.device)[:, None]
        result[noun] = {
            "other": float(cosines[~own].mean()),
            "same": float(cosines[own].mean()),
            "nearest": float(nearest.float().mean()),
        }
    return result


# --------------------------------------------------------------------------------------------------------------------
# 4. denoiser
# --------------------------------------------------------------------------------------------------------------------


def new_text_encoder(recipe: Recipe, tokens: int) -> CLIPTextModel:
    """Build CLIP's text tower at our size; like CLIP's, it sees the padding (no attention mask)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=recipe.prompt_tokens,
            projection_dim=recipe.text_width,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def new_unet(recipe: Recipe) -> UNet2DConditionModel:
    """Build the UNet; cross-attention at all resolutions but the first."""
    attending = len(recipe.unet_channels) - 1
    return UNet2DConditionModel(
        sample_size=recipe.size_px // FACTOR,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        block_out_channels=recipe.unet_channels,
        layers_per_block=recipe.unet_layers,
        cross_attention_dim=recipe.text_width,
        attention_head_dim=4,  # in diffusers' UNet this is the number of heads
        norm_num_groups=16,
        # Attention among 16x16 positions costs as much as all the rest, and words act well at 8x8 and 4x4.
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * attending),
        up_block_types=(*("CrossAttnUpBlock2D",) * attending, "UpBlock2D"),
    )


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Build the scheduler that ships: second-order DPM-Solver++, good in 20 steps."""
    return DPMSolverMultistepScheduler(**NOISE_SCHEDULE, timestep_spacing="trailing", steps_offset=1)


def v_target(latents: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """Return ``v = sqrt(a) noise - sqrt(1 - a) x`` with ``a`` = ``signal``, all broadcast to ``(B, C, h, w)``.

    Source: Salimans and Ho 2022, arXiv:2202.00512, section 4.
    """
    return signal.sqrt() * noise - (1 - signal).sqrt() * latents


def v_weights(signal: Tensor, gamma: float) -> Tensor:
    """Weigh the v-loss so that nearly clean timesteps do not dominate and nearly pure noise still counts.

    The v-loss at weight 1 is the x-loss at weight SNR + 1; this caps SNR at ``gamma`` (min-SNR) but keeps the + 1,
    because on such small latents the composition and all colours are decided at SNR far below 1.

    Args:
        signal: ``alphas_cumprod`` of the timesteps, ``(B,)`` in (0, 1).
        gamma: cap on the SNR, dimensionless; 5 in the paper.

    Source: after Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    snr = signal / (1 - signal)
    return (snr.clamp(max=gamma) + 1) / (snr + 1)


def middle_weights(side: int) -> Tensor:
    """Return weights ``(side, side)`` with mean 1 that count the middle, where the face is, four times the rim."""
    place = torch.linspace(-1, 1, side)
    hill = torch.exp(-((place[None, :] / 0.45) ** 2) - ((place[:, None] + 0.1) / 0.5) ** 2)
    weights = 1 + 3 * hill
    return weights / weights.mean()


def tokenise(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    """Turn prompts into padded token ids ``(B, tokens)`` as Stable Diffusion's pipeline does."""
    output = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    ids = output["input_ids"]
    assert isinstance(ids, Tensor)
    return ids


def prepare_tokens(recipe: Recipe, bench: Bench, train: Pictures) -> tuple[CLIPTokenizer, Tensor]:
    """Train the tokenizer (or read ``DIR/tokenizer``) and tokenise all captions.

    Returns:
        The tokenizer and ids ``(N, variants, tokens)``, int16.
    """
    folder = bench.work / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        trained = train_tokenizer((c for row in train.captions for c in row), recipe.vocabulary, recipe.prompt_tokens)
        trained.save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    cache = bench.work / "tokens.npy"
    if not cache.exists():
        flat = [c for row in train.captions for c in row]
        parts = [tokenise(tokenizer, flat[i : i + 10_000]).to(torch.int16) for i in range(0, len(flat), 10_000)]
        ids = torch.cat(parts).unflatten(0, (len(train), -1)).numpy()

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, ids)

        write_atomic(cache, write)
    return tokenizer, torch.from_numpy(np.load(cache))


def assemble(
    vae: AutoencoderTiny, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel
) -> StableDiffusionPipeline:
    """Put the parts into Stable Diffusion's pipeline."""
    # Its annotations know neither AutoencoderTiny nor that the safety checker is optional.
    parts: dict[str, Any] = {
        "vae": vae,
        "scheduler": new_scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
    }
    pipeline = StableDiffusionPipeline(
        text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, requires_safety_checker=False, **parts
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def generate(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = 20,
    guidance: float = 4.0,
    batch: int = 32,
) -> Tensor:
    """Generate one picture for each prompt.

    Returns:
        Pictures ``(B, 3, H, W)``, float32 in [-1, 1], on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for first in range(0, len(prompts), batch):
        output = pipeline(
            list(prompts[first : first + batch]),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generator,
            output_type="pt",
        )
        made.append(output.images.float().cpu() * 2 - 1)
    return torch.cat(made)


def held_out_prompts(count: int) -> tuple[list[str], dict[str, list[str]]]:
    """Return prompts that name all followed attributes at once, and what each asks for.

    The values are drawn independently and evenly; a combination of them is hardly ever in the training pictures.
    """
    draw = np.random.default_rng(portraits.HELD_OUT_SEED)
    prompts, wanted = [], {head: [""] * count for head in FOLLOWED}
    for i in range(count):
        noun = str(draw.choice(HEADS["class_noun"]))
        asked = {head: str(draw.choice(HEADS[head])) for head in FOLLOWED}
        for head, value in asked.items():
            wanted[head][i] = value
        prompts.append(portraits.prompt_for(noun, **asked))
    return prompts, wanted


def following(classifier: AttributeClassifier, pictures: Tensor, wanted: dict[str, list[str]]) -> dict[str, float]:
    """Return the share of pictures ``(B, 3, H, W)`` in which the classifier finds what was asked for."""
    found: dict[str, list[str]] = {head: [] for head in wanted}
    for part in pictures.split(250):
        for head, names in classifier.classify(part).items():
            if head in found:
                found[head] += names
    return {
        head: round(sum(a == b for a, b in zip(found[head], wanted[head], strict=True)) / len(pictures), 4)
        for head in wanted
    }


def denoiser_stage(recipe: Recipe, bench: Bench, budget: Budget) -> None:
    """Train UNet and text encoder together on cached latents and captions."""
    train = open_pictures(bench.work, "train")
    tokenizer, ids = prepare_tokens(recipe, bench, train)
    empty = tokenise(tokenizer, [""])[0]
    latents = np.load(bench.work / "latents" / "train.npy", mmap_mode="r")
    if bench.device.type == "cpu" or latents.nbytes < 4e9:
        latents = np.asarray(latents)
    torch.manual_seed(recipe.seed)
    unet, text_encoder = new_unet(recipe), new_text_encoder(recipe, len(tokenizer))
    nets = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    if bench.device.type == "cpu":
        # On so few positions the CPU's fused attention is slow backwards: plain products make a step 1.45 times faster.
        unet.set_attn_processor(AttnProcessor())
        text_encoder.set_attn_implementation("eager")
    signal = new_scheduler().alphas_cumprod.to(bench.device)
    middle = middle_weights(latents.shape[-1]).to(bench.device)

    def loss_of() -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(train), (recipe.denoiser_batch,))
        x = torch.from_numpy(latents[rows.numpy()]).to(bench.device).float()  # (B, C, h, w)
        tokens = ids[rows, torch.randint(ids.shape[1], (len(rows),))].long()  # (B, tokens)
        tokens[torch.rand(len(rows)) < recipe.empty_captions] = empty
        # Evenly spread timesteps within a batch: the loss is less noisy than with independent ones. Fewer of them at
        # the noisy end, where half of this schedule's steps decide little more than the picture's mean colour.
        spread = ((torch.arange(len(rows)) + torch.rand(len(rows))) / len(rows)) ** 1.5
        times = (spread * len(signal)).long().clamp(max=len(signal) - 1).to(bench.device)
        noise = torch.randn_like(x)
        a = signal[times][:, None, None, None]
        noisy = a.sqrt() * x + (1 - a).sqrt() * noise
        with bench.autocast():
            context = text_encoder(tokens.to(bench.device)).last_hidden_state
            made = unet(noisy, times, context, return_dict=False)[0]
        squares = (made.float() - v_target(x, noise, a)).square()
        loss = ((squares * middle).mean((1, 2, 3)) * v_weights(signal[times], recipe.snr_gamma)).mean()
        return loss, {"v_error": float(squares.detach().mean())}

    def observe(step: int, ema: nn.Module) -> dict[str, Any]:
        assert isinstance(ema, nn.ModuleDict)
        unet, text_encoder = ema["unet"], ema["text_encoder"]
        assert isinstance(unet, UNet2DConditionModel) and isinstance(text_encoder, CLIPTextModel)
        pipeline = assemble(load_autoencoder(bench), text_encoder, tokenizer, unet)
        prompts, wanted = held_out_prompts(48)
        made = generate(pipeline, prompts)
        sheet(made[:32], 8).save(_made(bench.work / "denoiser") / f"samples-{step:08d}.png")
        nets_folder = bench.work / "nets" / "attributes"
        return {"following": following(load_classifier(nets_folder), made, wanted)} if nets_folder.exists() else {}

    fit(
        "denoiser",
        nets,
        loss_of,
        bench=bench,
        budget=budget,
        lr=recipe.denoiser_lr,
        batch=recipe.denoiser_batch,
        flat=0.4,
        observe=observe,
    )


# --------------------------------------------------------------------------------------------------------------------
# Going on from what was exported
# --------------------------------------------------------------------------------------------------------------------


def adopt(recipe: Recipe, bench: Bench, base: Path) -> None:
    """Fill an empty work folder with an exported model's weights, as checkpoints from which the stages go on.

    The weights are the averaged ones in fp16, the optimizers begin anew. Steps and minutes come from the report.

    Args:
        recipe: must be the one that the model was trained with.
        bench: its work folder must hold no checkpoint.
        base: folder that :func:`export_stage` and :func:`report_stage` wrote.

    Raises:
        FileExistsError: the work folder holds checkpoints already.
    """
    taken = [stage for stage in TRAINED if newest_checkpoint(bench.work / stage) is not None]
    if taken:
        raise FileExistsError(f"{bench.work} holds checkpoints of {', '.join(taken)}; adopt into an empty folder")
    report = read_json(base / "report.json")
    for name, source in (("tokenizer", "tokenizer"), ("vae", "vae")):
        shutil.copytree(base / source, bench.work / name, dirs_exist_ok=True)
    for name in ("identity", "attributes"):
        shutil.copytree(base / name, bench.work / "nets" / name, dirs_exist_ok=True)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    pipeline = StableDiffusionPipeline.from_pretrained(base)
    unet, text_encoder = new_unet(recipe), new_text_encoder(recipe, len(tokenizer))
    unet.load_state_dict(pipeline.unet.float().state_dict())
    text_encoder.load_state_dict(pipeline.text_encoder.float().state_dict())
    # The classifier's heads may have changed since: only what fits is taken over.
    classifier = AttributeClassifier(HEADS, recipe.size_px)
    fresh = classifier.state_dict()
    shipped = load_classifier(base / "attributes").state_dict()
    classifier.load_state_dict(fresh | {k: v for k, v in shipped.items() if k in fresh and v.shape == fresh[k].shape})
    nets: dict[str, nn.Module] = {
        "autoencoder": pipeline.vae.decoder.float(),
        "identity": nn.ModuleDict({"encoder": load_encoder(base / "identity"), "classifier": classifier}),
        "denoiser": nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}),
    }
    for stage, net in nets.items():
        done = report["training"].get(stage, {"steps": 0, "minutes": 0.0})
        state = {"step": done["steps"], "elapsed_s": 60 * done["minutes"], "optimizers": None}
        save_checkpoint(bench.work / stage, state | {"net": net.state_dict(), "ema": net.state_dict()})


# --------------------------------------------------------------------------------------------------------------------
# 5. export
# --------------------------------------------------------------------------------------------------------------------


def export_stage(recipe: Recipe, bench: Bench, out: Path) -> None:
    """Write the newest averaged weights to ``out`` as fp16 safetensors in diffusers' layout, with the measuring nets.

    Raises:
        FileNotFoundError: the denoiser has no checkpoint yet.
    """
    tokenizer = CLIPTokenizer.from_pretrained(bench.work / "tokenizer")
    state = newest_checkpoint(bench.work / "denoiser")
    if state is None:
        raise FileNotFoundError(f"{bench.work / 'denoiser'} holds no checkpoint; run the denoiser stage first")
    unet, text_encoder = new_unet(recipe), new_text_encoder(recipe, len(tokenizer))
    nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).load_state_dict(state["ema"])
    pipeline = assemble(AutoencoderTiny.from_pretrained(bench.work / "vae"), text_encoder, tokenizer, unet)
    pipeline.to(dtype=torch.float16)
    pipeline.save_pretrained(out)
    # transformers reads weights in the dtype that config.json names, diffusers in float32: name what diffusers does,
    # or the text encoder comes back as fp16 beside a float32 UNet.
    edit_json(out / "text_encoder" / "config.json", lambda config: config | {"dtype": "float32"})
    # AutoencoderTiny registers the first itself and would warn about finding it; the other is a folder of this machine.
    dropped = ("block_out_channels", "_name_or_path")
    edit_json(out / "vae" / "config.json", lambda config: {k: config[k] for k in config if k not in dropped})
    for name, load in (("identity", load_encoder), ("attributes", load_classifier)):
        if (bench.work / "nets" / name).exists():
            save(load(bench.work / "nets" / name), out / name)


# --------------------------------------------------------------------------------------------------------------------
# 6. report
# --------------------------------------------------------------------------------------------------------------------


def sheet(pictures: Tensor, columns: int, zoom: int = 2) -> Image.Image:
    """Lay pictures ``(B, 3, H, W)`` in [-1, 1] out in rows, each pixel ``zoom`` pixels large."""
    count, _, height, width = pictures.shape
    rows = -(-count // columns)
    canvas = torch.ones(3, rows * (height + 2), columns * (width + 2))
    for i, picture in enumerate(pictures.float().cpu().clamp(-1, 1)):
        top, left = (i // columns) * (height + 2), (i % columns) * (width + 2)
        canvas[:, top : top + height, left : left + width] = picture
    array = ((canvas + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    image = Image.fromarray(array)
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def report_stage(
    recipe: Recipe,
    bench: Bench,
    out: Path,
    sheet_path: Path,
    *,
    generated: int = 256,
    steps: int = 20,
    guidances: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.5),
) -> dict[str, Any]:
    """Measure the exported folder and write ``out/report.json`` and the sheet of samples.

    Args:
        recipe: for the report.
        bench: holds the held-out pictures.
        out: the exported folder.
        sheet_path: PNG to write.
        generated: how many pictures to generate for the final numbers.
        steps: of each generation.
        guidances: scales to try first; the one whose pictures follow best is recommended.

    Returns:
        What ``report.json`` holds.
    """
    held = open_pictures(bench.work, "held")
    pipeline = StableDiffusionPipeline.from_pretrained(out).to(bench.device)
    pipeline.set_progress_bar_config(disable=True)
    classifier = load_classifier(out / "attributes").to(bench.device)
    encoder = load_encoder(out / "identity")
    with torch.no_grad():
        pixels = held.batch(np.arange(len(held)), bench.device)
        made = torch.cat([pipeline.vae.decode(pipeline.vae.encode(p).latents).sample for p in pixels.split(250)])
        decibels = psnr(made, pixels)
    prompts, wanted = held_out_prompts(generated)
    few = min(96, generated)
    by_guidance = {
        str(g): following(
            classifier,
            generate(pipeline, prompts[:few], guidance=g, steps=steps),
            {h: v[:few] for h, v in wanted.items()},
        )
        for g in guidances
    }
    guidance = float(max(by_guidance, key=lambda g: sum(by_guidance[g].values())))
    pictures = generate(pipeline, prompts, guidance=guidance, steps=steps, seed=1)
    found = following(classifier, pictures, wanted)
    generate(pipeline, prompts[:1], guidance=guidance, steps=steps)
    started = time.monotonic()
    generate(pipeline, prompts[:1], guidance=guidance, steps=steps)
    seconds = time.monotonic() - started
    sheet_path.parent.mkdir(parents=True, exist_ok=True)
    sheet(pictures[:48], 8).save(sheet_path)
    result = {
        "size_px": recipe.size_px,
        "pictures_trained_on": recipe.pictures,
        "psnr_db": {"mean": round(float(decibels.mean()), 2), "lowest": round(float(decibels.min()), 2)},
        "followed": found,
        "followed_by_guidance": by_guidance,
        "guidance_scale": guidance,
        "num_inference_steps": steps,
        "generated": generated,
        "seconds_per_picture": round(seconds, 3),
        "device": str(bench.device),
        "threads": torch.get_num_threads(),
        "classifier_accuracy_on_drawn_pictures": accuracies(classifier, held, bench),
        "likeness": encoder.calibration,
        "training": {
            stage: {"steps": state["step"], "minutes": round(state["elapsed_s"] / 60, 1)}
            for stage in TRAINED
            if (state := newest_checkpoint(bench.work / stage)) is not None
        },
        "bytes": sum(p.stat().st_size for p in out.rglob("*") if p.is_file()),
        "prompts": prompts[:48],
    }
    (out / "report.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    append_line(bench.work / "report.jsonl", {k: v for k, v in result.items() if k != "prompts"})
    return result


# --------------------------------------------------------------------------------------------------------------------
# Command line
# --------------------------------------------------------------------------------------------------------------------

DEFAULT_MINUTES = {"autoencoder": 11.0, "identity": 21.0, "denoiser": 134.0}


def run_stage(
    stage: str,
    recipe: Recipe,
    bench: Bench,
    budget: Budget,
    *,
    out: Path,
    sheet_path: Path,
    workers: int = 2,
) -> None:
    """Run one stage by name.

    Raises:
        ValueError: no stage has this name.
    """
    if stage == "render":
        render_stage(recipe, bench, workers=workers)
    elif stage == "autoencoder":
        autoencoder_stage(recipe, bench, budget)
    elif stage == "identity":
        identity_stage(recipe, bench, budget)
    elif stage == "denoiser":
        denoiser_stage(recipe, bench, budget)
    elif stage == "export":
        export_stage(recipe, bench, out)
    elif stage == "report":
        report_stage(recipe, bench, out, sheet_path)
    else:
        raise ValueError(f"no stage {stage!r}; the stages are {', '.join(STAGES)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m studio.pocket.build", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("stage", choices=(*STAGES, "all"))
    parser.add_argument("--work", type=Path, required=True, help="folder for data, checkpoints and logs")
    parser.add_argument("--out", type=Path, default=Path("studio/pocket/base"), help="folder of the exported model")
    parser.add_argument(
        "--base", type=Path, help="exported model to go on from, into a work folder without checkpoints"
    )
    parser.add_argument("--sheet", type=Path, default=Path("docs/pocket_sheet.png"), help="sheet of samples to write")
    parser.add_argument("--minutes", type=float, help=f"training time of a stage; default {DEFAULT_MINUTES}")
    parser.add_argument("--size-px", type=int, default=Recipe.size_px)
    parser.add_argument("--pictures", type=int, default=Recipe.pictures)
    parser.add_argument("--held-out", type=int, default=Recipe.held_out)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's choice")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--observe-s", type=float, default=240.0, help="seconds between measurements on held-out data")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if given.threads:
        torch.set_num_threads(given.threads)
    torch.set_flush_denormal(True)
    recipe = replace(Recipe(), size_px=given.size_px, pictures=given.pictures, held_out=given.held_out)
    bench = Bench(given.work, pick_device(given.device), given.precision)
    if given.base is not None:
        adopt(recipe, bench, given.base)
    for stage in STAGES if given.stage == "all" else (given.stage,):
        log.info("%s starts", stage)
        minutes = given.minutes if given.minutes is not None else DEFAULT_MINUTES.get(stage, 10.0)
        run_stage(
            stage,
            recipe,
            bench,
            Budget(minutes=minutes, observe_s=given.observe_s),
            out=given.out,
            sheet_path=given.sheet,
            workers=given.workers,
        )
        log.info("%s done", stage)


if __name__ == "__main__":
    main()
