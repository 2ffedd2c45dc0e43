"""Whose a request is: Hugging Face login in the browser, a Hugging Face token for programs; one gate before Gradio.

Only where login is on (``Settings.login``). Gradio asks nobody whose a file, a session or an event is: whoever knows
its name gets it. So ``LoginMiddleware`` finds out who asks, writes that into the request's scope, and lets through what
is theirs. The handlers behind ask ``visitor_of`` again: this gate keeps out what Gradio answers by itself.
"""

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qs

from starlette.middleware.sessions import SessionMiddleware

from studio.core.errors import InputError, LoginError, StudioError
from studio.core.keys import ApiKey
from studio.core.private import served_folder
from studio.web.asgi import App, Message, Receive, Scope, Send, answer, lies_in, named_paths, parsed, read, replayed
from studio.web.guard import FORM_REFUSED, limited

VISITOR = "studio.visitor"
"""Key of an ASGI scope: the ``Visitor``, or None for nobody. A scope without it did not pass the gate."""

LOG_IN = "log in with Hugging Face first."
FOR_PROGRAMS = "Programs send a personal token: 'Authorization: Bearer hf_...'."

_BEARER = re.compile(r"bearer (hf_[A-Za-z0-9]{8,100})", re.IGNORECASE)
_TOKEN_HEADERS = (b"authorization", b"x-hf-authorization")
"""gradio_client sends the second."""
_KNOWN_S = 300.0
"""So long a token is believed without asking the Hub again; so long one that was withdrawn still opens."""
_UNKNOWN_S = 30.0
_MOST_TOKENS = 1024
_MOST_NAMES = 2**16
_LOOKUPS = 4
"""Tokens that the Hub is asked about at once; the Hub limits how often it may be asked."""

_API = "/gradio_api/"
_UPLOAD = "/gradio_api/upload"
"""The one address that takes files; ``studio.web.server`` puts them into the owner's folder."""
_FILE = re.compile(r"/gradio_api/file[=/](?P<path>.*)", re.DOTALL)
_EVENT = re.compile(r"/gradio_api/call/(?:v2/)?[^/]+/(?P<event>[^/]+)/?")
_SESSION = re.compile(r"/gradio_api/heartbeat/(?P<session>[^/]+)/?")
_MAKES_EVENT = re.compile(r"/gradio_api/(?:queue/join|call/.+)")
_PAGE = re.compile(
    r"/(?:config/?|theme\.css|robots\.txt|favicon\.ico|manifest\.json|pwa_icon(?:/[^/]*)?|(?:assets|static|svelte)/.*"
    r"|login/(?:huggingface|callback)|logout/?)?",
    re.DOTALL,
)
"""The page itself and its files, and the way in and out: public. All other routes need an identity, new ones too."""
_FOR_ALL = re.compile(
    r"/gradio_api/(?:run/predict|queue/(?:join|data|status)|heartbeat/[^/]+|cancel|reset|info|openapi\.json"
    r"|startup-events|app_id|user|login_check|token|theme\.css|robots\.txt|pwa_icon|manifest\.json)/?"
)
"""What the page needs of Gradio before anybody is logged in; the handlers behind refuse what needs an owner."""
_FOR_OWNERS = re.compile(r"/gradio_api/(?:upload|upload_progress|(?:call|run|api)/.+)/?", re.DOTALL)
"""What else of Gradio is used here. All the rest, also what a later version brings, is closed: it knows no owner."""
_MAX_ANONYMOUS_BYTES = 2**16
"""Most that the body of a request of nobody may take: what the page sends before a login is small."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is logged in."""

    owner: str
    """Whose jobs and files are theirs: ``hf:`` and the id of the account, which stays when it is renamed."""
    name: str
    """The account's name, to be shown."""
    token: str | None = field(default=None, repr=False)
    """What the login may do on the Hub; None of programs, whose token only tells who they are."""
    key: ApiKey | None = None
    """With which API key they came, where these are used; its owner is the one in whose name they ask."""


def visitor_of(scope: Scope | None) -> Visitor:
    """Return who sent the request of this scope.

    Raises:
        LoginError: nobody, or the request did not pass the gate.
    """
    found = (scope or {}).get(VISITOR)
    if not isinstance(found, Visitor):
        raise LoginError(LOG_IN)
    return found


class _OwnedNames:
    """Names of sessions and events and whose they are; of very many the least recently used are forgotten."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, str | None] = OrderedDict()

    def give(self, name: str, owner: str | None) -> None:
        self._owners[name] = owner
        self._owners.move_to_end(name)
        while len(self._owners) > _MOST_NAMES:
            self._owners.popitem(last=False)

    def belongs(self, name: str, owner: str | None) -> bool:
        return name in self._owners and self._owners[name] == owner

    def claim(self, name: str, owner: str | None) -> bool:
        """Tell whether a name that clients choose is the owner's, as it is from its first use on."""
        if self._owners.get(name) is None:  # of nobody: somebody may have logged in since
            self.give(name, owner)
        elif self._owners[name] == owner:
            self._owners.move_to_end(name)
        return self._owners[name] == owner


class Authenticator:
    """Knows visitors by their cookie or token.

    ``session_secret`` is what Gradio signs its session cookies with; it is known only after Gradio is mounted.
    """

    def __init__(self) -> None:
        self.session_secret = ""
        self._tokens: OrderedDict[str, tuple[float, Visitor | LoginError]] = OrderedDict()
        self._lookups = asyncio.Semaphore(_LOOKUPS)

    async def identify(self, scope: Scope) -> Visitor | LoginError:
        """Return who sent a request, or why nobody is known to have; says nothing of tokens."""
        session = await self._session(scope)
        info = session.get("oauth_info") or {}
        person = info.get("userinfo") or {}
        expires_s = info.get("expires_at")
        if person.get("sub") and (expires_s is None or expires_s > time.time()):
            name = str(person.get("preferred_username") or "")
            return Visitor(f"hf:{person['sub']}", name, info.get("access_token"))
        for name, value in scope["headers"]:
            if name.lower() in _TOKEN_HEADERS and (match := _BEARER.fullmatch(value.decode("latin-1").strip())):
                return await self._by_token(match[1])
        return LoginError(LOG_IN)

    async def _session(self, scope: Scope) -> dict[str, Any]:
        """Return what the signed cookie holds, read by the middleware that also writes it."""
        found: dict[str, Any] = {}

        async def keep(inner: Any, receive: Any, send: Any) -> None:
            found.update(inner["session"])

        if self.session_secret:
            reader = SessionMiddleware(keep, secret_key=self.session_secret)
            await reader({**scope}, _nothing, _nowhere)
        return found

    async def _by_token(self, token: str) -> Visitor | LoginError:
        digest = hashlib.sha256(token.encode()).hexdigest()  # the token itself is kept nowhere
        until_s, known = self._tokens.get(digest, (0.0, None))
        if known is not None and time.monotonic() < until_s:
            return known
        from studio.publishing.hub import person_of

        found: Visitor | LoginError
        try:
            async with self._lookups:
                person = await asyncio.to_thread(person_of, token)
            found, life_s = Visitor(f"hf:{person.id}", person.name), _KNOWN_S
        except InputError as error:
            found, life_s = LoginError(str(error)), _UNKNOWN_S
        except StudioError as error:  # the Hub cannot say; it may at the next try
            return LoginError(str(error))
        self._tokens[digest] = (time.monotonic() + life_s, found)
        while len(self._tokens) > _MOST_TOKENS:
            self._tokens.popitem(last=False)
        return found


class Identifier(Protocol):
    """Knows who sends requests."""

    async def identify(self, scope: Scope) -> Visitor | LoginError:
        """Return who sent a request, or why nobody is known to have."""


class LoginMiddleware:
    """ASGI middleware: everybody reaches the page, nobody reaches what is somebody else's.

    Args:
        app: what comes behind, Gradio with the session cookies among it.
        authenticator: knows the visitors.
        folder: Gradio's folder; each owner's files lie in ``served_folder(folder, owner)``.
        public: files that belong to the page itself; filled when Gradio is mounted.
    """

    def __init__(self, app: App, authenticator: Identifier, folder: Path, public: Collection[Path]) -> None:
        self._app = app
        self._authenticator = authenticator
        self._folder = folder
        self._public = public
        self._sessions = _OwnedNames()
        self._events = _OwnedNames()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here with a refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        found = await self._authenticator.identify(scope)
        visitor = found if isinstance(found, Visitor) else None
        scope[VISITOR] = visitor
        owner = visitor.owner if visitor else None
        allowed = self._may_pass(scope, owner)
        path = scope["path"]
        if owner is None:
            receive = limited(receive, _MAX_ANONYMOUS_BYTES)
        if allowed and scope["method"] == "POST" and path.startswith(_API) and path.rstrip("/") != _UPLOAD:
            body = await read(receive)
            receive = replayed(body, receive)
            allowed = self._may_say(path, body, owner)
            if allowed and _MAKES_EVENT.fullmatch(path):
                send = self._noting_event(send, owner)
        if allowed:
            await self._app(scope, receive, _kept_by_nobody(send) if _FILE.fullmatch(path) else send)
        elif isinstance(found, LoginError):
            await answer(send, found.status, f"{found} {FOR_PROGRAMS}" if str(found) == LOG_IN else str(found))
        else:
            await answer(send, 404, "There is no such thing of yours here.")

    def _may_pass(self, scope: Scope, owner: str | None) -> bool:
        path = scope["path"]
        if _is_form(scope) and path.rstrip("/") != _UPLOAD and (owner is None or not FORM_REFUSED.fullmatch(path)):
            return False
        if match := _FILE.fullmatch(path):
            return self._may_read(match["path"], owner)
        if not path.startswith(_API):
            if owner is None and not _PAGE.fullmatch(path):
                return False
        elif not _FOR_ALL.fullmatch(path):
            if owner is None or not _FOR_OWNERS.fullmatch(path):
                return False
            if (match := _EVENT.fullmatch(path)) and scope["method"] in ("GET", "HEAD"):
                return self._events.belongs(match["event"], owner)
        chosen = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        named = [f"{key}:{name}" for key in ("session_hash", "upload_id") for name in chosen.get(key, ())]
        if match := _SESSION.fullmatch(path):
            named.append(f"session_hash:{match['session']}")
        return all(self._sessions.claim(name, owner) for name in named)

    def _may_say(self, path: str, body: bytes, owner: str | None) -> bool:
        """Tell whether a JSON body names nobody else's session, event or file."""
        if any(not self._may_read(named, owner) for named in named_paths(body)):
            return False
        data = parsed(body)
        if not isinstance(data, dict):
            return True
        session = data.get("session_hash")
        if isinstance(session, str) and not self._sessions.claim(f"session_hash:{session}", owner):
            return False
        event = data.get("event_id")
        return path.rstrip("/") != "/gradio_api/cancel" or self._events.belongs(str(event), owner)

    def _may_read(self, path: str, owner: str | None) -> bool:
        if owner is not None and lies_in(path, served_folder(self._folder, owner)):
            return True
        return Path(path) in self._public

    def _noting_event(self, send: Send, owner: str | None) -> Send:
        """Note whose an event is before its id goes out."""
        chunks: list[bytes] = []

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.body":
                chunks.append(message.get("body", b""))
                if not message.get("more_body"):
                    data = parsed(b"".join(chunks))
                    if isinstance(data, dict) and isinstance(data.get("event_id"), str):
                        self._events.give(data["event_id"], owner)
            await send(message)

        return noting


def _is_form(scope: Scope) -> bool:
    kinds = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
    return any(kind.lower().startswith(b"multipart/") for kind in kinds)


def _kept_by_nobody(send: Send) -> Send:
    """Keep files out of caches that serve more than one person; Gradio says nothing of them."""

    async def private(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), (b"cache-control", b"private, max-age=60")]
        await send(message)

    return private


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _nowhere(message: Message) -> None:
    """The answer of the reader of cookies, which is none."""
