"""How long a machine may be rented for the money that is left, and why not at all."""

from dataclasses import dataclass

from studio.core.errors import InputError, Problem
from studio.core.units import dollars
from studio.jobs.rentals import Money

_S_PER_HOUR = 3600.0
_SLACK_S = 300.0
"""So long it may take until a machine is gone that was given back."""
_LEAST_S = 600.0
"""For less time nobody rents a machine: it would be spent before the first step."""


class NotYetError(Exception):
    """The money that is left is reserved for machines that run now; some of it may come back."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be spent, US dollars."""

    monthly_budget: float
    max_per_job: float
    max_price_per_hour: float
    max_s: float
    """Longest time for one machine."""


def seconds_for(bounds: Bounds, price_per_hour: float, extra: float, money: Money) -> float:
    """Return for how many seconds a machine may be rented.

    Args:
        bounds: what may be spent.
        price_per_hour: of the machine.
        extra: what it costs beside that.
        money: what is spent and reserved.

    Raises:
        InputError: it is too dear, or too little is left. NotYetError: what is left is reserved.
    """
    if not 0 < price_per_hour <= bounds.max_price_per_hour:
        raise too_dear(price_per_hour, bounds)
    least_s = min(_LEAST_S, bounds.max_s)

    def seconds(left: float) -> float:
        return min(bounds.max_s, (left - extra) / price_per_hour * _S_PER_HOUR - _SLACK_S)

    of_job, of_month = bounds.max_per_job - money.spent_on_job, bounds.monthly_budget - money.spent
    if seconds(of_job) < least_s:
        words = f"leaves too little: this job has cost {dollars(money.spent_on_job)} of {dollars(bounds.max_per_job)}"
        raise InputError.of([Problem("STUDIO_RENT_MAX_PER_JOB", words, "raise it and retry the job", "rent_job")])
    if seconds(of_month) < least_s:
        words = f"is used up: {dollars(money.spent)} of {dollars(bounds.monthly_budget)} in {money.month}"
        cure = "raise it, or retry the job next month"
        raise InputError.of([Problem("STUDIO_RENT_MONTHLY_BUDGET", words, cure, "rent_budget")])
    if seconds(of_month - money.reserved) < least_s:
        raise NotYetError
    return seconds(min(of_job, of_month - money.reserved))


def most_for(price_per_hour: float, extra: float, seconds: float) -> float:
    """Return what a machine costs at most that is given back after so long."""
    return extra + price_per_hour * (seconds + _SLACK_S) / _S_PER_HOUR


def too_dear(price_per_hour: float, bounds: Bounds) -> InputError:
    """Return the error for a machine above the price that is allowed."""
    most = dollars(bounds.max_price_per_hour)
    words = f"allows {most} an hour, and the machine costs {dollars(price_per_hour)}"
    return InputError.of([Problem("STUDIO_RENT_MAX_PRICE_PER_HOUR", words, "raise it and retry the job", "rent_price")])
