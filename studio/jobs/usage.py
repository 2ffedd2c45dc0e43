"""How long the jobs of each owner have run: booked in the transaction that ends an attempt, by the database's clock.

What is booked stays when a job is forgotten, so that a quota cannot be emptied by forgetting.
"""

import json
import time
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, select, update

from studio.core.keys import Use
from studio.jobs.postgres import PostgresDatabase
from studio.jobs.schema import JOBS, USED
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.states import RUNNING, WAITING

FREE = ("check",)
"""Kinds of jobs whose time is not counted: they need no device."""

NOW_S: Mapping[str, ColumnElement[float]] = {"sqlite": SqliteDatabase.now_s, "postgresql": PostgresDatabase.now_s}
"""Dialect -> the time on the database's clock."""
_CLAIMED = select(JOBS.c.owner, JOBS.c.kind, JOBS.c.claimed_s).where(
    JOBS.c.id == bindparam("job_id"), JOBS.c.claimed_s.is_not(None)
)


def book(db: Connection, job_id: str) -> None:
    """Add what the attempt that has just ended took to its owner's month; nothing if none has.

    Args:
        db: a connection that writes.
        job_id: the job, whose row still says when it was claimed.
    """
    row = db.execute(_CLAIMED, {"job_id": job_id}).one_or_none()
    if row is None:
        return
    db.execute(update(JOBS).where(JOBS.c.id == job_id).values(claimed_s=None))
    if row.kind in FREE:
        return
    now_s = _now_s(db)
    month, took_s = month_of(now_s), max(0.0, now_s - row.claimed_s)
    mine = (USED.c.owner == row.owner, USED.c.month == month)
    if not db.execute(update(USED).where(*mine).values(gpu_s=USED.c.gpu_s + took_s)).rowcount:
        db.execute(insert(USED).values(owner=row.owner, month=month, gpu_s=took_s))


def use_of(db: Connection, owner: str) -> tuple[Use, list[str]]:
    """Return what an owner has of what quotas limit.

    Returns:
        The use, and the ids of checks that have no result yet or none any more, whose photos are not counted in it.
    """
    now_s = _now_s(db)
    month = month_of(now_s)
    booked = db.scalar(select(USED.c.gpu_s).where(USED.c.owner == owner, USED.c.month == month)) or 0.0
    own = JOBS.c.owner == owner
    runs = (own, JOBS.c.state.in_(sorted(RUNNING)), JOBS.c.kind.not_in(FREE), JOBS.c.claimed_s.is_not(None))
    running_s = sum(max(0.0, now_s - claimed_s) for claimed_s in db.scalars(select(JOBS.c.claimed_s).where(*runs)))
    open_jobs = db.scalar(select(func.count()).where(own, JOBS.c.state.in_(sorted(RUNNING | WAITING)))) or 0
    photos, uncounted = 0, []
    for job_id, result in db.execute(select(JOBS.c.id, JOBS.c.result).where(own, JOBS.c.kind == "check")):
        if result is None:
            uncounted.append(job_id)
        else:
            photos += len(json.loads(result).get("verdicts", ()))
    return Use(month, photos, open_jobs, booked + running_s), uncounted


def month_of(now_s: float) -> str:
    """Return the calendar month of a time, as YYYY-MM in UTC."""
    return time.strftime("%Y-%m", time.gmtime(now_s))


def _now_s(db: Connection) -> float:
    now_s: float = db.execute(select(NOW_S[db.dialect.name])).scalar_one()
    return now_s
