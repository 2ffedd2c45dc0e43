"""OpenAI's interface for pictures below ``/openai/v1``: every adapter of the owner is a model, by its code or its id.

Source: the OpenAPI description of OpenAI (openai/openai-openapi), ``createImage`` and ``listModels``.
"""

import hashlib
import re
import secrets
import time
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, Field

from studio.core.domain import JobView
from studio.core.errors import InputError, NotFoundError, Problem, StudioError
from studio.core.finish_config import FinishConfig
from studio.core.strict import StrictModel
from studio.web.api.errors import Problems, Refusal
from studio.web.api.operations import Call, Desk, Operation, add_operations
from studio.web.api.pictures import as_base64
from studio.web.api.prompts import MOST_CHARACTERS, with_subject
from studio.web.api.waiting import completed
from studio.web.codes import code_of
from studio.web.session import DONE, StudioSession

Data = dict[str, Any]

_SIZE = re.compile(r"([1-9]\d{1,3})x([1-9]\d{1,3})", re.ASCII)
_SEEDS = 2**32
_MOST_PX = 2048


def _size(value: str | None) -> str | None:
    match = _SIZE.fullmatch(value or "auto")
    if value in (None, "auto"):
        return None
    if match is None or any(not 32 <= int(side) <= _MOST_PX or int(side) % 8 for side in match.groups()):
        raise ValueError(f"is no size; use auto or WIDTHxHEIGHT, multiples of 8 from 32 to {_MOST_PX}")
    return value


class ImageBody(StrictModel):
    """Body of ``POST /openai/v1/images/generations``."""

    model: str = Field(min_length=1, max_length=200)
    """Code or id of a run."""
    prompt: str = Field(min_length=1, max_length=MOST_CHARACTERS)
    """What to show; where it does not name the subject, "photo of {subject}" is put before it."""
    n: Annotated[int, Field(ge=1, le=10)] | None = 1
    """Number of pictures."""
    size: Annotated[str | None, AfterValidator(_size)] = None
    """auto or WIDTHxHEIGHT, pixels; auto takes the base's own."""
    response_format: Literal["b64_json", "url"] | None = "b64_json"
    """A link needs the token, or the login, like everything here."""
    output_format: Literal["png", "jpeg", "webp"] | None = "png"
    """Format of the files."""
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    """Quality of JPEG and WebP, percent."""
    background: Literal["auto", "opaque"] | None = None
    """Pictures are opaque."""
    stream: Literal[False] | None = None
    """Pictures come when they are done."""
    partial_images: Literal[0] | None = None
    """Likewise."""
    quality: str | None = None
    """Taken, without effect."""
    style: str | None = None
    """Taken, without effect."""
    moderation: str | None = None
    """Taken, without effect."""
    user: str | None = None
    """Taken, without effect."""


def add_openai(app: FastAPI, desk: Desk) -> None:
    """Add the routes."""
    add_operations(app, OPERATIONS, desk, below="/openai")


def openai_error(status: int, words: str, problems: Problems) -> Refusal:
    """Return a refusal as OpenAI's clients read it; they repeat no request for it: the same would be refused again."""
    first = problems[0] if problems else {}
    param = first.get("where") if status == 422 else "model" if status == 404 else None
    code = {401: "invalid_api_key", 404: "model_not_found"}.get(status) or first.get("code")
    kind = "server_error" if status >= 500 else "invalid_request_error"
    told = {"message": words, "type": kind, "param": param, "code": code}
    return Refusal(400 if status == 422 else status, {"error": told}, headers={"x-should-retry": "false"})


async def generate(call: Call) -> Data:
    """Make pictures and answer with them."""
    body: ImageBody = call.body
    run = await run_in_threadpool(_run, call.session, body.model)
    job = await run_in_threadpool(_submitted, call, body, run)
    done = await completed(call.session, job.id)
    result = done.result or {}
    rows = result["images"]
    if body.output_format not in (None, "png"):
        finish = await run_in_threadpool(_converted, call, body, job)
        done = await completed(call.session, finish.id)
        by_source = {row["source"]: row for row in (done.result or {})["pictures"]}
        rows = [{"file": row["file"], "prompt": rows[0]["prompt"]} for row in by_source.values()]
    data = await run_in_threadpool(_data, call, body, done, rows)
    return {"created": int(time.time()), "data": data, "output_format": body.output_format or "png"}


async def edit(call: Call) -> Data:
    """Refuse to change a picture, after its bytes have come: a client that is cut off while it sends reads nothing."""
    async for _ in call.request.stream():
        pass
    message = "is not taken: this studio makes pictures from words with what it has learned, and changes none by words"
    cure = "use images/generations; POST /v1/finish cuts out, enlarges and fits a picture"
    raise InputError.of([Problem("image", message, cure, "unsupported")])


def _run(session: StudioSession, handle: str) -> JobView:
    run = session.job(handle, "train")
    if run.state not in DONE:
        raise NotFoundError(f"the model {handle} is {run.state}; it is there once its training is completed.")
    return run


def _submitted(call: Call, body: ImageBody, run: JobView) -> JobView:
    prompt = with_subject(call.session, run, body.prompt)
    # Two equal requests are two sets of pictures there, unless they carry one key.
    seed = secrets.randbelow(_SEEDS)
    if call.key is not None:
        seed = int.from_bytes(hashlib.sha256(call.key.encode()).digest()[:4])
    form: Data = {"prompts": [prompt], "count": body.n or 1, "seed": seed}
    if body.size:
        width, height = body.size.split("x")
        form |= {"width_px": int(width), "height_px": int(height)}
    return call.session.submit_generate(run.id, form, key=call.key)


def _converted(call: Call, body: ImageBody, job: JobView) -> JobView:
    fit: Data = {"do": "fit", "format": body.output_format}
    if body.output_compression is not None:
        quality = max(1, body.output_compression)
        fit |= {"quality": quality, "min_quality": min(quality, 30)}
    return call.session.finish(FinishConfig.parse({"steps": [fit]}), generate_job=job.id, key=f"openai-{job.id}")


def _data(call: Call, body: ImageBody, done: JobView, rows: list[Data]) -> list[Data]:
    found = []
    for row in rows:
        if body.response_format == "url":
            shown = {"url": _link(call.request, done.id, row["file"])}
        else:
            path = call.session.out_file(done.id, row["file"])
            if path is None:
                raise StudioError(f"a picture of job {done.id} is gone.")
            shown = {"b64_json": as_base64(path)}
        found.append({**shown, "revised_prompt": row["prompt"]})
    return found


def _link(request: Request, job_id: str, file: str) -> str:
    return f"{request.base_url}files/{job_id}/{file}"


def models(call: Call) -> Data:
    """List the adapters as models."""
    runs = (run for run in call.session.every("train") if run.state in DONE)
    return {"object": "list", "data": [_model(run) for run in runs]}


def model(call: Call) -> Data:
    """Return one adapter as a model."""
    return _model(_run(call.session, call.path["model"]))


def _model(run: JobView) -> Data:
    told = {"id": code_of(run.id), "object": "model", "created": int(run.created_s), "owned_by": "likeness-studio"}
    return {**told, "name": run.facts.subject, "job": run.id}


OPERATIONS: tuple[Operation, ...] = (
    Operation("POST", "/openai/v1/images/generations", "Make pictures.", generate, dict, body=ImageBody),
    Operation("POST", "/openai/v1/images/edits", "Refuse to change a picture.", edit, dict),
    Operation("POST", "/openai/v1/images/variations", "Refuse to vary a picture.", edit, dict),
    Operation("GET", "/openai/v1/models", "List the adapters.", models, dict),
    Operation("GET", "/openai/v1/models/{model}", "Look at an adapter.", model, dict),
)
"""Every operation below ``/openai``."""
