"""The errors that the studio raises on purpose; everything else is a bug.

Imported by every room, imports nothing. The class decides the HTTP status and whether
a job may be tried again; the page and the command line show ``str(error)`` and never a stack trace.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where it is, and how to cure it."""

    where: str
    """The photo's file name, or the setting's dotted name."""
    message: str
    """What is wrong, lower case, no full stop."""
    cure: str
    """What the user can do, as an imperative, no full stop."""
    code: str = "invalid"
    """A stable word for programs, for example ``too_small``."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}; {self.cure}."


class StudioError(Exception):
    """Root of all errors that are shown to the user as they are."""

    status = 500
    """HTTP status of the answer."""
    retry = False
    """True if the same job may succeed when it is simply tried again."""
    retry_after_s: int | None = None
    """So many seconds later the same request may be sent again; None where time alone changes nothing."""

    def __init__(self, message: str, problems: Iterable[Problem] = ()) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__(message)

    @classmethod
    def of(cls, problems: Iterable[Problem]) -> Self:
        """Make one error out of all problems found at once; its text lists every one on its own line."""
        found = tuple(problems)
        return cls("\n".join(str(problem) for problem in found), found)


# What the user can mend


class InputError(StudioError):
    """A setting, a photo or a file cannot be used as it is."""

    status = 422


class LoginError(StudioError):
    """Nobody is logged in, and this belongs to somebody."""

    status = 401


class ForbiddenError(StudioError):
    """Who asks is known, but may not do this."""

    status = 403


class QuotaError(StudioError):
    """It would be more than the owner may have, or comes too often."""

    status = 429


class NotFoundError(StudioError):
    """Nothing has that name or id."""

    status = 404


class ConflictError(StudioError):
    """The request contradicts what is already there."""

    status = 409


class MissingExtraError(StudioError):
    """An optional package or a weight file is not installed here."""

    status = 501


# What the machine did


class ResourceError(StudioError):
    """Disk, memory or device gave out."""

    status = 507
    retry = True


class UnavailableError(StudioError):
    """The server can take no job now; it, or another one behind the same address, soon will."""

    status = 503
    retry = True
    retry_after_s = 10


class QueueFullError(UnavailableError):
    """So many jobs wait that no more are taken for a while."""

    retry_after_s = 60


class TrainingError(StudioError):
    """A run was ended early because it could not have become good."""

    status = 500


class JobCancelled(StudioError):  # noqa: N818  a request that was honoured, not a fault
    """The owner asked to stop; what was done so far is kept."""

    status = 409
