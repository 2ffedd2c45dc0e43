"""API keys of a server with ``STUDIO_AUTH=keys``: whose one is, what it may do, how much of everything, and until when.

Ground level. Where they are kept is ``studio.jobs.keys``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pydantic import Field

from studio.core.errors import InputError, Problem
from studio.core.names import choice_cure
from studio.core.settings import Settings
from studio.core.strict import StrictModel

Scope = Literal["read", "jobs", "publish", "admin"]

SCOPES: Mapping[Scope, str] = {
    "read": "look at the owner's jobs, files and events",
    "jobs": "start, steer and forget jobs, and send files; read is included",
    "publish": "publish on the Hub and delete there; read is included",
    "admin": "all of that, also in the name of another owner (X-Studio-Owner), which is written down",
}
"""Scope -> what a key with it may do."""

KEY_PREFIX = "lsk_"
"""What every key begins with, so that people and scanners of leaked secrets recognise one."""


class Quota(StrictModel):
    """How much of everything an owner may have; None is without limit."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Requests of one key in a minute."""
    body_bytes: int | None = Field(default=None, ge=1)
    """Bytes of the body of one request."""
    photos: int | None = Field(default=None, ge=0)
    """Photos that are kept."""
    jobs: int | None = Field(default=None, ge=0)
    """Jobs that have not ended."""
    gpu_minutes: float | None = Field(default=None, ge=0)
    """Minutes that jobs may run in a calendar month (UTC), all but checks."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is known to the server, which does not know its secret part."""

    id: str
    """Its beginning, by which people recognise it: ``lsk_`` and twelve letters."""
    owner: str
    name: str
    scopes: tuple[Scope, ...]
    created_s: float
    """Seconds since 1970, as all times here."""
    expires_s: float | None = None
    revoked_s: float | None = None
    last_used_day: str | None = None
    """As YYYY-MM-DD in UTC; None if it was never used."""
    quota: Mapping[str, Any] = field(default_factory=dict)
    """What of the installation's quota is another one for this key."""

    def may(self, scope: Scope) -> bool:
        """Tell whether the key may do what needs a scope."""
        return scope in self.scopes or "admin" in self.scopes or (scope == "read" and bool(self.scopes))


@dataclass(frozen=True, slots=True)
class Use:
    """What an owner has of what quotas limit."""

    month: str
    """The calendar month that ``gpu_s`` is about: YYYY-MM in UTC."""
    photos: int
    jobs: int
    gpu_s: float


def quota_of(settings: Settings, key: ApiKey | None = None) -> Quota:
    """Return the quota that holds for a request: the installation's, changed by the key's own."""
    usual = {name: getattr(settings, f"quota_{name}") for name in Quota.model_fields}
    return Quota.parse({**usual, **(key.quota if key else {})})


def scopes_of(given: Sequence[str]) -> tuple[Scope, ...]:
    """Return the scopes with these names, each once, in the order of ``SCOPES``.

    Raises:
        InputError: names every one that there is not, or that none is given.
    """
    names = {name.strip() for name in given if name.strip()}
    known = get_args(Scope)
    problems = [
        Problem("scopes", f"has no {name!r}", choice_cure(name, known), "unknown_scope")
        for name in sorted(names.difference(known))
    ]
    if not names:
        problems.append(Problem("scopes", "are missing", f"give some of: {', '.join(known)}", "no_scope"))
    if problems:
        raise InputError.of(problems)
    return tuple(name for name in SCOPES if name in names)


def over(quota: Quota, use: Use, *, photos: int = 0, jobs: int = 0, computes: bool = False) -> list[Problem]:
    """Return every limit that a request would go beyond.

    Args:
        quota: the limits.
        use: what there is already.
        photos: photos that the request brings.
        jobs: jobs that it starts.
        computes: whether they are of those whose minutes count.
    """
    found = []
    if photos and quota.photos is not None and use.photos + photos > quota.photos:
        message = f"would be {use.photos + photos} with those of this request, and {quota.photos} may be kept"
        found.append(Problem("photos", message, "forget photo sets that you need no more", "quota"))
    if jobs and quota.jobs is not None and use.jobs + jobs > quota.jobs:
        message = f"would be {use.jobs + jobs} at once, and {quota.jobs} may be"
        found.append(Problem("jobs", message, "wait until one has ended, or cancel one", "quota"))
    if computes and quota.gpu_minutes is not None and use.gpu_s >= 60 * quota.gpu_minutes:
        message = f"are used up: {use.gpu_s / 60:.1f} of {quota.gpu_minutes:g} in {use.month}"
        found.append(Problem("gpu_minutes", message, "wait for the next month (UTC), or ask for more", "quota"))
    return found
