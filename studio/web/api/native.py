"""The studio's own interface below ``/v1``: jobs, what they made, and what there is to choose from.

``OPERATIONS`` is all of it; routes and description are made from these rows. Every handler asks for the owner through
the session, as the other routes do: what belongs to somebody else is not there.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from studio import __version__
from studio.core.domain import JobView
from studio.core.errors import InputError, NotFoundError, Problem, StudioError, UnavailableError
from studio.core.finish_config import FinishConfig
from studio.core.fit import FitPlan
from studio.jobs.webhooks.sender import UPLOAD
from studio.web.api import bodies, events, keeping, naming, views, webhooks
from studio.web.api.links import zipped_photos
from studio.web.api.operations import Answer, Call, Desk, Nothing, Operation, add_operations
from studio.web.api.pictures import taken
from studio.web.api.plans import PicturesPlan, plan_pictures
from studio.web.api.schema import openapi
from studio.web.api.usage import Usage, usage
from studio.web.metrics import MEDIA_TYPE, Metrics
from studio.web.observe import METRICS_PATH
from studio.web.routes import manifest
from studio.web.session import DONE

Data = dict[str, Any]

JOB: Data = {"$ref": "#/components/schemas/Job"}
IMAGE: Data = {"$ref": "#/components/schemas/Image"}


def add_native(app: FastAPI, desk: Desk) -> None:
    """Add the routes below ``/v1``."""
    described = openapi(OPERATIONS, version=__version__)

    @app.get("/v1/openapi.json")
    def description() -> JSONResponse:
        return JSONResponse(described)

    add_operations(app, OPERATIONS, desk, below="/v1")


# Submitting


def _accepted(call: Call, view: JobView) -> Answer:
    return Answer(views.whole_job(call.session, view), 202, {"Location": f"{_root(call)}/v1/jobs/{view.id}"})


def _root(call: Call) -> str:
    """Return what stands before all addresses here."""
    return call.desk.settings.root_path


async def _check(call: Call) -> Answer:
    link = call.body.photos_url
    if link is None:
        return await run_in_threadpool(_checked, call, ())
    # Not in a thread: there are few, and a slow server would keep one from everybody else.
    desk, owner, studio = call.desk, call.session.owner, call.session.studio
    told: tuple[str, ...] = ()
    if call.key is not None:
        told = await run_in_threadpool(_told, call.body)
        again = await run_in_threadpool(studio.replay_of, call.key, told, owner=owner)
        if again is not None:  # the link may have expired meanwhile
            return await run_in_threadpool(_accepted, call, again)
    fetched = zipped_photos(link, "photos_url", owner=owner, uploads=desk.uploads, settings=desk.settings)
    async with fetched as paths:
        answer = await run_in_threadpool(_checked, call, paths)
    if call.key is not None:
        await run_in_threadpool(studio.note_link, answer.data["id"], told, owner=owner)
    return answer


def _told(body: bodies.CheckBody) -> tuple[str, str]:
    """Return the digests of a request's link and of all else that it says."""
    said = body.model_dump(mode="json", exclude_unset=True)
    link = said.pop("photos_url")
    found = (hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest() for part in (link, said))
    return next(found), next(found)


def _checked(call: Call, fetched: Sequence[Path]) -> Answer:
    body: bodies.CheckBody = call.body
    form = _settings(body, "photos", "photos_url", "edits")
    uploads, max_bytes = call.desk.uploads, call.desk.settings.max_upload_bytes
    with taken(uploads, call.session.owner, body.photos, "photos", max_bytes) as paths:
        return _accepted(call, call.session.submit_check([*paths, *fetched], form, key=call.key, edits=body.edits))


def _train(call: Call) -> Answer:
    order, base, changes = _train_order(call)
    chosen: Data = {"base": base, "preset": order.preset, "changes": changes}
    if call.query.whatif:
        plan = call.session.plan_train(order.check, **chosen)
        return Answer({**asdict(plan), "fits": plan.fits, "words": plan.words()})
    if order.adapter_url is not None:
        call.session.studio.webhooks.require(order.adapter_url, "adapter_url")
    publish = None if order.publish is None else order.publish.model_dump(mode="json", exclude_unset=True)
    run = call.session.submit_train(order.check, **chosen, key=call.key, publish=publish, token=order.token)
    if order.adapter_url is not None:
        call.session.studio.webhooks.follow(
            run.id, owner=call.session.owner, url=order.adapter_url, events=("job.completed",), form=UPLOAD, context={}
        )
    return _accepted(call, run)


def _train_order(call: Call) -> tuple[bodies.TrainOrder, str, Data]:
    """Return what a training takes beside its settings, its base, and its settings by their dotted names.

    The settings are checked together with the preset that they change: alone they may contradict each other.

    Raises:
        InputError: everything that is wrong with both.
    """
    data = dict(call.body)
    own = {name: data.pop(name) for name in bodies.TrainOrder.model_fields if name in data}
    base = data.pop("base", "")
    changes, problems = bodies.dotted(data), []
    if not isinstance(base, str):
        problems.append(Problem("base", "is not text", "give the name of a base", "invalid_setting"))
    order = None
    try:
        order = bodies.TrainOrder.parse(own)
    except InputError as error:
        problems += error.problems
    preset = own.get("preset", "")
    if not any(problem.where in ("base", "preset") for problem in problems):
        try:
            call.session.train_config(base, preset, changes)
        except (InputError, NotFoundError) as error:
            if not problems and not isinstance(error, InputError):
                raise
            problems += error.problems
    if problems or order is None:
        raise InputError.of(problems)
    return order, base, changes


def _generate(call: Call) -> Answer:
    body: bodies.GenerateBody = call.body
    form = _settings(body, "run", "token")
    if body.run is None and body.adapter is None:
        raise InputError.of([Problem("run", "is missing", "give the id or code of a run, or an adapter", "no_run")])
    if call.query.whatif:
        config, run = call.session.generate_order(body.run, form)
        return Answer(plan_pictures(call.session, config, run))
    return _accepted(call, call.session.submit_generate(body.run, form, key=call.key, token=body.token))


def _export(call: Call) -> Answer:
    return _accepted(call, call.session.submit_export(call.body.run, _settings(call.body, "run"), key=call.key))


def _publish(call: Call) -> Answer:
    body: bodies.PublishBody = call.body
    form = _settings(body, "run", "pictures_job", "token")
    pictures = {"pictures_job": body.pictures_job, "token": body.token}
    return _accepted(call, call.session.submit_publish(body.run, form, key=call.key, **pictures))


def _finish(call: Call) -> Answer:
    body: bodies.FinishBody = call.body
    form = _settings(body, "pictures", "job", "settings")
    if body.settings and (body.steps or body.chain is None):
        cure = "write them into the steps, or give a chain"
        raise InputError.of([Problem("settings", "are for a chain that is named", cure, "no_chain")])
    uploads, max_bytes = call.desk.uploads, call.desk.settings.max_upload_bytes
    with taken(uploads, call.session.owner, body.pictures, "pictures", max_bytes) as paths:
        given: Data = {"pictures": paths, "generate_job": body.job, "key": call.key}
        if body.chain is not None and not body.steps:
            changes = {**{name: value for name, value in form.items() if name != "chain"}, **body.settings}
            return _accepted(call, call.session.submit_finish(body.chain, changes, **given))
        return _accepted(call, call.session.finish(FinishConfig.parse(form), **given))


def _settings(body: Any, *own: str) -> Data:
    """Return what a body says of the settings of its verb."""
    data: Data = body.model_dump(mode="json", exclude_unset=True)
    return {name: value for name, value in data.items() if name not in own}


# Looking and steering


def _jobs(call: Call) -> Data:
    query: bodies.JobsQuery = call.query
    rows = call.session.studio.list(
        owner=call.session.owner,
        limit=query.limit + 1,
        kind=query.kind,
        states=() if query.state is None else (query.state,),
        source=query.source,
        before=query.cursor,
    )
    return _part([views.job(row) for row in rows[: query.limit]], rows, query.limit)


def _part(items: list[Data], rows: Sequence[JobView], limit: int) -> Data:
    return {"items": items, "next_cursor": rows[limit - 1].id if len(rows) > limit else None}


def _job(call: Call) -> Data:
    return views.whole_job(call.session, _own(call))


def _own(call: Call) -> JobView:
    return call.session.studio.get(call.path["job_id"], owner=call.session.owner)


def _cancel(call: Call) -> Data:
    return views.whole_job(call.session, call.session.studio.cancel(call.path["job_id"], owner=call.session.owner))


def _retry(call: Call) -> Answer:
    return _accepted(call, call.session.retry(call.path["job_id"], token=call.body.token))


def _files(call: Call) -> Data:
    listed = manifest(call.session, call.path["job_id"])
    rows = [{**row, "url": f"{_root(call)}/files/{listed['job']}/{row['path']}"} for row in listed["files"]]
    return {**listed, "files": rows}


def _images(call: Call) -> Data:
    return {"items": views.images(_own(call), _root(call))}


def _adapters(call: Call) -> Data:
    query: bodies.Page = call.query
    session = call.session
    rows = session.studio.list(
        owner=session.owner, limit=query.limit + 1, kind="train", states=DONE, before=query.cursor
    )
    return _part([views.adapter(session, row) for row in rows[: query.limit]], rows, query.limit)


def _adapter(call: Call) -> Data:
    run = call.session.job(call.path["adapter"], "train")
    if run.state != "completed":
        raise NotFoundError(f"the run {run.id} is {run.state}; its adapter is there once it is completed.")
    return views.adapter(call.session, run)


# What there is


def _packs(call: Call) -> Data:
    return {"items": [row.model_dump(mode="json") for row in call.session.packs()]}


def _chains(call: Call) -> Data:
    return {"items": [row.model_dump(mode="json") for row in call.session.chains()]}


def _presets(call: Call) -> Data:
    return {"items": [row.model_dump(mode="json") for row in call.session.presets()]}


def _bases(call: Call) -> Data:
    return {"items": call.session.studio.bases()}


def _health(call: Call) -> Data:
    return {"status": "ok", "version": __version__}


def _ready(call: Call) -> Answer:
    """Tell whether a job could be taken now, and would be run."""
    if problems := call.session.studio.server.problems():
        raise UnavailableError.of(problems)
    return Answer({"status": "ok"})


def _metrics(call: Call) -> Response:
    """Answer with the figures of the server; where people log in, none of them runs it."""
    if call.session.visitor is not None:
        raise NotForVisitorsError("the metrics are for who runs this server; they open to STUDIO_METRICS_TOKEN.")
    metrics = getattr(call.request.app.state, "metrics", None) or Metrics(call.session.studio.server)
    return Response(metrics.text(), headers={"Content-Type": MEDIA_TYPE, "Cache-Control": "no-store"})


class NotForVisitorsError(StudioError):
    """Only whoever runs the server may see this."""

    status = 403


_STATUS: Data = {"type": "object", "properties": {"status": {"const": "ok"}}, "required": ["status"]}
_ROWS: Data = {
    "type": "object",
    "properties": {"items": {"type": "array", "items": {"type": "object"}}},
    "required": ["items"],
}
_WORDS: Data = {"properties": {"words": {"type": "string"}}, "required": ["words"]}
_SUBMITS: Data = {"status": 202, "answer": JOB}
_ONE: Data = {"refuses": (404,)}

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST", "/v1/check", "Check photos of one subject.", _check,
        body=bodies.CheckBody, example=bodies.EXAMPLES["check"], refuses=(404, 409, 413, 507), **_SUBMITS,
    ),
    Operation(
        "POST", "/v1/train", "Train an adapter on the photos of a check.", _train,
        query=bodies.WhatIf, body=bodies.TrainBody, parse_body=False, example=bodies.EXAMPLES["train"],
        also={200: (FitPlan, _WORDS)}, refuses=(404, 409, 413, 507), **_SUBMITS,
    ),
    Operation(
        "POST", "/v1/generate", "Make pictures with a run, or with a published adapter.", _generate,
        query=bodies.WhatIf, body=bodies.GenerateBody, example=bodies.EXAMPLES["generate"],
        also={200: PicturesPlan}, refuses=(404, 409, 413, 507), **_SUBMITS,
    ),
    Operation(
        "POST", "/v1/finish", "Put pictures through a chain of steps.", _finish,
        body=bodies.FinishBody, example=bodies.EXAMPLES["finish"], refuses=(404, 409, 413, 507), **_SUBMITS,
    ),
    Operation(
        "POST", "/v1/export", "Write a run for another program.", _export,
        body=bodies.ExportBody, example=bodies.EXAMPLES["export"], refuses=(404, 409, 413, 507), **_SUBMITS,
    ),
    Operation(
        "POST", "/v1/publish", "Publish a run on the Hugging Face Hub.", _publish,
        body=bodies.PublishBody, example=bodies.EXAMPLES["publish"], refuses=(404, 409, 413, 507), **_SUBMITS,
    ),
    Operation(
        "GET", "/v1/jobs", "List jobs, newest first.", _jobs, views.a_list(JOB), query=bodies.JobsQuery, tagged=True,
        **_ONE,
    ),
    Operation("GET", "/v1/jobs/{job_id}", "Look at a job.", _job, JOB, tagged=True, **_ONE),
    Operation(
        "GET", "/v1/jobs/{job_id}/events", "Follow a job's events as a stream.", events.stream,
        {"type": "string", "x-media-type": "text/event-stream"}, query=bodies.EventsQuery, also={204: None}, **_ONE,
    ),
    Operation(
        "GET", "/v1/jobs/{job_id}/files", "List the files of a completed job with their digests.", _files,
        views.FILES, **_ONE,
    ),
    Operation(
        "GET", "/v1/jobs/{job_id}/images", "List the pictures of a job.", _images,
        {**_ROWS, "properties": {"items": {"type": "array", "items": IMAGE}}}, tagged=True, **_ONE,
    ),
    Operation("POST", "/v1/jobs/{job_id}/cancel", "Cancel a job.", _cancel, JOB, **_ONE),
    Operation(
        "POST", "/v1/jobs/{job_id}/retry", "Go on with a job that stalled or was cancelled.", _retry,
        body=bodies.RetryBody, example={}, refuses=(404, 409, 413), **_SUBMITS,
    ),
    Operation(
        "GET", "/v1/adapters", "List the adapters of completed runs, newest first.", _adapters,
        views.a_list({"$ref": "#/components/schemas/Adapter"}), query=bodies.Page, tagged=True, **_ONE,
    ),
    Operation(
        "GET", "/v1/adapters/{adapter}", "Look at an adapter, by the id of its run or by its code.", _adapter,
        {"$ref": "#/components/schemas/Adapter"}, tagged=True, refuses=(404, 409),
    ),
    Operation("GET", "/v1/packs", "List the prompt packs.", _packs, _ROWS, tagged=True),
    Operation("GET", "/v1/chains", "List the finish chains.", _chains, _ROWS, tagged=True),
    Operation("GET", "/v1/presets", "List the training presets.", _presets, _ROWS, tagged=True),
    Operation("GET", "/v1/bases", "List the base models.", _bases, _ROWS, tagged=True),
    *naming.OPERATIONS,
    *keeping.OPERATIONS,
    *webhooks.OPERATIONS,
    Operation("GET", "/v1/usage", "Tell what you have of what is limited, and the limits.", usage, Usage),
    Operation("GET", "/v1/health", "Tell that the server answers.", _health, _STATUS),
    Operation(
        "GET", "/v1/ready", "Tell whether a job could be taken now.", _ready, _STATUS, refuses=(503,), query=Nothing
    ),
    Operation(
        "GET", METRICS_PATH, "Tell Prometheus how the server does; for its operator only.", _metrics,
        {"type": "string", "x-media-type": "text/plain"}, refuses=(501,),
    ),
)  # fmt: skip
"""Every operation below ``/v1``."""
