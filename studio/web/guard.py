"""The guard in front of every request: host names, origins, repeated headers, closed routes, limits, security headers.

It looks at headers only, and puts limits on the body, which is read by nobody before the gate behind (``login``,
``token_gate``) knows whose the request is. ``UploadedFilesMiddleware`` comes behind that gate.
"""

import asyncio
import re
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from studio.core.private import SERVED_NAME
from studio.core.settings import LOOPBACK, Settings
from studio.web.asgi import App, Message, Receive, Scope, Send, answer, lies_in, named_paths, read, replayed

MAX_JSON_BYTES = 4 * 2**20
"""Most that the body of a request may take, except where files are sent."""

_FILES_PER_UPLOAD = 32
"""One request may carry this many files of the greatest size (browsers send all dropped files in one)."""

_FORM = re.compile(r"/gradio_api/upload/?")
"""The one address that takes forms and does something with them."""
FORM_REFUSED = re.compile(r"/openai/v1/images/(?:edits|variations)/?")
"""Refused by their own interface in the way that its clients read."""
_FILE = re.compile(r"/uploads/[^/]*")
"""Takes one file as it is."""

_BASE64 = re.compile(
    r"(?:/v1/(?:check|finish)|(?:/background)?/remove(?:-opacity)?|(?:/upscaler)?/upsampler"
    r"|(?:/dreambooth)?/service/train|/replicate/v1/models/[^/]+/[^/]+/versions/[^/]+/trainings)/?"
)
"""Takes files inside its JSON, in base64: four characters for three bytes, and some for the JSON around them."""
_AROUND_BYTES = 2**16

FIRST_BYTE_S = 30.0
"""A body may take so long, and ``1 / SLOWEST_BYTES_PER_S`` more for each byte that has arrived."""
SLOWEST_BYTES_PER_S = 8192.0
"""A body that comes more slowly is cut: it would hold its connection for as long as its sender likes."""

# Headers that may come once. Where one comes twice, the guard may read one of them and what lies behind the other.
_SINGLE = frozenset({
    b"authorization", b"content-encoding", b"content-length", b"content-type", b"host", b"origin", b"referer",
    b"sec-fetch-mode", b"sec-fetch-site", b"transfer-encoding", b"x-hf-authorization", b"x-studio-token",
})  # fmt: skip

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

_NO_CORS = b"access-control-"
"""Gradio allows every origin, with credentials, unless the host is called localhost; nobody here asked for that."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


class GuardMiddleware:
    """ASGI middleware in front of everything.

    Args:
        app: what comes behind.
        settings: of the installation.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._max_file_bytes = settings.max_upload_bytes
        named = {host.strip().lower() for host in settings.trusted_hosts.split(",") if host.strip()}
        self._named = named
        self._is_local = settings.host in LOOPBACK
        self._headers = _security_headers(settings.frame_ancestors)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here with a refusal."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no part of the app speaks websockets

        state = RequestState()

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                state.answered = True
                names = {name for name, _ in self._headers}
                kept = [
                    (name, value)
                    for name, value in message.get("headers", [])
                    if name.lower() not in names and not name.lower().startswith(_NO_CORS)
                ]
                if state.cut is not None and state.cut.refusal is _TOO_SLOW:
                    # Not after too large a body: to close while more arrives resets the connection, and the client
                    # never sees the answer. The server throws the rest away as it comes.
                    kept.append((b"connection", b"close"))
                message["headers"] = kept + self._headers
            await send(message)

        async def send_unless_cut(message: Message) -> None:
            # The app behind takes the cut for a fault of its own; its answer must not hide ours.
            if state.cut is None or state.answered:
                await send_with_headers(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await answer(send_with_headers, *refusal)
            return
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            receive = limited(receive, self._max_bytes(scope["path"]), state)
        try:
            await self._app(scope, receive, send_unless_cut)
        except BodyCutError as cut:
            state.cut = cut
        except Exception:
            if state.cut is None:
                raise
        if state.cut is not None and not state.answered:
            await answer(send_with_headers, *state.cut.refusal)

    def _max_bytes(self, path: str) -> int:
        if _FORM.fullmatch(path):
            return self._max_file_bytes * _FILES_PER_UPLOAD
        if FORM_REFUSED.fullmatch(path):  # a picture and its mask
            return max(2 * self._max_file_bytes, MAX_JSON_BYTES)
        if _BASE64.fullmatch(path):
            return max(-(-self._max_file_bytes // 3) * 4 + _AROUND_BYTES, MAX_JSON_BYTES)
        return max(self._max_file_bytes, MAX_JSON_BYTES) if _FILE.fullmatch(path) else MAX_JSON_BYTES

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        names = [name.lower() for name, _ in scope["headers"]]
        repeated = sorted(name.decode("latin-1") for name in _SINGLE if names.count(name) > 1)
        if repeated:
            return 400, f"The header {repeated[0]} comes more than once."
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower()
        if not self._is_trusted(host):
            return 421, "This studio is served under another name; set STUDIO_TRUSTED_HOSTS to allow this one."
        is_read = scope["method"] in ("GET", "HEAD", "OPTIONS")
        if _comes_from_elsewhere(headers, host, self._named, is_read):
            return 403, "Another site may not act for you here."
        if scope["path"].lower().startswith(_CLOSED):
            return 404, "There is nothing here."
        if is_read:
            return None
        is_form = headers.get(b"content-type", "").strip().lower().startswith("multipart/")
        if is_form and not (_FORM.fullmatch(scope["path"]) or FORM_REFUSED.fullmatch(scope["path"])):
            return 415, "This address takes no form; files go to /gradio_api/upload or PUT /uploads/SHA256."
        length = headers.get(b"content-length", "0")
        if not length.isdigit() or int(length) > self._max_bytes(scope["path"]):
            return _TOO_LARGE
        return None

    def _is_trusted(self, host: str) -> bool:
        """Tell whether the browser meant this server: a foreign name that points here is DNS rebinding."""
        if "*" in self._named or host in self._named:
            return True
        name = _host_name(host)
        if name in LOOPBACK or name in self._named:
            return True
        return not self._is_local and _is_address(name)  # no name server can point an address elsewhere


def _comes_from_elsewhere(headers: dict[bytes, str], host: str, named: set[str], is_read: bool) -> bool:
    """Tell whether a browser sends this for the page of another site, or of another port of this machine.

    A browser says in Origin which page wants to write, or to read what it may not see otherwise; programs send none.
    Where it also sends Sec-Fetch-Site, that tells pages from clicks on a link, which anybody may set.
    """
    origin = headers.get(b"origin")
    if origin is not None:
        try:
            parts = urlsplit(origin.lower())
        except ValueError:
            return True
        is_own = _with_port(parts.netloc, parts.scheme) == _with_port(host, parts.scheme)
        if not parts.netloc or not (is_own or parts.netloc in named):
            return True
    is_link = is_read and headers.get(b"sec-fetch-mode", "navigate") == "navigate"
    return headers.get(b"sec-fetch-site") in ("cross-site", "same-site") and not is_link


def _with_port(netloc: str, scheme: str) -> tuple[str, str]:
    name = _host_name(netloc)
    port = netloc[netloc.rindex("]") + 1 :] if "]" in netloc else netloc[len(name) :]
    return name, port.removeprefix(":") or str(_DEFAULT_PORTS.get(scheme, ""))


def _host_name(host: str) -> str:
    return host.rsplit(":", 1)[0].strip("[]") if not host.endswith("]") else host.strip("[]")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


class UploadedFilesMiddleware:
    """ASGI middleware behind the gate: what a JSON body names as a file must have been uploaded before.

    Args:
        app: what comes behind.
        settings: of the installation.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._uploads = upload_folder(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it for a link or a path in its body."""
        path = scope.get("path", "")
        # Where base64 is taken nobody reads a path, and the whole body would be parsed once more; what is refused
        # anyhow is not even kept.
        takes_files = any(pattern.fullmatch(path) for pattern in (_FORM, FORM_REFUSED, _FILE, _BASE64))
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS") and not takes_files:
            body = await read(receive)
            if any(not lies_in(named, self._uploads) for named in named_paths(body)):
                await answer(send, 422, "Upload the file itself; a link or a path is not fetched.")
                return
            receive = replayed(body, receive)
        await self._app(scope, receive, send)


class BodyCutError(Exception):
    """The body is not read on: it is too large, or too slow.

    Args:
        refusal: status and words of the answer.
    """

    def __init__(self, refusal: tuple[int, str]) -> None:
        self.refusal = refusal
        super().__init__(refusal[1])


@dataclass
class RequestState:
    """How one request stands."""

    answered: bool = False
    cut: BodyCutError | None = None


_TOO_LARGE = (413, "That is too much at once; send fewer or smaller photos.")
_TOO_SLOW = (408, "The rest of the request did not come in time; send it again.")


def limited(receive: Receive, max_bytes: int, state: RequestState | None = None) -> Receive:
    """Return a channel that gives a body of so many bytes at most, and at no less than the slowest rate.

    Raises:
        BodyCutError: from the channel, as soon as the body is too large or too slow.
    """
    state = state or RequestState()
    began_s = time.monotonic()
    seen_bytes, is_whole = 0, False

    def cut(refusal: tuple[int, str]) -> BodyCutError:
        state.cut = BodyCutError(refusal)
        return state.cut

    async def counted() -> Message:
        nonlocal seen_bytes, is_whole
        if is_whole:  # from here on it only tells when the client is gone
            return await receive()
        left_s = began_s + FIRST_BYTE_S + seen_bytes / SLOWEST_BYTES_PER_S - time.monotonic()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, left_s))
        except TimeoutError:
            raise cut(_TOO_SLOW) from None
        seen_bytes += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if seen_bytes > max_bytes:
            raise cut(_TOO_LARGE)
        return message

    return counted


def upload_folder(settings: Settings) -> Path:
    """Return the folder that uploads pass through on their way to a job."""
    return settings.home.expanduser().absolute() / SERVED_NAME


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
