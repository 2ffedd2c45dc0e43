"""Keeps tokens, keys and passwords out of everything that is logged or printed, whoever logs it.

Libraries log what they were called with (Gradio the inputs of a call with too few of them, HTTP clients addresses with
their queries), so each line is looked over on its way out, in one place: ``install``.
"""

import logging
import re
import sys
from typing import Any, TextIO

HIDDEN = "[hidden]"
"""Stands where a secret stood."""

_SHORTEST = 6
"""Shorter secrets are not searched for literally: they would hide ordinary words."""

_PATTERNS = (
    (re.compile(r"\bhf_[A-Za-z0-9]{6,}"), HIDDEN),
    (re.compile(r"\bwhsec_[A-Za-z0-9+/]{6,}={0,2}"), HIDDEN),
    (re.compile(r"\blsk_[0-9a-f]{12}_[A-Za-z0-9_-]{8,}"), HIDDEN),
    (re.compile(r"(?i)\b(bearer)(?:\s+|%20)[A-Za-z0-9._~+/=-]{12,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?i)\b(authorization\W{1,4}basic)\s+[A-Za-z0-9+/=]{4,}"), rf"\1 {HIDDEN}"),
    # In addresses and forms: token=..., api_key=...
    (
        re.compile(
            r"(?i)\b((?:[a-z0-9]+[_-])*(?:token|secret|password|passwd|signature|credential))=(?!\[hidden\])"
            r"[^\s&;,\"'<>)\]}]{6,}"
        ),
        rf"\1={HIDDEN}",
    ),
    # A key that a caller gives to a job is short, or says what it is for; one that opens something is neither.
    (re.compile(r"(?i)\b((?:[a-z0-9]+[_-])*key)=[A-Za-z0-9._~+/%-]{16,}"), rf"\1={HIDDEN}"),
    # In JSON and in Python's own notation: "token": "..."
    (
        re.compile(
            r"(?i)([\"'](?:[a-z0-9]+[_-])*(?:token|secret|password|authorization|api_key|cookie)[\"']\s*:\s*)"
            r"([\"'])(?!\[hidden\])[^\"']+\2"
        ),
        rf"\1\2{HIDDEN}\2",
    ),
    # The password of an address: https://name:password@host
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://[^\s/:@]*):[^\s/@]+@"), rf"\1:{HIDDEN}@"),
)

_secrets: set[str] = set()


def hide(*secrets: str | None) -> None:
    """Hide these very texts from now on, besides all that looks like a token."""
    _secrets.update(secret for secret in secrets if secret and len(secret) >= _SHORTEST)


def redact(text: str) -> str:
    """Return a text without the secrets that stand in it."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    for pattern, stand_in in _PATTERNS:
        text = pattern.sub(stand_in, text)
    return text


def install() -> None:
    """Look over every log record of this process, and everything that is written to its output and error stream.

    The streams, too, because Gradio prints traces without logging them. To call it twice does nothing more.
    """
    make = logging.getLogRecordFactory()
    if not isinstance(make, _RecordFactory):
        logging.setLogRecordFactory(_RecordFactory(make))
    if not isinstance(sys.stdout, RedactedStream):
        sys.stdout = RedactedStream(sys.stdout)
    if not isinstance(sys.stderr, RedactedStream):
        before, sys.stderr = sys.stderr, RedactedStream(sys.stderr)
        for logger in (logging.getLogger(), *map(logging.getLogger, logging.root.manager.loggerDict)):
            for handler in logger.handlers:  # made before, they hold the stream itself
                if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                    handler.setStream(sys.stderr)


class _RecordFactory:
    """Makes log records whose message is redacted already, for handlers that write elsewhere than to a stream."""

    def __init__(self, make: Any) -> None:
        self._make = make

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = self._make(*args, **kwargs)
        try:
            text = record.getMessage()
        except Exception:  # logging itself reports a message that does not fit its arguments
            return record
        clean = redact(text)
        if clean != text:
            record.msg, record.args = clean, ()
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            clean = redact(trace)
            if clean != trace:
                record.exc_text = clean  # formatters take this instead of the exception itself
        return record


class RedactedStream:
    """A text stream that redacts what is written to it; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text without its secrets; returns the length of what was given, as callers count on."""
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
