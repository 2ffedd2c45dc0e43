"""The training loop that all stages share: limits, learning rate, averages, checkpoints, log lines."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from studio.pocket.recipe.files import Checkpoint, append_line, newest_checkpoint, save_checkpoint
from studio.pocket.recipe.optimizers import optimizers_for


@dataclass(frozen=True)
class TimeLimit:
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

    def used(self, step: int, elapsed_s: float) -> float:
        """Return the share of the limit that is used, 0 at the start, 1 or more at the end."""
        return step / self.steps if self.steps else elapsed_s / (60 * self.minutes)


def has_fast_bf16(device: torch.device) -> bool:
    """Say whether bfloat16 is faster than float32 (CPUs: only with AVX512-BF16; 1.5 to 2 times on Zen 4)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())


@dataclass(frozen=True)
class TrainingContext:
    """Where a stage works."""

    work: Path
    """Folder of data, checkpoints and logs."""
    device: torch.device
    """Where tensors live."""
    precision: str = "auto"
    """auto, fp32 or bf16."""

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which a training step's networks run."""
        enabled = has_fast_bf16(self.device) if self.precision == "auto" else self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)


def learning_rate(used: float, step: int, warmup_steps: int, flat: float) -> float:
    """Return the factor of the learning rate: linear warm-up, flat, then half a cosine down to 1 %.

    Args:
        used: share of the limit, >= 0.
        step: finished steps of the optimizers.
        warmup_steps: length of the warm-up.
        flat: share of the limit at which the descent starts, in [0, 1).
    """
    warm = min(1.0, (step + 1) / warmup_steps)
    down = min(1.0, max(0.0, (used - flat) / (1 - flat)))
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * down)))


class _Clock:
    """Training time. A stopped process or a sleeping laptop must not use it up: such a step counts as a usual one."""

    def __init__(self, elapsed_s: float) -> None:
        self.elapsed_s = elapsed_s
        self._usual_s: float | None = None

    def add(self, seconds: float) -> float:
        """Count one step; return the seconds that it counted for."""
        usual = self._usual_s
        self._usual_s = seconds if usual is None else min(seconds, usual + 0.1 * min(seconds - usual, 2 * usual))
        counted = min(seconds, 5 * self._usual_s)
        self.elapsed_s += counted
        return counted


@dataclass
class _Means:
    """Means of what steps report, from one log line to the next."""

    sums: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0

    def add(self, values: dict[str, float], seconds: float) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.steps, self.seconds = self.steps + 1, self.seconds + seconds

    def take(self) -> tuple[dict[str, float], float]:
        """Return the means and steps per second, and begin anew."""
        means = {name: value / self.steps for name, value in self.sums.items()}
        speed = self.steps / max(self.seconds, 1e-9)
        self.sums, self.steps, self.seconds = {}, 0, 0.0
        return means, speed


class _Run:
    """Weights, their average and the optimizers of one stage, and their way to disk and back."""

    def __init__(self, folder: Path, net: nn.Module, device: torch.device, lr: float, ema_decay: float) -> None:
        self.folder, self.net, self.device, self.lr, self.ema_decay = folder, net, device, lr, ema_decay
        net.to(device).train()
        self.ema = copy.deepcopy(net).eval().requires_grad_(False)
        self.optimizers = optimizers_for(net, lr)
        self.step = self.begun = 0
        self.clock = _Clock(0.0)
        self.weights: list[Tensor] = [p for p in net.parameters() if p.requires_grad]
        pairs = zip(self.ema.parameters(), net.parameters(), strict=True)
        self.averages: list[Tensor] = [p for p, q in pairs if q.requires_grad]

    def restore(self, checkpoint: Checkpoint) -> None:
        self.net.load_state_dict(checkpoint.net)
        self.ema.load_state_dict(checkpoint.ema)
        self.step, self.clock = checkpoint.step, _Clock(checkpoint.elapsed_s)
        if checkpoint.optimizers is None:  # adopted weights come without, and without a generator's state
            self.begun = checkpoint.step
            return
        self.begun = checkpoint.begun
        for optimizer, saved in zip(self.optimizers, checkpoint.optimizers, strict=True):
            optimizer.load_state_dict(saved)
        if checkpoint.rng is not None:
            torch.set_rng_state(checkpoint.rng)
        if checkpoint.rng_cuda is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(checkpoint.rng_cuda)

    def save(self) -> None:
        checkpoint = Checkpoint(
            self.step,
            self.clock.elapsed_s,
            self.net.state_dict(),
            self.ema.state_dict(),
            self.begun,
            [optimizer.state_dict() for optimizer in self.optimizers],
            torch.get_rng_state(),
            torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
        )
        save_checkpoint(self.folder, checkpoint)

    def advance(self, loss: Tensor, factor: float) -> None:
        """Take one optimizer step, with ``factor`` times the peak learning rate, and move the average."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.lr * factor
        self.net.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        with torch.no_grad():
            since = self.step - self.begun  # adopted weights are averaged from anew, or they would linger
            decay = min(self.ema_decay, (1 + since) / (10 + since))
            torch._foreach_lerp_(self.averages, self.weights, 1 - decay)


def fit(
    stage: str,
    net: nn.Module,
    loss_of: Callable[[], tuple[Tensor, dict[str, float]]],
    *,
    context: TrainingContext,
    limit: TimeLimit,
    lr: float,
    batch: int,
    flat: float,
    warmup_steps: int = 100,
    ema_decay: float = 0.999,
    observe: Callable[[int, nn.Module], dict[str, Any]] | None = None,
) -> nn.Module:
    """Train until the limit is reached, from the newest checkpoint on.

    Args:
        stage: names the log and the folder of checkpoints.
        net: all trained weights; changed in place.
        loss_of: draws a batch from torch's global generator and returns its loss and further numbers to log.
        context: folders and device.
        limit: when to stop, when to log.
        lr: peak learning rate.
        batch: pictures in a step, for the log.
        flat: see :func:`learning_rate`.
        warmup_steps: see :func:`learning_rate`.
        ema_decay: of the weights' moving average; shorter at the start.
        observe: called with the step and the averaged weights now and then; its numbers are logged.

    Returns:
        The averaged weights, in evaluation mode.

    Raises:
        RuntimeError: the loss is no number any more.
    """
    lines = context.work / f"{stage}.jsonl"
    run = _Run(context.work / stage, net, context.device, lr, ema_decay)
    checkpoint = newest_checkpoint(run.folder)
    if checkpoint is not None:
        run.restore(checkpoint)
        append_line(lines, {"event": "resumed", "step": run.step, "elapsed_s": round(run.clock.elapsed_s, 1)})

    def look() -> None:
        if observe is not None and limit.observe_s != math.inf:
            # A measurement must not move the generator, or a run that measures more often would be another run.
            devices = [context.device] if context.device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices), torch.no_grad():
                append_line(lines, {"event": "observed", "step": run.step, **observe(run.step, run.ema)})

    first, saved_at, looked_at = run.step, run.clock.elapsed_s, run.clock.elapsed_s
    means = _Means()
    while limit.used(run.step, run.clock.elapsed_s) < 1 and run.step != limit.stop_after:
        started = time.monotonic()
        used = limit.used(run.step, run.clock.elapsed_s)
        factor = learning_rate(used, run.step - run.begun, warmup_steps, flat)
        loss, extra = loss_of()
        if not torch.isfinite(loss):
            raise RuntimeError(f"{stage}: the loss is {loss.item()} at step {run.step}; lower the learning rate")
        run.advance(loss, factor)
        seconds = run.clock.add(time.monotonic() - started)
        means.add({"loss": float(loss.detach()), **extra}, seconds)
        if run.step % limit.log_every == 0:
            values, speed = means.take()
            record = {"step": run.step, "elapsed_s": round(run.clock.elapsed_s, 1), **values}
            append_line(lines, record | {"lr": round(lr * factor, 7), "pictures_per_s": round(batch * speed, 1)})
        if run.clock.elapsed_s - saved_at >= limit.checkpoint_s:
            run.save()
            saved_at = run.clock.elapsed_s
        if run.clock.elapsed_s - looked_at >= limit.observe_s:
            look()
            looked_at = run.clock.elapsed_s
    if run.step > first:
        run.save()
        if run.step != limit.stop_after:
            look()
    return run.ema
