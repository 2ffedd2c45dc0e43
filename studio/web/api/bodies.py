"""What the requests below ``/v1`` may say: the config classes of the verbs, and what each reads beside its settings."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import JobKind, JobState
from studio.core.finish_config import FinishConfig
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.web.api.pictures import SentFile

MOST_LISTED = 200

_Handle = Annotated[str, Field(min_length=1, max_length=200)]


class Page(StrictModel):
    """A part of a list."""

    limit: int = Field(default=50, ge=1, le=MOST_LISTED)
    """Maximum number of items."""
    cursor: _Handle | None = None
    """Where the list goes on: `next_cursor` of the part before."""


class JobsQuery(Page):
    """Which jobs."""

    kind: JobKind | None = None
    """Only jobs of this kind."""
    state: JobState | None = None
    """Only jobs in this state."""
    source: _Handle | None = None
    """Only jobs that read the output of this job."""


class WhatIf(StrictModel):
    """Whether it is meant."""

    whatif: bool = False
    """Only tell what it would take; nothing is started."""


class DryRun(StrictModel):
    """Whether it is meant."""

    dry_run: bool = False
    """Only tell what would be deleted."""


class EventsQuery(StrictModel):
    """Where the events begin."""

    after: int = Field(default=0, ge=0)
    """Only events with a higher number; the header `Last-Event-ID` says the same and wins."""


class CheckBody(CheckConfig):
    """Photos of one subject, and how to check them."""

    photos: tuple[SentFile, ...] = Field(default=(), max_length=2000)
    """The photos, and captions beside them; with `edits` those that are added, which may be none."""
    photos_url: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    """Link to a zip of photos, such as a presigned one, that is fetched at once: https, without a login or a redirect,
    at most ten times STUDIO_MAX_UPLOAD_BYTES. The link is kept nowhere."""
    edits: _Handle | None = None
    """Id of a check whose photos and settings stay; what is given here changes them."""


class TrainOrder(StrictModel):
    """What a training takes beside its settings."""

    check: _Handle
    """Id of a check, finished or not; `whatif` needs a completed one."""
    preset: Annotated[str, Field(max_length=200)] = ""
    """Name of a preset; empty takes the one that `/v1/bases` names for the base on this machine."""
    publish: PublishConfig | None = None
    """How to publish the run on the Hugging Face Hub when it is done."""
    adapter_url: Annotated[str, Field(min_length=1, max_length=4000)] | None = None
    """Link that takes the adapter with one PUT when the run is completed, as a zip, such as a presigned one: https, and
    no redirect. What came of it is told in the job's events."""
    token: str | None = None
    """Token of the Hub for that; its write access is checked before training starts."""


class TrainBody(TrainOrder, TrainConfig):
    """A check to train on, and what to change of the preset's settings."""


class GenerateBody(GenerateConfig):
    """A run, or a published adapter, and what to make with it."""

    run: _Handle | None = None
    """Id or code of a run, finished or not; leave it out with `adapter`."""
    token: str | None = None
    """Token of the Hub, for a private adapter; used for this job only."""


class ExportBody(ExportConfig):
    """A run, and the format to write it in."""

    run: _Handle
    """Id or code of a run, finished or not."""


class PublishBody(PublishConfig):
    """A run, and how to publish it."""

    run: _Handle
    """Id or code of a run; one that is still training is published when it is done."""
    pictures_job: _Handle | None = None
    """Id of a generate job, or of a finish job made from one, for the gallery."""
    token: str | None = None
    """Token of the Hub with write access, used for this job only; without it the login's or the machine's own."""


class FinishBody(FinishConfig):
    """Pictures, and a chain by its name or its steps."""

    pictures: tuple[SentFile, ...] = Field(default=(), max_length=2000)
    """Picture files, or zips of them; leave it out with `job`."""
    job: _Handle | None = None
    """Id of a generate job, finished or not, whose pictures are used instead."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """With `chain` and without `steps`: its settings by step and name, for example {"fit.max_bytes": 5000000}."""


class RetryBody(StrictModel):
    """What a job that goes on may need."""

    token: str | None = None
    """Token of the Hub, for a job that was submitted with one."""


def dotted(data: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Return settings of settings by their dotted names: ``{"method": {"rank": 8}}`` as ``{"method.rank": 8}``."""
    flat: dict[str, Any] = {}
    for name, value in data.items():
        inside = isinstance(value, Mapping)
        flat |= dotted(value, f"{before}{name}.") if inside else {f"{before}{name}": value}
    return flat


EXAMPLES: dict[str, Any] = {
    "check": {
        "subject": "Ada",
        "class_noun": "woman",
        "consent": True,
        "photos": [
            {"name": "IMG_1.jpg", "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"},
            {"name": "IMG_1.txt", "data": "cGhvdG8gb2Yge2luc3RhbmNlX3Rva2VufSB7Y2xhc3Nfbm91bn0="},
        ],
    },
    "train": {"check": "check-0123456789abcdef", "steps": 300, "method": {"rank": 8}, "seed": 1},
    "generate": {"run": "12345678", "prompts": ["photo of {subject} in the snow"], "count": 4, "keep": 2},
    "finish": {"job": "generate-0123456789abcdef", "chain": "avatar", "settings": {"fit.max_bytes": 60000}},
    "export": {"run": "train-0123456789abcdef", "format": "kohya"},
    "publish": {"run": "train-0123456789abcdef", "repo": "you/ada", "dry_run": True},
}
"""Name of the verb -> body of a request, as the description of the interface shows it."""
