"""What the tables tell whoever runs a studio: which server runs what, what owners have used, what is to be delivered.

Nothing of what a job is about, and of a webhook's address its host alone: the rest may be a secret. A part of
``studio.jobs.store``; ``studio.jobs.operation`` puts it together with what a server knows of itself.
"""

from typing import get_args
from urllib.parse import urlsplit

from sqlalchemy import func, or_, select

from studio.core.webhooks import DeliveryState
from studio.jobs import keeping, usage
from studio.jobs.database import Database
from studio.jobs.queue import Deliveries, Delivery, OwnerUse, RunningJob
from studio.jobs.schema import DELIVERIES, JOBS, KEYS, RENTALS, WEBHOOKS
from studio.jobs.states import RUNNING

MOST_DELIVERIES = 20


class Overview:
    """Reads it.

    Args:
        database: of the queue.
        lease_s: how long a claim holds without a heartbeat.
        holder: how this server calls itself there.
    """

    def __init__(self, database: Database, lease_s: float, holder: str) -> None:
        self._database, self._lease_s, self._holder = database, lease_s, holder
        self.server = _server(holder)
        """Host and process of this server."""

    def running(self) -> tuple[RunningJob, ...]:
        """Return the attempts that run, the oldest first."""
        names = (JOBS.c.id, JOBS.c.kind, JOBS.c.owner, JOBS.c.attempt, JOBS.c.holder, JOBS.c.place)
        times = (JOBS.c.claimed_s, JOBS.c.leased_until_s, self._database.now_s.label("now_s"))
        query = select(*names, *times).where(JOBS.c.state.in_(sorted(RUNNING)), JOBS.c.holder.is_not(None))
        with self._database.read() as db:
            rows = db.execute(query.order_by(JOBS.c.claimed_s)).all()
        return tuple(
            RunningJob(
                id=row.id,
                kind=row.kind,
                owner=row.owner,
                attempt=row.attempt,
                server=_server(row.holder),
                is_ours=row.holder == self._holder,
                place=row.place.partition(" ")[0] if row.place else None,
                began_s=max(0.0, row.now_s - (row.claimed_s or row.now_s)),
                silent_s=max(0.0, row.now_s - ((row.leased_until_s or row.now_s) - self._lease_s)),
            )
            for row in rows
        )

    def uses(self) -> dict[str, OwnerUse]:
        """Return owner -> what they have used, of all who have a job or a key that is not revoked."""
        with self._database.read() as db:
            days, now_s = keeping.choices(db), self._database.now_s
            live = (KEYS.c.revoked_s.is_(None), or_(KEYS.c.expires_s.is_(None), KEYS.c.expires_s > now_s))
            count = select(KEYS.c.owner, func.count()).where(*live).group_by(KEYS.c.owner)
            keys = {owner: int(many) for owner, many in db.execute(count)}
            owners = {*db.scalars(select(JOBS.c.owner).distinct()), *keys}
            return {
                owner: OwnerUse(usage.use_of(db, owner)[0], days.get(owner), keys.get(owner, 0)) for owner in owners
            }

    def delivery_counts(self) -> dict[str, int]:
        """Return state -> how many deliveries are in it, each state that there is."""
        states = select(DELIVERIES.c.state, func.count()).group_by(DELIVERIES.c.state)
        with self._database.read() as db:
            counts = {state: int(many) for state, many in db.execute(states)}
        return {state: counts.get(state, 0) for state in get_args(DeliveryState)}

    def rented(self) -> int:
        """Return how many machines may cost money now."""
        with self._database.read() as db:
            return db.scalar(select(func.count()).where(RENTALS.c.gone_s.is_(None))) or 0

    def deliveries(self) -> Deliveries:
        """Return how deliveries stand, and some of them: what waits or has failed, then the newest of the others."""
        now_s = self._database.now_s.label("now_s")
        told = (DELIVERIES.c.owner, DELIVERIES.c.type, DELIVERIES.c.state, DELIVERIES.c.attempts, DELIVERIES.c.status)
        times = (DELIVERIES.c.created_s, DELIVERIES.c.due_s, now_s)
        joined = DELIVERIES.outerjoin(WEBHOOKS, WEBHOOKS.c.id == DELIVERIES.c.webhook)
        order = ((DELIVERIES.c.state == "delivered").asc(), DELIVERIES.c.number.desc())
        with self._database.read() as db:
            active = db.scalar(select(func.count()).where(WEBHOOKS.c.is_active == 1, WEBHOOKS.c.job.is_(None))) or 0
            query = select(*told, *times, WEBHOOKS.c.url).select_from(joined).order_by(*order)
            rows = db.execute(query.limit(MOST_DELIVERIES)).all()
        newest = (
            Delivery(
                owner=row.owner,
                host=_host(row.url),
                type=row.type,
                state=row.state,
                attempts=row.attempts,
                status=row.status,
                age_s=max(0.0, row.now_s - row.created_s),
                next_s=max(0.0, row.due_s - row.now_s) if row.state == "waiting" else None,
            )
            for row in rows
        )
        return Deliveries(self.delivery_counts(), active, tuple(newest))


def _server(holder: str) -> str:
    host, _, process = holder.partition(":")
    return f"{host} {process.partition(':')[0]}"


def _host(url: str | None) -> str | None:
    try:
        return urlsplit(url or "").hostname
    except ValueError:
        return None
