"""The desk that answers the agents of attempts on other machines.

``studio.web.machines`` carries an agent's calls here. Files go through the storage, by their digests; only lists of
them, events and the log come here. The attempt's number is the fence: a call in the name of an attempt that is not
the job's present one is refused before anything is looked at, and of several attempts that end with a result the first
to create ``jobs/<job>/result.json`` has it.
"""

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.core.domain import Event
from studio.core.errors import (
    ConflictError,
    InputError,
    NotFoundError,
    Problem,
    ResourceError,
    StudioError,
    UnavailableError,
)
from studio.core.files import read_json, sha256_of
from studio.core.private import make_folder
from studio.jobs.child import OUT_FOLDER, PHOTOS_FOLDER, REQUEST_FILE
from studio.jobs.events import KINDS
from studio.jobs.inherited import OWNERS
from studio.jobs.queue import JobQueue
from studio.jobs.runners.base import Attempt, Report, RunState
from studio.jobs.runners.local import LOG_FILE
from studio.jobs.runners.ticket import (
    Beat,
    Ending,
    FileRow,
    Files,
    Input,
    LinkRow,
    Ticket,
    object_name,
    visible_files,
)
from studio.jobs.states import RUNNING
from studio.jobs.storage.base import Storage
from studio.jobs.storage.links import LinkSigner

LINK_LIFE_S = 6 * 3600.0
_MOST_LOG_BYTES = 64 * 2**20
_LEFT_OUT = frozenset({"resume.safetensors"})
"""Of a run that another job reads: only the run itself goes on from it."""


class GoneError(StudioError):
    """The attempt is no longer the job's: whatever it tells changes nothing."""

    status = 410


class NotHereError(UnavailableError):
    """The attempt is run by another server of this installation, or this one has just begun."""


@dataclass
class Box:
    """What is known of one attempt on another machine."""

    attempt: Attempt
    owner: str
    state: RunState = "queued"
    place: str | None = None
    events: list[Event] = field(default_factory=list)
    seen: int | None = 0
    """Events that have come in; None of one that another server has begun, until its agent is heard of."""
    log_seen: int = 0
    verified: set[str] = field(default_factory=set)
    """Digests of objects that were read back."""
    heard_s: float = field(default_factory=time.monotonic)
    look_s: float = 0.0
    """When it is looked after again."""
    stop: bool = False
    kill_s: float = math.inf
    void: bool = False
    """It counts no more: nothing of it is stored, no file of it appears."""
    called: bool = False
    """Its agent has been heard of."""
    address: str = ""
    """The way to the server, as its ticket says."""
    grace_s: float = 20.0
    ending: Ending | None = None
    end: Report | None = None
    changed: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def job_id(self) -> str:
        """Id of its job."""
        return self.attempt.claim.id

    @property
    def handle(self) -> str:
        """Its name."""
        return f"{self.job_id}.{self.attempt.claim.attempt}"


class AgentDesk:
    """Answers the agents of the attempts that this server runs.

    Args:
        store: the queue, which knows the attempt that counts.
        storage: where files go through.
        signer: knows the token of each attempt.
        pace: fields of tickets that say how often agents call, and how long they wait.
    """

    def __init__(
        self, store: JobQueue, storage: Storage, signer: LinkSigner, pace: Mapping[str, float] | None = None
    ) -> None:
        self._store = store
        self.storage = storage
        self.signer = signer
        self.pace = dict(pace or {})
        self.chores: list[Callable[[], object]] = []
        """What the installation's clock does for the machines of its agents."""
        self._boxes: dict[str, Box] = {}

    def open(self, attempt: Attempt) -> tuple[Box, bool]:
        """Begin to answer for an attempt; return it, and whether it is a new one."""
        box = Box(attempt, self._store.owner_of(attempt.claim.id))
        known = self._boxes.setdefault(box.handle, box)
        return known, known is box

    def box(self, handle: str) -> Box:
        """Return an attempt that was opened here."""
        return self._boxes[handle]

    def close(self, box: Box) -> None:
        """Answer for an attempt no more."""
        with box.lock:
            box.void = True
        self._boxes.pop(box.handle, None)

    def part(self, box: Box) -> None:
        """Answer for an attempt no more, and let it go on: its agent is told to ask again in a moment."""
        self._boxes.pop(box.handle, None)

    def stands(self, box: Box) -> bool:
        """Tell whether an attempt is the one of its job that counts, as the queue says."""
        if box.void:
            return False
        try:
            view = self._store.get(box.job_id, box.owner)
        except NotFoundError:
            return False
        return view.state in RUNNING and view.attempt == box.attempt.claim.attempt

    # What agents call

    def beat(self, job_id: str, attempt: int, told: Beat) -> dict[str, Any]:
        """Take events and lines of the log in; say whether to stop, and how much has come in."""
        box = self._counting(job_id, attempt)
        with box.lock:
            if box.seen is None:
                box.seen, box.log_seen = told.after, told.log_after
            fresh = told.events[max(0, box.seen - told.after) :] if told.after <= box.seen else ()
            box.events += [Event(row.kind, row.data) for row in fresh if row.kind in KINDS]  # type: ignore[arg-type]
            box.seen = max(box.seen, told.after + len(told.events)) if told.after <= box.seen else box.seen
            self._take_log(box, told)
            box.state, box.called = "running", True
            box.heard_s = time.monotonic()
            box.changed.set()
            return {"stop": box.stop, "seen": box.seen, "log_seen": box.log_seen}

    def links(self, job_id: str, attempt: int, asked: Files) -> dict[str, Any]:
        """Return links for the files that the storage does not have."""
        box = self._counting(job_id, attempt)
        links = {}
        for row in asked.files:
            name = object_name(job_id, row.sha256)
            if row.sha256 in links or row.sha256 in box.verified or self.storage.size(name) == row.bytes:
                continue
            link = self.storage.link("PUT", name, expires_s=LINK_LIFE_S, max_bytes=row.bytes)
            links[row.sha256] = LinkRow.of(link).model_dump(mode="json")
        box.heard_s = time.monotonic()
        return {"links": links}

    def inputs(self, job_id: str, attempt: int, asked: Files) -> dict[str, Any]:
        """Return fresh links to files of the job, in the place of those of the ticket, which do not hold for ever."""
        box = self._counting(job_id, attempt)
        links = {}
        for row in asked.files:
            if self.storage.size(object_name(job_id, row.sha256)) == row.bytes:
                link = self._linked(object_name(job_id, row.sha256), row).link
                links[row.sha256] = link.model_dump(mode="json")
        box.heard_s = time.monotonic()
        return {"links": links}

    def snapshot(self, job_id: str, attempt: int, told: Files) -> dict[str, Any]:
        """Keep a list of files as what the next attempt goes on from; bring here what people look at meanwhile.

        Raises:
            GoneError: the attempt does not count. ConflictError: files are not there, or damaged; each is named.
        """
        box = self._counting(job_id, attempt)
        self._verify(box, told.files)
        with box.lock:
            self._require(box)
            listed = {"attempt": attempt, "files": [row.model_dump(mode="json") for row in told.files]}
            self.storage.put(_snapshot_name(job_id), json.dumps(listed).encode())
        shown = [row for row in told.files if not row.path.startswith("checkpoints/") and row.path != "DONE"]
        self.bring(box, shown)
        box.heard_s = time.monotonic()
        return {"kept": len(told.files)}

    def end(self, job_id: str, attempt: int, ending: Ending) -> dict[str, Any]:
        """Take an attempt's last word.

        Raises:
            GoneError: the attempt does not count. ConflictError: files are not there, or damaged; each is named.
        """
        box = self._counting(job_id, attempt)
        self._verify(box, ending.files)
        with box.lock:
            self._require(box)
            # Its agent leaves when this is answered: a server that ends now leaves the word to the next one.
            self.storage.put(_ending_name(box), json.dumps(ending.model_dump(mode="json")).encode())
            box.ending = box.ending or ending
            box.changed.set()
        return {"taken": True}

    def hand_out(self, job_id: str, attempt: int) -> dict[str, Any]:
        """Return the ticket to a machine that was told no more than where it is; only until its agent has begun.

        Raises:
            GoneError: the attempt does not count, or has its agent.
        """
        box = self._counting(job_id, attempt)
        if box.called or box.stop:
            raise GoneError("The ticket of this attempt is no longer given out.")
        return self.ticket(box, box.address, grace_s=box.grace_s).model_dump(mode="json")

    # What the runner calls

    def is_wanted(self, job_id: str, attempt: int) -> bool:
        """Tell whether an attempt that has not begun is still to begin."""
        box = self._boxes.get(f"{job_id}.{attempt}")
        return box is not None and not box.stop and self.stands(box)

    def ticket(self, box: Box, address: str, *, grace_s: float) -> Ticket:
        """Return the ticket of an attempt, with everything that it names in the storage."""
        job_dir, job_id = box.attempt.job_dir, box.job_id
        request = read_json(job_dir / REQUEST_FILE)
        if not isinstance(request, dict):
            raise ResourceError(f"The job's folder is damaged ({REQUEST_FILE} cannot be read); submit the job again.")
        source = request.get("source")
        folder = job_dir / PHOTOS_FOLDER if source is None else job_dir.parent / source / OUT_FOLDER
        below = f"{job_id}/{PHOTOS_FOLDER}" if source is None else f"{source}/{OUT_FOLDER}"
        inputs = [
            self._input(box, f"{below}/{relative}", path)
            for relative, path in visible_files(folder)
            if path.name not in _LEFT_OUT
        ]
        inputs += self._before(box, f"{job_id}/{OUT_FOLDER}")
        box.address, box.grace_s = address, grace_s
        secret = {name: value for name, value in box.attempt.secrets.items() if name not in OWNERS or value is None}
        return Ticket(
            job=job_id,
            kind=box.attempt.claim.kind,
            attempt=box.attempt.claim.attempt,
            verb=box.attempt.verb,
            request=request,
            inputs=tuple(inputs),
            address=address,
            token=self.signer.token(job_id, box.attempt.claim.attempt),
            variables=secret,
            grace_s=grace_s,
            **self.pace,
        )

    def bring(self, box: Box, rows: Iterable[FileRow]) -> None:
        """Bring files of an attempt into the job's folder, each whole and as its digest says; stop when it is void."""
        out = box.attempt.job_dir / OUT_FOLDER
        # What says that the rest is there comes last.
        for row in sorted(rows, key=lambda row: (row.path == "DONE", row.path)):
            path = row.place(out)
            if path.is_file() and path.stat().st_size == row.bytes and sha256_of(path) == row.sha256:
                continue
            with box.lock:
                if box.void:
                    return
                make_folder(path.parent)
                self.storage.get(object_name(box.job_id, row.sha256), path, sha256=row.sha256)

    def commit(self, box: Box, ending: Ending) -> Ending:
        """Make an attempt's result that of the job; return the result that the job has.

        Raises:
            GoneError: the attempt does not count.
        """
        self._require(box)
        name = _result_name(box.job_id)
        data = json.dumps({"attempt": box.attempt.claim.attempt, "ending": ending.model_dump(mode="json")}).encode()
        try:
            self.storage.put(name, data, create=True)
            return ending
        except ConflictError:
            return self.result(box.job_id) or ending

    def result(self, job_id: str) -> Ending | None:
        """Return the result that an attempt has committed; None if there is none."""
        try:
            return Ending.parse(json.loads(self.storage.read(_result_name(job_id)))["ending"])
        except NotFoundError:
            return None

    def ending(self, box: Box) -> Ending | None:
        """Return the last word that an attempt has told an earlier server; None if it has not."""
        try:
            return Ending.parse(json.loads(self.storage.read(_ending_name(box))))
        except NotFoundError:
            return None

    def drop_files(self, job_id: str) -> None:
        """Delete the files of a job from the storage; its result stays known."""
        delete_objects(self.storage, f"jobs/{job_id}/files")

    # Below: one call

    def _counting(self, job_id: str, attempt: int) -> Box:
        box = self._boxes.get(f"{job_id}.{attempt}")
        if box is not None:
            self._require(box)
            return box
        if job_id in self._store.ids():
            view = self._store.get(job_id, self._store.owner_of(job_id))
            if view.state in RUNNING and view.attempt == attempt:
                raise NotHereError("This attempt is looked after by another server; ask again in a moment.")
        raise GoneError("This attempt is over: the job goes on without it, or has ended.")

    def _require(self, box: Box) -> None:
        if not self.stands(box):
            raise GoneError("This attempt is over: the job goes on without it, or has ended.")

    def _verify(self, box: Box, rows: Iterable[FileRow]) -> None:
        problems = []
        for row in rows:
            try:
                row.place(Path())
            except ValueError:
                raise InputError.of(
                    [Problem("files", "lead out of the folder", "send paths below it", "path")]
                ) from None
            if row.sha256 in box.verified:
                continue
            name = object_name(box.job_id, row.sha256)
            if self.storage.size(name) != row.bytes or self.storage.digest(name) != row.sha256:
                self.storage.delete(name)
                problems.append(Problem(row.path, "did not arrive whole", "send it again", "damaged"))
            else:
                box.verified.add(row.sha256)
        if problems:
            raise ConflictError.of(problems)

    def _take_log(self, box: Box, told: Beat) -> None:
        data = told.log.encode()
        if told.log_after > box.log_seen or told.log_after + len(data) > _MOST_LOG_BYTES:
            return
        fresh = data[box.log_seen - told.log_after :]
        if fresh:
            with (box.attempt.job_dir / LOG_FILE).open("ab") as log:
                log.write(fresh)
            box.log_seen += len(fresh)

    def _input(self, box: Box, place: str, path: Path) -> Input:
        row = FileRow(path=place, bytes=path.stat().st_size, sha256=sha256_of(path))
        name = object_name(box.job_id, row.sha256)
        if self.storage.size(name) != row.bytes:
            self.storage.put(name, path)
        return self._linked(name, row)

    def _before(self, box: Box, below: str) -> list[Input]:
        """Return what earlier attempts have brought; what lies here if they ran on this machine."""
        try:
            listed = Files.parse({"files": json.loads(self.storage.read(_snapshot_name(box.job_id)))["files"]})
        except NotFoundError:
            out = box.attempt.job_dir / OUT_FOLDER
            return [self._input(box, f"{below}/{relative}", path) for relative, path in visible_files(out)]
        found = []
        for row in listed.files:
            name = object_name(box.job_id, row.sha256)
            if self.storage.size(name) == row.bytes:
                found.append(self._linked(name, row.model_copy(update={"path": f"{below}/{row.path}"})))
        return found

    def _linked(self, name: str, row: FileRow) -> Input:
        link = self.storage.link("GET", name, expires_s=LINK_LIFE_S, max_bytes=0)
        return Input(place=row, link=LinkRow.of(link))


def delete_objects(storage: Storage, prefix: str) -> int:
    """Delete everything below a prefix; return how many objects that were."""
    names = storage.names(prefix)
    for name in names:
        storage.delete(name)
    return len(names)


def _snapshot_name(job_id: str) -> str:
    return f"jobs/{job_id}/snapshot.json"


def _ending_name(box: Box) -> str:
    return f"jobs/{box.job_id}/ending-{box.attempt.claim.attempt}.json"


def _result_name(job_id: str) -> str:
    return f"jobs/{job_id}/result.json"
