"""Rows of the table of jobs as records, and what is said of a job whose source has ended."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, bindparam, func, select

from studio.core.domain import JobFacts, JobView, SourceJob
from studio.core.job_words import work_of
from studio.jobs.line import Waiting, places, usual_times
from studio.jobs.schema import JOBS, TURNS
from studio.jobs.states import RUNNING, WAITING

KEPT = (
    "id", "kind", "state", "owner", "title", "facts", "source", "key", "fingerprint", "created_s", "started_s",
    "finished_s", "attempt", "last_seq", "cause", "problems", "progress", "result", "hearts",
    "cost_usd",
)  # fmt: skip
"""What a backup holds of a job's row."""
_IN_LINE = ("pending", "pendingGpu")
"""States of jobs that wait for nothing but their turn."""
_RETRY_FIRST = "\nRetry that job first, then this one."

SOURCES = JOBS.alias("sources")

SEEN = select(
    JOBS,
    SOURCES.c.kind.label("source_kind"),
    SOURCES.c.title.label("source_title"),
    SOURCES.c.state.label("source_state"),
).outerjoin(SOURCES, SOURCES.c.id == JOBS.c.source)
"""Rows with what ``view_of`` needs; a caller adds which ones."""

WHY = (
    select(
        SOURCES.c.state.label("source_state"),
        SOURCES.c.kind.label("source_kind"),
        SOURCES.c.facts.label("source_facts"),
        SOURCES.c.cause.label("source_cause"),
    )
    .join(JOBS, JOBS.c.source == SOURCES.c.id)
    .where(JOBS.c.id == bindparam("job_id"))
)
"""What is known of the source of the job ``job_id``, for ``cause_of_source``."""

_LINE = (
    select(JOBS.c.id, JOBS.c.owner, func.coalesce(TURNS.c.turn, 0), JOBS.c.kind)
    .outerjoin(TURNS, TURNS.c.owner == JOBS.c.owner)
    .where(JOBS.c.state.in_(_IN_LINE))
    .order_by(JOBS.c.number)
)
_PROGRESS = select(JOBS.c.progress).where(JOBS.c.state.in_(sorted(RUNNING)))
_TIMES = (
    select(JOBS.c.kind, JOBS.c.finished_s - JOBS.c.started_s)
    .where(JOBS.c.state == "completed", JOBS.c.started_s.is_not(None))
    .order_by(JOBS.c.number.desc())
    .limit(50)
)


def view_of(row: Mapping[Any, Any]) -> JobView:
    """Return a row of ``SEEN`` as its owner sees it."""
    waits_for = None
    if row["state"] in WAITING and row["source_state"] not in (None, "completed"):
        waits_for = SourceJob(row["source"], row["source_kind"], row["source_title"])
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
        cost_usd=row["cost_usd"],
        cause_status=row["cause_status"],
    )


def views_of(db: Connection, query: Select[Any], **values: str) -> list[JobView]:
    """Return what a query of ``SEEN`` finds, with the places in the queue of those that wait for their turn."""
    return placed(db, [view_of(row) for row in db.execute(query, values).mappings()])


def placed(db: Connection, views: list[JobView]) -> list[JobView]:
    """Return the views with the places in the queue of those that wait for their turn."""
    if not any(view.state in _IN_LINE for view in views):
        return views
    found = places(
        [Waiting(*row) for row in db.execute(_LINE)],
        [json.loads(progress).get("eta_s") for progress in db.scalars(_PROGRESS)],
        usual_times([(kind, seconds) for kind, seconds in db.execute(_TIMES)]),
    )
    return [
        replace(view, place=found[view.id].number, starts_in_s=found[view.id].starts_in_s) if view.id in found else view
        for view in views
    ]


def cause_of_source(row: Mapping[Any, Any]) -> str:
    """Return why a job can never begin, from a row that names its source's kind, state, facts and cause."""
    work = work_of(row["source_kind"], JobFacts.from_json(json.loads(row["source_facts"])))
    work = work[:1].upper() + work[1:]
    if row["source_state"] == "cancelled":
        return f"{work} was cancelled.{_RETRY_FIRST}"
    # Where the source waited in vain itself, its own advice to retry would stand here twice.
    return f"{work} stopped early: {(row['source_cause'] or '').removesuffix(_RETRY_FIRST)}{_RETRY_FIRST}"
