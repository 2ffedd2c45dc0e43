"""ASGI middleware in front of everything: the path without a gateway's prefix, a request's id, log line and time.

What is told of a request is the template of its route, its status and how long it took: no address, since addresses
hold ids and names, and no query, header or body, since those hold secrets.
"""

import hmac
import logging
import re
import secrets
import time
from typing import Any

from fastapi.concurrency import run_in_threadpool

from studio.core.logs import FIELDS, REQUEST
from studio.core.settings import Settings
from studio.web.asgi import App, Message, Receive, Scope, Send, header_of
from studio.web.metrics import MEDIA_TYPE, Metrics

METRICS_PATH = "/v1/metrics"
_ID_HEADER = b"x-request-id"
_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
"""What a gateway may call a request."""

_log = logging.getLogger("studio.web.requests")


class ObserveMiddleware:
    """Gives each request an id, which the answer carries, and tells how it went.

    Args:
        app: what comes behind.
        settings: of the installation.
        metrics: counts requests; None counts none.
    """

    def __init__(self, app: App, settings: Settings, metrics: Metrics | None) -> None:
        self._app = app
        self._prefix = settings.root_path
        self._metrics = metrics
        self._logs = settings.log == "json"
        token = settings.metrics_token
        self._token = None if token is None else token.get_secret_value().encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._take_prefix_off(scope)
        given = header_of(scope, _ID_HEADER)
        name = given if _ID.fullmatch(given) else secrets.token_hex(8).encode()
        began_s, status = time.monotonic(), 500

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (_ID_HEADER, name)]
            await send(message)

        asked = REQUEST.set(name.decode())
        try:
            if scope["path"] == METRICS_PATH and self._is_operator(scope):
                await self._tell_metrics(named)
            else:
                await self._app(scope, receive, named)
        finally:
            self._tell(scope, status, time.monotonic() - began_s)
            REQUEST.reset(asked)

    def _take_prefix_off(self, scope: Scope) -> None:
        """Let those behind see the path as it is without a gateway, whether that has taken its prefix off or not."""
        if not self._prefix:
            return
        scope["root_path"] = self._prefix
        if scope["path"].startswith(f"{self._prefix}/"):
            scope["path"] = scope["path"].removeprefix(self._prefix)
            scope["raw_path"] = scope.get("raw_path", b"").removeprefix(self._prefix.encode())

    def _is_operator(self, scope: Scope) -> bool:
        """Tell whether the sender shows the token for the metrics."""
        if self._token is None or self._metrics is None or scope["method"] != "GET":
            return False
        kind, _, given = header_of(scope, b"authorization").partition(b" ")
        return kind.lower() == b"bearer" and hmac.compare_digest(given.strip(), self._token)

    async def _tell_metrics(self, send: Send) -> None:
        assert self._metrics is not None
        body = await run_in_threadpool(self._metrics.text)
        headers = [(b"content-type", MEDIA_TYPE.encode()), (b"content-length", str(len(body)).encode())]
        headers.append((b"cache-control", b"no-store"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = METRICS_PATH if scope["path"] == METRICS_PATH else template_of(scope)
        if self._metrics is not None:
            self._metrics.requested(scope["method"], route, status, seconds)
        if self._logs:
            fields = {"method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 4)}
            _log.info("request", extra={FIELDS: fields})


def template_of(scope: Scope) -> str:
    """Return the template of the route that answered; other for what none did."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", None) or "other")
