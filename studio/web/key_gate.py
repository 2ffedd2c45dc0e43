"""The gate of a server with API keys: whose a request is, what its key may do, how often, and for how long.

A program sends its key in a header; a browser signs in with it once and keeps a cookie that is derived from the key and
is not the key. The key is looked up again for every request, and every two seconds while a stream of events is open:
what is revoked or has expired opens nothing from then on. What of Gradio is whose is the matter of ``LoginMiddleware``
behind, and what a key may do with jobs that of ``LimitedStudio``.
"""

import asyncio
import hashlib
import html
import logging
import re
from dataclasses import replace
from typing import Protocol
from urllib.parse import parse_qs

from studio.core.errors import ForbiddenError, LoginError, StudioError
from studio.core.keys import ApiKey, Quota, quota_of
from studio.core.settings import Settings
from studio.web.asgi import COUNTED, App, Message, Receive, Scope, Send, answer, cookie_of, header_of, read
from studio.web.guard import RequestState, limited
from studio.web.limits import Count, RequestCounter, rate_headers, require_scope
from studio.web.login import VISITOR, Visitor

COOKIE_LIFE_S = 30 * 24 * 3600
RECHECK_S = 2.0
"""While events are streamed, the key is looked up so often."""
ACTS_FOR = b"x-studio-owner"
"""Header with which an administrator's key acts in the name of another owner; each such request is written down."""

WORDS = (
    "This studio opens with an API key. In a browser, open its first page and sign in with your key; programs send"
    " 'Authorization: Bearer lsk_...'. Whoever runs the server makes keys with `python -m studio keys create`."
)

_HEADERS = (b"authorization", b"x-hf-authorization", b"x-studio-token")
_SIGN_IN, _SIGN_OUT = "/sign-in", "/sign-out"
_MOST_FORM_BYTES = 4096
_BROWSER_FACTOR = 10
"""The page asks more often than a program does."""
_READS = ("GET", "HEAD", "OPTIONS")
_AGENTS = "/mcp"
_CALLS = re.compile(rf"/gradio_api/(?!upload/?$).*|{_AGENTS}", re.DOTALL)
"""Written to for reading, too; what its calls do is checked where they do it."""
_NAMES = re.compile(r"^(/v1/subjects/).+", re.DOTALL)
"""Addresses that name a person: what is written down for good must not."""
_PUBLISHES = re.compile(r"/v1/publish/?")

_log = logging.getLogger("studio.audit")


class KeyBook(Protocol):
    """What the gate asks of the keys; ``studio.jobs.keys.Keys`` answers."""

    def by_text(self, text: str) -> ApiKey:
        """Return the key that a program has sent; raises LoginError."""

    def by_cookie(self, value: str) -> ApiKey:
        """Return the key that a browser was signed in with; raises LoginError."""

    def cookie_of(self, key: ApiKey) -> str:
        """Return what a browser keeps."""

    def require_live(self, key_id: str) -> None:
        """Look again whether a key still opens anything; raises LoginError."""

    def note_access(self, key: ApiKey, owner: str, method: str, path: str) -> None:
        """Write down what an administrator asks in the name of another owner."""


class KnownVisitor:
    """Tells ``LoginMiddleware`` who the gate in front of it has let pass."""

    async def identify(self, scope: Scope) -> Visitor | LoginError:
        """Return who sent a request."""
        found = scope.get(VISITOR)
        return found if isinstance(found, Visitor) else LoginError(WORDS)


class KeyMiddleware:
    """ASGI middleware: every request needs a key; there are no exceptions but the page that asks for one.

    Args:
        app: what comes behind.
        keys: the keys of the installation.
        settings: of the installation.
    """

    def __init__(self, app: App, keys: KeyBook, settings: Settings) -> None:
        self._app = app
        self._keys = keys
        self._settings = settings
        self._counter = RequestCounter()
        # Cookies of all ports of a host lie in one jar: two studios on one machine must not overwrite each other's.
        place = str(settings.home.expanduser().absolute())
        self._cookie = f"studio-key-{hashlib.sha256(place.encode()).hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it before its body is read."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == _SIGN_IN and scope["method"] == "POST":
            await self._sign_in(scope, receive, send)
        elif scope["path"] == _SIGN_OUT and scope["method"] == "POST":
            await _moved(send, "/", self._set_cookie(scope, "", 0))
        else:
            try:
                key, is_browser = await asyncio.to_thread(self._key_of, scope)
            except LoginError as error:
                await self._refuse(scope, send, str(error))
            except StudioError as error:  # the table of keys cannot be read
                await answer(send, error.status, str(error))
            else:
                await self._pass(scope, receive, send, key, is_browser=is_browser)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, key: ApiKey, *, is_browser: bool) -> None:
        quota = quota_of(self._settings, key)
        if quota.requests_per_minute is not None and COUNTED not in scope:
            factor = _BROWSER_FACTOR if is_browser else 1
            count = self._counter.count(f"{key.id} {is_browser}", factor * quota.requests_per_minute)
            send = _with_headers(send, count)
            if count.left < 0:
                words = f"that is more than {count.limit} requests in a minute; go on in {count.resets_in_s} seconds."
                await answer(send, 429, words, in_protocol=scope["path"] == _AGENTS)
                return
        try:
            _require_small(scope, quota)
            owner = _owner_of(scope, key)
            if scope["method"] not in _READS and not _CALLS.fullmatch(scope["path"]):
                require_scope(key, "publish" if _PUBLISHES.fullmatch(scope["path"]) else "jobs")
            if owner != key.owner:
                path = _NAMES.sub(r"\1...", scope["path"])
                await asyncio.to_thread(self._keys.note_access, key, owner, scope["method"], path)
                _log.warning("%s as %s: %s %s", key.id, owner, scope["method"], path)
        except StudioError as error:
            await answer(send, error.status, str(error))
            return
        scope[VISITOR] = Visitor(owner, key.name or key.id, key=replace(key, owner=owner))
        if quota.body_bytes is None or scope["method"] in _READS:
            await self._while_live(scope, receive, send, key)
        else:
            await self._within(quota.body_bytes, scope, receive, send, key)

    async def _within(self, most_bytes: int, scope: Scope, receive: Receive, send: Send, key: ApiKey) -> None:
        """Pass a request on whose body may take so many bytes."""
        state = RequestState()

        async def unless_cut(message: Message) -> None:
            # The app behind takes the cut for a fault of its own; its answer must not hide ours.
            if state.cut is None or state.answered:
                state.answered = True
                await send(message)

        try:
            await self._while_live(scope, limited(receive, most_bytes, state), unless_cut, key)
        except Exception:
            if state.cut is None:
                raise
        if state.cut is not None and not state.answered:
            await answer(send, *state.cut.refusal)

    async def _while_live(self, scope: Scope, receive: Receive, send: Send, key: ApiKey) -> None:
        """Pass a request on, and end its stream of events when the key opens nothing any more."""
        streams = False

        async def noticed(message: Message) -> None:
            nonlocal streams
            if message["type"] == "http.response.start":
                kinds = [value for name, value in message.get("headers", []) if name.lower() == b"content-type"]
                streams = any(kind.startswith(b"text/event-stream") for kind in kinds)
            await send(message)

        work = asyncio.ensure_future(self._app(scope, receive, noticed))
        try:
            while not (await asyncio.wait({work}, timeout=RECHECK_S))[0]:
                if streams and not await asyncio.to_thread(self._is_live, key.id):
                    await _cancelled(work)
                    await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
            work.result()
        finally:
            await _cancelled(work)

    def _is_live(self, key_id: str) -> bool:
        try:
            self._keys.require_live(key_id)
        except LoginError:
            return False
        except StudioError:  # the table cannot be read just now
            return True
        return True

    def _key_of(self, scope: Scope) -> tuple[ApiKey, bool]:
        """Return the key of a request, and whether it came as a browser's cookie; raises LoginError."""
        for wanted in _HEADERS:
            given = header_of(scope, wanted).decode("latin-1").strip()
            if given[:7].lower() == "bearer ":
                given = given[7:].strip()
            if given:
                return self._keys.by_text(given), False
        held = cookie_of(scope, self._cookie)
        if not held:
            raise LoginError(WORDS)
        return self._keys.by_cookie(held), True

    async def _sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        form = parse_qs((await read(limited(receive, _MOST_FORM_BYTES))).decode("latin-1"))
        given = form.get("key", [""])[0].strip()
        try:
            key = await asyncio.to_thread(self._keys.by_text, given)
            value = await asyncio.to_thread(self._keys.cookie_of, key)
        except LoginError as error:
            await _ask_for_key(send, str(error))
        except StudioError as error:
            await answer(send, error.status, str(error))
        else:
            await _moved(send, "/", self._set_cookie(scope, value, COOKIE_LIFE_S))

    def _set_cookie(self, scope: Scope, value: str, life_s: int) -> str:
        # Lax, not Strict: a link to the page in a mail or a chat must still open it. Writes are the guard's matter.
        cookie = f"{self._cookie}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Lax"
        return f"{cookie}; Secure" if scope.get("scheme") == "https" else cookie

    async def _refuse(self, scope: Scope, send: Send, words: str) -> None:
        if scope["method"] == "GET" and scope["path"] == "/" and b"text/html" in header_of(scope, b"accept"):
            await _ask_for_key(send, "" if words == WORDS else words)
        else:
            await answer(send, 401, words, headers=[(b"www-authenticate", b"Bearer")])


def _owner_of(scope: Scope, key: ApiKey) -> str:
    """Return in whose name a request is made; raises ForbiddenError where that is not the key's to say."""
    named = header_of(scope, ACTS_FOR).decode("latin-1").strip()
    if not named or named == key.owner:
        return key.owner
    if "admin" not in key.scopes:
        raise ForbiddenError(f"the key {key.id} is {key.owner}'s; only one with the scope admin acts for others.")
    if len(named) > 200 or not named.isprintable():
        raise ForbiddenError("X-Studio-Owner is no owner.")
    return named


class _TooLargeError(StudioError):
    status = 413


def _require_small(scope: Scope, quota: Quota) -> None:
    length = header_of(scope, b"content-length") or b"0"
    if quota.body_bytes is not None and length.isdigit() and int(length) > quota.body_bytes:
        raise _TooLargeError(f"that is too much at once; this key may send {quota.body_bytes} bytes in a request.")


def _with_headers(send: Send, count: Count) -> Send:
    async def told(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *rate_headers(count)]
        await send(message)

    return told


async def _cancelled(work: "asyncio.Future[None]") -> None:
    if not work.done():
        work.cancel()
        await asyncio.wait({work})


async def _moved(send: Send, place: str, cookie: str) -> None:
    headers = [(b"location", place.encode()), (b"set-cookie", cookie.encode("latin-1")), (b"content-length", b"0")]
    headers.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": 303, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Likeness Studio</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 15vh auto; padding: 0 1rem }}
input, button {{ font: inherit; padding: .4rem .6rem }}</style></head>
<body><h1>Likeness Studio</h1>{said}<p>Sign in with your key. It begins with lsk_; whoever runs this studio gave it to
you, or can make you one.</p>
<form method="post" action="/sign-in"><label>Key <input type="password" name="key" autocomplete="current-password"
required autofocus></label> <button>Sign in</button></form></body></html>
"""


async def _ask_for_key(send: Send, words: str) -> None:
    said = f'<p role="alert"><strong>{html.escape(words[:1].upper() + words[1:])}</strong></p>' if words else ""
    body = _PAGE.format(said=said).encode()
    headers = [(b"content-type", b"text/html; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers.append((b"cache-control", b"no-store"))
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
