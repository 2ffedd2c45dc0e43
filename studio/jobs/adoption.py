"""What becomes of attempts whose server is gone: those on other machines are taken over, the others begun anew.

Functions on a connection, for ``store``, whose contract is in ``queue``.
"""

from collections.abc import Callable, Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, or_, select, update

from studio.jobs.moves import IS_RUNNING, requeue
from studio.jobs.queue import Claim
from studio.jobs.schema import JOBS


def abandoned(now_s: ColumnElement[float], holder: str, *, alone: bool) -> Select[Any]:
    """Return the query for the jobs that run and whose server is gone; those of ``holder`` are looked after.

    Args:
        now_s: the time, by the database's clock.
        holder: this server.
        alone: every other server is known to be gone, so all that run are meant.
    """
    query = select(JOBS).where(JOBS.c.state.in_(IS_RUNNING)).order_by(JOBS.c.number).with_for_update()
    if alone:
        return query
    # A job that ran when the leases came has none; our own are looked after by who runs them here.
    ended = or_(JOBS.c.leased_until_s.is_(None), JOBS.c.leased_until_s < now_s)
    return query.where(ended, or_(JOBS.c.holder.is_(None), JOBS.c.holder != holder))


def adopt(
    db: Connection, query: Select[Any], accepts: Callable[[Claim, str], bool], **lease: Any
) -> list[tuple[Claim, str]]:
    """Give the attempts of a query that have a place, and are accepted, a lease; return them with their places."""
    found = []
    for row in db.execute(query.where(JOBS.c.place.is_not(None))).mappings().all():
        claim, place = Claim(row["id"], row["kind"], row["attempt"]), str(row["place"])
        if accepts(claim, place):
            db.execute(update(JOBS).where(JOBS.c.id == claim.id).values(lease))
            found.append((claim, place))
    return found


def begin_anew(
    db: Connection, query: Select[Any], reason: str, without: Collection[str], now_s: ColumnElement[float]
) -> list[str]:
    """Put the jobs of a query back into the queue, but those of some ids; return the ids of those that wait."""
    if without:
        query = query.where(JOBS.c.id.not_in(sorted(without)))
    rows = db.execute(query).mappings().all()
    return [row["id"] for row in rows if requeue(db, row, row["attempt"], reason, finished_s=now_s)]


def change(db: Connection, claim: Claim, *, only_of: str | None = None, **columns: Any) -> None:
    """Change columns of an attempt that runs; nothing if it is no longer the job's, or not that holder's."""
    where = and_(JOBS.c.id == claim.id, JOBS.c.attempt == claim.attempt, JOBS.c.state.in_(IS_RUNNING))
    if only_of is not None:
        where = and_(where, JOBS.c.holder == only_of)
    db.execute(update(JOBS).where(where).values(columns))
