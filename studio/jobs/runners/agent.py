"""The agent of one attempt on a machine that knows nothing but its ticket: ``python -m studio attempt TICKET``.

It fetches the inputs and what earlier attempts have brought, runs the verb in a child as a server does, brings new
files again and again, and tells events, the log and the end. It stops when it is told to, and when the attempt counts
no more. A server that is away for a while does not disturb it.
"""

import contextlib
import fcntl
import functools
import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.core.domain import Event, plain
from studio.core.errors import ConflictError, InputError, Problem, ResourceError, StudioError
from studio.core.files import read_json, replacing, sha256_of, write_json
from studio.core.private import make_folder
from studio.core.settings import Settings
from studio.jobs.child import OUT_FOLDER, REQUEST_FILE
from studio.jobs.environment import variables_of
from studio.jobs.queue import Claim
from studio.jobs.runners.agents import ending_of
from studio.jobs.runners.base import Attempt, Report
from studio.jobs.runners.desk import GoneError
from studio.jobs.runners.local import LOG_FILE, LocalRunner
from studio.jobs.runners.ticket import FileRow, LinkRow, Ticket, visible_files

logger = logging.getLogger(__name__)

_SOCKET = "unix:"
_BEHIND_SOCKET = "http://studio"
"""How links name a server that is reached through a socket."""
_PAUSES_S = (0.5, 1.0, 2.0, 5.0)
_LINK_OVER = (400, 401, 403, 404, 410)
"""What storages answer to a link whose time is over: 400 is Google's."""
_MOST_FRESH = 3
"""Fresh links in a row that may be refused: what refuses them refuses the file."""
_NO_MORE = "The attempt counts no more."
_CALL_S = 600.0
"""A server may read large files back before it answers."""
_MOST_WAITING = 5000
"""Events that are kept for a server that is away; of ``progress`` only the newest is worth anything."""
_SETTLED_S = 5.0
"""A file that was not written for so long is taken for whole."""
_MOST_LOG_BYTES = 2**18


class _Line:
    """The way to the server: calls in the name of the attempt, and links.

    Args:
        ticket: says where it is.
        folder: of the ticket; a socket lies in it.
    """

    def __init__(self, ticket: Ticket, folder: Path) -> None:
        import httpx2

        self._http = httpx2
        self._patience_s = ticket.patience_s
        self._base = ticket.address
        transport = None
        if ticket.address.startswith(_SOCKET):
            self._base = _BEHIND_SOCKET
            transport = httpx2.HTTPTransport(uds=str(folder / ticket.address.removeprefix(_SOCKET)))
        headers = {"Authorization": f"Bearer {ticket.token}"}
        path = f"{self._base}/attempts/{ticket.job}/{ticket.attempt}"
        options: dict[str, Any] = {"trust_env": False, "follow_redirects": False}
        self._calls = httpx2.Client(base_url=path, headers=headers, transport=transport, timeout=_CALL_S, **options)
        self._near = httpx2.Client(transport=transport, timeout=_CALL_S, **options)
        self._far = httpx2.Client(timeout=_CALL_S, follow_redirects=True)
        self.is_over = threading.Event()
        """The attempt counts no more."""

    def call(self, what: str, body: Mapping[str, Any], *, patience_s: float | None = None) -> dict[str, Any]:
        """Tell the server something; tried again while it is away.

        Raises:
            GoneError: the attempt counts no more. ConflictError, InputError: refused, with the problems.
            ResourceError: the server stays away.
        """
        answer = self._tried(lambda: self._calls.post(f"/{what}", json=body), patience_s)
        if answer.status_code == 410:
            self.is_over.set()
            raise GoneError(_NO_MORE)
        told = answer.json() if "json" in answer.headers.get("content-type", "") else {}
        if answer.status_code >= 400:
            problems = [Problem(**row) for row in told.get("problems", ())]
            kind = ConflictError if answer.status_code == 409 else InputError
            raise kind(str(told.get("error", f"The server answers {answer.status_code}.")), problems)
        return dict(told)

    def fetch(self, link: LinkRow, row: FileRow, path: Path) -> None:
        """Fetch a file, whole; raises ResourceError, and GoneError where the attempt counts no more."""
        make_folder(path.parent)

        def get(link: LinkRow) -> Any:
            with (
                replacing(path, durable=False) as part,
                part.open("wb") as file,
                self._client(link).stream("GET", link.url, headers=link.headers) as answer,
            ):
                if answer.status_code != 200:
                    raise _RefusedError(answer.status_code)
                for chunk in answer.iter_raw():
                    file.write(chunk)
                file.flush()
                if sha256_of(part) != row.sha256:
                    raise _RefusedError(200)

        if not self._exchanged(get, link, lambda: self._link("inputs", row)):
            raise ResourceError(f"a file could not be exchanged: the storage has no {row.path} any more.")

    def bring(self, link: LinkRow, row: FileRow, path: Path) -> None:
        """Bring a file; raises as ``fetch``."""

        def put(link: LinkRow) -> Any:
            with path.open("rb") as file:
                headers = {**link.headers, "Content-Length": str(row.bytes)}
                answer = self._client(link).put(link.url, content=file, headers=headers)
            if answer.status_code >= 300:
                raise _RefusedError(answer.status_code)

        self._exchanged(put, link, lambda: self._link("links", row))

    def _exchanged(self, use: Callable[[LinkRow], Any], link: LinkRow, renewed: Callable[[], LinkRow | None]) -> bool:
        """Use a link, and others in its place where it is over; tell whether there was one to the end."""
        found = link
        for number in range(_MOST_FRESH + 1):
            try:
                self._tried(functools.partial(use, found))
                return True
            except _LinkOverError:
                if number == _MOST_FRESH and not self.is_over.is_set():
                    raise
            if self.is_over.wait(_PAUSES_S[number]):
                raise GoneError(_NO_MORE)
            fresh = renewed()
            if fresh is None:
                return False
            found = fresh
        raise AssertionError

    def _link(self, what: str, row: FileRow) -> LinkRow | None:
        """Ask for a fresh link for one file; None where there is none to be had."""
        told = self.call(what, {"files": [row.model_dump(mode="json")]})["links"].get(row.sha256)
        return None if told is None else LinkRow.parse(told)

    def _client(self, link: LinkRow) -> Any:
        return self._near if link.url.startswith(f"{self._base}/") else self._far

    def _tried(self, do: Callable[[], Any], patience_s: float | None = None) -> Any:
        give_up_s = time.monotonic() + (self._patience_s if patience_s is None else patience_s)
        for number in range(10**9):
            try:
                answer = do()
                if getattr(answer, "status_code", 200) not in (502, 503, 504):
                    return answer
                why = f"it answers {answer.status_code}"
            except _RefusedError as error:
                why = str(error)
                if error.status in _LINK_OVER:
                    raise _LinkOverError(f"a file could not be exchanged: {error}.") from None
            except self._http.TransportError as error:
                why = type(error).__name__
            if self.is_over.is_set():
                raise GoneError(_NO_MORE)
            if time.monotonic() >= give_up_s:
                raise ResourceError(f"the server cannot be reached ({why}).")
            self.is_over.wait(_PAUSES_S[min(number, len(_PAUSES_S) - 1)])
        raise AssertionError


class _LinkOverError(ResourceError):
    """The storage does not take a link; a fresh one may be asked for."""


class _RefusedError(Exception):
    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__("it arrived damaged" if status == 200 else f"the storage answers {status}")


class _Bringer:
    """Brings the files of the output that are new."""

    def __init__(self, line: _Line, out: Path) -> None:
        self._line = line
        self._out = out
        self._copies = out.with_name("copies")
        self._known: dict[Path, tuple[tuple[int, int], FileRow]] = {}
        self._brought: tuple[FileRow, ...] = ()

    def look(self) -> tuple[FileRow, ...]:
        """Return the files that are there; one that goes while it is read is left out."""
        rows = []
        for relative, path in visible_files(self._out):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                mark = status.st_size, status.st_mtime_ns
                known = self._known.get(path)
                if known is None or known[0] != mark:
                    kept = self._kept(relative, path, status.st_mtime)
                    row = FileRow(path=relative, bytes=kept.stat().st_size, sha256=sha256_of(kept))
                    known = self._known[path] = mark, row
                rows.append(known[1])
        return tuple(rows)

    def _kept(self, relative: str, path: Path, changed_s: float) -> Path:
        """Return a file that does not change while it is brought: a copy of one that may still grow."""
        copy = self._copies / relative
        copy.unlink(missing_ok=True)
        if relative.startswith("checkpoints/") or abs(time.time() - changed_s) > _SETTLED_S:
            return path  # checkpoints appear whole and never change
        make_folder(copy.parent)
        shutil.copyfile(path, copy)
        return copy

    def bring(self, rows: tuple[FileRow, ...]) -> tuple[FileRow, ...]:
        """Bring what the storage lacks of these files; return those that are there now."""
        asked = {"files": [row.model_dump(mode="json") for row in rows]}
        links = self._line.call("links", asked)["links"]
        there = []
        for row in rows:
            if row.sha256 in links:
                path = row.place(self._out)
                copy = row.place(self._copies)
                try:
                    source = copy if copy.is_file() else path
                    if sha256_of(source) != row.sha256:  # it has changed meanwhile: the next look takes it
                        self._known.pop(path, None)
                        continue
                    self._line.bring(LinkRow.parse(links[row.sha256]), row, source)
                except FileNotFoundError:
                    continue
            there.append(row)
        return tuple(there)

    def snapshot(self) -> None:
        """Bring what is new, and let the server keep the list for the next attempt."""
        rows = self.look()
        if rows and rows != self._brought:
            there = self.bring(rows)
            self._line.call("snapshot", {"files": [row.model_dump(mode="json") for row in there]})
            self._brought = rows


def run(path: Path, settings: Settings) -> int:
    """Carry out the attempt of a ticket.

    Args:
        path: the ticket; what the attempt needs lies in its folder while it runs.
        settings: of this machine.

    Returns:
        0 when the server has the attempt's last word, 3 when the attempt counts no more.

    Raises:
        InputError: the ticket is none. ConflictError: its agent runs already.
        ResourceError: the server or the disk cannot be used.
    """
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError.of([Problem("ticket", "cannot be read", "give the file that the server has sent", "ticket")])
    ticket = Ticket.parse(found)
    folder = path.absolute().parent
    line = _Line(ticket, folder)
    with _only_one(folder):
        try:
            return _carry_out(ticket, folder, line, settings)
        except GoneError:
            shutil.rmtree(folder / "jobs", ignore_errors=True)
            return 3


def _carry_out(ticket: Ticket, folder: Path, line: _Line, settings: Settings) -> int:
    jobs_dir = folder / "jobs"
    job_dir = jobs_dir / ticket.job
    out = job_dir / OUT_FOLDER
    make_folder(job_dir)
    teller = _Teller(line, job_dir / LOG_FILE)
    if teller.tell():  # before the inputs: an attempt that is over fetches nothing
        return _say_end(line, Report("ended", reason="It was stopped before it began.", told_to_stop=True), ())
    for row in ticket.inputs:
        place = row.place.place(jobs_dir)
        if not (place.is_file() and sha256_of(place) == row.place.sha256):
            line.fetch(row.link, row.place, place)
    write_json(job_dir / REQUEST_FILE, ticket.request)
    runner = LocalRunner(variables_of(settings), [name.strip() for name in settings.job_environment.split(",")])
    claim = Claim(ticket.job, ticket.kind, ticket.attempt)
    bringer = _Bringer(line, out)
    over = threading.Event()
    bringing = threading.Thread(target=_keep_bringing, args=(bringer, ticket.snapshot_s, over), daemon=True)
    handle = runner.start(Attempt(claim, ticket.verb, job_dir, secrets=ticket.variables))
    bringing.start()
    try:
        report = _follow(runner, handle, ticket, teller, line)
    finally:
        over.set()
        runner.leave(handle)
        bringing.join(None if not line.is_over.is_set() else 5.0)
    if line.is_over.is_set():
        raise GoneError(_NO_MORE)
    teller.tell_all()
    return _last_word(line, bringer, report)


def _follow(runner: LocalRunner, handle: str, ticket: Ticket, teller: "_Teller", line: _Line) -> Report:
    """Tell what the verb tells until it ends; end it where the attempt counts no more or nobody is heard of."""
    beat_s = 0.0
    asked_to_stop = False
    while True:
        report = runner.poll(handle, min(0.2, ticket.beat_s))
        teller.add(report.events)
        if report.state in ("ended", "lost"):
            return report
        if line.is_over.is_set() or teller.silent_s() > ticket.patience_s:
            runner.cancel(handle, 0.0)
        elif time.monotonic() - beat_s >= ticket.beat_s:
            beat_s = time.monotonic()
            with contextlib.suppress(GoneError):
                if teller.tell() and not asked_to_stop:
                    asked_to_stop = True
                    runner.cancel(handle, ticket.grace_s)


def _last_word(line: _Line, bringer: _Bringer, report: Report) -> int:
    """Bring the whole output and tell the end; what arrived damaged is sent again."""
    for attempt in range(5):
        rows = bringer.look()
        there = bringer.bring(rows)
        if there != rows:
            continue
        try:
            if report.outcome is None or report.outcome.state != "completed":
                if there:
                    line.call("snapshot", {"files": [row.model_dump(mode="json") for row in there]})
                there = ()
            return _say_end(line, report, there)
        except ConflictError:
            if attempt == 4:
                raise
    raise ResourceError("the files of the attempt change while they are brought.")


def _say_end(line: _Line, report: Report, files: tuple[FileRow, ...]) -> int:
    line.call("end", ending_of(report, files).model_dump(mode="json"))
    return 0


class _Teller:
    """Tells events and lines of the log, each once, in order."""

    def __init__(self, line: _Line, log: Path) -> None:
        self._line = line
        self._log = log
        self._told = 0
        self._log_told = 0
        self._waiting: list[Event] = []
        self._heard_s = time.monotonic()

    def add(self, events: tuple[Event, ...]) -> None:
        """Keep events until they are told."""
        for event in events:
            if event.kind == "progress" and self._waiting and self._waiting[-1].kind == "progress":
                self._waiting.pop()
            self._waiting.append(event)
        del self._waiting[:-_MOST_WAITING]

    def silent_s(self) -> float:
        """Return for how long the server was not heard of."""
        return time.monotonic() - self._heard_s

    def tell(self, patience_s: float = 0.0) -> bool:
        """Tell what waits, if the server is there; return whether it wants the attempt to stop.

        Raises:
            GoneError: the attempt counts no more.
        """
        rows = [{"kind": event.kind, "data": plain(event.data)} for event in self._waiting[:500]]
        text, size = self._lines()
        body = {"after": self._told, "events": rows, "log_after": self._log_told, "log": text}
        try:
            # Numbers such as nan are written as Python does; what reads them is Python, too.
            answer = self._line.call("beat", json.loads(json.dumps(body)), patience_s=patience_s)
        except ResourceError:
            return False
        self._heard_s = time.monotonic()
        del self._waiting[: len(rows)]
        self._told += len(rows)
        self._log_told += size
        return bool(answer["stop"])

    def tell_all(self) -> None:
        """Tell everything, however long the server is away; raises GoneError."""
        while self._waiting or self._lines()[1]:
            before = len(self._waiting), self._log_told
            self.tell(patience_s=600.0)
            if (len(self._waiting), self._log_told) == before:
                return

    def _lines(self) -> tuple[str, int]:
        try:
            with self._log.open("rb") as file:
                file.seek(self._log_told)
                data = file.read(_MOST_LOG_BYTES)
        except FileNotFoundError:
            return "", 0
        whole = data[: data.rfind(b"\n") + 1]
        return whole.decode("ascii", "replace").replace("\ufffd", "?"), len(whole)


def _keep_bringing(bringer: _Bringer, every_s: float, over: threading.Event) -> None:
    while not over.wait(every_s):
        try:
            bringer.snapshot()
        except GoneError:
            return
        except (StudioError, OSError) as error:
            logger.warning("files wait to be brought: %s", error)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder of a ticket; raises ConflictError where another agent does."""
    with (folder / "agent.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"the agent of this ticket runs already on {socket.gethostname()}.") from None
        yield
