"""The durable table of jobs in SQLite, safe for many threads and a few processes.

Every change is one transaction that is on the disk before the call returns (WAL, synchronous=FULL), and every
change of state goes through ``_move``, a conditional update built from ``states.TRANSITIONS``: whoever comes too late
(an attempt that has been replaced, a second cancel) changes nothing.
"""

import json
import sqlite3
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.core.domain import Event, JobFacts, JobKind, JobView, plain
from studio.core.errors import ConflictError, NotFoundError, ResourceError
from studio.core.job_words import title_of
from studio.jobs.events import Outcome
from studio.jobs.rows import KEPT, cause_of_source, placed, view_of
from studio.jobs.schema import FACTS_FROM_TITLES
from studio.jobs.states import RUNNING, VERBS, WAITING, VerbSpec, claimed_state, origins, waiting_state
from studio.jobs.table import Connection, Table

_BEFORE_ALL = 10**16
_NEWER = {"facts": "", "hearts": "[]"}
"""Columns that records of earlier versions in a backup lack, and what stands for them."""

_WAITING = tuple(sorted(WAITING))
_RUNNING = tuple(sorted(RUNNING))
_PROGRESS_KINDS = frozenset({"progress", "metrics", "image", "verdict"})
"""The first event of one of these kinds ends pendingModel."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request as it is stored."""

    id: str
    kind: JobKind
    owner: str
    title: str
    fingerprint: str
    """Hash of the whole request, to tell a repeated request from another one with the same key."""
    source: str | None = None
    key: str | None = None
    facts: JobFacts = field(default_factory=JobFacts)


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to run one attempt of one job; a later claim voids it."""

    id: str
    kind: JobKind
    attempt: int


class Store(Table):
    """All jobs of one installation.

    Args:
        path: the database file; made on first use, together with nothing else.
        verbs: the table of verbs.
        busy_timeout_s: how long a call waits for another process's transaction.

    Raises:
        ResourceError: by every call, when the database cannot be read or written.
        ConflictError: by the first call, when a newer version of the studio made the file.
    """

    def __init__(self, path: Path, *, verbs: Mapping[JobKind, VerbSpec] = VERBS, busy_timeout_s: float = 30.0) -> None:
        super().__init__(path, busy_timeout_s)
        self._verbs = verbs

    # Owner's calls

    def insert(self, job: NewJob) -> tuple[JobView, bool]:
        """Store a request unless its key is known.

        Returns:
            The job, and whether it is new; it is not if the same request was stored with this key before.

        Raises:
            ConflictError: the key belongs to another request.
        """
        with self._write() as db:
            if job.key is not None:
                known = self._by_key(db, job.owner, job.key)
                if known is not None:
                    return _same_request(db, known, job.fingerprint), False
            verb = self._verbs[job.kind]
            state = waiting_state(verb, self._source_state(db, job.source), device_busy=False)
            db.execute(
                "INSERT INTO jobs (id, kind, state, owner, title, facts, source, key, fingerprint, created_s)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    job.id,
                    job.kind,
                    "pending" if state == "stalled" else state,
                    job.owner,
                    job.title,
                    json.dumps(plain(job.facts)),
                    job.source,
                    job.key,
                    job.fingerprint,
                    time.time(),
                ),
            )
            return self._view(db, job.id), True

    def find(self, owner: str, key: str, fingerprint: str) -> JobView | None:
        """Return the job that was stored with this key; raises ConflictError if that was another request."""
        with self._read() as db:
            row = self._by_key(db, owner, key)
            return None if row is None else _same_request(db, row, fingerprint)

    def knows_key(self, owner: str, key: str) -> bool:
        """Return whether the owner has used this key."""
        with self._read() as db:
            return self._by_key(db, owner, key) is not None

    def get(self, job_id: str, owner: str) -> JobView:
        """Return one job; raises NotFoundError for unknown jobs and those of other owners alike."""
        with self._read() as db:
            self._owned(db, job_id, owner)
            return self._view(db, job_id)

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
        """Return the owner's newest jobs that fit, newest first.

        Args:
            owner: whose jobs.
            limit: most jobs; the others are older than the last one, which ``before`` takes.
            kind: of this kind only.
            states: in one of these states only; none means any.
            source: only those that read the output of this job.
            before: only those that are older than this job.

        Raises:
            NotFoundError: the owner has no job ``before``.
        """
        asked: list[tuple[str, Sequence[Any]]] = [("owner = ?", [owner])]
        if kind is not None:
            asked.append(("kind = ?", [kind]))
        if states:
            asked.append((f"state IN ({_marks(sorted(states))})", sorted(states)))
        if source is not None:
            asked.append(("source = ?", [source]))
        with self._read() as db:
            if before is not None:
                asked.append(("number < ?", [self._owned(db, before, owner)["number"]]))
            where = " AND ".join(condition for condition, _ in asked)
            values = [value for _, given in asked for value in given]
            rows = db.execute(f"SELECT * FROM jobs WHERE {where} ORDER BY number DESC LIMIT ?", [*values, limit])
            return placed(db, [view_of(db, row) for row in rows.fetchall()])

    def owner_of(self, job_id: str) -> str:
        """Return whose a job is that is in the table."""
        with self._read() as db:
            return str(self._row(db, job_id)["owner"])

    def ids(self) -> frozenset[str]:
        """Return the ids of all jobs of all owners."""
        with self._read() as db:
            return frozenset(row["id"] for row in db.execute("SELECT id FROM jobs"))

    def events(self, job_id: str, owner: str, after: int) -> list[tuple[int, Event]]:
        """Return the job's events with a sequence number above ``after``, in order."""
        with self._read() as db:
            self._owned(db, job_id, owner)
            rows = db.execute(
                "SELECT seq, kind, data FROM events WHERE job = ? AND seq > ? ORDER BY seq", (job_id, after)
            )
            return [(row["seq"], Event(row["kind"], json.loads(row["data"]))) for row in rows]

    def cancel(self, job_id: str, owner: str) -> JobView:
        """Cancel a waiting job at once, ask a running one to stop, leave an ended one as it is."""
        with self._write() as db:
            row = self._owned(db, job_id, owner)
            if row["state"] in WAITING:
                self._move(db, job_id, "cancelled", finished_s=time.time())
            elif row["state"] in RUNNING and not row["cancel_requested"]:
                db.execute("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", (job_id,))
                self._say(db, job_id, "info", "Stopping, as asked.")
            return self._view(db, job_id)

    def retry(self, job_id: str, owner: str) -> JobView:
        """Put a stalled or cancelled job back into the queue; raises ConflictError for any other."""
        with self._write() as db:
            self._owned(db, job_id, owner)
            moved = self._move(
                db,
                job_id,
                "pending",
                only_from=("stalled", "cancelled"),
                finished_s=None,
                losses=0,
                reached="{}",
                cancel_requested=0,
                cause=None,
                problems="[]",
            )
            view = self._view(db, job_id)
            if not moved:
                raise ConflictError(f"job {job_id} is {view.state}; only a stalled or cancelled job can be retried.")
            return view

    def heart(self, job_id: str, owner: str, files: Collection[str], *, on: bool) -> JobView:
        """Give hearts to pictures of a job, or take them back; the newest one comes last."""
        with self._write() as db:
            row = self._owned(db, job_id, owner)
            kept = [file for file in json.loads(row["hearts"]) if file not in files]
            hearts = json.dumps([*kept, *files] if on else kept)
            db.execute("UPDATE jobs SET hearts = ? WHERE id = ?", (hearts, job_id))
            return self._view(db, job_id)

    def rename(self, owner: str, facts: Mapping[str, JobFacts]) -> None:
        """Change what jobs of an owner are about, by id, and with it their titles and the subject in their results."""
        with self._write() as db:
            for job_id, now in facts.items():
                row = self._owned(db, job_id, owner)
                result = None if row["result"] is None else json.loads(row["result"])
                if result and "subject" in result:
                    result["subject"] = now.subject
                told = None if result is None else json.dumps(result)
                values = (json.dumps(plain(now)), title_of(row["kind"], now), told, job_id)
                db.execute("UPDATE jobs SET facts = ?, title = ?, result = ? WHERE id = ?", values)

    # The backup's calls

    def completed(self) -> list[str]:
        """Return the ids of all completed jobs of all owners, the oldest first."""
        with self._read() as db:
            return [row["id"] for row in db.execute("SELECT id FROM jobs WHERE state = 'completed' ORDER BY number")]

    def dump(self, job_id: str) -> dict[str, Any]:
        """Return a job's row and events as plain data for ``restore``."""
        with self._read() as db:
            row = self._row(db, job_id)
            events = db.execute("SELECT seq, kind, data FROM events WHERE job = ? ORDER BY seq", (job_id,)).fetchall()
            return {"job": {name: row[name] for name in KEPT}, "events": [list(event) for event in events]}

    def restore(self, job_id: str, dump: Mapping[str, Any]) -> bool:
        """Put a completed job back in its place among the others; False if the table has it.

        Raises:
            KeyError, TypeError, ValueError: ``dump`` is not what the method ``dump`` returned for that job.
        """
        row = {name: dump["job"][name] for name in KEPT if name not in _NEWER}
        row |= {name: dump["job"].get(name, missing) for name, missing in _NEWER.items()}
        if row["id"] != job_id or row["state"] != "completed" or row["kind"] not in self._verbs:
            raise ValueError("not a completed job")
        with self._write() as db:
            if self._row(db, job_id) is not None:
                return False
            if row["key"] is not None and self._by_key(db, row["owner"], row["key"]) is not None:
                row["key"] = None  # the request was repeated before this job was restored
            # Numbers below all that SQLite gives, in the order in which the jobs were submitted.
            number = int(row["created_s"] * 1000) - _BEFORE_ALL
            while db.execute("SELECT 1 FROM jobs WHERE number = ?", (number,)).fetchone():
                number += 1
            names = ", ".join(row)
            values = [number, *row.values()]
            db.execute(f"INSERT INTO jobs (number, {names}) VALUES ({_marks(values)})", values)
            db.execute(FACTS_FROM_TITLES)
            db.executemany(
                "INSERT INTO events (job, seq, kind, data) VALUES (?, ?, ?, ?)",
                [(job_id, int(seq), str(kind), str(data)) for seq, kind, data in dump["events"]],
            )
            return True

    # The forgetter's calls

    def owners(self) -> list[str]:
        """Return everybody who has a job."""
        with self._read() as db:
            return [row["owner"] for row in db.execute("SELECT DISTINCT owner FROM jobs ORDER BY owner")]

    def erase(self, jobs: Collection[str]) -> frozenset[str]:
        """Delete jobs with their events, what is queued behind them by now, and turns of owners without a job left.

        Returns:
            The ids of all that are deleted, also of those that were before.
        """
        with self._write() as db:
            gone: set[str] = set()
            found = set(jobs)
            while found - gone:
                gone |= found
                rows = db.execute(f"SELECT id FROM jobs WHERE source IN ({_marks(sorted(gone))})", sorted(gone))
                found = {row["id"] for row in rows.fetchall()}
            db.executemany("DELETE FROM events WHERE job = ?", [(job_id,) for job_id in gone])
            db.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in gone])
            db.execute("DELETE FROM turns WHERE owner NOT IN (SELECT owner FROM jobs)")
        return frozenset(gone)

    def scrub(self) -> None:
        """Rewrite the file without a byte of what was deleted, and empty the log beside it; raises ResourceError."""
        with self._read() as db:
            db.execute("VACUUM")
            if db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                raise ResourceError(f"the table of jobs ({self._path.name}) is being read; try again in a moment.")

    def tell(self, job_id: str, level: str, text: str, *, instead_of: str | None = None) -> None:
        """Add a message to a job's events; ``instead_of`` is the text of an earlier one that no longer holds."""
        with self._write() as db:
            if instead_of is not None:
                rows = db.execute("SELECT seq, data FROM events WHERE job = ? AND kind = 'message'", (job_id,))
                for row in rows.fetchall():
                    if json.loads(row["data"]).get("text") == instead_of:
                        db.execute("DELETE FROM events WHERE job = ? AND seq = ?", (job_id, row["seq"]))
            self._say(db, job_id, level, text)

    # Worker's calls

    def survey(self, device_busy: bool) -> None:
        """Bring the states of waiting jobs up to date; a job whose source has ended without a result is stalled."""
        with self._read() as db:
            waiting = db.execute(
                "SELECT j.id, j.kind, j.state,"
                " s.state AS source_state, s.kind AS source_kind, s.facts AS source_facts, s.cause AS source_cause"
                f" FROM jobs j LEFT JOIN jobs s ON s.id = j.source WHERE j.state IN ({_marks(_WAITING)})",
                _WAITING,
            ).fetchall()
        for row in waiting:
            target = waiting_state(self._verbs[row["kind"]], row["source_state"], device_busy)
            if target == row["state"]:
                continue
            ending: dict[str, Any] = {}
            if target == "stalled":
                ending = {"cause": cause_of_source(row), "finished_s": time.time()}
            with self._write() as db:
                self._move(db, row["id"], target, only_from=(row["state"],), **ending)

    def claim(self, kinds: Collection[JobKind] | None = None) -> Claim | None:
        """Take the job whose turn it is; None if none may run.

        Owners take turns, whoever was served longest ago comes first, and each one's oldest job goes first: one owner's
        thirty jobs keep another's single one waiting for no more than the jobs that run already.

        Args:
            kinds: take a job of one of these kinds only, beside the jobs that hold the devices; None takes any.
        """
        self.survey(device_busy=kinds is not None)
        asked = "" if kinds is None else f" AND kind IN ({_marks(sorted(kinds))})"
        with self._write() as db:
            row = db.execute(
                "SELECT jobs.* FROM jobs LEFT JOIN turns ON turns.owner = jobs.owner"
                f" WHERE state = 'pending'{asked} ORDER BY COALESCE(turn, 0), number LIMIT 1",
                sorted(kinds or ()),
            ).fetchone()
            if row is None:
                return None
            if self._source_state(db, row["source"]) not in (None, "completed"):
                return None  # its source changed since the survey; the next one sees it
            verb = self._verbs[row["kind"]]
            attempt = row["attempt"] + 1
            started_s = row["started_s"] or time.time()
            self._move(
                db, row["id"], claimed_state(verb), attempt=attempt, started_s=started_s, progress="{}", stage=""
            )
            db.execute(
                "INSERT INTO turns (owner, turn) VALUES (?, (SELECT COALESCE(MAX(turn), 0) + 1 FROM turns))"
                " ON CONFLICT (owner) DO UPDATE SET turn = excluded.turn",
                (row["owner"],),
            )
            return Claim(row["id"], row["kind"], attempt)

    def append(self, claim: Claim, events: Sequence[Event]) -> bool:
        """Store what the attempt tells; nothing if another attempt has taken its place.

        Of ``progress`` events only the newest is kept, so that a long run does not bloat the table.

        Returns:
            True if the owner wants the attempt to stop.
        """
        with self._write() if events else self._read() as db:
            row = self._row(db, claim.id)
            if row is None or row["attempt"] != claim.attempt or row["state"] not in RUNNING:
                return True
            if events:
                self._add_events(db, row, events)
                self._note_advance(db, row, events)
                if row["state"] == "pendingModel" and any(event.kind in _PROGRESS_KINDS for event in events):
                    self._move(db, claim.id, self._verbs[claim.kind].working)
            return bool(row["cancel_requested"])

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Store how the attempt ended. A requested cancel wins over any outcome.

        Returns:
            False if the attempt's word no longer counts.
        """
        with self._write() as db:
            row = self._row(db, claim.id)
            if row is not None and row["cancel_requested"]:
                outcome = Outcome("cancelled")
            return self._move(
                db,
                claim.id,
                outcome.state,
                attempt_is=claim.attempt,
                only_from=_RUNNING,
                finished_s=time.time(),
                cause=outcome.cause,
                problems=json.dumps(plain(outcome.problems)),
                result=None if outcome.result is None else json.dumps(plain(outcome.result)),
            )

    def lose(self, claim: Claim, reason: str, max_losses: int) -> bool:
        """The attempt ended without an outcome of its own: back to pending, or stalled if it leads nowhere.

        Args:
            claim: the attempt.
            reason: a full sentence in the user's words.
            max_losses: so many attempts lost in a row stall the job. The count begins anew when an attempt gets
                further than every one before it, and when the owner retries.

        Returns:
            False if the attempt's word no longer counts.
        """
        with self._write() as db:
            row = self._row(db, claim.id)
            if row is None:
                return False
            losses = row["losses"] + 1
            if row["cancel_requested"] or losses < max_losses:
                return self._requeue(db, row, claim.attempt, reason, losses=losses)
            cause = f"{reason} It was tried {losses} times in a row without getting further."
            return self._move(
                db, claim.id, "stalled", attempt_is=claim.attempt, only_from=_RUNNING, losses=losses, cause=cause,
                finished_s=time.time(),
            )  # fmt: skip

    def release(self, claim: Claim) -> bool:
        """The server is closing: the job goes back to pending and this attempt counts against nothing."""
        with self._write() as db:
            row = self._row(db, claim.id)
            if row is not None and row["cancel_requested"]:
                return self._move(
                    db, claim.id, "cancelled", attempt_is=claim.attempt, only_from=_RUNNING, finished_s=time.time()
                )
            return self._move(db, claim.id, "pending", attempt_is=claim.attempt, only_from=_RUNNING)

    def recover(self, reason: str) -> list[str]:
        """Put the jobs of a dead server back into the queue and return their ids; that is no fault of theirs."""
        with self._write() as db:
            rows = db.execute(f"SELECT * FROM jobs WHERE state IN ({_marks(_RUNNING)})", _RUNNING).fetchall()
            for row in rows:
                self._requeue(db, row, row["attempt"], reason)
            return [row["id"] for row in rows]

    # Below: one transaction's worth

    def _requeue(self, db: Connection, row: sqlite3.Row, attempt: int, reason: str, **columns: Any) -> bool:
        """Let a job whose attempt is gone wait for the next one, or end if its owner has asked for that."""
        changes: dict[str, Any] = {"attempt_is": attempt, "only_from": _RUNNING, **columns}
        if row["cancel_requested"]:
            return self._move(db, row["id"], "cancelled", finished_s=time.time(), **changes)
        moved = self._move(db, row["id"], "pending", **changes)
        if moved:
            self._say(db, row["id"], "warning", f"{reason} It goes on from where it was.")
        return moved

    def _move(
        self,
        db: Connection,
        job_id: str,
        target: str,
        *,
        only_from: Sequence[str] | None = None,
        attempt_is: int | None = None,
        **columns: Any,
    ) -> bool:
        """Enter ``target`` if TRANSITIONS, ``only_from`` and the attempt allow it; nothing else changes a state."""
        allowed = [state for state in origins(target) if only_from is None or state in only_from]
        sets = "".join(f", {name} = ?" for name in columns)
        query = f"UPDATE jobs SET state = ?{sets} WHERE id = ? AND state IN ({_marks(allowed)})"
        values = [target, *columns.values(), job_id, *allowed]
        if attempt_is is not None:
            query += " AND attempt = ?"
            values.append(attempt_is)
        return db.execute(query, values).rowcount == 1

    def _note_advance(self, db: Connection, row: sqlite3.Row, events: Sequence[Event]) -> None:
        """Write down how far the job has come; one that gets further than ever before has lost nothing."""
        stage, reached = row["stage"], json.loads(row["reached"])
        before = dict(reached)
        for event in events:
            step: Any = None
            if event.kind == "stage":
                stage, step = str(event.data.get("name", "")), 0
            elif event.kind == "progress":
                step = event.data.get("step")
            if isinstance(step, int | float) and step > reached.get(
                stage, -1
            ):  # a resumed attempt tells old steps again
                reached[stage] = step
        if reached != before:
            db.execute("UPDATE jobs SET losses = 0, reached = ? WHERE id = ?", (json.dumps(reached), row["id"]))
        if stage != row["stage"]:
            db.execute("UPDATE jobs SET stage = ? WHERE id = ?", (stage, row["id"]))

    def _say(self, db: Connection, job_id: str, level: str, text: str) -> None:
        row = self._row(db, job_id)
        if row is not None:
            self._add_events(db, row, [Event("message", {"level": level, "text": text})])

    def _add_events(self, db: Connection, row: sqlite3.Row, events: Sequence[Event]) -> None:
        newest = max((i for i, event in enumerate(events) if event.kind == "progress"), default=None)
        kept = [event for i, event in enumerate(events) if event.kind != "progress" or i == newest]
        if newest is not None:
            db.execute("DELETE FROM events WHERE job = ? AND kind = 'progress'", (row["id"],))
            progress = json.dumps(plain(events[newest].data))
            db.execute("UPDATE jobs SET progress = ? WHERE id = ?", (progress, row["id"]))
        first = row["last_seq"] + 1
        db.executemany(
            "INSERT INTO events (job, seq, kind, data) VALUES (?, ?, ?, ?)",
            [(row["id"], seq, event.kind, json.dumps(plain(event.data))) for seq, event in enumerate(kept, first)],
        )
        db.execute("UPDATE jobs SET last_seq = ? WHERE id = ?", (row["last_seq"] + len(kept), row["id"]))

    def _by_key(self, db: Connection, owner: str, key: str) -> sqlite3.Row | None:
        return db.execute("SELECT * FROM jobs WHERE owner = ? AND key = ?", (owner, key)).fetchone()

    def _source_state(self, db: Connection, source: str | None) -> str | None:
        if source is None:
            return None
        row = self._row(db, source)
        if row is None:  # forgotten a moment ago
            raise NotFoundError(f"there is no job {source!r}.")
        return str(row["state"])


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _same_request(db: Connection, row: sqlite3.Row, fingerprint: str) -> JobView:
    if row["fingerprint"] != fingerprint:
        raise ConflictError(f"key {row['key']!r} was used for another request (job {row['id']}); use a new key.")
    return placed(db, [view_of(db, row)])[0]
