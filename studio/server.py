"""The web server: guard, plain routes and Gradio in one ASGI app; ``serve`` runs it until it is stopped.

Called by app.py. Gradio is mounted last; everything that comes in passes ``Guard`` first. torch is never imported
here: the verbs run in the worker's child processes.
"""

import asyncio
import json
import logging
import os
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import Mount

from studio.asgi import App, Message, Receive, Scope, Send, answer, lies_in, named_paths, read, replayed
from studio.errors import InputError, Problem, ResourceError
from studio.login import Doorman, Gate, folder_of, visitor_of
from studio.settings import LOOPBACK, Settings

if TYPE_CHECKING:
    import gradio as gr

    from studio.service import Studio

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


def create_app(studio: "Studio", settings: Settings) -> FastAPI:
    """Return the whole app: guard, plain routes, page and endpoints. The studio is closed when the app shuts down."""
    import gradio as gr

    from studio.routes import add_routes
    from studio.ui.actions import Desk
    from studio.ui.build import build
    from studio.ui.visitors import asking

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        studio.close()

    app = FastAPI(title="Likeness Studio", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    desk = Desk(studio, settings, asking if settings.login else None)
    page = build(desk)
    # Only launch() sets this, and without it Gradio takes any file of this machine for an upload when it is named.
    page.has_launched = True
    doorman, public = Doorman(), set[Path]()
    if settings.login:
        _require_account()
        app.add_middleware(Gate, doorman=doorman, folder=upload_folder(settings), public=public)
        app.post("/gradio_api/upload")(_upload_of_an_owner(page, settings))
        add_routes(app, lambda request: replace(desk, visitor=lambda: visitor_of(request.scope)), settings)
    else:
        add_routes(app, lambda _: desk, settings)
    app.add_middleware(Guard, settings=settings)  # added last, it comes first
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        **page_options(settings),
    )
    if settings.login:
        doorman.session_secret = _session_secret(app)
        public.update(map(Path, named_paths(json.dumps(page.config, default=str).encode())))
    return app


def page_options(settings: Settings) -> dict[str, Any]:
    """Return how Gradio serves a page of ours, mounted or launched: its looks, and what of its own stays closed."""
    import gradio as gr

    from studio.ui.theme import CSS, WORDS, theme

    return {
        "footer_links": [],
        "run_history": False,
        "enable_monitoring": False,
        "show_error": False,
        "ssr_mode": False,
        "pwa": False,
        "mcp_server": False,
        "allowed_paths": [],
        "max_file_size": settings.max_upload_bytes,
        "theme": theme(),
        "css": CSS,
        "i18n": gr.I18n(en=WORDS),
    }


def _require_account() -> None:
    """Say in words what Gradio needs to play a login outside of a Space; raises InputError."""
    from gradio.utils import get_space
    from huggingface_hub import get_token

    if get_space() is None and get_token() is None:
        cure = "log this machine in with `hf auth login`, or leave it out"
        raise InputError.of([Problem("STUDIO_LOGIN", "has no account to play a login with", cure, "no_login")])


def _session_secret(app: FastAPI) -> str:
    """Return what the mounted Gradio signs its session cookies with."""
    mounted = next(route.app for route in app.routes if isinstance(route, Mount))
    assert isinstance(mounted, FastAPI)
    cookies = next(row for row in mounted.user_middleware if row.cls is SessionMiddleware)
    return str(cookies.kwargs["secret_key"])


def _upload_of_an_owner(page: "gr.Blocks", settings: Settings) -> Callable[..., Awaitable[Response]]:
    """Return Gradio's upload with the owner's folder in the place of the one that everybody shares."""
    from gradio.route_utils import MultiPartException, upload_fn
    from gradio.routes import file_upload_statuses

    async def upload(request: Request, upload_id: str | None = None) -> Response:
        folder = folder_of(upload_folder(settings), visitor_of(request.scope).owner)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = file_upload_statuses if upload_id else None
        try:
            taken, _, _ = await upload_fn(request, str(folder), settings.max_upload_bytes, upload_id, True, told)
        except MultiPartException as error:
            return PlainTextResponse(error.message, 413 if "maximum allowed size" in error.message else 400)
        page.upload_file_set.update(taken)  # swept with the others
        return JSONResponse(taken)

    return upload


class Guard:
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

        state = _State()

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
        self, headers: dict[bytes, str], receive: Receive, state: "_State"
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
class _State:
    """How one request stands."""

    answered: bool = False
    too_large: bool = False


_TOO_LARGE = (413, "That is too much at once; send fewer or smaller photos.")


def _capped(receive: Receive, cap_bytes: int, state: _State) -> Receive:
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


def prepare_environment(settings: Settings) -> None:
    """Set what Gradio and the Hub client read from the environment; call it before gradio is imported.

    The one place of the studio that writes there: neither library takes these as arguments. Uploads pass through a
    folder of the studio's own, which is emptied at every start, so that a crash leaves no photos behind.
    """
    cache = upload_folder(settings)
    shutil.rmtree(cache, ignore_errors=True)
    try:
        cache.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ResourceError(
            f"the folder {cache.parent} cannot be used ({error.strerror}); set STUDIO_HOME to another one."
        ) from error
    os.environ["GRADIO_TEMP_DIR"] = str(cache)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Otherwise the queue tabulates all events so far after each event, for a monitoring page that is closed here.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**12)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until the process is told to stop.

    Args:
        settings: where to keep things and where to listen.
        on_ready: told the address as soon as the port is taken.

    Raises:
        ResourceError: the port is taken or the home folder cannot be used.
    """
    listener = _listen(settings.host, settings.port)
    prepare_environment(settings)
    from studio.service import Studio

    studio = Studio(settings)
    app = create_app(studio, settings)
    studio.start()
    host, port = settings.host, listener.getsockname()[1]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    on_ready(f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}")
    run(app, listener)


def run(app: FastAPI, listener: socket.socket) -> None:
    """Serve ``app`` on a bound socket until the process is told to stop; pages that are open then are cut off."""
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=3, server_header=False
    )
    logging.getLogger("uvicorn.error").addFilter(_QuietEnd())
    uvicorn.Server(config).run(sockets=[listener])


class _QuietEnd(logging.Filter):
    """Leaves out what uvicorn says, trace and all, of every page that is still open when the server stops."""

    def filter(self, record: logging.LogRecord) -> bool:
        cause = record.exc_info[0] if record.exc_info else None
        cut_off = cause is not None and issubclass(cause, asyncio.CancelledError)
        return not cut_off and "graceful shutdown" not in record.getMessage()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        if os.name != "nt":  # there it would let two servers share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # From here on a browser waits for the first page instead of being turned away.
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ResourceError(
            f"cannot listen on {host}:{port} ({error.strerror}); set STUDIO_PORT to a free port."
        ) from None
    return listener
