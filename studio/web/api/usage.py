"""How much an owner has of what quotas limit, and how much there may be: ``GET /v1/usage``."""

from dataclasses import dataclass

from studio.core.errors import LoginError
from studio.core.keys import ApiKey, quota_of
from studio.web.api.operations import Call


@dataclass(frozen=True, slots=True)
class Amount:
    """How much there is of one thing, and how much there may be."""

    used: float
    limit: float | None
    """None is without limit."""


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The key that a request came with."""

    id: str
    name: str
    scopes: tuple[str, ...]
    expires_s: float | None
    """Seconds since 1970; None is never."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Answer of ``GET /v1/usage``."""

    owner: str
    month: str
    """Calendar month of the minutes: YYYY-MM in UTC."""
    photos: Amount
    """Photos that are kept."""
    jobs: Amount
    """Jobs that have not ended."""
    gpu_minutes: Amount
    """Minutes that jobs have run this month, all but checks."""
    requests_per_minute: float | None
    """Requests of one key in a minute; None is without limit."""
    body_bytes: float | None
    """Bytes of the body of one request; None leaves it at what the address takes."""
    key: KeyFacts | None
    """None where no keys are used."""


def usage(call: Call) -> Usage:
    """Answer with use and limits."""
    owner, settings = call.session.owner, call.desk.settings
    key = _key_of(call)
    quota = quota_of(settings, key)
    use = call.session.studio.usage(owner=owner)
    facts = KeyFacts(key.id, key.name, key.scopes, key.expires_s) if key else None
    return Usage(
        owner=owner,
        month=use.month,
        photos=Amount(use.photos, quota.photos),
        jobs=Amount(use.jobs, quota.jobs),
        gpu_minutes=Amount(round(use.gpu_s / 60, 2), quota.gpu_minutes),
        requests_per_minute=quota.requests_per_minute if key else None,
        body_bytes=quota.body_bytes if key else None,
        key=facts,
    )


def _key_of(call: Call) -> ApiKey | None:
    try:
        return None if call.session.visitor is None else call.session.visitor().key
    except LoginError:
        return None
