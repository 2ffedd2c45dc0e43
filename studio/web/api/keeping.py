"""What is kept of an owner and for how long, what goes at once, and the receipts of what went, below ``/v1``."""

from dataclasses import asdict
from typing import Any

from pydantic import Field

from studio.core.errors import NotFoundError
from studio.core.receipts import Receipt
from studio.core.retention import Retention
from studio.core.strict import StrictModel
from studio.web.api import views
from studio.web.api.bodies import DryRun, Page
from studio.web.api.operations import Call, Operation

Data = dict[str, Any]


class RetentionBody(StrictModel):
    """How long your jobs are kept."""

    days: float | None = Field(gt=0, le=36500)
    """Days after their last use, no more than `most_days`; null takes what this studio keeps at most."""


def told(receipt: Receipt) -> Data:
    """Return a receipt with its sentences."""
    return {**asdict(receipt), "words": receipt.words()}


def _job(call: Call) -> Data:
    return told(call.session.forget(job=call.path["job_id"], dry_run=call.query.dry_run))


def _subject(call: Call) -> Data:
    return told(call.session.forget(subject=call.path["subject"], dry_run=call.query.dry_run))


def _everything(call: Call) -> Data:
    return told(call.session.forget(everything=True, dry_run=call.query.dry_run))


def _retention(call: Call) -> Retention:
    return call.session.studio.retention(owner=call.session.owner)


def _choose(call: Call) -> Retention:
    return call.session.studio.keep_for(call.body.days, owner=call.session.owner)


def _receipts(call: Call) -> Data:
    query: Page = call.query
    rows = call.session.studio.receipts(owner=call.session.owner)
    if query.cursor is not None:
        before = next((number for number, row in enumerate(rows, 1) if row.id == query.cursor), None)
        if before is None:
            raise NotFoundError(f"there is no receipt {query.cursor!r}.")
        rows = rows[before:]
    more = rows[query.limit - 1].id if len(rows) > query.limit else None
    return {"items": [told(row) for row in rows[: query.limit]], "next_cursor": more}


def _receipt(call: Call) -> Data:
    wanted = call.path["receipt"]
    for row in call.session.studio.receipts(owner=call.session.owner):
        if row.id == wanted:
            return told(row)
    raise NotFoundError(f"there is no receipt {wanted!r}.")


_WORDS: Data = {"properties": {"words": {"type": "string"}}, "required": ["words"]}
_RECEIPT: Data = {"query": DryRun, "refuses": (404, 507)}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "DELETE", "/v1/jobs/{job_id}", "Forget a job and all that was made from it, for good.", _job,
        (Receipt, _WORDS), **_RECEIPT,
    ),
    Operation(
        "DELETE", "/v1/subjects/{subject}", "Forget all of a subject, photos and what was made from them, for good.",
        _subject, (Receipt, _WORDS), **_RECEIPT,
    ),
    Operation(
        "DELETE", "/v1/everything", "Forget everything that is yours, for good.", _everything, (Receipt, _WORDS),
        **_RECEIPT,
    ),
    Operation(
        "GET", "/v1/receipts", "List what was forgotten and when, newest first.", _receipts,
        views.a_list({"$ref": "#/components/schemas/Receipt"}), query=Page, refuses=(404, 507),
    ),
    Operation(
        "GET", "/v1/receipts/{receipt}", "Look at a receipt.", _receipt, (Receipt, _WORDS), refuses=(404, 507),
    ),
    Operation("GET", "/v1/retention", "Tell how long your jobs are kept.", _retention, Retention),
    Operation(
        "PUT", "/v1/retention", "Choose how long your jobs are kept.", _choose, Retention, body=RetentionBody,
        example={"days": 7}, refuses=(413, 507),
    ),
)  # fmt: skip
"""What deletes, and what tells about it."""
