"""The output of commands: for a person on a terminal, or for a program as JSON lines."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from studio.cli.shown import likeness_sentence, likeness_text
from studio.core import language
from studio.core.domain import Event, plain
from studio.core.errors import StudioError
from studio.core.progress import Throttle
from studio.core.settings import language_of, load_settings
from studio.core.units import duration_text


def _eta(seconds: float | None) -> str:
    return "" if seconds is None else f"{duration_text(seconds)} left"


class _EtaColumn(ProgressColumn):
    """Shows the verb's own estimate instead of one from the bar's speed."""

    def render(self, task: Task) -> Text:
        return Text(_eta(task.fields["eta_s"]), style="dim")


def _done(step: float, total: float | None, counted: bool) -> str:
    """Return how much is done, as a number of things or, where they are gone through several times, in percent."""
    if counted:
        return f"{step:.0f} of {total or '?'}"
    return f"{100 * min(1.0, step / total):.0f} %" if total else ""


class _DoneColumn(ProgressColumn):
    """Shows how much is done."""

    def render(self, task: Task) -> Text:
        return Text(_done(task.completed, task.total, task.fields["counted"]), style="progress.download")


class TerminalOutput:
    """Shows events to a person: one bar per stage on a terminal, plain lines elsewhere.

    Args:
        line_every_s: least time between two lines that say how long it still takes, where there is no bar.
    """

    def __init__(self, line_every_s: float = 15.0) -> None:
        self.out = Console(highlight=False, markup=False)
        self.err = Console(stderr=True, highlight=False, markup=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            _DoneColumn(),
            _EtaColumn(),
            TextColumn("{task.fields[metrics]}", style="cyan", markup=False),
            console=self.err,
            disable=not self.err.is_terminal,
            transient=True,
            redirect_stdout=False,  # what others print has its own place
            redirect_stderr=False,
        )
        self._line_is_due = Throttle(line_every_s).is_due
        self._task: Any = None
        self._stage = ""
        self._entered = 0

    @contextlib.contextmanager
    def writing_to(self, out: TextIO, err: TextIO) -> Iterator[None]:
        """Write to these streams for a while."""
        before = self.out.file, self.err.file
        self.out.file, self.err.file = out, err
        try:
            yield
        finally:
            self.out.file, self.err.file = before

    def __enter__(self) -> "TerminalOutput":
        self._entered += 1
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._entered -= 1
        if not self._entered:  # a verb inside a longer command must not end that command's bars
            self._progress.stop()

    def event(self, event: Event) -> None:
        """Show one event."""
        data = event.data
        if event.kind == "stage":
            self._begin(str(data.get("message") or data.get("name", "")))
        elif event.kind == "progress":
            if self._task is None:
                self._begin(str(data.get("message") or "working"))
            self._progress.update(
                self._task,
                completed=data.get("step", 0),
                total=data.get("total"),
                eta_s=data.get("eta_s"),
                counted=data.get("counted", True),
            )
            self._say_how_long(data)
        elif event.kind == "metrics":
            self._measure(data)
        elif event.kind == "message":
            style = "yellow" if data.get("level") == "warning" else None
            self._progress.console.print(str(data.get("text", "")), style=style)

    def _begin(self, title: str) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)
        self._task = self._progress.add_task(title, total=None, eta_s=None, counted=True, metrics="")
        if title != self._stage and not self.err.is_terminal:
            self.err.print(title)
        self._stage = title

    def _say_how_long(self, data: Mapping[str, Any]) -> None:
        """Print a line now and then for a reader that has no bar: a pipe, a file, the log of another program."""
        if self.err.is_terminal or data.get("eta_s") is None or not data.get("total") or not self._line_is_due():
            return
        done = _done(data.get("step", 0), data["total"], data.get("counted", True))
        self.err.print(f"{self._stage}: {done}, {_eta(data['eta_s'])}")

    def _measure(self, data: Mapping[str, Any]) -> None:
        shown = [f"loss {data['loss']:.3f}"] if data.get("loss") is not None else []
        if data.get("likeness_summary"):
            shown.append(likeness_sentence(data["likeness_summary"]))
        elif data.get("likeness") is not None:
            shown.append(f"likeness {likeness_text(data['likeness'])}")
        if data.get("bleed") is not None:
            shown.append(f"bleed {likeness_text(data['bleed'])}")
        if self._task is not None:
            self._progress.update(self._task, metrics="  ".join(shown))
        if data.get("likeness") is not None or data.get("likeness_summary"):
            self._progress.console.print(f"step {data.get('step', 0)}: " + ", ".join(shown))

    def error(self, error: StudioError) -> None:
        """Show an error."""
        self.err.print(str(error), style="red")

    def interrupted(self) -> None:
        """Answer the first Ctrl-C."""
        self._progress.console.print("Stopping after this step; press Ctrl-C again to stop at once.", style="yellow")

    def result(self, value: Any, show: Callable[[Console], None]) -> None:
        """Show a result with ``show``, in the reader's language: whatever had to stay English is written by now."""
        with _readers_language():
            show(self.out)


def _readers_language() -> contextlib.AbstractContextManager[None]:
    try:
        return language.speaking(language_of(load_settings()))
    except StudioError:  # settings that cannot be read are refused elsewhere
        return contextlib.nullcontext()


class JsonLinesOutput:
    """Writes events to a program: JSON lines on standard output."""

    def __init__(self) -> None:
        self._stream: TextIO = sys.stdout

    @contextlib.contextmanager
    def writing_to(self, out: TextIO, err: TextIO) -> Iterator[None]:
        """Write to another stream for a while."""
        before, self._stream = self._stream, out
        try:
            yield
        finally:
            self._stream = before

    def __enter__(self) -> "JsonLinesOutput":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _write(self, value: Any) -> None:
        self._stream.write(json.dumps(plain(value), ensure_ascii=False, allow_nan=False) + "\n")
        self._stream.flush()

    def event(self, event: Event) -> None:
        """Write one event as an object with ``kind`` and ``data``."""
        self._write(event)

    def error(self, error: StudioError) -> None:
        """Write an object with ``error`` and ``problems``."""
        self._write({"error": str(error), "problems": error.problems})

    def interrupted(self) -> None:
        """Write nothing: the signal may arrive in the middle of a line, and the error follows soon enough."""

    def result(self, value: Any, show: Callable[[Console], None]) -> None:
        """Write the result itself, the last line."""
        self._write(value)


def open_output(as_json: bool) -> TerminalOutput | JsonLinesOutput:
    """Return the output for a program or for a person."""
    return JsonLinesOutput() if as_json else TerminalOutput()
