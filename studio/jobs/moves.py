"""What happens to one job within one transaction: the only place where a state changes, and where events are told.

``store`` calls it with a connection that writes and, where it has read the job's row before, has locked it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping, bindparam, case, delete, func, insert, select, update

from studio.core.domain import TERMINAL_STATES, Event, JobFacts, plain
from studio.core.job_words import title_of
from studio.jobs import usage
from studio.jobs.events import Outcome
from studio.jobs.schema import EVENTS, JOBS, TURNS
from studio.jobs.states import RUNNING, origins
from studio.jobs.webhooks import outbox

WAITS_FOR_TURN = frozenset({"pending", "pendingGpu"})
"""States in which nothing but its turn keeps a job from running; it does not wait for another job."""
EXPIRED = "It waited longer for its turn than this studio lets jobs wait, so it was taken out of the queue."

IS_RUNNING = tuple(sorted(RUNNING))

_LOCKED = select(JOBS).where(JOBS.c.id == bindparam("job_id")).with_for_update()


def locked(db: Connection, job_id: str) -> RowMapping | None:
    """Return a job's row, which nobody else changes until the transaction ends; None if there is none."""
    return db.execute(_LOCKED, {"job_id": job_id}).mappings().one_or_none()


def move(
    db: Connection,
    job_id: str,
    target: str,
    *,
    only_from: Sequence[str] | None = None,
    attempt_is: int | None = None,
    **columns: Any,
) -> bool:
    """Enter ``target`` if TRANSITIONS, ``only_from`` and the attempt allow it; nothing else changes a state.

    Whoever comes too late (an attempt that has been replaced, a second cancel) changes nothing. A job that does not run
    any more has no lease. Webhooks are told in the same transaction.
    """
    allowed = [state for state in origins(target) if only_from is None or state in only_from]
    if target not in RUNNING:
        columns |= {"holder": None, "leased_until_s": None, "place": None}
    if target in TERMINAL_STATES and (attempt_is is not None or target == "cancelled"):
        columns["sealed"] = None  # one that stalls before it ran keeps its token for a retry
    if target in WAITS_FOR_TURN and not set(allowed) <= WAITS_FOR_TURN:
        columns["waits_since_s"] = usage.NOW_S[db.dialect.name]
    change = update(JOBS).where(JOBS.c.id == job_id, JOBS.c.state.in_(allowed)).values(state=target, **columns)
    if attempt_is is not None:
        change = change.where(JOBS.c.attempt == attempt_is)
    webhooks = outbox.listening(db, job_id)
    moved = db.execute(change).rowcount == 1
    if moved and target not in RUNNING:
        usage.book(db, job_id)
    if moved and webhooks:
        outbox.add_move(db, webhooks, job_id)
    return moved


NOTHING_WRONG: Mapping[str, Any] = {"cause": None, "problems": "[]", "cause_status": None}
"""Columns of a job that has not stalled."""


def ending(outcome: Outcome) -> dict[str, Any]:
    """Return the columns that say why an attempt has ended."""
    cause, problems = storable(outcome.cause), json.dumps(plain(outcome.problems))
    return {"cause": cause, "problems": problems, "cause_status": outcome.status}


def expire(db: Connection, longest_s: float) -> list[str]:
    """End the jobs that have waited longer for their turn, seconds; return their ids."""
    now_s = usage.NOW_S[db.dialect.name]
    since = func.coalesce(JOBS.c.waits_since_s, JOBS.c.created_s)
    waiting = select(JOBS.c.id).where(JOBS.c.state.in_(sorted(WAITS_FOR_TURN)), since < now_s - longest_s)
    # Each move locks a row: in the order in which others lock several, so that nobody waits in a circle.
    ids, only_from = list(db.scalars(waiting.order_by(JOBS.c.number))), tuple(sorted(WAITS_FOR_TURN))
    return [one for one in ids if move(db, one, "stalled", only_from=only_from, cause=EXPIRED, finished_s=now_s)]


def leave_out(db: Connection, length_s: float) -> None:
    """Leave the last so many seconds out of the time that jobs have waited for their turn."""
    now_s = usage.NOW_S[db.dialect.name]
    since, began_s = func.coalesce(JOBS.c.waits_since_s, JOBS.c.created_s), now_s - length_s
    waits = JOBS.c.state.in_(sorted(WAITS_FOR_TURN))
    db.execute(select(JOBS.c.id).where(waits).order_by(JOBS.c.number).with_for_update())  # in order, as in ``expire``
    moved = case((since < began_s, since + length_s), else_=now_s)
    db.execute(update(JOBS).where(waits).values(waits_since_s=moved))


def take_turn(db: Connection, owner: str) -> None:
    """Let the owners whose jobs have not begun as lately come before this one."""
    turn = select(func.coalesce(func.max(TURNS.c.turn), 0) + 1).scalar_subquery()
    if not db.execute(update(TURNS).where(TURNS.c.owner == owner).values(turn=turn)).rowcount:
        db.execute(insert(TURNS).values(owner=owner, turn=turn))


def rename(db: Connection, row: Mapping[Any, Any], now: JobFacts) -> None:
    """Change what a job is about, and with it its title and the subject in its result."""
    values = {"facts": json.dumps(plain(now)), "title": title_of(row["kind"], now)}
    result = json.loads(row["result"] or "null")
    if result and "subject" in result:
        values["result"] = json.dumps(result | {"subject": now.subject})
    db.execute(update(JOBS).where(JOBS.c.id == row["id"]).values(values))


def storable(text: str | None) -> str | None:
    """Return a text as every database takes it: without NUL and without halves of characters."""
    return text and text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def requeue(
    db: Connection, row: Mapping[Any, Any], attempt: int, reason: str, *, finished_s: Any, **columns: Any
) -> bool:
    """Let a job whose attempt is gone wait for the next one, or end if its owner has asked for that.

    Args:
        db: a connection that writes.
        row: of the job, locked.
        attempt: the one that is gone.
        reason: a full sentence in the user's words.
        finished_s: the time now, for a job that ends.
        columns: what else changes.
    """
    changes: dict[str, Any] = {"attempt_is": attempt, "only_from": IS_RUNNING, **columns}
    if row["cancel_requested"]:
        return move(db, row["id"], "cancelled", finished_s=finished_s, **changes)
    moved = move(db, row["id"], "pending", **changes)
    if moved:
        say(db, row["id"], "warning", f"{reason} It goes on from where it was.")
    return moved


def note_advance(db: Connection, row: Mapping[Any, Any], events: Sequence[Event]) -> None:
    """Write down how far the job has come; one that gets further than ever before has lost nothing."""
    stage, reached = row["stage"], json.loads(row["reached"])
    before = dict(reached)
    for event in events:
        step: Any = None
        if event.kind == "stage":
            stage, step = storable(str(event.data.get("name", ""))) or "", 0
        elif event.kind == "progress":
            step = event.data.get("step")
        if isinstance(step, int | float) and step > reached.get(stage, -1):  # a resumed attempt tells old steps again
            reached[stage] = step
    changes: dict[str, Any] = {}
    if reached != before:
        changes |= {"losses": 0, "reached": json.dumps(reached)}
    if stage != row["stage"]:
        changes["stage"] = stage
    if changes:
        db.execute(update(JOBS).where(JOBS.c.id == row["id"]).values(**changes))


def say(db: Connection, job_id: str, level: str, text: str) -> None:
    """Add a message to a job's events; nothing if there is no such job."""
    row = locked(db, job_id)
    if row is not None:
        add_events(db, row, [Event("message", {"level": level, "text": text})])


def add_events(db: Connection, row: Mapping[Any, Any], events: Sequence[Event]) -> None:
    """Add events to those of the job with this row, which is locked; of ``progress`` only the newest is kept."""
    newest = max((i for i, event in enumerate(events) if event.kind == "progress"), default=None)
    kept = [event for i, event in enumerate(events) if event.kind != "progress" or i == newest]
    changes: dict[str, Any] = {"last_seq": row["last_seq"] + len(kept)}
    if newest is not None:
        db.execute(delete(EVENTS).where(EVENTS.c.job == row["id"], EVENTS.c.kind == "progress"))
        changes["progress"] = json.dumps(plain(events[newest].data))
    db.execute(
        insert(EVENTS),
        [
            {"job": row["id"], "seq": seq, "kind": event.kind, "data": json.dumps(plain(event.data))}
            for seq, event in enumerate(kept, row["last_seq"] + 1)
        ],
    )
    db.execute(update(JOBS).where(JOBS.c.id == row["id"]).values(**changes))
