"""HTTP to a studio on another machine: retries, resumable uploads and downloads, verified by digest."""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx2

from studio.core.domain import Event, OnEvent, ignore_event
from studio.core.errors import ConflictError, InputError, NotFoundError, Problem, ResourceError, StudioError
from studio.core.files import move_into_place, sha256_of
from studio.core.redaction import redact
from studio.core.server_token import is_this_machine

_LONGEST_WAIT_S = 8.0


_LONGEST_SILENCE_S = 60.0
"""A server that sends nothing for so long is taken for gone, however patient the caller is."""


_LONGEST_CONNECT_S = 10.0


_TRIED_AGAIN = frozenset({408, 425, 429, 502, 503, 504})


_MOST_LISTED = 200
"""Jobs in one answer."""


_LOOK_S = 0.5
"""While a stream is silent, whoever follows it is asked after so many seconds whether it still wants to."""


_LAST = frozenset({"end", "forgotten"})
"""Kinds of event after which a stream has no more."""


@dataclass(frozen=True, slots=True)
class Told:
    """One event of a job's stream."""

    number: int
    """0: it is no event of the job but says how it stands: ``state``, ``end`` (the job), ``forgotten``."""
    kind: str
    data: dict[str, Any]


class ServerGoneError(ResourceError):
    """The other machine does not answer, or has not for longer than somebody was willing to wait."""

    status = 504


class Server:
    """A running studio on another machine.

    Args:
        url: its address, for example http://192.168.1.20:7860. A name and a password in it are sent and never shown.
        token: sent as a bearer token: the one that the server printed when it started, or a Hugging Face token for a
            private Space; never shown. ``studio.core.server_token.known_token`` finds it for a server of this machine.
        insecure: send token or password over plain http to another machine, too.
        patience_s: a call that finds nobody is tried again for so long.
        contact_s: the same until the first answer: a mistyped address must not take minutes. None for ``patience_s``.
        on_event: told when the server does not answer and when it is back.

    Raises:
        InputError: the address is none, or what is secret would cross the network in the open.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        insecure: bool = False,
        patience_s: float = 120.0,
        contact_s: float | None = None,
        on_event: OnEvent = ignore_event,
    ) -> None:
        place = _place(url)
        token = token or place.query_token
        if (token or place.login) and place.scheme == "http" and not (insecure or is_this_machine(place.host)):
            message = "is plain http to another machine: everybody on the way could read your token"
            cure = "use https, or a tunnel (ssh -L 7860:127.0.0.1:7860 HOST), or add --insecure where you trust the way"
            raise InputError.of([Problem("--server", message, cure, "insecure")])
        self.url = place.url
        self.on_event = on_event
        self._patience_s = patience_s
        self._contact_s = patience_s if contact_s is None else contact_s
        self._met = False
        self._call = threading.local()
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(
            base_url=self.url, headers=headers, auth=place.login, timeout=_LONGEST_SILENCE_S, follow_redirects=False
        )
        self._lock = threading.Lock()
        self._silent = False
        self._failed_s = 0.0

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Return what the studio answers below ``/v1`` (docs/API.md).

        Raises:
            InputError: the studio refuses, in its own words; other refusals as the class that their status stands for.
            ServerGoneError: nobody answers.
        """
        return self._patiently(lambda: _require(self._ask("GET", f"/v1/{path}", params=query)).json())

    def send(self, method: str, path: str, body: Any = None, *, key: str | None = None, **query: Any) -> Any:
        """Return what the studio answers to a request that changes something; only what may be repeated is sent so.

        Args:
            method: of HTTP.
            path: below ``/v1``.
            body: JSON data.
            key: the same key with the same body is the same job, however often it is sent.
            query: parameters of the address.

        Raises: as ``get``.
        """
        content: dict[str, Any] = {"params": query} if body is None else {"params": query, "json": body}
        headers = {} if key is None else {"idempotency-key": key}
        return self._patiently(lambda: _require(self._ask(method, f"/v1/{path}", headers=headers, **content)).json())

    def answer(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> tuple[int, str, bytes]:
        """Return status, media type and body of whatever the studio answers, a refusal, too.

        Args:
            method: of HTTP.
            path: whole, with its query; only of the studio itself.
            body: JSON data.
            key: as for ``send``.

        Raises:
            ServerGoneError: nobody answers.
        """
        content: dict[str, Any] = {} if body is None else {"json": body}
        headers = {} if key is None else {"idempotency-key": key}

        def once() -> httpx2.Response:
            said = self._ask(method, path, headers=headers, **content)
            # What the studio itself says is an answer, that its queue is full, say; what a proxy says is not.
            is_its_own = said.headers.get("content-type", "").startswith("application/problem+json")
            if said.status_code in _TRIED_AGAIN - {429} and not is_its_own:
                raise _RetryableError(f"status {said.status_code}")
            return said

        said = self._patiently(once)
        return said.status_code, said.headers.get("content-type", "").partition(";")[0], said.content

    def job(self, job: str) -> dict[str, Any]:
        """Return how a job stands; raises as ``get``."""
        return _view(self.get(f"jobs/{quoted(job)}"))

    def jobs(self, limit: int) -> list[dict[str, Any]]:
        """Return the newest jobs, newest first; raises as ``get``."""
        rows: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while limit > len(rows):
            part = self.get("jobs", limit=min(_MOST_LISTED, limit - len(rows)), **cursor)
            rows += map(_view, part["items"])
            if part["next_cursor"] is None:
                break
            cursor = {"cursor": part["next_cursor"]}
        return rows

    def begin(self, verb: str, body: Mapping[str, Any], *, key: str) -> dict[str, Any]:
        """Submit a job and return how it stands; raises as ``get``."""
        return _view(self.send("POST", verb, dict(body), key=key))

    def cancel(self, job: str) -> dict[str, Any]:
        """Ask a job to end; raises as ``get``."""
        return _view(self.send("POST", f"jobs/{quoted(job)}/cancel"))

    def retry(self, job: str) -> dict[str, Any]:
        """Let a job go on from where it stalled or was cancelled; raises as ``get``."""
        return _view(self.send("POST", f"jobs/{quoted(job)}/retry", {}))

    def forget(self, *, job: str = "", subject: str = "", everything: bool = False, dry_run: bool) -> dict[str, Any]:
        """Delete one of the three with all that was made from it, and return the receipt; raises as ``get``."""
        path = f"jobs/{quoted(job)}" if job else "everything" if everything else f"subjects/{quoted(subject)}"
        return dict(self.send("DELETE", path, dry_run=str(dry_run).lower()))

    def choices(self, what: str) -> list[dict[str, Any]]:
        """Return what there is to choose from: ``bases``, ``presets``, ``packs`` or ``chains``; raises as ``get``."""
        return list(self.get(what)["items"])

    def told(self, job: str, *, should_end: Callable[[], bool] = lambda: False) -> Iterator[Told]:
        """Yield what a job tells until it has ended, each event once; a stream that was cut goes on where it was.

        ``should_end`` is asked after each event and twice in each second of silence.

        Raises: as ``get``.
        """
        seen = 0
        while True:
            for told in self._stream(job, seen, should_end):
                seen = max(seen, told.number)
                yield told
                if told.kind in _LAST:
                    return
            if should_end():
                return
            time.sleep(_LOOK_S)  # a proxy that cuts every stream at once is not to be stormed

    def _stream(self, job: str, seen: int, should_end: Callable[[], bool]) -> Iterator[Told]:
        """Yield what one connection tells, until it is cut."""

        def once() -> SimpleQueue[Told | None]:
            opened: SimpleQueue[httpx2.Response | Exception] = SimpleQueue()
            lines: SimpleQueue[Told | None] = SimpleQueue()  # of this try: one that was given up may still open
            # A thread, because a read cannot be asked now and then whether it is still wanted.
            Thread(target=self._read, args=(job, seen, opened, lines), daemon=True).start()
            try:
                answer = opened.get(timeout=self._timeout().read)
            except Empty:
                raise httpx2.ReadTimeout("nothing came") from None
            if isinstance(answer, Exception):
                raise answer
            _require(answer)
            return lines

        lines: SimpleQueue[Told | None] = self._patiently(once)
        while not should_end():
            try:
                told = lines.get(timeout=_LOOK_S)
            except Empty:
                continue
            if told is None:
                return
            yield told

    def _read(
        self, job: str, seen: int, opened: "SimpleQueue[httpx2.Response | Exception]", lines: "SimpleQueue[Told | None]"
    ) -> None:
        address, query = f"/v1/jobs/{quoted(job)}/events", {"after": seen}
        timeout = httpx2.Timeout(_LONGEST_SILENCE_S, connect=_LONGEST_CONNECT_S)
        is_open = False
        try:
            with self._http.stream("GET", address, params=query, timeout=timeout) as answer:
                if answer.status_code != 200:
                    answer.read()
                opened.put(answer)
                is_open = answer.status_code == 200
                if is_open:
                    for told in _events(answer.iter_lines()):
                        lines.put(told)
        except Exception as error:  # raised where it is waited for; after that it is a cut like any other
            if not is_open:
                opened.put(error)
                return
        if is_open:
            lines.put(None)

    def held(self) -> frozenset[str]:
        """Return the digests of the uploads that wait there."""
        return frozenset(self._patiently(lambda: _require(self._ask("GET", "/uploads")).json()["held"]))

    def upload(self, sha256: str, data: bytes) -> None:
        """Send one file; raises as ``call``."""
        self._patiently(lambda: _require(self._ask("PUT", f"/uploads/{sha256}", content=data)))

    def files(self, job: str) -> list[dict[str, Any]]:
        """Return path, bytes and sha256 of every file that a completed job offers."""
        rows: list[dict[str, Any]] = self._patiently(
            lambda: _require(self._ask("GET", f"/files/{quoted(job)}")).json()["files"]
        )
        return rows

    def fetch(self, job: str, row: Mapping[str, Any], target: Path) -> None:
        """Download one file, going on where an earlier try was cut, and put it in place once its digest is right.

        Raises:
            ServerGoneError: nobody answers. ResourceError: what arrived is something else.
        """
        part = target.with_name(f".{target.name}.part")
        target.parent.mkdir(parents=True, exist_ok=True)

        def once() -> None:
            here = part.stat().st_size if part.is_file() else 0
            headers = {"range": f"bytes={here}-"} if here else {}
            address = f"/files/{quoted(job)}/{quote(row['path'])}"
            headers["accept-encoding"] = "identity"
            with self._http.stream("GET", address, headers=headers, timeout=self._timeout()) as answer:
                if answer.status_code == 416:  # the part is as long as the file, or longer
                    return
                if answer.status_code not in (200, 206):
                    answer.read()
                    _require(answer)
                with part.open("ab" if answer.status_code == 206 else "wb") as file:
                    for chunk in answer.iter_bytes():  # as it comes, so that a cut loses nothing
                        file.write(chunk)

        for _ in range(2):  # a part left by an older file of this name spoils the first try only
            self._patiently(once)
            if sha256_of(part) == row["sha256"]:
                move_into_place(part, target)
                return
            part.unlink(missing_ok=True)
        raise ResourceError(f"{row['path']}: what arrived is not what the server has; try again.")

    def _patiently(self, once: Callable[[], Any]) -> Any:
        """Call ``once`` until it answers; between tries waits grow from half a second to eight."""
        patience_s = self._patience_s if self._met else self._contact_s
        end_s = time.monotonic() + patience_s
        self._call.end_s = end_s if patience_s else None  # without patience there is one try, as long as it takes
        wait_s = 0.5
        while True:
            began_s = time.monotonic()
            try:
                answer = once()
            except (httpx2.TransportError, _RetryableError) as error:
                if time.monotonic() + wait_s > end_s:
                    cure = "" if self._met else " Is a studio running there, and is that its address?"
                    raise ServerGoneError(f"{self.url} does not answer ({_reason(error)}).{cure}") from None
                self._failed()
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            else:
                self._worked(began_s)
                return answer

    def _ask(self, method: str, path: str, **content: Any) -> httpx2.Response:
        return self._http.request(method, path, timeout=self._timeout(), **content)

    def _timeout(self) -> httpx2.Timeout:
        """Return how long a request may be silent: no longer than the patience that is left."""
        end_s = self._call.end_s
        left_s = _LONGEST_SILENCE_S if end_s is None else max(0.1, end_s - time.monotonic())
        return httpx2.Timeout(min(_LONGEST_SILENCE_S, left_s), connect=min(_LONGEST_CONNECT_S, left_s))

    def _failed(self) -> None:
        with self._lock:
            self._failed_s, before, self._silent = time.monotonic(), self._silent, True
        if not before:
            text = f"{self.url} does not answer; trying again."
            self.on_event(Event("message", {"level": "warning", "text": text}))

    def _worked(self, began_s: float) -> None:
        with self._lock:  # an answer to a call from before the last failure does not mean that it is back
            self._met = True
            back = self._silent and began_s > self._failed_s
            self._silent = self._silent and not back
        if back:
            self.on_event(Event("message", {"level": "info", "text": f"{self.url} is back."}))


@dataclass(frozen=True)
class _Place:
    """An address, apart from what is secret in it."""

    url: str
    scheme: str
    host: str
    login: tuple[str, str] | None
    """Name and password."""
    query_token: str | None
    """Of an address that a server printed: http://127.0.0.1:7860/?token=..."""


def _place(url: str) -> _Place:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    if parts.scheme not in ("http", "https") or not host:
        cure = "write it like http://192.168.1.20:7860, or set STUDIO_REMOTE_SERVER"
        raise InputError.of([Problem("--server", "is not the address of a studio", cure, "no_server")])
    netloc = f"[{host}]" if ":" in host else host
    netloc += f":{port}" if port is not None else ""
    login = (unquote(parts.username or ""), unquote(parts.password or "")) if "@" in parts.netloc else None
    query_token = dict(parse_qsl(parts.query)).get("token")
    return _Place(f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}", parts.scheme, host, login, query_token)


class _RetryableError(Exception):
    """The server, or a proxy before it, could not answer just now."""


def _reason(error: Exception) -> str:
    return redact(str(error)) or type(error).__name__


def _require(answer: httpx2.Response) -> httpx2.Response:
    """Return a good answer; raise the studio's own error for a refusal."""
    status = answer.status_code
    if status < 300:
        return answer
    try:
        body = answer.json()
    except ValueError:
        body = None
    body = body if isinstance(body, dict) else {}
    words = body.get("error") or body.get("detail")
    if status in _TRIED_AGAIN or (status == 507 and not words):
        raise _RetryableError(f"status {status}")
    if status in (401, 403):
        cure = (
            "Set STUDIO_REMOTE_TOKEN to the token that the server printed when it started, or to one that may use it."
        )
        raise InputError(f"the server does not let you in (status {status}). {cure}")
    problems = [Problem(**row) for row in body.get("problems", ())]
    kinds: dict[int, type[StudioError]] = {404: NotFoundError, 409: ConflictError, 507: ResourceError}
    text = words if isinstance(words, str) else f"status {status}; is that a studio, and as new as this one?"
    raise kinds.get(status, InputError)(f"the server refused: {text}", problems)


def _events(lines: Iterable[str]) -> Iterator[Told]:
    """Yield the events of a stream; the comments in between say only that somebody is there.

    Source: WHATWG HTML, "Server-sent events", interpreting an event stream.
    """
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line and name in ("id", "event", "data"):
            found[name] = value.removeprefix(" ")
        elif not line and "data" in found:
            data, kind = json.loads(found["data"]), found.get("event", "message")
            yield Told(int(found.get("id", 0)), kind, _view(data) if kind == "end" else data)
            found = {}


def _view(data: dict[str, Any]) -> dict[str, Any]:
    """Return a job with its parts called as ``Studio`` calls them."""
    if "queue_position" in data:
        data["place"] = data.pop("queue_position")
    return data


def quoted(name: str) -> str:
    """Return a name as one step of an address."""
    return quote(name, safe="")
