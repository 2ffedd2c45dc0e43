"""Rows of the table of jobs as records, and what is said of a job whose source has ended."""

import json
import sqlite3
from dataclasses import replace

from studio.core.domain import JobFacts, JobView, SourceJob
from studio.core.job_words import work_of
from studio.jobs.line import Waiting, places, usual_times
from studio.jobs.states import RUNNING, WAITING

KEPT = (
    "id", "kind", "state", "owner", "title", "facts", "source", "key", "fingerprint", "created_s", "started_s",
    "finished_s", "attempt", "last_seq", "cause", "problems", "progress", "result", "hearts",
)  # fmt: skip
"""What a backup holds of a job's row."""
_IN_LINE = ("pending", "pendingGpu")
"""States of jobs that wait for nothing but their turn."""
_RETRY_FIRST = "\nRetry that job first, then this one."


def view_of(db: sqlite3.Connection, row: sqlite3.Row) -> JobView:
    """Return a row of the table as its owner sees it; ``db`` tells how its source stands."""
    waits_for = None
    if row["state"] in WAITING and row["source"] is not None:
        source = db.execute("SELECT id, kind, title, state FROM jobs WHERE id = ?", (row["source"],)).fetchone()
        if source is not None and source["state"] != "completed":
            waits_for = SourceJob(source["id"], source["kind"], source["title"])
    return JobView(
        id=row["id"],
        kind=row["kind"],
        state=row["state"],
        owner=row["owner"],
        title=row["title"],
        created_s=row["created_s"],
        started_s=row["started_s"],
        finished_s=row["finished_s"],
        attempt=row["attempt"],
        cause=row["cause"],
        problems=tuple(json.loads(row["problems"])),
        progress=json.loads(row["progress"]),
        result=None if row["result"] is None else json.loads(row["result"]),
        source=row["source"],
        facts=JobFacts.from_json(json.loads(row["facts"])),
        waits_for=waits_for,
        hearts=tuple(json.loads(row["hearts"])),
    )


def placed(db: sqlite3.Connection, views: list[JobView]) -> list[JobView]:
    """Return the views with the places in the queue of those that wait for their turn."""
    if not any(view.state in _IN_LINE for view in views):
        return views
    waiting = db.execute(
        "SELECT id, jobs.owner, COALESCE(turn, 0) AS turn, kind FROM jobs LEFT JOIN turns ON turns.owner = jobs.owner"
        " WHERE state IN (?, ?) ORDER BY number",
        _IN_LINE,
    )
    running = db.execute(f"SELECT progress FROM jobs WHERE state IN ({', '.join('?' * len(RUNNING))})", sorted(RUNNING))
    finished = db.execute(
        "SELECT kind, finished_s - started_s FROM jobs WHERE state = 'completed' AND started_s IS NOT NULL"
        " ORDER BY number DESC LIMIT 50"
    )
    found = places(
        [Waiting(*row) for row in waiting.fetchall()],
        [json.loads(row["progress"]).get("eta_s") for row in running.fetchall()],
        usual_times([(kind, seconds) for kind, seconds in finished.fetchall()]),
    )
    return [
        replace(view, place=found[view.id].number, starts_in_s=found[view.id].starts_in_s) if view.id in found else view
        for view in views
    ]


def cause_of_source(row: sqlite3.Row) -> str:
    """Return why a job can never begin, from a row that names its source's kind, state, facts and cause."""
    work = work_of(row["source_kind"], JobFacts.from_json(json.loads(row["source_facts"])))
    work = work[:1].upper() + work[1:]
    if row["source_state"] == "cancelled":
        return f"{work} was cancelled.{_RETRY_FIRST}"
    # Where the source waited in vain itself, its own advice to retry would stand here twice.
    return f"{work} stopped early: {(row['source_cause'] or '').removesuffix(_RETRY_FIRST)}{_RETRY_FIRST}"
