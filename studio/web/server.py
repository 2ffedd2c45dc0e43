"""The web server: guard, plain routes and Gradio in one ASGI app; ``serve`` runs it until it is stopped.

Called by app.py. Gradio is mounted last; everything that comes in passes ``Guard`` first. torch is never imported
here: the verbs run in the worker's child processes.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import Mount

from studio.core import language, logs, redaction
from studio.core.errors import InputError, MissingExtraError, Problem, ResourceError
from studio.core.private import make_file, make_folder, make_home, served_folder
from studio.core.server_token import require_guarded, server_token, uses_keys
from studio.core.settings import Settings, language_of
from studio.imaging.nudity import require_installed
from studio.imaging.provenance import EXPIRES_SOON_DAYS, signing
from studio.web.asgi import named_paths
from studio.web.full_disk import FullDisk
from studio.web.guard import GuardMiddleware, UploadedFilesMiddleware, upload_folder
from studio.web.key_gate import KeyMiddleware, KnownVisitor
from studio.web.login import Authenticator, LoginMiddleware, Visitor, visitor_of
from studio.web.metrics import Metrics
from studio.web.observe import ObserveMiddleware
from studio.web.slow_headers import timed_protocol
from studio.web.token_gate import TokenMiddleware

if TYPE_CHECKING:
    import gradio as gr

    from studio.service import Studio

logger = logging.getLogger(__name__)


def create_app(studio: "Studio", settings: Settings) -> FastAPI:
    """Return the whole app: guard, gate, plain routes, page, endpoints. The studio is closed when the app shuts down.

    Raises:
        InputError: others would reach a server that has neither token nor login, there is no account to play a
            login with, or the certificate that signs pictures cannot be used.
        MissingExtraError: an extra that the settings ask for is not installed.
        ResourceError: the home folder cannot be used.
    """
    language.use(language_of(settings))
    import gradio as gr

    from studio.service import open_keys
    from studio.web.api.agents import add_agents, serving_agents
    from studio.web.api.errors import ErrorShapes
    from studio.web.api.interfaces import SHAPES, add_interfaces
    from studio.web.calls import CallsMiddleware, tell_failures_in_words
    from studio.web.limits import LimitedStudio, is_limited
    from studio.web.page.build import build
    from studio.web.page.visitors import current_visitor
    from studio.web.routes import add_routes
    from studio.web.session import StudioSession
    from studio.web.session_states import SessionStates

    require_guarded(settings)
    _require_credentials(settings)
    if settings.works != "never":
        require_installed(settings)
    token = _token(settings)

    keys = open_keys(settings) if uses_keys(settings) else None

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with serving_agents(agents):
            yield
        studio.close()
        if keys is not None:
            keys.close()

    app = FastAPI(title="Likeness Studio", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    with_keys = uses_keys(settings)
    by_owner = bool(settings.login) or with_keys
    visitor = current_visitor if by_owner else None
    limited: Any = LimitedStudio(studio, settings, visitor) if with_keys or is_limited(settings) else None
    session = StudioSession(limited or studio, settings, visitor)
    page = build(session)
    # Only launch() sets this, and without it Gradio takes any file of this machine for an upload when it is named.
    page.has_launched = True
    tell_failures_in_words(page)
    authenticator, public = Authenticator(), set[Path]()
    # What is added last comes first: guard, gate, and only then somebody who reads the body.
    app.add_middleware(CallsMiddleware, page=page)
    app.add_middleware(UploadedFilesMiddleware, settings=settings)
    if settings.login:
        _require_account()
    if by_owner:
        known = KnownVisitor() if with_keys else authenticator
        app.add_middleware(LoginMiddleware, authenticator=known, folder=upload_folder(settings), public=public)
        app.post("/gradio_api/upload")(_upload_of_an_owner(page, settings))

    def session_of(request: Request) -> StudioSession:
        if not by_owner:
            return session

        def sender() -> Visitor:
            return visitor_of(request.scope)

        return replace(session, studio=limited.seen_by(sender) if limited else studio, visitor=sender)

    add_routes(app, session_of, settings)
    add_interfaces(app, session_of, settings)
    agents = add_agents(app) if settings.mcp else None
    app.add_middleware(FullDisk)
    if token is not None:
        app.add_middleware(TokenMiddleware, token=token)
    if keys is not None:
        app.add_middleware(KeyMiddleware, keys=keys, settings=settings)
    app.add_middleware(GuardMiddleware, settings=settings)
    app.add_middleware(ErrorShapes, shapes=SHAPES)
    desk = getattr(studio, "desk", None)
    if desk is not None:
        from studio.web.machines import MachinesMiddleware

        app.add_middleware(MachinesMiddleware, desk=desk)
    app.state.metrics = _metrics(studio)
    app.add_middleware(ObserveMiddleware, settings=settings, metrics=app.state.metrics)  # added last, it comes first
    gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        root_path=settings.root_path or None,
        **page_options(settings),
    )
    mounted = _mounted(app)
    mounted.state_holder = SessionStates(page)
    if settings.login:
        authenticator.session_secret = _session_secret(mounted)
    if by_owner:
        public.update(map(Path, named_paths(json.dumps(page.config, default=str).encode())))
    return app


def page_options(settings: Settings) -> dict[str, Any]:
    """Return how Gradio serves a page of ours, mounted or launched: its looks, and what of its own stays closed."""
    import gradio as gr

    from studio.web.page.script import script
    from studio.web.page.theme import CSS, HEAD, theme, widget_words
    from studio.web.session import OPEN_STATES

    return {
        "footer_links": ["api"],  # Gradio's own footer is hidden; ours links the page that this opens
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
        "head": HEAD + script(OPEN_STATES),
        # Gradio takes its own texts in the browser's language; the page has one language for all.
        "i18n": gr.I18n(**dict.fromkeys(language.languages(), widget_words())),
    }


def _metrics(studio: "Studio") -> Metrics | None:
    """Return what counts for Prometheus; None where its package is not installed."""
    try:
        metrics = Metrics(studio.server)
    except MissingExtraError:
        return None
    studio.server.observe(metrics)
    return metrics


def _require_credentials(settings: Settings) -> None:
    """Open the certificate that signs pictures, so that a wrong one is told at the start; raises InputError."""
    signer = signing(settings)
    if signer is None:
        return
    if (left := signer.days_left()) < EXPIRES_SOON_DAYS:
        logger.warning("The certificate of STUDIO_C2PA_CERT ends in %d days; then no pictures can be made.", left)
    if settings.runner != "local":
        logger.warning(
            "Pictures that STUDIO_RUNNER=%s makes are not signed here: a machine signs its own, with a "
            "STUDIO_C2PA_CERT of its own.",
            settings.runner,
        )


def _require_account() -> None:
    """Say in words what Gradio needs to play a login outside of a Space; raises InputError."""
    from gradio.utils import get_space
    from huggingface_hub import get_token

    if get_space() is None and get_token() is None:
        cure = "log this machine in with `hf auth login`, or leave it out"
        raise InputError.of([Problem("STUDIO_LOGIN", "has no account to play a login with", cure, "no_login")])


def _token(settings: Settings) -> str | None:
    try:
        return server_token(settings)
    except OSError as error:
        raise ResourceError(
            f"the folder {settings.home} cannot hold the server's token ({error}); set STUDIO_HOME to another one."
        ) from error


def _mounted(app: FastAPI) -> Any:
    """Return the app of Gradio inside ours."""
    return next(route.app for route in app.routes if isinstance(route, Mount))


def _session_secret(mounted: Any) -> str:
    """Return what the mounted Gradio signs its session cookies with."""
    cookies = next(row for row in mounted.user_middleware if row.cls is SessionMiddleware)
    return str(cookies.kwargs["secret_key"])


def _upload_of_an_owner(page: "gr.Blocks", settings: Settings) -> Callable[..., Awaitable[Response]]:
    """Return Gradio's upload with the owner's folder in the place of the one that everybody shares."""
    from gradio.route_utils import MultiPartException, upload_fn
    from gradio.routes import file_upload_statuses

    async def upload(request: Request, upload_id: str | None = None) -> Response:
        folder = served_folder(upload_folder(settings), visitor_of(request.scope).owner)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        told = file_upload_statuses if upload_id else None
        try:
            taken, _, _ = await upload_fn(request, str(folder), settings.max_upload_bytes, upload_id, True, told)
        except MultiPartException as error:
            return PlainTextResponse(error.message, 413 if "maximum allowed size" in error.message else 400)
        page.upload_file_set.update(taken)  # swept with the others
        return JSONResponse(taken)

    return upload


def prepare_environment(settings: Settings) -> None:
    """Close new files to others, set what Gradio and the Hub client read; call it before gradio is imported.

    The one place of the studio that writes there: neither library takes these as arguments. Uploads pass through a
    folder of the studio's own, which is emptied at every start that finds no other server on this home, so that a
    crash leaves no photos behind.
    """
    os.umask(0o077)  # whatever library writes a file here, it is of people
    cache = upload_folder(settings)
    try:
        make_home(cache.parent)
        _sweep_uploads(cache)
    except OSError as error:
        raise ResourceError(
            f"the folder {cache.parent} cannot be used ({error.strerror}); set STUDIO_HOME to another one."
        ) from error
    os.environ["GRADIO_TEMP_DIR"] = str(cache)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    # Otherwise the queue tabulates all events so far after each event, for a monitoring page that is closed here.
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**12)
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def _sweep_uploads(cache: Path) -> None:
    """Empty the folder of uploads, unless another server on this home has uploads of its own there; raises OSError."""
    path = cache.with_name(f"{cache.name}.lock")
    make_file(path)
    # Never closed on purpose: every server holds its share of the lock until it ends, however that comes.
    lock = os.open(path, os.O_RDWR)
    with contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(cache, ignore_errors=True)
    fcntl.flock(lock, fcntl.LOCK_SH)
    make_folder(cache)


def serve(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Serve until the process is told to stop.

    Args:
        settings: where to keep things and where to listen.
        on_ready: told the address as soon as the port is taken, with the token that opens it.

    Raises:
        ResourceError: the port is taken or the home folder cannot be used.
        InputError: others would reach a server that has neither token nor login.
    """
    require_guarded(settings)
    listener = _listen(settings.host, settings.port)
    prepare_environment(settings)
    from studio.service import Studio

    settings = settings.model_copy(update={"port": listener.getsockname()[1]})
    studio = Studio(settings)
    app = create_app(studio, settings)
    studio.start()
    host, port = settings.host, listener.getsockname()[1]
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    token = _token(settings)
    address = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    if settings.log == "json":  # what is printed here is kept by others, for long
        logs.install()
        on_ready(address)
    else:
        on_ready(address + _way_in(token))
    keep_secrets_out_of_logs(settings)  # only now: the address was printed with its token
    redaction.hide(token)
    run(app, listener, drain=lambda: studio.server.drain(settings.drain_s), log_config=settings.log == "text")


def _way_in(token: str | None) -> str:
    return "" if token is None else f"/?token={token}"


def keep_secrets_out_of_logs(settings: Settings) -> None:
    """Hide tokens, keys and passwords in everything that this process logs and prints from now on."""
    secrets = (
        settings.hub_token,
        settings.civitai_key,
        settings.backup_url,
        settings.database_url,
        settings.storage_url,
        settings.remote_token,
        settings.metrics_token,
    )
    redaction.hide(*(secret.get_secret_value() for secret in secrets if secret is not None))
    redaction.install()


def run(
    app: FastAPI, listener: socket.socket, *, drain: Callable[[], object] | None = None, log_config: bool = True
) -> None:
    """Serve ``app`` on a bound socket until the process is told to stop; pages that are open then are cut off.

    Args:
        app: what answers.
        listener: where it listens.
        drain: called when a service manager tells the process to stop (SIGTERM), while requests are answered still;
            the server stops when it returns, or at once when it is told again or interrupted.
        log_config: whether uvicorn sets its loggers up as it likes.
    """
    import uvicorn

    class DrainingServer(uvicorn.Server):
        """Stops when everything is drained."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            nonlocal drain
            if drain is None or sig != signal.SIGTERM or self.should_exit:
                super().handle_exit(sig, frame)
                return
            first, drain = drain, None  # told again, it stops at once

            def drained() -> None:
                try:
                    first()
                finally:
                    uvicorn.Server.handle_exit(self, sig, frame)

            threading.Thread(target=drained, name="studio-drain", daemon=True).start()

    more: dict[str, Any] = {} if log_config else {"log_config": None}
    config = uvicorn.Config(
        app,
        http=timed_protocol(),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=3,
        server_header=False,
        **more,
    )
    logging.getLogger("uvicorn.error").addFilter(_ShutdownLogFilter())
    DrainingServer(config).run(sockets=[listener])


class _ShutdownLogFilter(logging.Filter):
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
