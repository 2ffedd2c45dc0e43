"""Webhooks and deliveries in the tables of the queue: what owners ask of them, and what the sender does.

Secrets leave this file in two ways only: to the caller of ``create``, ``rotate`` and ``secret_of_requests``, who shows
them once, and in ``Due``, with which the sender signs.
"""

import base64
import json
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, case, delete, func, insert, select, update

from studio.core.errors import ConflictError, NotFoundError, ResourceError
from studio.core.private import name_digest, owner_digest
from studio.core.webhooks import DeliveryView, WebhookConfig, WebhookView
from studio.jobs.database import Database
from studio.jobs.moves import locked, storable
from studio.jobs.schema import DELIVERIES, JOBS, WEBHOOKS
from studio.jobs.sealed import Seal
from studio.jobs.states import RUNNING, WAITING
from studio.jobs.webhooks import outbox

MOST_WEBHOOKS = 20
"""Of one owner."""
OLD_SECRET_S = 24 * 3600.0
"""So long after a rotation deliveries also carry the signature of the secret before."""
LEASE_S = 60.0
"""A delivery whose sender dies is tried again after so long; no attempt takes as long."""
WAITS_S = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 28800.0)
"""Pauses after the first, the second ... attempt that failed, about 24 hours together."""
_SECRET_BYTES = 32
_JITTER = 0.1
_LONGEST_WAIT_S = 6 * 3600.0
"""What an endpoint may ask for with Retry-After."""
_OF_REQUESTS = "-"
"""Stands for the job of a row that is no webhook, but holds the secret that webhooks of an owner's requests share."""
GONE = "The address answered 410 Gone, which asks to send nothing more."


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come."""

    number: int
    id: str
    webhook: str
    owner: str
    url: str = field(repr=False)
    """Empty where no key of today opens it."""
    body: str
    attempts: int
    secrets: tuple[str, ...] = field(repr=False)
    """The newest first; none where no key of today opens them."""
    job: str | None = None
    form: str | None = None


class Ledger:
    """Webhooks and deliveries of one installation.

    Args:
        database: where they are.
        box: seals their secrets.
    """

    def __init__(self, database: Database, box: Seal | None = None) -> None:
        self._database = database
        self._box = box or Seal()
        self._now_s = database.now_s

    # Owner's calls

    def create(self, owner: str, config: WebhookConfig) -> tuple[WebhookView, str]:
        """Add a webhook and return it with its secret; raises ConflictError: the owner has too many."""
        with self._database.write() as db:
            self._database.serialize(db, f"webhooks {owner}")
            own = select(func.count()).where(WEBHOOKS.c.owner == owner, WEBHOOKS.c.job.is_(None))
            if (db.scalar(own) or 0) >= MOST_WEBHOOKS:
                raise ConflictError(f"there are {MOST_WEBHOOKS} webhooks already; delete one first.")
            made, secret = f"wh_{secrets.token_hex(8)}", new_secret()
            values = {**_columns(config.model_dump()), "id": made, "owner": owner}
            values["secret"] = self._box.shut(made, secret)
            db.execute(insert(WEBHOOKS).values(created_s=self._now_s, **values))
            return _webhook(self._owned(db, owner, made)), secret

    def all(self, owner: str) -> list[WebhookView]:
        """Return an owner's webhooks, the newest first."""
        mine = select(WEBHOOKS).where(WEBHOOKS.c.owner == owner, WEBHOOKS.c.job.is_(None))
        with self._database.read() as db:
            rows = db.execute(mine.order_by(WEBHOOKS.c.created_s.desc(), WEBHOOKS.c.id)).mappings()
            return [_webhook(row) for row in rows]

    def get(self, owner: str, webhook: str) -> WebhookView:
        """Return one webhook; raises NotFoundError for unknown ones and those of other owners alike."""
        with self._database.read() as db:
            return _webhook(self._owned(db, owner, webhook))

    def change(self, owner: str, webhook: str, changes: Mapping[str, Any]) -> WebhookView:
        """Change settings of a webhook by their names in ``WebhookChange``; raises NotFoundError."""
        values = _columns(changes)
        if "is_active" in values:
            values["cause"] = None
        with self._database.write() as db:
            self._owned(db, owner, webhook)
            if values:
                db.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == webhook).values(values))
            if values.get("is_active") == 0:
                _give_up(db, webhook, "The webhook was switched off.", self._now_s)
            return _webhook(self._owned(db, owner, webhook))

    def drop(self, owner: str, webhook: str) -> None:
        """Delete a webhook with its deliveries; raises NotFoundError."""
        with self._database.write() as db:
            self._owned(db, owner, webhook)
            db.execute(delete(DELIVERIES).where(DELIVERIES.c.webhook == webhook))
            db.execute(delete(WEBHOOKS).where(WEBHOOKS.c.id == webhook))

    def rotate(self, owner: str, webhook: str) -> tuple[WebhookView, str]:
        """Give a webhook a new secret and return both; the old one also signs for a day. Raises NotFoundError."""
        secret = new_secret()
        with self._database.write() as db:
            self._owned(db, owner, webhook)
            change = {
                "secret": self._box.shut(webhook, secret),
                "old_secret": WEBHOOKS.c.secret,
                "old_until_s": self._now_s + OLD_SECRET_S,
            }
            db.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == webhook).values(change))
            return _webhook(self._owned(db, owner, webhook)), secret

    def test(self, owner: str, webhook: str) -> DeliveryView:
        """Send a webhook an event that means nothing; raises NotFoundError, and ConflictError if it is not active."""
        with self._database.write() as db:
            row = _active(self._owned(db, owner, webhook))
            (made,) = outbox.add(db, row, [outbox.TEST], None)
            return _delivery(db.execute(select(DELIVERIES).where(DELIVERIES.c.id == made)).mappings().one())

    def deliveries(
        self, owner: str, webhook: str, limit: int, *, state: str | None = None, before: str | None = None
    ) -> list[DeliveryView]:
        """Return the newest deliveries of a webhook, newest first.

        Args:
            owner: whose.
            webhook: the webhook.
            limit: most of them.
            state: in this state only.
            before: only those older than this one.

        Raises:
            NotFoundError: the owner has no such webhook, or it no delivery ``before``.
        """
        query = select(DELIVERIES).where(DELIVERIES.c.webhook == webhook).order_by(DELIVERIES.c.number.desc())
        with self._database.read() as db:
            self._owned(db, owner, webhook)
            if state is not None:
                query = query.where(DELIVERIES.c.state == state)
            if before is not None:
                query = query.where(DELIVERIES.c.number < self._sent(db, webhook, before)["number"])
            return [_delivery(row) for row in db.execute(query.limit(limit)).mappings()]

    def redeliver(self, owner: str, webhook: str, delivery: str) -> DeliveryView:
        """Send a delivery once more, under the same id.

        Raises:
            NotFoundError: there is none. ConflictError: it waits already, or the webhook is not active.
        """
        with self._database.write() as db:
            _active(self._owned(db, owner, webhook))
            if self._sent(db, webhook, delivery)["state"] == "waiting":
                raise ConflictError(f"the delivery {delivery} is on its way already.")
            again = {"state": "waiting", "attempts": 0, "due_s": 0, "ended_s": None, "error": None, "status": None}
            db.execute(update(DELIVERIES).where(DELIVERIES.c.id == delivery).values(again))
            return _delivery(self._sent(db, webhook, delivery))

    def follow(
        self, owner: str, job: str, *, url: str, events: Collection[str], form: str, context: Mapping[str, Any]
    ) -> None:
        """Add a webhook that came with a job's request and hears of that job alone, also of what it has missed.

        Args:
            owner: whose.
            job: the job; with the same address once more nothing is added.
            url: address.
            events: events that are sent, ``job.started`` may be among them.
            form: ``module:function`` that makes the bodies from the job and the context.
            context: what it is told beside the job, as JSON data.

        Raises:
            NotFoundError: the owner has no such job.
        """
        with self._database.write() as db:
            row = locked(db, job)  # so that nothing of it happens meanwhile
            if row is None or row["owner"] != owner:
                raise NotFoundError(f"there is no job {job!r}.")
            known = select(WEBHOOKS.c.id, WEBHOOKS.c.url).where(WEBHOOKS.c.job == job)
            if any(self._box.open(_of_url(row.id), row.url) == url for row in db.execute(known)):
                return
            name = f"wh_{secrets.token_hex(8)}"
            made = {
                "id": name,
                "owner": owner,
                "url": self._box.shut(_of_url(name), url),  # a presigned link is a secret
                "events": json.dumps(sorted(events)),
                "progress_every_s": 1.0,
                "secret": self._box.shut(name, self._secret_of_requests(db, owner)),
                "job": job,
                "form": form,
                "context": json.dumps(context),
            }
            db.execute(insert(WEBHOOKS).values(created_s=self._now_s, **made))
            outbox.catch_up(db, made, job)

    def secret_of_requests(self, owner: str) -> str:
        """Return the secret that the webhooks of an owner's requests share."""
        with self._database.write() as db:
            return self._secret_of_requests(db, owner)

    def _secret_of_requests(self, db: Connection, owner: str) -> str:
        self._database.serialize(db, f"webhooks {owner}")
        known = select(WEBHOOKS.c.secret).where(WEBHOOKS.c.owner == owner, WEBHOOKS.c.job == _OF_REQUESTS)
        stored, name = db.scalar(known), f"requests-{name_digest(owner)}"
        if stored is None:
            stored = self._box.shut(name, new_secret())
            made: dict[str, Any] = {"id": name, "owner": owner, "url": "", "secret": stored}
            made |= {"job": _OF_REQUESTS, "is_active": 0, "progress_every_s": 1.0}
            db.execute(insert(WEBHOOKS).values(created_s=self._now_s, **made))
        secret = self._box.open(name, stored)
        if secret is None:
            raise ResourceError(
                "the secret of your webhooks is sealed with another STUDIO_SECRETS_KEY; whoever runs the studio can add"
                " that key again, after a comma."
            )
        return secret

    def _owned(self, db: Connection, owner: str, webhook: str) -> RowMapping:
        mine = and_(WEBHOOKS.c.id == webhook, WEBHOOKS.c.owner == owner, WEBHOOKS.c.job.is_(None))
        row = db.execute(select(WEBHOOKS).where(mine)).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"there is no webhook {webhook!r}.")
        return row

    def _sent(self, db: Connection, webhook: str, delivery: str) -> RowMapping:
        its = and_(DELIVERIES.c.id == delivery, DELIVERIES.c.webhook == webhook)
        row = db.execute(select(DELIVERIES).where(its)).mappings().one_or_none()
        if row is None:
            raise NotFoundError(f"there is no delivery {delivery!r} of this webhook.")
        return row

    # The sender's calls

    def due(self) -> list[Due]:
        """Return the oldest delivery of each webhook whose time has come."""
        waits = and_(DELIVERIES.c.state == "waiting", DELIVERIES.c.due_s <= self._now_s)
        first = select(func.min(DELIVERIES.c.number)).where(waits).group_by(DELIVERIES.c.webhook)
        both = case((WEBHOOKS.c.old_until_s > self._now_s, WEBHOOKS.c.old_secret)).label("old_secret")
        query = (
            select(DELIVERIES, WEBHOOKS.c.url, WEBHOOKS.c.form, WEBHOOKS.c.secret, both)
            .join(WEBHOOKS, WEBHOOKS.c.id == DELIVERIES.c.webhook)
            .where(DELIVERIES.c.number.in_(first))
            .order_by(DELIVERIES.c.number)
        )
        with self._database.read() as db:
            return [
                Due(
                    row["number"],
                    row["id"],
                    row["webhook"],
                    row["owner"],
                    self._box.open(_of_url(row["webhook"]), row["url"]) or "",
                    row["body"],
                    row["attempts"],
                    self._opened(row["webhook"], row["secret"], row["old_secret"]),
                    row["job"],
                    row["form"],
                )
                for row in db.execute(query).mappings()
            ]

    def _opened(self, webhook: str, *stored: str | None) -> tuple[str, ...]:
        found = (self._box.open(webhook, one) for one in stored if one)
        return tuple(secret for secret in found if secret)

    def take(self, numbers: Collection[int]) -> frozenset[int]:
        """Begin an attempt of each of these deliveries that still waits; return which."""
        taken = set()
        with self._database.write() as db:
            for number in sorted(numbers):
                its = and_(
                    DELIVERIES.c.number == number, DELIVERIES.c.state == "waiting", DELIVERIES.c.due_s <= self._now_s
                )
                begun = {"attempts": DELIVERIES.c.attempts + 1, "due_s": self._now_s + LEASE_S}
                if db.execute(update(DELIVERIES).where(its).values(begun)).rowcount:
                    taken.add(number)
        return frozenset(taken)

    def put_back(self, numbers: Collection[int]) -> None:
        """Undo ``take`` for attempts that were not made."""
        with self._database.write() as db:
            its = and_(DELIVERIES.c.number.in_(sorted(numbers)), DELIVERIES.c.state == "waiting")
            db.execute(update(DELIVERIES).where(its).values(attempts=DELIVERIES.c.attempts - 1, due_s=0))

    def settle(
        self,
        due: Due,
        status: int | None,
        error: str | None,
        *,
        retry_after_s: float | None = None,
        waits_s: Sequence[float] = WAITS_S,
    ) -> str | None:
        """Write down how an attempt went.

        Args:
            due: the delivery as it was before the attempt.
            status: HTTP status of the answer; None if there was none.
            error: why it failed, in words; None if it did not.
            retry_after_s: what the answer asked for.
            waits_s: pauses between attempts.

        Returns:
            The state of the delivery since; None if it has been deleted meanwhile.
        """
        values: dict[str, Any] = {"status": status, "error": storable(error)}
        if error is None:
            values |= {"state": "delivered", "ended_s": self._now_s}
        elif due.attempts >= len(waits_s) or status == 410:
            values |= {"state": "failed", "ended_s": self._now_s}
        else:
            wait_s = waits_s[due.attempts] * (1 + _JITTER * (secrets.randbelow(2001) / 1000 - 1))
            values["due_s"] = self._now_s + max(wait_s, min(retry_after_s or 0.0, _LONGEST_WAIT_S))
        with self._database.write() as db:
            its = and_(DELIVERIES.c.number == due.number, DELIVERIES.c.state == "waiting")
            written = db.execute(update(DELIVERIES).where(its).values(values)).rowcount
            if status == 410:
                ended = {"is_active": 0, "cause": GONE}
                db.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == due.webhook).values(ended))
                _give_up(db, due.webhook, GONE, self._now_s)
        return values.get("state", "waiting") if written else None

    # The keepers' calls

    def prune(self, keep_s: float) -> None:
        """Delete deliveries that ended so long ago, and webhooks of requests whose job ended as long ago."""
        old = self._now_s - keep_s
        with self._database.write() as db:
            db.execute(delete(DELIVERIES).where(DELIVERIES.c.state != "waiting", DELIVERIES.c.ended_s < old))
            open_jobs = select(JOBS.c.id).where(JOBS.c.state.in_(sorted(RUNNING | WAITING)))
            has_more = select(DELIVERIES.c.webhook)
            of_a_job = and_(WEBHOOKS.c.job.is_not(None), WEBHOOKS.c.job != _OF_REQUESTS, WEBHOOKS.c.created_s < old)
            its = and_(of_a_job, WEBHOOKS.c.job.not_in(open_jobs), WEBHOOKS.c.id.not_in(has_more))
            db.execute(delete(WEBHOOKS).where(its))

    def seal(self) -> None:
        """Seal what was stored before there was a key."""
        with self._database.write() as db:
            columns = (getattr(WEBHOOKS.c, name) for name in ("id", "job", "url", "secret", "old_secret"))
            rows = db.execute(select(*columns)).mappings().all()
            for row in rows:
                plain = {name: row[name] for name in ("secret", "old_secret") if self._box.is_plain(row[name])}
                if row["job"] not in (None, _OF_REQUESTS) and self._box.is_plain(row["url"]):
                    url = self._box.shut(_of_url(row["id"]), row["url"])
                    db.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == row["id"]).values(url=url))
                if plain:
                    sealed = {name: self._box.shut(row["id"], secret) for name, secret in plain.items()}
                    db.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == row["id"]).values(sealed))

    def forget(self, owner: str) -> None:
        """Delete all webhooks and deliveries of the owner with this digest."""
        with self._database.write() as db:
            names = _named(db, owner)
            for table in (DELIVERIES, WEBHOOKS):
                db.execute(delete(table).where(table.c.owner.in_(names)))


def new_secret() -> str:
    """Return a new secret. Source: standard-webhooks/standard-webhooks, "Symmetric signatures"."""
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def _of_url(webhook: str) -> str:
    """Return whose the sealed address of a webhook is, so that it opens for nothing else of the row."""
    return f"{webhook} url"


def _named(db: Connection, digest: str) -> list[str]:
    owners = {*db.scalars(select(WEBHOOKS.c.owner).distinct()), *db.scalars(select(DELIVERIES.c.owner).distinct())}
    return [owner for owner in sorted(owners) if owner_digest(owner) == digest]


def _give_up(db: Connection, webhook: str, words: str, now_s: Any) -> None:
    waiting = and_(DELIVERIES.c.webhook == webhook, DELIVERIES.c.state == "waiting")
    db.execute(update(DELIVERIES).where(waiting).values(state="failed", error=words, ended_s=now_s))


def _columns(settings: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in settings.items() if value is not None}
    if "events" in values:
        values["events"] = json.dumps(sorted(set(values["events"])))
    if "active" in values:
        values["is_active"] = int(values.pop("active"))
    return values


def _active(row: RowMapping) -> RowMapping:
    if not row["is_active"]:
        raise ConflictError(f"the webhook {row['id']} is not active; change its active to true first.")
    return row


def _webhook(row: RowMapping) -> WebhookView:
    return WebhookView(
        row["id"],
        row["url"],
        tuple(json.loads(row["events"])),
        row["description"],
        row["progress_every_s"],
        bool(row["is_active"]),
        row["cause"],
        row["created_s"],
        row["old_until_s"],
    )


def _delivery(row: RowMapping) -> DeliveryView:
    waits = row["state"] == "waiting"
    return DeliveryView(
        row["id"],
        row["webhook"],
        row["type"],
        row["job"],
        row["state"],
        row["attempts"],
        row["status"],
        row["error"],
        row["created_s"],
        row["due_s"] if waits else None,
        row["ended_s"],
    )
