"""The durable queue: its calls in SQL that SQLite and Postgres both understand.

Every change is one transaction that is on the disk before the call returns, and every change of state goes through
``moves.move``, a conditional update built from ``states.TRANSITIONS``. What runs holds a lease on the database's clock;
the attempt's number is the fence. The contract of each call is in ``queue``.
"""

import json
import os
import secrets
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import BindParameter, Connection, RowMapping, and_, bindparam, delete, func, insert, select, update

from studio.core.domain import Event, JobFacts, JobKind, JobView, plain
from studio.core.errors import ConflictError, NotFoundError
from studio.core.keys import Use
from studio.core.private import TABLE_NAME
from studio.core.settings import Settings
from studio.jobs import adoption, keeping, moves, usage
from studio.jobs.database import Database
from studio.jobs.events import Outcome
from studio.jobs.figures import figures
from studio.jobs.moves import IS_RUNNING, add_events, locked, move, note_advance, requeue, say
from studio.jobs.postgres import PostgresDatabase
from studio.jobs.queue import Claim, Figure, JobQueue, Lead, NewJob, Suits
from studio.jobs.rentals import Rentals
from studio.jobs.rows import KEPT, SEEN, SOURCES, WHY, cause_of_source, views_of
from studio.jobs.schema import EVENTS, JOBS, TURNS, facts_from_title
from studio.jobs.sealed import Seal
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.states import RUNNING, VERBS, WAITING, VerbSpec, claimed_state, waiting_state
from studio.jobs.webhooks import outbox
from studio.jobs.webhooks.ledger import Ledger

LEASE_S = 7.0
"""So long after its last heartbeat a job counts as abandoned: another server takes over within ten seconds."""

_BEFORE_ALL = 10**16
_WAITING = tuple(sorted(WAITING))
_PROGRESS_KINDS = frozenset({"progress", "metrics", "image", "verdict"})
"""The first event of one of these kinds ends pendingModel."""

# What pages and workers ask all the time is built once: that takes longer than SQLite's answer.
_ID: BindParameter[str] = bindparam("job_id")
_OWNER: BindParameter[str] = bindparam("owner_name")
_ONE = SEEN.where(JOBS.c.id == _ID)
_OWN_ONE = _ONE.where(JOBS.c.owner == _OWNER)
_NUMBER = select(JOBS.c.number).where(JOBS.c.id == _ID, JOBS.c.owner == _OWNER)
_OWNER_OF = select(JOBS.c.owner).where(JOBS.c.id == _ID)
_STANDS = select(JOBS.c.attempt, JOBS.c.state, JOBS.c.cancel_requested).where(JOBS.c.id == _ID)
_LOOK_AFTER = (
    select(JOBS.c.id, JOBS.c.kind, JOBS.c.state, SOURCES.c.state)
    .outerjoin(SOURCES, SOURCES.c.id == JOBS.c.source)
    .where(JOBS.c.state.in_(_WAITING))
)
_EVENTS = (
    select(EVENTS.c.seq, EVENTS.c.kind, EVENTS.c.data)
    .where(EVENTS.c.job == _ID, EVENTS.c.seq > bindparam("after"))
    .order_by(EVENTS.c.seq)
)


class Store(JobQueue):
    """All jobs of one installation, in a database.

    Args:
        database: where they are.
        verbs: the table of verbs.
        lease_s: how long a claim holds without a heartbeat.
        box: seals the secrets of webhooks.
    """

    def __init__(
        self,
        database: Database,
        *,
        verbs: Mapping[JobKind, VerbSpec] = VERBS,
        lease_s: float = LEASE_S,
        box: Seal | None = None,
    ) -> None:
        self._database = database
        self._verbs = verbs
        self.lease_s = lease_s
        self._now_s = database.now_s
        self.webhooks = Ledger(database, box)
        self.rentals = Rentals(database)
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    # Owner's calls

    def insert(self, job: NewJob) -> tuple[JobView, bool]:
        """Store a request unless its key is known."""
        with self._database.write() as db:
            if job.key is not None:
                self._database.serialize(db, f"key {job.owner} {job.key}")
                known = self._by_key(db, job.owner, job.key, {job.fingerprint})
                if known is not None:
                    return known, False
            verb = self._verbs[job.kind]
            state = waiting_state(verb, self._source_state(db, job.source, hold=True), device_busy=False)
            db.execute(
                insert(JOBS).values(
                    id=job.id,
                    kind=job.kind,
                    state="pending" if state == "stalled" else state,
                    owner=job.owner,
                    title=job.title,
                    facts=json.dumps(plain(job.facts)),
                    source=job.source,
                    key=job.key,
                    fingerprint=job.fingerprint,
                    created_s=self._now_s,
                    sealed=job.sealed,
                )
            )
            return self._view(db, job.id), True

    def find(self, owner: str, key: str, fingerprints: Collection[str]) -> JobView | None:
        """Return the job that was stored with this key."""
        with self._database.read() as db:
            return self._by_key(db, owner, key, fingerprints)

    def id_of_key(self, owner: str, key: str) -> str | None:
        """Return the id of the job that was stored with this key."""
        with self._database.read() as db:
            return db.scalar(select(JOBS.c.id).where(JOBS.c.owner == owner, JOBS.c.key == key))

    def knows_key(self, owner: str, key: str) -> bool:
        """Return whether the owner has used this key."""
        return self.id_of_key(owner, key) is not None

    def get(self, job_id: str, owner: str) -> JobView:
        """Return one job."""
        with self._database.read() as db:
            return self._view(db, job_id, owner)

    def newest(
        self,
        owner: str,
        limit: int,
        *,
        kind: JobKind | None = None,
        states: Collection[str] = (),
        source: str | None = None,
        before: str | None = None,
    ) -> list[JobView]:
        """Return the owner's newest jobs that fit, newest first."""
        query = SEEN.where(JOBS.c.owner == owner).order_by(JOBS.c.number.desc())
        if limit >= 0:
            query = query.limit(limit)
        if kind is not None:
            query = query.where(JOBS.c.kind == kind)
        if states:
            query = query.where(JOBS.c.state.in_(sorted(states)))
        if source is not None:
            query = query.where(JOBS.c.source == source)
        with self._database.read() as db:
            if before is not None:
                query = query.where(JOBS.c.number < self._number(db, before, owner))
            return views_of(db, query)

    def owner_of(self, job_id: str) -> str:
        """Return whose a job is."""
        with self._database.read() as db:
            owner = db.scalar(_OWNER_OF, {"job_id": job_id})
        if owner is None:
            raise _no_job(job_id)
        return str(owner)

    def sealed_of(self, job_id: str) -> str | None:
        """Return the sealed token of a job."""
        with self._database.read() as db:
            found = db.scalar(select(JOBS.c.sealed).where(JOBS.c.id == job_id))
            return None if found is None else str(found)

    def keep_sealed(self, job_id: str, sealed: str | None) -> None:
        """Keep another sealed token with a job, or none."""
        with self._database.write() as db:
            db.execute(update(JOBS).where(JOBS.c.id == job_id).values(sealed=sealed))

    def events(self, job_id: str, owner: str, after: int) -> list[tuple[int, Event]]:
        """Return the job's events with a sequence number above ``after``, in order."""
        with self._database.read() as db:
            self._number(db, job_id, owner)
            rows = db.execute(_EVENTS, {"job_id": job_id, "after": after})
            return [(seq, Event(kind, json.loads(data))) for seq, kind, data in rows]

    def cancel(self, job_id: str, owner: str) -> JobView:
        """Cancel a waiting job at once, ask a running one to stop, leave an ended one as it is."""
        with self._database.write() as db:
            row = self._owned(db, job_id, owner)
            if row["state"] in WAITING:
                move(db, job_id, "cancelled", finished_s=self._now_s)
            elif row["state"] in RUNNING and not row["cancel_requested"]:
                db.execute(update(JOBS).where(JOBS.c.id == job_id).values(cancel_requested=1))
                say(db, job_id, "info", "Stopping, as asked.")
            return self._view(db, job_id)

    def retry(self, job_id: str, owner: str) -> JobView:
        """Put a stalled or cancelled job back into the queue."""
        with self._database.write() as db:
            self._owned(db, job_id, owner)
            moved = move(
                db,
                job_id,
                "pending",
                only_from=("stalled", "cancelled"),
                finished_s=None,
                losses=0,
                reached="{}",
                cancel_requested=0,
                **moves.NOTHING_WRONG,
            )
            view = self._view(db, job_id)
            if not moved:
                raise ConflictError(f"job {job_id} is {view.state}; only a stalled or cancelled job can be retried.")
            return view

    def heart(self, job_id: str, owner: str, files: Collection[str], *, on: bool) -> JobView:
        """Give hearts to pictures of a job, or take them back."""
        with self._database.write() as db:
            row = self._owned(db, job_id, owner)
            kept = [file for file in json.loads(row["hearts"]) if file not in files]
            hearts = json.dumps([*kept, *files] if on else kept)
            db.execute(update(JOBS).where(JOBS.c.id == job_id).values(hearts=hearts))
            return self._view(db, job_id)

    def rename(self, owner: str, facts: Mapping[str, JobFacts]) -> None:
        """Change what jobs of an owner are about, and with it their titles and the subject in their results."""
        with self._database.write() as db:
            for job_id, now in facts.items():
                moves.rename(db, self._owned(db, job_id, owner), now)

    def expire(self, longest_s: float) -> list[str]:
        """End the jobs that have waited longer for their turn, seconds; return their ids."""
        with self._database.write() as db:
            return moves.expire(db, longest_s)

    def end_pause(self, length_s: float) -> None:
        """Count a pause of so many seconds, which ends now, not as time that jobs have waited."""
        with self._database.write() as db:
            moves.leave_out(db, length_s)

    # The worker's calls

    def lead(self, home: Path) -> Lead:
        """Return the right to dispatch, not taken yet."""
        return self._database.lead(home)

    def survey(self, device_busy: bool) -> None:
        """Bring the states of waiting jobs up to date."""
        with self._database.read() as db:
            waiting = db.execute(_LOOK_AFTER).all()
        for job_id, kind, state, source_state in waiting:
            target = waiting_state(self._verbs[kind], source_state, device_busy)
            if target == state:
                continue
            with self._database.write() as db:
                ending: dict[str, Any] = {}
                if target == "stalled":
                    why = db.execute(WHY, {"job_id": job_id}).mappings().one_or_none()
                    if why is None:  # erased a moment ago
                        continue
                    ending = {"cause": cause_of_source(why), "finished_s": self._now_s}
                move(db, job_id, target, only_from=(state,), **ending)

    def claim(self, kinds: Collection[JobKind] | None = None, suits: Suits | None = None) -> Claim | None:
        """Take the job whose turn it is, with a lease on it."""
        self.survey(device_busy=kinds is not None)
        query = (
            select(JOBS)
            .outerjoin(TURNS, TURNS.c.owner == JOBS.c.owner)
            .where(JOBS.c.state.in_(("pending", "pendingGpu") if suits else ("pending",)))
            .order_by(func.coalesce(TURNS.c.turn, 0), JOBS.c.number)
        )
        if kinds is not None:
            query = query.where(JOBS.c.kind.in_(sorted(kinds)))
        if suits is not None:
            with self._database.read() as db:  # it looks into files: nobody waits for that
                rows = db.execute(query.limit(100)).mappings().all()
            facts = {row["id"]: JobFacts.from_json(json.loads(row["facts"])) for row in rows}
            query = query.where(JOBS.c.id == next((one for one in facts if suits(one, facts[one])), None))
        with self._database.write() as db:
            self._database.serialize(db, "turns")
            row = db.execute(query.limit(1).with_for_update(of=JOBS)).mappings().one_or_none()
            if row is None:
                return None
            if self._source_state(db, row["source"]) not in (None, "completed"):
                return None  # its source changed since the survey; the next one sees it
            moved = move(
                db,
                row["id"],
                claimed_state(self._verbs[row["kind"]]),
                attempt=row["attempt"] + 1,
                started_s=func.coalesce(JOBS.c.started_s, self._now_s),
                progress="{}",
                stage="",
                holder=self._holder,
                leased_until_s=self._now_s + self.lease_s,
                claimed_s=self._now_s,
                place=None,
            )
            if not moved:
                return None
            moves.take_turn(db, row["owner"])
            return Claim(row["id"], row["kind"], row["attempt"] + 1)

    def beat(self) -> None:
        """Renew the leases of all jobs that run here."""
        with self._database.write() as db:
            ours = and_(JOBS.c.state.in_(IS_RUNNING), JOBS.c.holder == self._holder)
            db.execute(update(JOBS).where(ours).values(leased_until_s=self._now_s + self.lease_s))

    def append(self, claim: Claim, events: Sequence[Event]) -> bool:
        """Store what the attempt tells; nothing if another attempt has taken its place."""
        if not events:
            with self._database.read() as db:
                row = db.execute(_STANDS, {"job_id": claim.id}).mappings().one_or_none()
            return not _counts(row, claim) or bool(row and row["cancel_requested"])
        with self._database.write() as db:
            row = locked(db, claim.id)
            if row is None or not _counts(row, claim):
                return True
            add_events(db, row, events)
            note_advance(db, row, events)
            if row["state"] == "pendingModel" and any(event.kind in _PROGRESS_KINDS for event in events):
                move(db, claim.id, self._verbs[claim.kind].working)
            if any(event.kind == "progress" for event in events):
                outbox.add_progress(db, claim.id)
            return bool(row["cancel_requested"])

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Store how the attempt ended. A requested cancel wins over any outcome."""
        with self._database.write() as db:
            row = locked(db, claim.id)
            if row is not None and row["cancel_requested"]:
                outcome = Outcome("cancelled")
            return move(
                db,
                claim.id,
                outcome.state,
                attempt_is=claim.attempt,
                only_from=IS_RUNNING,
                finished_s=self._now_s,
                **moves.ending(outcome),
                result=None if outcome.result is None else json.dumps(plain(outcome.result)),
            )

    def lose(self, claim: Claim, reason: str, max_losses: int) -> bool:
        """The attempt ended without an outcome of its own: back to pending, or stalled if it leads nowhere."""
        with self._database.write() as db:
            row = locked(db, claim.id)
            if row is None:
                return False
            losses = row["losses"] + 1
            if row["cancel_requested"] or losses < max_losses:
                return requeue(db, row, claim.attempt, reason, finished_s=self._now_s, losses=losses)
            cause = f"{reason} It was tried {losses} times in a row without getting further."
            return move(
                db, claim.id, "stalled", attempt_is=claim.attempt, only_from=IS_RUNNING, losses=losses, cause=cause,
                finished_s=self._now_s,
            )  # fmt: skip

    def release(self, claim: Claim) -> bool:
        """The server is closing: the job goes back to pending and this attempt counts against nothing."""
        with self._database.write() as db:
            row = locked(db, claim.id)
            if row is not None and row["cancel_requested"]:
                return move(
                    db, claim.id, "cancelled", attempt_is=claim.attempt, only_from=IS_RUNNING, finished_s=self._now_s
                )
            return move(db, claim.id, "pending", attempt_is=claim.attempt, only_from=IS_RUNNING)

    def adopt(self, alone: bool, accepts: Callable[[Claim, str], bool]) -> list[tuple[Claim, str]]:
        """Take over attempts that went on when their server went, and return them with where they run."""
        query = adoption.abandoned(self._now_s, self._holder, alone=alone)
        with self._database.write() as db:
            until_s = self._now_s + self.lease_s
            return adoption.adopt(db, query, accepts, holder=self._holder, leased_until_s=until_s)

    def recover(self, reason: str, *, alone: bool = False, without: Collection[str] = ()) -> list[str]:
        """Put jobs whose server is dead back into the queue and return their ids; that is no fault of theirs."""
        query = adoption.abandoned(self._now_s, self._holder, alone=alone)
        with self._database.write() as db:
            return adoption.begin_anew(db, query, reason, without, self._now_s)

    def place(self, claim: Claim, place: str) -> None:
        """Note where an attempt runs that goes on without this server."""
        with self._database.write() as db:
            adoption.change(db, claim, place=place)

    def part(self, claim: Claim) -> None:
        """Give up the lease of an attempt that goes on without this server."""
        with self._database.write() as db:
            adoption.change(db, claim, only_of=self._holder, holder=None, leased_until_s=None)

    def use(self, owner: str) -> tuple[Use, list[str]]:
        """Return what an owner has of what quotas limit, and the ids of checks whose photos it does not count."""
        with self._database.read() as db:
            return usage.use_of(db, owner)

    # The keepers' calls

    def ids(self) -> frozenset[str]:
        """Return the ids of all jobs of all owners."""
        with self._database.read() as db:
            return frozenset(db.scalars(select(JOBS.c.id)))

    def completed(self) -> list[str]:
        """Return the ids of all completed jobs of all owners, the oldest first."""
        with self._database.read() as db:
            done = select(JOBS.c.id).where(JOBS.c.state == "completed").order_by(JOBS.c.number)
            return list(db.scalars(done))

    def dump(self, job_id: str) -> dict[str, Any]:
        """Return a job's row and events as plain data for ``restore``."""
        with self._database.read() as db:
            row = db.execute(select(JOBS).where(JOBS.c.id == job_id)).mappings().one()
            events = db.execute(_EVENTS, {"job_id": job_id, "after": 0})
            return {"job": {name: row[name] for name in KEPT}, "events": [list(event) for event in events]}

    def restore(self, job_id: str, dump: Mapping[str, Any]) -> bool:
        """Put a completed job back in its place among the others; False if the table has it."""
        row = {name: dump["job"][name] for name in KEPT if name not in ("facts", "hearts", "cost_usd")}
        if row["id"] != job_id or row["state"] != "completed" or row["kind"] not in self._verbs:
            raise ValueError("not a completed job")
        row["hearts"] = dump["job"].get("hearts", "[]")  # records of earlier versions lack all three
        row["cost_usd"] = dump["job"].get("cost_usd")
        row["facts"] = dump["job"].get("facts") or facts_from_title(row["kind"], row["title"])
        events = [
            {"job": job_id, "seq": int(seq), "kind": str(kind), "data": str(data)} for seq, kind, data in dump["events"]
        ]
        with self._database.write() as db:
            self._database.serialize(db, "restore")
            if locked(db, job_id) is not None:
                return False
            if row["key"] is not None:
                self._database.serialize(db, f"key {row['owner']} {row['key']}")
                known = select(JOBS.c.id).where(JOBS.c.owner == row["owner"], JOBS.c.key == row["key"])
                if db.scalar(known) is not None:
                    row["key"] = None  # the request was repeated before this job was restored
            # Numbers below all that the database gives, in the order in which the jobs were submitted.
            number = int(row["created_s"] * 1000) - _BEFORE_ALL
            while db.scalar(select(JOBS.c.id).where(JOBS.c.number == number)) is not None:
                number += 1
            db.execute(insert(JOBS).values(number=number, **row))
            if events:
                db.execute(insert(EVENTS), events)
            return True

    def figures(self) -> list[Figure]:
        """Return how many jobs there are of each kind in each state."""
        with self._database.read() as db:
            return figures(db, self._now_s)

    def owners(self) -> list[str]:
        """Return everybody who has a job."""
        with self._database.read() as db:
            return sorted(db.scalars(select(JOBS.c.owner).distinct()))

    def whose(self) -> dict[str, str]:
        """Return job id -> owner of all jobs."""
        with self._database.read() as db:
            return {row.id: row.owner for row in db.execute(select(JOBS.c.id, JOBS.c.owner))}

    def is_attempt(self, job_id: str, attempt: int) -> bool:
        """Tell whether an attempt is the one of its job that runs."""
        with self._database.read() as db:
            row = db.execute(_STANDS, {"job_id": job_id}).mappings().one_or_none()
        return row is not None and row["attempt"] == attempt and row["state"] in RUNNING

    def newest_of_all(self, limit: int, *, states: Collection[str]) -> list[JobView]:
        """Return the newest jobs of all owners in one of these states."""
        query = SEEN.where(JOBS.c.state.in_(sorted(states))).order_by(JOBS.c.number.desc()).limit(limit)
        with self._database.read() as db:
            return views_of(db, query)

    def erase(self, jobs: Collection[str]) -> frozenset[str]:
        """Delete jobs with their events, what is queued behind them by now, and turns of owners without a job left."""
        with self._database.write() as db:
            gone: set[str] = set()
            found = set(jobs)
            while found - gone:
                gone |= found
                these = sorted(gone)
                # From here on nobody can queue anything behind them.
                db.execute(select(JOBS.c.id).where(JOBS.c.id.in_(these)).order_by(JOBS.c.number).with_for_update())
                found = set(db.scalars(select(JOBS.c.id).where(JOBS.c.source.in_(these))))
            if gone:
                db.execute(delete(EVENTS).where(EVENTS.c.job.in_(sorted(gone))))
                outbox.erase(db, gone)
                db.execute(delete(JOBS).where(JOBS.c.id.in_(sorted(gone))))
            db.execute(delete(TURNS).where(TURNS.c.owner.not_in(select(JOBS.c.owner))))
        return frozenset(gone)

    def kept_days(self, owner: str) -> float | None:
        """Return for how many days an owner wants jobs kept; None if they have not said."""
        with self._database.read() as db:
            return keeping.choice(db, owner)

    def all_kept_days(self) -> Mapping[str, float]:
        """Return owner -> days of all who have said how long they want jobs kept."""
        with self._database.read() as db:
            return keeping.choices(db)

    def keep_for(self, owner: str, days: float | None) -> None:
        """Write down for how many days an owner wants jobs kept, or with None that the operator's days hold."""
        with self._database.write() as db:
            self._database.serialize(db, f"keeping {owner}")
            keeping.choose(db, owner, days)

    def scrub(self) -> None:
        """Rewrite the tables without a byte of what was deleted."""
        self._database.scrub()

    def tell(self, job_id: str, level: str, text: str, *, instead_of: str | None = None) -> None:
        """Add a message to a job's events; ``instead_of`` is the text of an earlier one that no longer holds."""
        with self._database.write() as db:
            if instead_of is not None:
                told = select(EVENTS.c.seq, EVENTS.c.data).where(EVENTS.c.job == job_id, EVENTS.c.kind == "message")
                for seq, data in db.execute(told).all():
                    if json.loads(data).get("text") == instead_of:
                        db.execute(delete(EVENTS).where(EVENTS.c.job == job_id, EVENTS.c.seq == seq))
            say(db, job_id, level, text)

    def close(self) -> None:
        """Close all connections; a later call opens a new one."""
        self._database.close()

    # Below: one transaction's worth

    def _view(self, db: Connection, job_id: str, owner: str | None = None) -> JobView:
        if owner is None:
            views = views_of(db, _ONE, job_id=job_id)
        else:
            views = views_of(db, _OWN_ONE, job_id=job_id, owner_name=owner)
        if not views:
            raise _no_job(job_id)
        return views[0]

    def _owned(self, db: Connection, job_id: str, owner: str) -> RowMapping:
        row = locked(db, job_id)
        if row is None or row["owner"] != owner:
            raise _no_job(job_id)
        return row

    def _number(self, db: Connection, job_id: str, owner: str) -> int:
        number = db.scalar(_NUMBER, {"job_id": job_id, "owner_name": owner})
        if number is None:
            raise _no_job(job_id)
        return number

    def _by_key(self, db: Connection, owner: str, key: str, fingerprints: Collection[str]) -> JobView | None:
        known = select(JOBS.c.id, JOBS.c.fingerprint).where(JOBS.c.owner == owner, JOBS.c.key == key)
        row = db.execute(known).one_or_none()
        if row is None:
            return None
        if row.fingerprint not in fingerprints:
            raise ConflictError(f"key {key!r} was used for another request (job {row.id}); use a new key.")
        return self._view(db, row.id)

    def _source_state(self, db: Connection, source: str | None, *, hold: bool = False) -> str | None:
        """Return the state of a job that another one reads; with ``hold`` it is not erased meanwhile."""
        if source is None:
            return None
        query = select(JOBS.c.state).where(JOBS.c.id == source)
        state = db.scalar(query.with_for_update(read=True) if hold else query)
        if state is None:  # forgotten a moment ago
            raise _no_job(source)
        return str(state)


def open_store(settings: Settings, home: Path, verbs: Mapping[JobKind, VerbSpec]) -> Store:
    """Return the queue of an installation: in its home, or in Postgres where ``STUDIO_DATABASE_URL`` names one.

    Raises:
        InputError, MissingExtraError: that address cannot be used.
    """
    keys = settings.secrets_key.get_secret_value() if settings.secrets_key else None
    return Store(open_database(settings, home), verbs=verbs, box=Seal(keys))


def open_database(settings: Settings, home: Path) -> Database:
    """Return the database of an installation; raises as ``open_store``."""
    if settings.database_url is None:
        return SqliteDatabase(home / TABLE_NAME)
    return PostgresDatabase(settings.database_url.get_secret_value())


def _counts(row: Mapping[Any, Any] | None, claim: Claim) -> bool:
    """Tell whether an attempt is the one that runs."""
    return row is not None and row["attempt"] == claim.attempt and row["state"] in RUNNING


def _no_job(job_id: str) -> NotFoundError:
    return NotFoundError(f"there is no job {job_id!r}.")
