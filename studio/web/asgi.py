"""What the middleware in front of the app shares: a request's body, the files that it names, a refusal in words."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COUNTED = "studio.counted"
"""Key of a scope: the request is sent within another one, which the gate has let pass and has counted."""

FAILED = "Something failed inside the studio; the server's log says what."
"""What a caller is told of a fault of ours."""


def header_of(scope: Scope, name: bytes) -> bytes:
    """Return a request's header by its name in small letters; empty if it is not there."""
    return next((bytes(value) for known, value in scope["headers"] if known.lower() == name), b"")


def cookie_of(scope: Scope, name: str) -> str:
    """Return the value of a request's cookie; empty if it is not there. A header that cannot be read holds none."""
    cookies: SimpleCookie = SimpleCookie()
    for known, value in scope["headers"]:
        if known.lower() == b"cookie":
            try:
                cookies.load(value.decode("latin-1"))
            except CookieError:
                continue
    held = cookies.get(name)
    return held.value if held is not None else ""


async def read(receive: Receive) -> bytes:
    """Return the whole body of a request."""
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return b"".join(chunks)


def replayed(body: bytes, receive: Receive) -> Receive:
    """Return a channel that gives a body that was read before, and then what ``receive`` gives."""
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def answer(
    send: Send,
    status: int,
    words: str,
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    problems: Sequence[Mapping[str, Any]] = (),
    in_protocol: bool = False,
) -> None:
    """Answer a request with a refusal in words.

    Args:
        send: channel of the request.
        status: HTTP status.
        words: a whole sentence, or several.
        headers: more headers.
        problems: what is wrong, by argument; each has at least ``where`` and ``message``.
        in_protocol: for an agent, whose program shows its words where they are an error of JSON-RPC.
    """
    told: dict[str, Any] = {"error": words, "detail": words}
    if in_protocol:
        told = {"jsonrpc": "2.0", "id": None, "error": {"code": -32000, "message": words}}
    if status == 422:
        # gradio_client takes the details of this status for what its validators say, and shows these as its error.
        rows = problems or [{"where": "request", "message": words}]
        told["problems"] = list(problems)
        told["detail"] = [
            {"__type__": "validate", "is_valid": False, "parameter_name": row["where"], "message": row["message"]}
            for row in rows
        ]
    body = json.dumps(told).encode()
    kept = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": body})


def rewritten(
    send: Send, is_meant: Callable[[Message], bool], rewrite: Callable[[Message, bytes], tuple[Message, bytes]]
) -> Send:
    """Return a channel that holds some answers back until they are whole, and sends others in their place.

    Args:
        send: where answers go.
        is_meant: takes the beginning of an answer, status and headers; tells whether it is held back.
        rewrite: takes the beginning and the whole body; returns those that are sent.
    """
    start: Message | None = None
    chunks: list[bytes] = []

    async def held(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start" and is_meant(message):
            start = message
            return
        if start is None:
            await send(message)
            return
        chunks.append(message.get("body", b""))
        if message.get("more_body"):
            return
        first, body = rewrite(start, b"".join(chunks))
        await send(first)
        await send({"type": "http.response.body", "body": body})

    return held


def parsed(body: bytes) -> Any:
    """Return a JSON body; None where it is none, so that nobody behind reads anything out of it either."""
    try:
        return json.loads(body) if body else None
    except (ValueError, RecursionError):
        return None


def named_paths(body: bytes) -> Iterator[str]:
    """Yield every ``path`` of a JSON body: what Gradio takes for a file, or a URL that it would fetch."""
    waiting = [parsed(body)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            path = node.get("path")
            if isinstance(path, str):
                yield path
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def lies_in(path: str | Path, folder: Path) -> bool:
    """Tell whether a path, links followed, is the folder or below it."""
    try:
        return Path(path).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        return False
