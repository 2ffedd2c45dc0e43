"""What happens to a job becomes deliveries, in the transaction in which it happens: a kill loses neither or both.

Called by ``moves`` and ``store`` with their connection. While an owner has no webhook this is one question to the
table for each change of a state.
"""

import json
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, bindparam, delete, func, insert, or_, select

from studio.core.domain import TERMINAL_STATES, JobView
from studio.jobs.child import resolve
from studio.jobs.rows import SEEN, view_of
from studio.jobs.schema import DELIVERIES, JOBS, WEBHOOKS
from studio.jobs.states import RUNNING, WAITING

PROGRESS, STARTED = "job.progress", "job.started"
"""The second one is told to webhooks of a single job only."""
TEST = "webhook.test"

_PROGRESS_SHOWN = ("step", "total", "eta_s")
_LISTENING = (
    select(WEBHOOKS, JOBS.c.state.label("job_state"))
    .join(JOBS, and_(JOBS.c.owner == WEBHOOKS.c.owner, or_(WEBHOOKS.c.job.is_(None), WEBHOOKS.c.job == JOBS.c.id)))
    .where(JOBS.c.id == bindparam("job_id"), WEBHOOKS.c.is_active == 1)
    .with_for_update(of=JOBS)
)
_ONE = SEEN.where(JOBS.c.id == bindparam("job_id"))


def listening(db: Connection, job_id: str) -> Sequence[RowMapping]:
    """Return the active webhooks that hear of a job, each with the job's state (``job_state``); lock the job's row."""
    return db.execute(_LISTENING, {"job_id": job_id}).mappings().all()


def add_move(db: Connection, webhooks: Sequence[RowMapping], job_id: str) -> None:
    """Tell webhooks that a job has changed its state.

    Args:
        db: the connection that has changed it.
        webhooks: what ``listening`` returned before the change.
        job_id: the job.
    """
    view = _view(db, job_id)
    if view.state in TERMINAL_STATES:  # nobody needs to hear any more how far it was
        late = and_(DELIVERIES.c.job == job_id, DELIVERIES.c.type == PROGRESS, DELIVERIES.c.state == "waiting")
        db.execute(delete(DELIVERIES).where(late))
    for webhook in webhooks:
        add(db, webhook, types_of(webhook["job_state"], view), view)


def add_progress(db: Connection, job_id: str) -> None:
    """Tell webhooks how far a job is, each as often as it wants; not while it has not heard the last."""
    webhooks = [row for row in listening(db, job_id) if wants(row, PROGRESS)]
    for webhook in webhooks:
        told = select(
            func.max(DELIVERIES.c.created_s), func.count().filter(DELIVERIES.c.state == "waiting")
        ).where(
            DELIVERIES.c.webhook == webhook["id"], DELIVERIES.c.job == job_id, DELIVERIES.c.type == PROGRESS
        )  # fmt: skip
        last_s, waiting = db.execute(told).one()
        if not waiting and (last_s is None or time.time() - last_s >= webhook["progress_every_s"]):
            add(db, webhook, [PROGRESS], _view(db, job_id))


def catch_up(db: Connection, webhook: Mapping[Any, Any], job_id: str) -> None:
    """Tell a webhook that has come after its job what it has missed: that it has started, that it has ended."""
    view = _view(db, job_id)
    missed = [STARTED] if view.started_s is not None else []
    add(db, webhook, [*missed, *types_of(None, view)], view)


def types_of(before: str | None, view: JobView) -> list[str]:
    """Return the events of one change of a job's state.

    Args:
        before: the state until then; None where that does not matter.
        view: the job since then.
    """
    found = {
        STARTED: before in WAITING and view.state in RUNNING,
        "job.images_ready": before == "pendingImages" and view.state in ("pending", "pendingGpu"),
        "job.pending_gpu": view.state == "pendingGpu",
        "job.model_ready": before == "pendingModel" and view.state in RUNNING,
        f"job.{view.state}": view.state in TERMINAL_STATES,
        "adapter.uploaded": view.state == "completed" and view.kind == "publish" and _commit(view) is not None,
    }
    return [name for name, applies in found.items() if applies]


def wants(webhook: Mapping[Any, Any], name: str) -> bool:
    """Tell whether a webhook is sent this event."""
    wanted = json.loads(webhook["events"])
    return name in wanted if wanted else name != STARTED


def add(db: Connection, webhook: Mapping[Any, Any], types: Iterable[str], view: JobView | None) -> list[str]:
    """Add the deliveries of events that a webhook wants; return their ids."""
    added = []
    for name in (name for name in types if name == TEST or wants(webhook, name)):
        if webhook["form"] is None or view is None:
            body = _event(name, view)
        else:
            body = resolve(webhook["form"])(view, json.loads(webhook["context"]))
        row = {
            "id": f"msg_{secrets.token_hex(12)}",
            "webhook": webhook["id"],
            "owner": webhook["owner"],
            "job": None if view is None else view.id,
            "type": name,
            "body": json.dumps(body, separators=(",", ":")),
            "created_s": time.time(),
        }
        db.execute(insert(DELIVERIES).values(row))
        added.append(row["id"])
    return added


def erase(db: Connection, jobs: Collection[str]) -> None:
    """Delete all that was or is to be told of jobs, and webhooks that hear of them alone."""
    db.execute(delete(DELIVERIES).where(DELIVERIES.c.job.in_(sorted(jobs))))
    db.execute(delete(WEBHOOKS).where(WEBHOOKS.c.job.in_(sorted(jobs))))


def _view(db: Connection, job_id: str) -> JobView:
    return view_of(db.execute(_ONE, {"job_id": job_id}).mappings().one())


def _commit(view: JobView) -> str | None:
    return (view.result or {}).get("commit")


def _event(name: str, view: JobView | None) -> dict[str, Any]:
    """Return the body of an event: thin, since whoever wants more asks for the job.

    Source: standard-webhooks/standard-webhooks, "Payload structure".
    """
    data: dict[str, Any] = {}
    if view is not None:
        data = {"job": view.id, "kind": view.kind, "state": view.state, "attempt": view.attempt, "source": view.source}
        if view.state == "stalled":
            data["cause"] = view.cause
        if name == PROGRESS:
            data["progress"] = {part: view.progress.get(part) for part in _PROGRESS_SHOWN}
        if name == "adapter.uploaded":
            data |= {part: (view.result or {}).get(part) for part in ("repo", "url", "commit", "public")}
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": name, "timestamp": moment, "data": data}
