"""A limit on how long a request's headers may take: uvicorn has none, and waits for ever for what trickles.

The guard only sees requests whose headers are complete; it has the limit for bodies.
"""

import asyncio
from typing import Any

HEADERS_S = 20.0
"""Longest time from a connection, or from the first byte of its next request, until all headers are there, seconds."""

_ANSWER = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def timed_protocol(headers_s: float = HEADERS_S) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol, whichever it takes here, with that limit.

    Args:
        headers_s: the limit, seconds.
    """
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

    base: Any = AutoHTTPProtocol  # that of h11, or of httptools where it is installed

    class TimedProtocol(base):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self._start()

        def data_received(self, data: bytes) -> None:
            if self._timer is None and (self.cycle is None or self.cycle.response_complete):
                self._start()  # the next request of a connection that was kept
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:  # made as soon as the headers are complete
                self._stop()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop()
            super().connection_lost(exc)

        def _start(self) -> None:
            self._timer = self.loop.call_later(headers_s, self._give_up)

        def _stop(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _give_up(self) -> None:
            self._timer = None
            # A connection that became a WebSocket has another protocol.
            if not self.transport.is_closing() and self.transport.get_protocol() is self:
                self.transport.write(_ANSWER)
                self.transport.close()

    return TimedProtocol
