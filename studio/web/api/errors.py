"""Refusals in the shape that the clients of each interface know; everything below raises StudioError and no more.

One middleware in front of all others, so that the guard's, the gate's and the router's own refusals have that shape,
too. It looks at answers that say ``error`` or ``detail`` as JSON and leaves all others as they are.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from studio.web.asgi import App, Message, Receive, Scope, Send, parsed, rewritten

Problems = Sequence[Mapping[str, Any]]
PROBLEM_JSON = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal in its shape."""

    status: int
    body: Mapping[str, Any]
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    """More of them."""


Shape = Callable[[int, str, Problems], Refusal]
"""Takes status, words and problems."""


def problem_json(status: int, words: str, problems: Problems) -> Refusal:
    """Return a refusal as problem details, with every problem in the member ``problems``.

    Source: RFC 9457; ``about:blank`` says that the status tells all that a type could.
    """
    body = {"type": "about:blank", "title": phrase(status), "status": status, "detail": words}
    return Refusal(status, {**body, "problems": list(problems)}, PROBLEM_JSON)


def phrase(status: int) -> str:
    """Return what a status is called."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


class ErrorShapes:
    """ASGI middleware: puts refusals below some addresses into their shape.

    Args:
        app: what comes behind.
        shapes: beginning of a path -> shape; the longest that fits counts.
    """

    def __init__(self, app: App, shapes: Mapping[str, Shape]) -> None:
        self._app = app
        self._shapes = sorted(shapes.items(), key=lambda row: -len(row[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        path = scope.get("path", "") if scope["type"] == "http" else ""
        shape = next((shape for start, shape in self._shapes if path == start or path.startswith(f"{start}/")), None)
        await self._app(scope, receive, send if shape is None else _shaped(send, shape))


def _shaped(send: Send, shape: Shape) -> Send:
    def is_refusal(start: Message) -> bool:
        return start["status"] >= 400 and _is_json(start)

    def shaped(start: Message, body: bytes) -> tuple[Message, bytes]:
        headers, data = start.get("headers", []), parsed(body)
        if isinstance(data, dict):
            made = shape(start["status"], _words(data, start["status"]), data.get("problems") or [])
            body = json.dumps(made.body).encode()
            said = {"content-type": made.media_type, "content-length": str(len(body)), **made.headers}
            ours = [(name.encode(), value.encode()) for name, value in said.items()]
            headers = [row for row in headers if row[0].lower() not in (b"content-type", b"content-length")] + ours
            start["status"] = made.status
        return {**start, "headers": headers}, body

    return rewritten(send, is_refusal, shaped)


def _words(data: Mapping[str, Any], status: int) -> str:
    words = next((data[key] for key in ("error", "detail") if isinstance(data.get(key), str)), None)
    return words or f"{phrase(status)}."


def _is_json(start: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.split(b";")[0].strip() == b"application/json"
        for name, value in start.get("headers", [])
    )
