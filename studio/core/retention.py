"""How long jobs are kept: what the operator allows at most, and what an owner has chosen within that."""

from dataclasses import dataclass

from studio.core.errors import InputError, Problem
from studio.core.server_token import uses_keys
from studio.core.settings import Settings

SERVICE_DAYS = 30.0
"""Where people log in or have keys, jobs are kept for so many days unless the operator says otherwise."""

WAIT_DAYS = 7.0
"""There a job may wait so many days for its turn."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long an owner's jobs are kept after their last use; None is for ever."""

    days: float | None
    """What holds: the owner's own days, or else the operator's."""
    own_days: float | None
    """What the owner has chosen; None if nothing."""
    most_days: float | None
    """What the operator allows at most."""


def most_days(settings: Settings) -> float | None:
    """Return for how many days the operator lets jobs be kept at most; None is for ever."""
    if settings.keep_days is not None:
        return settings.keep_days or None
    return SERVICE_DAYS if settings.login or uses_keys(settings) else None


def longest_wait_days(settings: Settings) -> float | None:
    """Return for how many days the operator lets a job wait for its turn; None is for ever."""
    if settings.wait_days is not None:
        return settings.wait_days or None
    return WAIT_DAYS if settings.login or uses_keys(settings) else None


def retention(most: float | None, own: float | None) -> Retention:
    """Return what holds for an owner; an earlier choice that is now more than the maximum is cut to that.

    Args:
        most: days that the operator allows; None is without limit.
        own: days that the owner has chosen; None if nothing.
    """
    chosen = [days for days in (most, own) if days is not None]
    return Retention(min(chosen, default=None), own, most)


def require_within(most: float | None, days: float | None) -> None:
    """Raise InputError if an owner may not choose so many days."""
    if days is not None and most is not None and days > most:
        cure = f"choose at most {most:g}, or null for what this studio keeps at most"
        raise InputError.of([Problem("days", f"are {days:g}, more than is kept here", cure, "out_of_range")])
