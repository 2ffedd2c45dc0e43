"""Requests whose headers trickle, under a running uvicorn."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from studio.web import server
from studio.web.slow_headers import timed_protocol

LIMIT_S = 0.6
WHOLE = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body, which may come slowly."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message.get("body", b"")), message.get("more_body", False)
    text = str(length).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=timed_protocol(LIMIT_S), lifespan="off", log_level="error")
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    with socket.create_connection(listener.getsockname(), timeout=20) as opened:
        yield opened
    running.should_exit = True
    thread.join(20)


def trickle(connection: socket.socket, data: bytes, *, pause_s: float) -> bytes:
    """Send one byte after the other, and return what comes back."""
    for byte in data:
        try:
            connection.sendall(bytes([byte]))
        except OSError:  # it was hung up
            break
        time.sleep(pause_s)
    return answer(connection)


def answer(connection: socket.socket) -> bytes:
    """Return one answer, whole."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1000)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(1000)
    return head + body


def test_headers_that_trickle_are_given_up(connection: socket.socket) -> None:
    started_s = time.monotonic()
    said = trickle(connection, WHOLE[:12], pause_s=0.1)
    assert said.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - started_s < 10
    assert connection.recv(1000) == b"", "it is hung up"


def test_a_connection_that_says_nothing_is_given_up(connection: socket.socket) -> None:
    assert answer(connection).startswith(b"HTTP/1.1 408 ")


def test_the_next_request_of_a_kept_connection_has_the_limit_too(connection: socket.socket) -> None:
    connection.sendall(WHOLE)
    assert answer(connection).startswith(b"HTTP/1.1 200 ")
    time.sleep(1.5 * LIMIT_S)
    connection.sendall(WHOLE)
    assert answer(connection).startswith(b"HTTP/1.1 200 "), "the pause between two requests does not count"
    assert trickle(connection, WHOLE[:12], pause_s=0.1).startswith(b"HTTP/1.1 408 ")


def test_a_body_may_take_longer_than_the_headers(connection: socket.socket) -> None:
    connection.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n")
    said = trickle(connection, b"0123456789", pause_s=LIMIT_S / 5)
    assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"10")


def test_the_server_runs_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[uvicorn.Config] = []

    class Server:
        def __init__(self, config: uvicorn.Config) -> None:
            configs.append(config)

        def run(self, sockets: list[socket.socket]) -> None:
            pass

    monkeypatch.setattr(uvicorn, "Server", Server)
    with socket.socket() as listener:
        server.run(app, listener)  # type: ignore[arg-type]
    (config,) = configs
    assert isinstance(config.http, type) and issubclass(config.http, asyncio.Protocol)
    assert config.http.__name__ == "TimedProtocol"
