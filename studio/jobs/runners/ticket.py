"""What a server and the agent of an attempt write to each other: the ticket, lists of files, reports.

A ticket is all that another machine gets to know: what to run, links to the inputs and to what earlier attempts have
brought, and a token that opens this attempt's routes. It holds no database, no key of a cloud and no other job.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from studio.core.domain import JobKind
from studio.core.folder import files_below
from studio.core.strict import StrictModel
from studio.jobs.events import Outcome
from studio.jobs.storage.base import Link

_MOST_FILES = 20_000


class FileRow(StrictModel):
    """One file of a folder."""

    path: Annotated[str, Field(pattern=r"^[^\x00-\x1f\\]{1,500}$")]
    """Below the folder, with slashes."""
    bytes: Annotated[int, Field(ge=0)]
    """Its size."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Its digest, which is also the name of the object."""

    def place(self, folder: Path) -> Path:
        """Return where it lies below a folder; raises ValueError for a path that leads out or is hidden."""
        parts = self.path.split("/")
        if any(not part or part.startswith(".") for part in parts):
            raise ValueError(f"{self.path!r} is no path below a folder")
        return folder.joinpath(*parts)


class LinkRow(StrictModel):
    """A link as it is sent."""

    method: Literal["GET", "PUT"]
    url: str
    headers: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, link: Link) -> "LinkRow":
        """Return a link as it is sent."""
        return cls(method=link.method, url=link.url, headers=dict(link.headers))


class Input(StrictModel):
    """A file to fetch."""

    place: FileRow
    """Where it goes, below the folder of jobs."""
    link: LinkRow


class Ticket(StrictModel):
    """One attempt for one agent."""

    version: Literal[1] = 1
    job: Annotated[str, Field(pattern=r"^[a-z]+-[0-9a-f]{16}$")]
    kind: JobKind
    attempt: Annotated[int, Field(ge=1)]
    verb: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    request: dict[str, Any]
    """As the job's ``request.json`` holds it."""
    inputs: tuple[Input, ...]
    """What the verb reads, and what earlier attempts have brought of its output."""
    address: str
    """Of the server: http or https; or ``unix:PATH`` of a socket that leads to it, below the ticket's folder."""
    token: str
    """Opens the routes of this attempt."""
    variables: dict[str, str | None] = Field(default_factory=dict)
    """For the verb's process: what the job's owner gave for this job alone; None takes a variable away."""
    grace_s: Annotated[float, Field(gt=0)] = 20.0
    """How long the verb may take to stop by itself."""
    beat_s: Annotated[float, Field(gt=0)] = 2.0
    """Time between two reports."""
    snapshot_s: Annotated[float, Field(gt=0)] = 30.0
    """Time between two looks for new files to bring."""
    patience_s: Annotated[float, Field(gt=0)] = 3600.0
    """So long the agent works on while it does not reach the server."""


class EventRow(StrictModel):
    """One event as it is sent."""

    kind: str
    data: dict[str, Any]


class Beat(StrictModel):
    """What an agent tells while it works."""

    after: Annotated[int, Field(ge=0)] = 0
    """Number of events that it has told before these."""
    events: tuple[EventRow, ...] = ()
    log_after: Annotated[int, Field(ge=0)] = 0
    """Bytes of the log that it has told before these."""
    log: str = ""


class Files(StrictModel):
    """The files of an attempt's output."""

    files: Annotated[tuple[FileRow, ...], Field(max_length=_MOST_FILES)] = ()


class Ending(StrictModel):
    """An attempt's last word."""

    state: Literal["completed", "stalled", "cancelled"] | None = None
    """None: it has ended without an outcome."""
    result: dict[str, Any] | None = None
    cause: str | None = None
    problems: tuple[dict[str, str], ...] = ()
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    reason: str = ""
    """How it ended, where it has no outcome."""
    told_to_stop: bool = False
    files: Annotated[tuple[FileRow, ...], Field(max_length=_MOST_FILES)] = ()

    def outcome(self) -> Outcome | None:
        """Return the outcome; None if there is none."""
        if self.state is None:
            return None
        return Outcome(self.state, self.result, self.cause, self.problems, self.status)


def object_name(job_id: str, sha256: str) -> str:
    """Return the name of an object: files go by their content, so that nothing is ever written over."""
    return f"jobs/{job_id}/files/{sha256}"


def visible_files(folder: Path) -> Iterable[tuple[str, Path]]:
    """Yield the files below a folder, by their path in it; nothing that is half written."""
    for path in files_below(folder):
        relative = path.relative_to(folder)
        if not path.is_symlink() and not any(part.startswith(".") for part in relative.parts):
            yield relative.as_posix(), path
