"""What libraries print while a verb runs here: kept in a log of the home, not shown between the studio's own lines.

Progress bars, deprecation warnings and the chatter of native code reach the two standard streams by three ways:
Python's stream objects, handlers that remember such an object, and the numbers 1 and 2 themselves. So the numbers are
led to the log, and the studio's own output goes to copies of the streams that they were.
"""

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import TextIO

from studio.cli.output import JsonLinesOutput, TerminalOutput
from studio.core.errors import StudioError
from studio.core.private import COMMAND_LOG, make_home

_MOST_BYTES = 1_000_000
"""A log that is longer is begun anew."""

VERBOSE: ContextVar[bool] = ContextVar("verbose", default=False)
"""Whether --verbose was given: what libraries print is shown on standard error instead."""


@contextlib.contextmanager
def foreign_output_apart(output: TerminalOutput | JsonLinesOutput, home: Path) -> Iterator[None]:
    """Lead what libraries print to the log of the home, or with --verbose to standard error.

    Never to standard output, where it would get between the lines of a result.
    """
    log = None if VERBOSE.get() or not _are_the_processes() else _opened(home)
    if log is None:
        with contextlib.redirect_stdout(sys.stderr):
            yield
        return
    with contextlib.ExitStack() as stack:
        os_log = stack.enter_context(log)
        out = stack.enter_context(_led_away(1, sys.stdout, os_log.fileno()))
        err = stack.enter_context(_led_away(2, sys.stderr, os_log.fileno()))
        stack.enter_context(output.writing_to(out, err))
        yield


def _are_the_processes() -> bool:
    """Whether Python's streams are those of the process; a program that calls us may have put others there."""
    try:
        return (sys.stdout.fileno(), sys.stderr.fileno()) == (1, 2)
    except (AttributeError, OSError, ValueError, io.UnsupportedOperation):
        return False


def _opened(home: Path) -> TextIO | None:
    """Return the log, open at its end; None where the home cannot be written."""
    path = home / COMMAND_LOG
    try:
        make_home(home)
        is_long = path.is_file() and path.stat().st_size > _MOST_BYTES
        return path.open("w" if is_long else "a", encoding="utf-8", errors="backslashreplace")
    except (OSError, StudioError):
        return None


@contextlib.contextmanager
def _led_away(number: int, stream: TextIO, log: int) -> Iterator[TextIO]:
    """Lead a standard stream of the process to the log, and yield a stream to where it led before."""
    stream.flush()
    copy = os.dup(number)
    os.dup2(log, number)
    kept = open(copy, "w", encoding=stream.encoding, errors=stream.errors, buffering=1, closefd=True)  # noqa: SIM115
    try:
        yield kept
    finally:
        with contextlib.suppress(OSError, ValueError):
            stream.flush()  # what Python still holds belongs into the log
        os.dup2(copy, number)
        with contextlib.suppress(OSError):
            kept.close()
