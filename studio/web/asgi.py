"""What guard and gate in front of the app share: a request's body, the files that it names, a refusal in words."""

import json
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


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


async def answer(send: Send, status: int, words: str) -> None:
    """Answer a request with a refusal in words."""
    body = json.dumps({"detail": words}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


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
