"""How many jobs there are of each kind in each state, for those who run the studio: no owner, no id, no title."""

from sqlalchemy import ColumnElement, Connection, func, select

from studio.jobs.queue import Figure
from studio.jobs.schema import JOBS


def figures(db: Connection, now_s: ColumnElement[float]) -> list[Figure]:
    """Return the figures of all owners' jobs, sorted.

    Args:
        db: a connection that reads.
        now_s: the time on the database's clock.
    """
    oldest_s = now_s - func.min(JOBS.c.created_s)
    query = select(JOBS.c.kind, JOBS.c.state, func.count(), oldest_s).group_by(JOBS.c.kind, JOBS.c.state)
    return sorted(
        (Figure(kind, state, jobs, max(0.0, float(oldest))) for kind, state, jobs, oldest in db.execute(query)),
        key=lambda row: (row.kind, row.state),
    )
