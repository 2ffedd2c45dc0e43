"""How a verb reports what it does and how long it will take, and how it is asked to stop.

One ``ProgressReporter`` per call of a verb wraps its ``on_event`` and ``should_stop``. Progress is reported at
most four times a second; the first step of a stage and the very last step always are. A request to stop is answered
with one sentence, whichever verb was at work: "Stopped <where>; <what is kept>."
"""

import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from studio.core.domain import Event, OnEvent, ShouldStop, ignore_event, never_stop
from studio.core.errors import JobCancelled

EVERY_S = 0.25
"""Least time between two ``progress`` events."""

PICTURES_KEPT = "finished pictures are kept"
GO_ON = "start again to go on from there"
FROM_THE_START = "start again for the whole export"
NOTHING_KEPT = "nothing was kept"
NOTHING_PUBLISHED = "nothing was published"
PHOTOS_UNTOUCHED = "your photos are untouched"
"""What ``stopped`` may say of the work that was done."""

_T = TypeVar("_T")


def stopped(kept: str, where: str = "") -> JobCancelled:
    """Return the error for a request to stop.

    Args:
        kept: what becomes of the work so far: one of the phrases above, or one like them.
        where: where the work was, for example "at step 3 of 4".
    """
    return JobCancelled(f"Stopped {where}; {kept}." if where else f"Stopped; {kept}.")


def check_stop(should_stop: ShouldStop, kept: str, where: str = "") -> None:
    """Raise JobCancelled if ``should_stop`` answers True; the other arguments are those of ``stopped``."""
    if should_stop():
        raise stopped(kept, where)


class Throttle:
    """Decides when enough time has passed to report again.

    Args:
        every_s: least time between two; None for ``EVERY_S``.
        clock: seconds that never go backwards.
    """

    def __init__(self, every_s: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = EVERY_S if every_s is None else every_s
        self._clock = clock
        self._next_s = -math.inf

    def is_due(self, *, always: bool = False) -> bool:
        """Return True, and begin to wait anew, if the time has passed or ``always`` says so."""
        now_s = self._clock()
        if now_s < self._next_s and not always:
            return False
        self._next_s = now_s + self._every_s
        return True

    def reset(self) -> None:
        """Let the next one pass."""
        self._next_s = -math.inf


class ProgressReporter:
    """Reports stages, steps and messages, and checks for a request to stop.

    Args:
        on_event: receives all events.
        should_stop: asked by ``check_stop``, ``stage`` and ``tick``.
        kept: what a request to stop leaves, see ``stopped``.
        clock: seconds that never go backwards.
    """

    def __init__(
        self,
        on_event: OnEvent = ignore_event,
        should_stop: ShouldStop = never_stop,
        *,
        kept: str = GO_ON,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.on_event, self.should_stop = on_event, should_stop
        self._kept, self._clock = kept, clock
        self._throttle = Throttle(clock=clock)
        self.start(0)

    def check_stop(self, where: str = "") -> None:
        """Raise JobCancelled if the owner asked to stop; ``where`` is that of ``stopped``."""
        check_stop(self.should_stop, self._kept, where)

    def stage(self, name: str, message: str) -> None:
        """Report that a stage begins.

        Raises:
            JobCancelled: the owner asked to stop.
        """
        self.check_stop()
        self.on_event(Event("stage", {"name": name, "message": message}))
        self._throttle.reset()

    def message(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """Report a message."""
        self.on_event(Event("message", {"level": level, "text": text}))

    def warn(self, text: str) -> None:
        """Report a warning."""
        self.message(text, "warning")

    def start(self, total: int, done: int = 0, *, counted: bool = True) -> None:
        """Begin to count; the time that is left is estimated from what is done from here on.

        Args:
            total: things to do.
            done: how many of them were done before.
            counted: whether that is a number of things that a person knows; False where all of them are gone through
                several times, and only the share that is done tells anything.
        """
        self._counted = counted
        self._total, self._done, self._before = total, done, done
        self._started_s = self._clock()
        self._each_s: float | None = None
        self._throttle.reset()

    def step(self, done: int, message: str, *, eta_s: float | None = None) -> bool:
        """Report how far the work is, unless that was reported a moment ago.

        Args:
            done: things done, of the total that ``start`` was given.
            message: what is being done.
            eta_s: seconds that are left; None: estimated from the mean of what is done.

        Returns:
            Whether it was reported.
        """
        if done > self._done and done > self._before:
            self._each_s = (self._clock() - self._started_s) / (done - self._before)
        self._done = done
        if not self._throttle.is_due(always=done == self._total):
            return False
        data = {"step": done, "total": self._total, "eta_s": self._eta_s() if eta_s is None else eta_s}
        self.on_event(Event("progress", {**data, "message": message, **({} if self._counted else {"counted": False})}))
        return True

    def advance(self, message: str, count: int = 1) -> None:
        """Report that ``count`` more items are done."""
        self.step(self._done + count, message)

    def tick(self, message: str) -> None:
        """Give a sign of life within an item that takes long.

        Raises:
            JobCancelled: the owner asked to stop.
        """
        self.check_stop()
        if self._done < self._total:  # the last step was reported; reporting it again would never be throttled
            self.step(self._done, message)

    def wait_for(self, work: Callable[[], _T]) -> _T:
        """Run long work that cannot be interrupted in a thread, so that a request to stop is noticed meanwhile.

        Returns:
            What ``work`` returns.

        Raises:
            JobCancelled: the owner asked to stop; the thread is left behind and ends with the process.
        """
        answers: list[_T] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                answers.append(work())
            except BaseException as error:  # raised again in the caller's own thread
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(EVERY_S)
            self.check_stop()
        if errors:
            raise errors[0]
        return answers[0]

    def _eta_s(self) -> float | None:
        if self._each_s is None:
            return None
        whole_s = self._each_s * (self._total - self._before)
        return round(max(0.0, whole_s - (self._clock() - self._started_s)), 1)


class TrainingReporter(ProgressReporter):
    """A reporter that also knows how long a training step and the evaluation of a checkpoint take."""

    def __init__(self, on_event: OnEvent, should_stop: ShouldStop, *, kept: str = GO_ON) -> None:
        super().__init__(on_event, should_stop, kept=kept)
        self._step_s: float | None = None
        self.evaluation_s = 0.0  # of the newest checkpoint

    def trained(self, metrics: Mapping[str, Any], step_s: float, total: int, evaluations_left: int) -> None:
        """Report a training step and its metrics.

        Args:
            metrics: the step's line of ``metrics.jsonl``.
            step_s: seconds that it took.
            total: steps of the run.
            evaluations_left: checkpoints that are still to be sampled.
        """
        # Not the mean of all: after a memory fallback, steps are slower from there on.
        self._step_s = step_s if self._step_s is None else 0.9 * self._step_s + 0.1 * step_s
        self._total, step = total, metrics["step"]
        eta_s = round(self._step_s * (total - step) + self.evaluation_s * evaluations_left, 1)
        if self.step(step, f"step {step} of {total}", eta_s=eta_s):
            self.on_event(Event("metrics", metrics))

    def evaluated(self, row: Mapping[str, Any], metrics: Mapping[str, Any], seconds: float) -> None:
        """Report a sampled checkpoint.

        Args:
            row: its scores.
            metrics: its line of ``metrics.jsonl``.
            seconds: that sampling and scoring took.
        """
        self.evaluation_s = seconds
        self.on_event(Event("metrics", metrics))
        for picture in row["samples"]:
            shown = {key: picture[key] for key in ("path", "prompt", "likeness")}
            self.on_event(Event("sample", {"step": row["step"], **shown}))
