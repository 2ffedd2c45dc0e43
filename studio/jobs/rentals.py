"""What rented machines have cost, and what those that may run now can cost at most: written before one is asked for.

A machine is reserved for with all that it may cost, so that the month's budget holds however many are rented at once;
when it is gone, what it has cost takes the place of that, and is added to its job. Called by ``runners.rented``.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from studio.jobs.database import Database
from studio.jobs.schema import JOBS, RENTALS
from studio.jobs.usage import month_of

_S_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Rental:
    """A machine that may cost money now."""

    label: str
    service: str
    job: str
    attempt: int
    machine: str | None
    """None: it was asked for, and nobody knows whether it was rented."""
    what: str
    price_per_hour: float
    reserved: float
    begun_s: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Money:
    """How money stands, US dollars."""

    month: str
    """YYYY-MM, UTC."""
    spent: float
    """By machines of this month that are gone."""
    reserved: float
    """For those that may run now."""
    spent_on_job: float = 0.0
    """By the machines of one job, of whatever month."""


class Rentals:
    """The rentals of one installation.

    Args:
        database: where they are.
        clock: seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def money(self, job_id: str = "") -> Money:
        """Return how money stands now, and what a job has cost."""
        with self._database.read() as db:
            return self._money(db, job_id)

    def reserve(self, rental: Mapping[str, Any], afford: Callable[[Money], float]) -> float:
        """Write down a machine that is about to be asked for, with all that it may cost.

        Args:
            rental: the columns ``label``, ``service``, ``job``, ``attempt``, ``what``, ``price_per_hour``, ``extra``.
            afford: returns what it may cost at most, as money stands; nobody else reserves meanwhile.

        Returns:
            That.

        Raises:
            StudioError: whatever ``afford`` raises; then nothing is written.
        """
        with self._database.write() as db:
            self._database.serialize(db, "rentals")
            money = self._money(db, str(rental["job"]))
            reserved = afford(money)
            row = dict(rental, reserved=reserved, month=money.month, begun_s=self._clock())
            db.execute(insert(RENTALS).values(row))
            return reserved

    def rented(self, label: str, machine: str) -> None:
        """Write down which machine it is."""
        with self._database.write() as db:
            unknown = (RENTALS.c.label == label, RENTALS.c.machine.is_(None))
            db.execute(update(RENTALS).where(*unknown).values(machine=machine))

    def drop(self, label: str) -> None:
        """Forget a machine that was clearly never rented."""
        with self._database.write() as db:
            db.execute(delete(RENTALS).where(RENTALS.c.label == label, RENTALS.c.machine.is_(None)))

    def gone(self, service: str, machine: str) -> float | None:
        """Write down that a machine is gone, and what it has cost; return that, None if that was known or it never was.

        It is taken for rented from the moment at which it was asked for, which no service does to its own harm.
        """
        with self._database.write() as db:
            mine = (RENTALS.c.service == service, RENTALS.c.machine == machine, RENTALS.c.gone_s.is_(None))
            row = db.execute(select(RENTALS).where(*mine).with_for_update()).mappings().one_or_none()
            if row is None:
                return None
            now_s = self._clock()
            cost = float(row["extra"] + row["price_per_hour"] * max(0.0, now_s - row["begun_s"]) / _S_PER_HOUR)
            db.execute(update(RENTALS).where(*mine).values(gone_s=now_s, cost=cost))
            more = func.coalesce(JOBS.c.cost_usd, 0.0) + cost
            db.execute(update(JOBS).where(JOBS.c.id == row["job"]).values(cost_usd=more))
            return cost

    def age_s(self, rental: Rental) -> float:
        """Return how long ago a machine was asked for, seconds."""
        return self._clock() - rental.begun_s

    def open_ones(self, service: str, job_id: str = "") -> list[Rental]:
        """Return the machines that may cost money now, of all jobs or of one."""
        query = select(RENTALS).where(RENTALS.c.service == service, RENTALS.c.gone_s.is_(None))
        if job_id:
            query = query.where(RENTALS.c.job == job_id)
        with self._database.read() as db:
            rows = db.execute(query.order_by(RENTALS.c.begun_s)).mappings()
            return [Rental(**{name: row[name] for name in Rental.__slots__}) for row in rows]

    def _money(self, db: Connection, job_id: str) -> Money:
        def total(column: ColumnElement[float], *where: ColumnElement[bool]) -> float:
            return float(db.scalar(select(func.coalesce(func.sum(column), 0.0)).where(*where)) or 0.0)

        month = month_of(self._clock())
        is_gone = RENTALS.c.gone_s.is_not(None)
        return Money(
            month,
            total(RENTALS.c.cost, is_gone, RENTALS.c.month == month),
            total(RENTALS.c.reserved, RENTALS.c.gone_s.is_(None)),
            total(RENTALS.c.cost, is_gone, RENTALS.c.job == job_id) if job_id else 0.0,
        )
