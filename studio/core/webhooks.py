"""What an owner says of a webhook, and what is told of it and of its deliveries; secrets are in none of these."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from studio.core.strict import StrictModel, Text

WebhookEvent = Literal[
    "job.pending_gpu",
    "job.images_ready",
    "job.model_ready",
    "job.progress",
    "job.completed",
    "job.stalled",
    "job.cancelled",
    "adapter.uploaded",
]
DeliveryState = Literal["waiting", "delivered", "failed"]

_Url = Annotated[str, Field(min_length=1, max_length=2000)]
_Description = Annotated[Text, Field(max_length=200)]
_ProgressEvery = Annotated[float, Field(ge=1, le=3600)]


class WebhookConfig(StrictModel):
    """A webhook: where to, and of what."""

    url: _Url
    """Address that gets a signed POST of each event; https, and no address of a private network."""
    events: tuple[WebhookEvent, ...] = ()
    """Events that are sent; none are named: all of them."""
    description: _Description = ""
    """What it is for, in the owner's words."""
    progress_every_s: _ProgressEvery = 30.0
    """Least time between two `job.progress` of one job, seconds."""


class WebhookChange(StrictModel):
    """What changes of a webhook; what is left out stays."""

    url: _Url | None = None
    """Address that gets the events."""
    events: tuple[WebhookEvent, ...] | None = None
    """Events that are sent; an empty list: all of them."""
    description: _Description | None = None
    """What it is for, in the owner's words."""
    progress_every_s: _ProgressEvery | None = None
    """Least time between two `job.progress` of one job, seconds."""
    active: bool | None = None
    """False: nothing is sent, and what happens meanwhile is not made up for. True also ends what a 410 began."""


@dataclass(frozen=True, slots=True)
class WebhookView:
    """A webhook as its owner sees it."""

    id: str
    url: str
    events: tuple[str, ...]
    """Events that are sent; empty: all of them."""
    description: str
    progress_every_s: float
    active: bool
    cause: str | None
    """Why it is not active, where not its owner wanted that."""
    created_s: float
    """Seconds since the epoch."""
    old_secret_until_s: float | None
    """Until then deliveries also carry the signature of the secret before; None where there is none."""


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One event on its way to one webhook."""

    id: str
    """Also in the header ``webhook-id``, the same at every attempt."""
    webhook: str
    type: str
    job: str | None
    state: DeliveryState
    attempts: int
    status: int | None
    """HTTP status of the newest answer."""
    error: str | None
    """Why the newest attempt failed, in words."""
    created_s: float
    next_attempt_s: float | None
    """While it waits: when it is tried next; 0 for at once."""
    ended_s: float | None
