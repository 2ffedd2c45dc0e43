"""The guard in front of every request: closed routes, body limits, same-site writes, security headers."""

from dataclasses import dataclass
from pathlib import Path

from studio.core.settings import LOOPBACK, Settings
from studio.web.asgi import App, Message, Receive, Scope, Send, answer, lies_in, named_paths, read, replayed

_MAX_JSON_BYTES = 4 * 2**20


_FILES_PER_UPLOAD = 32
"""One request may carry this many files of the greatest size (browsers send all dropped files in one)."""


# Parts of Gradio that fetch foreign addresses, run generated code, or keep what users did.
_CLOSED = (
    "/gradio_api/file=http",
    "/gradio_api/file/http",
    "/gradio_api/proxy=",
    "/gradio_api/dev/",
    "/gradio_api/vibe-",
    "/gradio_api/undo-vibe-",
    "/gradio_api/deep_link",
    "/gradio_api/process_recording",
    "/gradio_api/run-history",
    "/gradio_api/profiling",
    "/monitoring",
)


class GuardMiddleware:
    """ASGI middleware in front of everything: closed doors, body caps, same-site writes, security headers."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._uploads = upload_folder(settings)
        self._max_upload_bytes = settings.max_upload_bytes * _FILES_PER_UPLOAD
        extra = {host.strip().lower() for host in settings.trusted_hosts.split(",") if host.strip()}
        # Only where the app listens for this machine alone does a foreign Host mean an attack (DNS rebinding).
        self._hosts = LOOPBACK | extra if settings.host in LOOPBACK and "*" not in extra else None
        self._headers = _security_headers(settings.frame_ancestors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here with a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no part of the app speaks websockets

        state = _RequestState()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.answered = True
                names = {name for name, _ in self._headers}
                kept = [(name, value) for name, value in message.get("headers", []) if name.lower() not in names]
                message["headers"] = kept + self._headers
            await send(message)

        async def send_unless_too_large(message: Message) -> None:
            # The app behind takes the cut for a fault of its own; its answer must not hide ours.
            if not state.too_large or state.answered:
                await send_with_headers(message)

        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is None and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            receive, refusal = await self._body(headers, receive, state)
        if refusal is not None:
            await answer(send_with_headers, *refusal)
            return
        try:
            await self._app(scope, receive, send_unless_too_large)
        except Exception:
            if not state.too_large:
                raise
        if state.too_large and not state.answered:
            await answer(send_with_headers, *_TOO_LARGE)

    def _refusal(self, scope: Scope, headers: dict[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "").lower()
        name = host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")
        if self._hosts is not None and name not in self._hosts:
            return 421, "This studio is served under another name; set STUDIO_TRUSTED_HOSTS to allow this one."
        if scope["path"].lower().startswith(_CLOSED):
            return 404, "There is nothing here."
        writes = scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if writes and headers.get(b"sec-fetch-site") == "cross-site":
            return 403, "Another site may not act for you here."
        return None

    async def _body(
        self, headers: dict[bytes, str], receive: Receive, state: "_RequestState"
    ) -> tuple[Receive, tuple[int, str] | None]:
        is_upload = headers.get(b"content-type", "").lower().startswith("multipart/")
        cap_bytes = self._max_upload_bytes if is_upload else _MAX_JSON_BYTES
        length = headers.get(b"content-length", "0")
        if not length.isdigit() or int(length) > cap_bytes:
            return receive, _TOO_LARGE
        if is_upload:
            return _capped(receive, cap_bytes, state), None
        try:
            body = await read(_capped(receive, cap_bytes, state))
        except _TooLargeError:
            return receive, _TOO_LARGE
        if any(not lies_in(path, self._uploads) for path in named_paths(body)):
            return receive, (422, "Upload the file itself; a link or a path is not fetched.")
        return replayed(body, receive), None


class _TooLargeError(Exception):
    pass


@dataclass
class _RequestState:
    """How one request stands."""

    answered: bool = False
    too_large: bool = False


_TOO_LARGE = (413, "That is too much at once; send fewer or smaller photos.")


def _capped(receive: Receive, cap_bytes: int, state: _RequestState) -> Receive:
    seen_bytes = 0

    async def counted() -> Message:
        nonlocal seen_bytes
        message = await receive()
        seen_bytes += len(message.get("body", b""))
        if seen_bytes > cap_bytes:
            state.too_large = True
            raise _TooLargeError
        return message

    return counted


def upload_folder(settings: Settings) -> Path:
    """Return the folder that uploads pass through on their way to a job."""
    return settings.home.expanduser().absolute() / "web-cache"


def _security_headers(frame_ancestors: str) -> list[tuple[bytes, bytes]]:
    policy = "; ".join(
        (
            "default-src 'self'",
            # Gradio's front end starts from inline scripts and compiles its HTML templates.
            "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "media-src 'self' data: blob:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            f"frame-ancestors {frame_ancestors}",
        )
    )
    headers = {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "same-origin",
        "permissions-policy": "camera=(), microphone=(), geolocation=()",
        "cross-origin-resource-policy": "same-origin",
    }
    return [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
