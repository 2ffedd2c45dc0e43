"""Logs for programs: one JSON object a line, whoever wrote it, with the request and the job that it belongs to.

``redaction`` keeps secrets out of what is logged; here each line is looked over once more. Ground level.
"""

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TextIO

from studio.core.redaction import redact

REQUEST: ContextVar[str | None] = ContextVar("request", default=None)
"""Id of the request that is answered here."""
JOB: ContextVar[str | None] = ContextVar("job", default=None)
"""Id of the job that is worked at here."""
FIELDS = "fields"
"""Name of an attribute of a log record: more members of its line."""


_HTTP_CLIENTS = ("httpx", "httpx2", "httpcore", "httpcore2", "urllib3")


def log_to_stderr() -> None:
    """Let a process that carries out work say on standard error what it does.

    Not which addresses it asks: HTTP clients tell each of them, and a presigned one is a key to what lies there.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in _HTTP_CLIENTS:
        logging.getLogger(name).setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """Makes one line of a log record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as a JSON object on one line."""
        trace = record.exc_text or (self.formatException(record.exc_info) if record.exc_info else None)
        own = getattr(record, FIELDS, {})
        return line(record.created, record.levelname, record.name, record.getMessage(), trace=trace, **own)


def line(when_s: float, level: str, logger: str, message: str, **more: Any) -> str:
    """Return one line of the log; members that are None are left out."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when_s)) + f".{int(when_s % 1 * 1000):03d}Z"
    given = {"time": stamp, "level": level.lower(), "logger": logger, "message": message}
    members = {**given, "request": REQUEST.get(), "job": JOB.get(), **more}
    clean = {name: redact(value) if isinstance(value, str) else value for name, value in members.items()}
    return json.dumps({name: value for name, value in clean.items() if value is not None}, ensure_ascii=False)


class PrintedLines:
    """A text stream that makes each line that is printed a line of the log; all else is the stream's own.

    Libraries print what they do not log.

    Args:
        stream: where the lines go.
        name: what stands for the logger.
    """

    def __init__(self, stream: TextIO, name: str) -> None:
        self._stream, self._name, self._rest = stream, name, ""

    def write(self, text: str) -> int:
        """Write a text; what is behind the last line end waits for the next one."""
        *lines, self._rest = (self._rest + text).split("\n")
        for printed in lines:
            if printed.strip():
                self._stream.write(line(time.time(), "INFO", self._name, printed) + "\n")
        return len(text)

    def writelines(self, lines: Iterator[str]) -> None:
        """Write several texts."""
        for printed in lines:
            self.write(printed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def install() -> None:
    """Write everything that this process logs or prints as lines of JSON, records to the error stream.

    To call it twice does nothing more.
    """
    if isinstance(sys.stdout, PrintedLines):
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    for before in list(root.handlers):
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("studio").setLevel(logging.INFO)
    sys.stdout, sys.stderr = PrintedLines(sys.stdout, "stdout"), PrintedLines(sys.stderr, "stderr")
