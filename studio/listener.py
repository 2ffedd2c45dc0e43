"""Whoever waits for a training run: hears events, may ask it to stop, is told how long it will take."""

import time
from collections.abc import Mapping
from typing import Any, Literal

from studio.domain import Event, OnEvent, ShouldStop

_EVENT_EVERY_S = 0.25


class Listener:
    """Turns what happens in a run into events; the time that is left comes from measured steps and evaluations."""

    def __init__(self, on_event: OnEvent, should_stop: ShouldStop) -> None:
        self.should_stop = should_stop
        self._on_event = on_event
        self._step_s: float | None = None
        self.evaluation_s = 0.0  # of the newest checkpoint
        self._told_s = -_EVENT_EVERY_S

    def stage(self, name: str, message: str) -> None:
        """Tell that a stage begins."""
        self._on_event(Event("stage", {"name": name, "message": message}))

    def message(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """Say something in words."""
        self._on_event(Event("message", {"level": level, "text": text}))

    def step(self, metrics: Mapping[str, Any], step_s: float, total: int, evaluations_left: int) -> None:
        """Tell of a step, a few times a second at most.

        Args:
            metrics: the step's line of ``metrics.jsonl``.
            step_s: seconds that it took.
            total: steps of the run.
            evaluations_left: checkpoints that are still to be sampled.
        """
        self._step_s = step_s if self._step_s is None else 0.9 * self._step_s + 0.1 * step_s
        now_s, step = time.monotonic(), metrics["step"]
        if now_s - self._told_s < _EVENT_EVERY_S and step < total:
            return
        self._told_s = now_s
        eta_s = round(self._step_s * (total - step) + self.evaluation_s * evaluations_left, 1)
        self._on_event(
            Event("progress", {"step": step, "total": total, "eta_s": eta_s, "message": f"step {step} of {total}"})
        )
        self._on_event(Event("metrics", metrics))

    def evaluated(self, row: Mapping[str, Any], metrics: Mapping[str, Any], seconds: float) -> None:
        """Tell of a sampled checkpoint.

        Args:
            row: its scores.
            metrics: its line of ``metrics.jsonl``.
            seconds: that sampling and scoring took.
        """
        self.evaluation_s = seconds
        self._on_event(Event("metrics", metrics))
        for picture in row["samples"]:
            shown = {key: picture[key] for key in ("path", "prompt", "likeness")}
            self._on_event(Event("sample", {"step": row["step"], **shown}))
