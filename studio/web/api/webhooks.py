"""Webhooks below ``/v1``: an owner's addresses, their secrets and what was sent to them. See docs/WEBHOOKS.md."""

from dataclasses import asdict
from typing import Any

from fastapi import Response
from pydantic import Field

from studio.core.strict import StrictModel
from studio.core.webhooks import DeliveryState, DeliveryView, WebhookChange, WebhookConfig, WebhookView
from studio.web.api import views
from studio.web.api.bodies import Page
from studio.web.api.operations import Answer, Call, Operation

Data = dict[str, Any]

_SECRET: Data = {
    "properties": {
        "secret": {"type": "string", "description": "Signs what is sent; nobody shows it again.", "pattern": "^whsec_"}
    },
    "required": ["secret"],
}


class DeliveriesQuery(Page):
    """Which deliveries."""

    state: DeliveryState | None = None
    """Only deliveries in this state."""


class WebhooksQuery(StrictModel):
    """All of them."""

    limit: int = Field(default=50, ge=1, le=200)
    """Maximum number of items; an owner has at most 20."""


def _create(call: Call) -> Answer:
    made, secret = call.session.studio.webhooks.create(call.body, owner=call.session.owner)
    return Answer({**asdict(made), "secret": secret}, 201, {"Location": f"/v1/webhooks/{made.id}"})


def _list(call: Call) -> Data:
    rows = call.session.studio.webhooks.all(owner=call.session.owner)
    return {"items": [asdict(row) for row in rows[: call.query.limit]], "next_cursor": None}


def _get(call: Call) -> WebhookView:
    return call.session.studio.webhooks.get(call.path["webhook"], owner=call.session.owner)


def _change(call: Call) -> WebhookView:
    return call.session.studio.webhooks.change(call.path["webhook"], call.body, owner=call.session.owner)


def _drop(call: Call) -> Response:
    call.session.studio.webhooks.drop(call.path["webhook"], owner=call.session.owner)
    return Response(status_code=204)


def _rotate(call: Call) -> Data:
    view, secret = call.session.studio.webhooks.rotate(call.path["webhook"], owner=call.session.owner)
    return {**asdict(view), "secret": secret}


def _test(call: Call) -> DeliveryView:
    return call.session.studio.webhooks.test(call.path["webhook"], owner=call.session.owner)


def _deliveries(call: Call) -> Data:
    query: DeliveriesQuery = call.query
    rows = call.session.studio.webhooks.deliveries(
        call.path["webhook"],
        owner=call.session.owner,
        limit=query.limit + 1,
        state=query.state,
        before=query.cursor,
    )
    more = rows[query.limit - 1].id if len(rows) > query.limit else None
    return {"items": [asdict(row) for row in rows[: query.limit]], "next_cursor": more}


def _redeliver(call: Call) -> DeliveryView:
    webhook, delivery = call.path["webhook"], call.path["delivery"]
    return call.session.studio.webhooks.redeliver(webhook, delivery, owner=call.session.owner)


_ALL, _ONE = "/v1/webhooks", "/v1/webhooks/{webhook}"
_EXAMPLE: Data = {"url": "https://example.org/hooks", "events": ["job.completed", "job.stalled"]}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST", _ALL, "Add a webhook; the answer alone holds its secret.", _create, (WebhookView, _SECRET), 201,
        body=WebhookConfig, example=_EXAMPLE, refuses=(409, 413, 507),
    ),
    Operation(
        "GET", _ALL, "List the webhooks, newest first.", _list,
        views.a_list({"$ref": "#/components/schemas/WebhookView"}), query=WebhooksQuery,
    ),
    Operation("GET", _ONE, "Look at a webhook.", _get, WebhookView, refuses=(404,)),
    Operation(
        "PATCH", _ONE, "Change a webhook.", _change, WebhookView, body=WebhookChange, example={"active": True},
        refuses=(404, 413),
    ),
    Operation("DELETE", _ONE, "Delete a webhook with its deliveries.", _drop, None, 204, refuses=(404,)),
    Operation(
        "POST", f"{_ONE}/rotate", "Give a webhook a new secret; the old one also signs for a day.", _rotate,
        (WebhookView, _SECRET), refuses=(404,),
    ),
    Operation(
        "POST", f"{_ONE}/test", "Send a webhook an event that means nothing.", _test, DeliveryView, refuses=(404, 409)
    ),
    Operation(
        "GET", f"{_ONE}/deliveries", "List what was sent to a webhook, newest first.", _deliveries,
        views.a_list({"$ref": "#/components/schemas/DeliveryView"}), query=DeliveriesQuery, refuses=(404,),
    ),
    Operation(
        "POST", f"{_ONE}/deliveries/{{delivery}}/redeliver", "Send a delivery once more.", _redeliver, DeliveryView,
        refuses=(404, 409),
    ),
)  # fmt: skip
"""Every operation below ``/v1/webhooks``."""
