"""Rows of the table of jobs as records, and what is said of a job whose source has ended."""

import json
import sqlite3

from studio.core.domain import JobFacts, JobView, SourceJob
from studio.core.job_words import work_of
from studio.jobs.states import WAITING

KEPT = (
    "id", "kind", "state", "owner", "title", "facts", "source", "key", "fingerprint", "created_s", "started_s",
    "finished_s", "attempt", "last_seq", "cause", "problems", "progress", "result",
)  # fmt: skip
"""What a backup holds of a job's row."""
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
    )


def cause_of_source(row: sqlite3.Row) -> str:
    """Return why a job can never begin, from a row that names its source's kind, state, facts and cause."""
    work = work_of(row["source_kind"], JobFacts.from_json(json.loads(row["source_facts"])))
    work = work[:1].upper() + work[1:]
    if row["source_state"] == "cancelled":
        return f"{work} was cancelled.{_RETRY_FIRST}"
    # Where the source waited in vain itself, its own advice to retry would stand here twice.
    return f"{work} stopped early: {(row['source_cause'] or '').removesuffix(_RETRY_FIRST)}{_RETRY_FIRST}"
