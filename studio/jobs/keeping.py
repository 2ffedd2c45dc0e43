"""How long owners want their jobs kept: one row for each who has said so."""

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert, select

from studio.jobs.schema import KEEPING


def choice(db: Connection, owner: str) -> float | None:
    """Return for how many days an owner wants jobs kept; None if they have not said."""
    return db.scalar(select(KEEPING.c.days).where(KEEPING.c.owner == owner))


def choices(db: Connection) -> Mapping[str, float]:
    """Return owner -> days of all who have said."""
    return {row.owner: row.days for row in db.execute(select(KEEPING.c.owner, KEEPING.c.days))}


def choose(db: Connection, owner: str, days: float | None) -> None:
    """Write down for how many days an owner wants jobs kept, or with None that the operator's days hold.

    Args:
        db: a connection that writes, and keeps others from writing of the same owner.
        owner: whose jobs.
        days: more than 0.
    """
    db.execute(delete(KEEPING).where(KEEPING.c.owner == owner))
    if days is not None:
        db.execute(insert(KEEPING).values(owner=owner, days=days))
