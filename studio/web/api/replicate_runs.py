"""Replicate's interface below ``/replicate/v1``: a run is a training there, pictures are a prediction.

Source: replicate-python 1.0.7 (training.py, prediction.py, run.py) and the HTTP reference of Replicate.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import Field

from studio.core.adapters import FULL_NAME, WEIGHTS_NAME
from studio.core.config import CheckConfig
from studio.core.domain import TERMINAL_STATES, JobKind, JobView
from studio.core.errors import InputError, NotFoundError, Problem
from studio.core.strict import StrictModel
from studio.web.api import bodies
from studio.web.api.operations import Answer, Call, Desk, Operation, add_operations
from studio.web.api.pictures import SentFile, taken
from studio.web.api.prompts import MOST_CHARACTERS, with_subject
from studio.web.api.waiting import watched
from studio.web.codes import code_of
from studio.web.session import DONE

Data = dict[str, Any]

TRAINER, ADAPTER = "train", "adapter"
"""Names of the two models of the owner ``studio``; versions are presets or ``default``, and codes or ids of runs."""
MOST_WAIT_S = 60
_PAGE = 100
_WAIT = re.compile(r"(?:^|[,;\s])wait(?:=(\d{1,4}))?(?:$|[,;\s])", re.ASCII)
_ENDS = {"completed": "succeeded", "stalled": "failed", "cancelled": "canceled"}


Hears = Literal["start", "output", "logs", "completed"]


class Hooked(StrictModel):
    """What tells of a training or a prediction."""

    webhook: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    """Address that gets the whole object at each event; https, and no address of a private network."""
    webhook_events_filter: tuple[Hears, ...] | None = None
    """Events that are sent: start; logs, at most once a second; output and completed, both at the end. None: all."""


class TrainingBody(Hooked):
    """Body of a training."""

    input: dict[str, Any]
    """`check`, or `input_images` with settings of the check; and settings of the training."""
    destination: str | None = None
    """Taken, without effect: the adapter stays here."""


class PredictionBody(Hooked):
    """Body of a prediction."""

    version: Annotated[str, Field(min_length=1, max_length=200)]
    """Code or id of a run, also as studio/adapter:CODE."""
    input: dict[str, Any]
    """See PredictionInput."""
    stream: Literal[False] | None = None
    """Pictures come when they are done."""


class InputBody(Hooked):
    """Body of a prediction whose model stands in the address."""

    input: dict[str, Any]
    """See PredictionInput."""
    stream: Literal[False] | None = None
    """Pictures come when they are done."""


class PredictionInput(StrictModel):
    """What a prediction draws."""

    prompt: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    """What to show; where it does not name the subject, "photo of {subject}" is put before it."""
    negative_prompt: str = Field(default="", max_length=1000)
    """What the pictures should not show."""
    num_outputs: int = Field(default=1, ge=1, le=16)
    """Number of pictures."""
    seed: int | None = Field(default=None, ge=0, lt=2**32)
    """Seed of the first picture; none takes 0."""
    width: int | None = Field(default=None, ge=32, le=2048, multiple_of=8)
    """Pixels; none takes the base's own."""
    height: int | None = Field(default=None, ge=32, le=2048, multiple_of=8)
    """Pixels; none takes the base's own."""
    num_inference_steps: int | None = Field(default=None, ge=1, le=200)
    """Denoising steps; none takes the base's own."""
    guidance_scale: float | None = Field(default=None, ge=0.0, le=30.0)
    """How closely the prompt is followed; none takes the base's own."""
    lora_scale: float = Field(default=1.0, ge=0.0, le=2.0)
    """Strength of the adapter."""


_SETTINGS = {"num_outputs": "count", "width": "width_px", "height": "height_px", "lora_scale": "adapter_scale"}
"""Name there -> name here, where they differ."""


def add_replicate(app: FastAPI, desk: Desk) -> None:
    """Add the routes."""
    add_operations(app, OPERATIONS, desk, below="/replicate")


# Trainings


def create_training(call: Call) -> Answer:
    """Check the photos if some are given, and train on them or on a check that was made before."""
    _require_model(call, TRAINER)
    _require_webhook(call)
    given: Data = dict(call.body.input)
    version = call.path["version"]
    base, preset = given.pop("base", ""), "" if version == "default" else version
    if not isinstance(base, str):
        raise _wrong("base", "is not text", "give the name of a base")
    images, check = given.pop("input_images", None), given.pop("check", None)
    if (images is None) == (check is None):
        raise _wrong("check", "is missing, or there are photos, too", "give either check or input_images")
    own = {name: given.pop(name) for name in CheckConfig.model_fields if images is not None and name in given}
    changes, problems = bodies.dotted(given), list[Problem]()
    for ask in (lambda: call.session.train_config(base, preset, changes), lambda: CheckConfig.parse(own)):
        try:
            ask()
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError.of(problems)
    if images is not None:
        check = _checked(call, images, own)
    if not isinstance(check, str):
        raise _wrong("check", "is not text", "give the id of a check")
    run = call.session.submit_train(check, base=base, preset=preset, changes=changes, key=call.key)
    method = call.session.train_config(base, preset, changes)[0].method.name
    _follow(call, run, "training_told", weights=FULL_NAME if method == "full" else WEIGHTS_NAME)
    return Answer(_training(call, run), 201)


def _checked(call: Call, images: Any, form: Data) -> str:
    rows = images if isinstance(images, list) else [images]
    files = [SentFile.parse({"name": f"photo-{number:03d}", "data": data}) for number, data in enumerate(rows, 1)]
    key = None if call.key is None else f"{call.key}-check"
    max_bytes = call.desk.settings.max_upload_bytes
    with taken(call.desk.uploads, call.session.owner, files, "input_images", max_bytes) as paths:
        return call.session.submit_check(paths, form, key=key).id


def _training(call: Call, job: JobView) -> Data:
    folder = (job.result or {}).get("adapter", "adapter")
    names = (f"{folder}/{name}" for name in (WEIGHTS_NAME, FULL_NAME))
    done = job.state == "completed"
    weights = next((name for name in names if call.session.has_file(job.id, name)), None) if done else None
    return _training_at(str(call.request.base_url), job, weights)


def _training_at(base_url: str, job: JobView, weights: str | None) -> Data:
    output = None
    if job.state == "completed":
        link = None if weights is None else f"{base_url}files/{job.id}/{weights}"
        output = {"version": f"studio/{ADAPTER}:{code_of(job.id)}", "weights": link}
    told = _told(base_url, job, "trainings", job.facts.preset or "default", f"studio/{TRAINER}")
    return {**told, "input": {"check": job.source, "base": job.facts.base}, "output": output}


def training_told(job: JobView, context: Mapping[str, Any]) -> Data:
    """Return a training as its webhook is told of it; ``context`` is what ``create_training`` kept for that."""
    folder = (job.result or {}).get("adapter", "adapter")
    return _training_at(context["base_url"], job, f"{folder}/{context['weights']}")


# Predictions


async def create_prediction(call: Call) -> Answer:
    """Make pictures with the version of the body, or of the address."""
    version = call.path.get("name") or call.body.version.rpartition(":")[2]
    if "name" in call.path:
        _require_owner(call)
    await run_in_threadpool(_require_webhook, call)
    job = await run_in_threadpool(_submitted, call, version)
    await run_in_threadpool(_follow, call, job, "prediction_told")
    wait_s = _wait_of(call.request)
    if wait_s is None:
        return Answer(_prediction(call, job), 201)
    job = await watched(call.session, job.id, wait_s)
    told = _prediction(call, job)
    if job.state not in TERMINAL_STATES:
        told["status"] = "starting"  # its client takes everything else for the end of a prediction that it waited for
    return Answer(told, 201)


def _submitted(call: Call, version: str) -> JobView:
    run = call.session.job(version, "train")
    if run.state not in DONE:
        raise NotFoundError(f"the version {version} is {run.state}; it is there once its training is completed.")
    asked = PredictionInput.parse(call.body.input).model_dump(exclude_unset=True, exclude_none=True)
    form = {_SETTINGS.get(name, name): value for name, value in asked.items()}
    form["prompts"] = [with_subject(call.session, run, form.pop("prompt"))]
    return call.session.submit_generate(run.id, form, key=call.key)


def _wait_of(request: Request) -> float | None:
    """Return how long the header ``Prefer`` wants to wait, in seconds; None for not at all. Source: RFC 7240."""
    match = _WAIT.search(request.headers.get("prefer", ""))
    return None if match is None else float(min(int(match[1] or MOST_WAIT_S), MOST_WAIT_S))


def _prediction(call: Call, job: JobView) -> Data:
    return prediction_told(job, {"base_url": str(call.request.base_url)})


def prediction_told(job: JobView, context: Mapping[str, Any]) -> Data:
    """Return a prediction, also as its webhook is told of it."""
    images, base_url = (job.result or {}).get("images"), context["base_url"]
    output = None if images is None else [f"{base_url}files/{job.id}/{row['file']}" for row in images]
    version = job.facts.adapter if job.source is None else code_of(job.source)
    told = _told(base_url, job, "predictions", version or "", f"studio/{ADAPTER}")
    return {**told, "input": {"prompt": job.facts.prompt, "pack": job.facts.pack}, "output": output}


# Both


_END = ("job.completed", "job.stalled", "job.cancelled")
_HEARD: Mapping[str, tuple[str, ...]] = {
    "start": ("job.started",),
    "logs": ("job.progress",),
    "output": _END,
    "completed": _END,
}
"""Event there -> events here."""


def _require_webhook(call: Call) -> None:
    """Refuse an address that may not be reached; raises InputError."""
    if call.body.webhook is not None:
        call.session.studio.webhooks.require(call.body.webhook, "webhook")


def _follow(call: Call, job: JobView, form: str, **context: Any) -> None:
    """Have the webhook of a request hear of its job, in the same way as those below ``/v1``."""
    body: Hooked = call.body
    if body.webhook is None:
        return
    chosen = _HEARD if body.webhook_events_filter is None else body.webhook_events_filter
    call.session.studio.webhooks.follow(
        job.id,
        owner=call.session.owner,
        url=body.webhook,
        events={event for name in chosen for event in _HEARD[name]},
        form=f"studio.web.api.replicate_runs:{form}",
        context={"base_url": str(call.request.base_url), **context},
    )


def webhook_secret(call: Call) -> Data:
    """Return the secret that signs what the webhooks of requests are sent."""
    return {"key": call.session.studio.webhooks.secret_of_requests(owner=call.session.owner)}


def _told(base_url: str, job: JobView, kind: str, version: str, model: str) -> Data:
    """Return what trainings and predictions have in common."""
    seconds = None if job.started_s is None or job.finished_s is None else job.finished_s - job.started_s
    working = "starting" if job.state.startswith("pending") else "processing"
    place = f"{base_url}replicate/v1/{kind}/{job.id}"
    return {
        "id": job.id,
        "model": model,
        "version": version,
        "status": _ENDS.get(job.state, working),
        "error": job.cause if job.state == "stalled" else None,
        "logs": str(job.progress.get("message") or ""),
        "metrics": {} if seconds is None or not math.isfinite(seconds) else {"predict_time": seconds},
        "created_at": _time(job.created_s),
        "started_at": _time(job.started_s),
        "completed_at": _time(job.finished_s),
        "urls": {"get": place, "cancel": f"{place}/cancel"},
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _list(kind: JobKind, name: str, told: Callable[[Call, JobView], Data]) -> Callable[[Call], Data]:
    def listed(call: Call) -> Data:
        session, cursor = call.session, call.query.cursor
        rows = session.studio.list(owner=session.owner, limit=_PAGE + 1, kind=kind, before=cursor)
        more = f"{call.request.base_url}replicate/v1/{name}?cursor={rows[_PAGE - 1].id}" if len(rows) > _PAGE else None
        return {"results": [told(call, row) for row in rows[:_PAGE]], "next": more, "previous": None}

    return listed


def _get(kind: JobKind, told: Callable[[Call, JobView], Data]) -> Callable[[Call], Data]:
    return lambda call: told(call, call.session.job(call.path["id"], kind))


def _cancel(kind: JobKind, told: Callable[[Call, JobView], Data]) -> Callable[[Call], Data]:
    def cancelled(call: Call) -> Data:
        job = call.session.job(call.path["id"], kind)
        return told(call, call.session.studio.cancel(job.id, owner=call.session.owner))

    return cancelled


def version(call: Call) -> Data:
    """Describe a version: what a prediction of it takes and gives."""
    _require_model(call, ADAPTER)
    run = call.session.job(call.path["version"], "train")
    output = {"type": "array", "items": {"type": "string", "format": "uri"}, "title": "Output"}
    schemas = {"Input": PredictionInput.model_json_schema(), "Output": output}
    told = {"id": code_of(run.id), "created_at": _time(run.created_s), "cog_version": ""}
    return {**told, "openapi_schema": {"openapi": "3.1.0", "components": {"schemas": schemas}}}


def _require_owner(call: Call) -> None:
    if call.path["owner"] != "studio":
        raise NotFoundError("there is no such model; all models here are of the owner studio.")


def _require_model(call: Call, name: str) -> None:
    _require_owner(call)
    if call.path["name"] != name:
        raise NotFoundError(f"there is no such model; use studio/{name}.")


def _wrong(where: str, message: str, cure: str) -> InputError:
    return InputError.of([Problem(where, message, cure, "invalid_setting")])


class Cursor(StrictModel):
    """A part of a list."""

    cursor: str | None = Field(default=None, max_length=200)
    """Where it goes on."""


_MODEL = "/replicate/v1/models/{owner}/{name}"
_T, _P = "/replicate/v1/trainings", "/replicate/v1/predictions"
OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST", f"{_MODEL}/versions/{{version}}/trainings", "Train.", create_training, dict, 201, body=TrainingBody
    ),
    Operation("GET", _T, "List trainings.", _list("train", "trainings", _training), dict, query=Cursor),
    Operation("GET", f"{_T}/{{id}}", "Look at a training.", _get("train", _training), dict),
    Operation("POST", f"{_T}/{{id}}/cancel", "Cancel a training.", _cancel("train", _training), dict),
    Operation("POST", _P, "Make pictures.", create_prediction, dict, 201, body=PredictionBody),
    Operation("POST", f"{_MODEL}/predictions", "Make pictures.", create_prediction, dict, 201, body=InputBody),
    Operation("GET", _P, "List predictions.", _list("generate", "predictions", _prediction), dict, query=Cursor),
    Operation("GET", f"{_P}/{{id}}", "Look at a prediction.", _get("generate", _prediction), dict),
    Operation("POST", f"{_P}/{{id}}/cancel", "Cancel a prediction.", _cancel("generate", _prediction), dict),
    Operation("GET", "/replicate/v1/webhooks/default/secret", "Show the secret of webhooks.", webhook_secret, dict),
    Operation("GET", f"{_MODEL}/versions/{{version}}", "Describe a version.", version, dict),
)
"""Every operation below ``/replicate``."""
