"""The named endpoints for ``gradio_client``: typed, stable, JSON in and out.

``ENDPOINTS`` is the whole interface; ``studio.web.page.api_docs`` writes docs/API.md from it. Visibility is not access
control in Gradio: anybody can call any event. So every handler goes through the session, which carries the owner.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import gradio as gr
from gradio.components.api_component import Api
from gradio.context import get_blocks_context

from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import JobKind, JobView
from studio.core.errors import InputError, LoginError, Problem, StudioError
from studio.core.finish_config import BackgroundStep, CutoutStep, FinishConfig, UpscaleStep
from studio.core.train_config import TrainConfig
from studio.web.login import FOR_PROGRAMS
from studio.web.page import files, words, words_api
from studio.web.page.endpoint_spec import Endpoint, Parameter, setting
from studio.web.page.endpoints_admin import ADMIN_ENDPOINTS
from studio.web.session import StudioSession, is_open, result_files

_KINDS: tuple[JobKind, ...] = get_args(JobKind)
_UNSAID = {"subject": "Subject", "class_noun": "", "consent": False}
"""What a photo check is given for what nobody said."""
_MAX_EVENTS = 100
"""Maximum number of events in one answer."""

Form = dict[str, Any]
Given = Mapping[str, Any]


def add_endpoints(session: StudioSession) -> None:
    """Add the endpoints to the current ``gr.Blocks``."""
    page = get_blocks_context()
    assert page is not None
    for endpoint in ENDPOINTS:
        added = gr.api(_function(endpoint, session), api_name=endpoint.name, concurrency_limit=None)
        event = page.fns[added["id"]]
        for row, value in zip(endpoint.parameters, event.inputs, strict=True):
            _describe(value, row.name, additional_description=row.sentence)
        _describe(event.outputs[0], "answer", description=endpoint.returns_sentence)


def _describe(value: Any, name: str, **sentence: str) -> None:
    """Say what a value of an endpoint means: Gradio takes the endpoint's sentence from its docstring, but no others."""
    assert isinstance(value, Api)
    value.label, value._api_info = name, {**value._api_info, **sentence}


def _function(endpoint: Endpoint, session: StudioSession) -> Callable[..., Any]:
    """Return the endpoint as a function that Gradio can describe; a StudioError reaches the client in its own words."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return endpoint.call(session, *args, **kwargs)
        except StudioError as caught:
            text = f"{caught} {FOR_PROGRAMS}" if isinstance(caught, LoginError) else str(caught)
            # Without print_exception=False Gradio logs a traceback for every mistake of a client.
            raise gr.Error(text, print_exception=False) from None

    call.__name__ = endpoint.name
    call.__doc__ = endpoint.docstring
    # Gradio reads the parameters from the signature and their types from the annotations.
    call.__signature__ = endpoint.signature  # type: ignore[attr-defined]
    call.__annotations__ = {row.name: row.type for row in endpoint.parameters} | {"return": endpoint.answer_type}
    return call


def _check_photos(session: StudioSession, form: Form, given: Given) -> Form:
    with _uploaded(given["photos"]) as photos:
        if given["edits"]:  # what is left out stays as it was
            form = {name: value for name, value in form.items() if value != _UNSAID.get(name)}
        return asdict(session.submit_check(photos, form, key=given["key"], edits=given["edits"] or None))


def _train(session: StudioSession, form: Form, given: Given) -> Form:
    publish_settings = given["publish_settings"] or {}
    publish = None
    if given["publish_to"]:
        publish = {**publish_settings, "repo": given["publish_to"], "public": given["public"]}
    elif given["public"] or given["token"] or publish_settings:
        raise InputError.of([Problem("publish_to", words.PUBLISH_TO_EMPTY, words.PUBLISH_TO_EMPTY_CURE, "no_repo")])
    run = session.submit_train(
        given["check_job"],
        base=given["base"],
        preset=given["preset"],
        changes=form,
        key=given["key"],
        publish=publish,
        token=given["token"],
    )
    return {**asdict(run), "publish_job": _id(session.publishing_of(run))}


def _plan(session: StudioSession, form: Form, given: Given) -> Form:
    plan = session.plan_train(given["check_job"], base=given["base"], preset=given["preset"], changes=form)
    return {**asdict(plan), "fits": plan.fits, "words": plan.words()}


def _generate(session: StudioSession, form: Form, given: Given) -> Form:
    return asdict(session.submit_generate(given["train_job"], form, key=given["key"], token=given["token"] or None))


def _export(session: StudioSession, form: Form, given: Given) -> Form:
    return asdict(session.submit_export(given["train_job"], form, key=given["key"]))


def _publish(session: StudioSession, form: Form, given: Given) -> Form:
    job = session.submit_publish(
        given["train_job"], form, pictures_job=given["pictures_job"], token=given["token"], key=given["key"]
    )
    return asdict(job)


def _unpublish(session: StudioSession, form: Form, given: Given) -> Form:
    session.unpublish(given["repo"], token=given["token"] or None)
    return {"deleted": given["repo"]}


def _finish(session: StudioSession, form: Form, given: Given) -> Form:
    with _uploaded(given["pictures"]) as pictures:
        job = session.submit_finish(
            given["chain"], form, pictures=pictures, generate_job=given["generate_job"] or None, key=given["key"]
        )
    return asdict(job)


def _remove_background(session: StudioSession, form: Form, given: Given) -> Form:
    cutout = {"do": "cutout", "model": form.pop("model")}
    return _with_steps(session, {"steps": [cutout, {"do": "background", **form}]}, given)


def _upscale(session: StudioSession, form: Form, given: Given) -> Form:
    return _with_steps(session, {"steps": [{"do": "upscale", **form}]}, given)


def _with_steps(session: StudioSession, form: Form, given: Given) -> Form:
    config = FinishConfig.parse(form)
    with _uploaded(given["pictures"]) as pictures:
        job = session.finish(
            config, pictures=pictures, generate_job=given.get("generate_job") or None, key=given["key"]
        )
    return asdict(job)


def _job(session: StudioSession, form: Form, given: Given) -> Form:
    job = session.studio.get(given["job_id"], owner=session.owner)
    events = session.studio.events(job.id, owner=session.owner, after=given["after"])[-_MAX_EVENTS:]
    answer = asdict(job)
    answer["events"] = [{"seq": seq, "kind": event.kind, "data": _path_as_file(event.data)} for seq, event in events]
    if job.kind == "train":
        answer["publish_job"] = _id(session.publishing_of(job))
    answer["files"] = {}
    if given["files"] and not is_open(job) and job.result:
        for relative in result_files(job):
            if (path := session.out_file(job.id, relative)) is not None:
                answer["files"][relative] = _file_data(path)
    return answer


def _jobs(session: StudioSession, form: Form, given: Given) -> list[Form]:
    return [asdict(row) for row in session.studio.list(owner=session.owner, limit=given["limit"])]


def _find_jobs(session: StudioSession, form: Form, given: Given) -> list[Form]:
    wanted = next((kind for kind in _KINDS if kind == given["kind"]), None)
    if given["kind"] and wanted is None:
        message = words.UNKNOWN_KIND.format(kind=given["kind"])
        cure = words.UNKNOWN_KIND_CURE.format(kinds=", ".join(_KINDS))
        raise InputError.of([Problem("kind", message, cure, "unknown_kind")])
    jobs = session.studio.list(owner=session.owner, limit=given["limit"], kind=wanted, before=given["before"] or None)
    return [asdict(row) for row in jobs]


def _retry(session: StudioSession, form: Form, given: Given) -> Form:
    return asdict(session.retry(given["job_id"], token=given["token"] or None))


def _cancel(session: StudioSession, form: Form, given: Given) -> Form:
    return asdict(session.studio.cancel(given["job_id"], owner=session.owner))


def _forget(session: StudioSession, form: Form, given: Given) -> Form:
    receipt = session.forget(
        job=given["job_id"], subject=given["subject"], everything=given["everything"], dry_run=given["dry_run"]
    )
    return {**asdict(receipt), "words": receipt.words()}


def _heart(session: StudioSession, form: Form, given: Given) -> Form:
    return asdict(session.heart(given["job_id"], given["files"], on=given["on"]))


def _rename(session: StudioSession, form: Form, given: Given) -> Form:
    return {"renamed": list(session.rename(given["name"], subject=given["subject"], check_job=given["check_job"]))}


def _presets(session: StudioSession, form: Form, given: Given) -> list[Form]:
    return [row.model_dump(mode="json") for row in session.presets()]


def _packs(session: StudioSession, form: Form, given: Given) -> list[Form]:
    return [row.model_dump(mode="json") for row in session.packs()]


def _chains(session: StudioSession, form: Form, given: Given) -> list[Form]:
    return [row.model_dump(mode="json") for row in session.chains()]


def _bases(session: StudioSession, form: Form, given: Given) -> list[Form]:
    return session.studio.bases()


@contextmanager
def _uploaded(given: list[Any]) -> Iterator[list[Path]]:
    """Give the paths of uploads; Gradio's copies are deleted once the studio has taken them over."""
    paths = files.uploads(_path(upload) for upload in given)
    yield paths
    files.delete(paths)


def _path(upload: Any) -> str:
    path = upload.get("path") if isinstance(upload, Mapping) else getattr(upload, "path", None)
    if not path:
        raise InputError.of([Problem("photos", words.NOT_A_FILE, words.NOT_A_FILE_CURE, "not_a_file")])
    return path


def _file_data(path: Path) -> dict[str, Any]:
    return {"path": files.served_copy(path), "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def _id(job: JobView | None) -> str | None:
    return None if job is None else job.id


def _path_as_file(data: Mapping[str, Any]) -> dict[str, Any]:
    """Rename ``path`` to ``file``: gradio_client takes any dict with a ``path`` for a download."""
    return {"file" if name == "path" else name: value for name, value in data.items()}


def _settings(example: str, of: str) -> Parameter:
    return Parameter("settings", dict | None, words_api.API_SETTINGS.format(of=of, example=example), None)


_KEY = Parameter("key", str | None, words_api.API_KEY, None)
_CHECK_JOB = Parameter("check_job", str, words_api.API_CHECK_JOB)
_TRAIN_JOB = Parameter("train_job", str, words_api.API_TRAIN_JOB)
_BASE = Parameter("base", str, words_api.API_BASE, "")
_PRESET = Parameter("preset", str, words_api.API_PRESET, "")
_PICTURES = Parameter("pictures", list[gr.FileData], words_api.API_PICTURES)
_PICTURES_OR_JOB = Parameter("pictures", list[gr.FileData], words_api.API_PICTURES_OR_JOB)
_GENERATE_JOB = Parameter("generate_job", str, words_api.API_GENERATE_JOB, "")
_JOB_ID = Parameter("job_id", str, words_api.API_JOB_ID)
_TRAIN_SETTINGS = _settings('{"method.rank": 8, "steps": 200}', "train")

ENDPOINTS = (
    Endpoint(
        "check_photos",
        words_api.API_CHECK_PHOTOS,
        _check_photos,
        (
            Parameter("photos", list[gr.FileData], words_api.API_PHOTOS),
            setting(CheckConfig, "subject", default=_UNSAID["subject"]),
            setting(CheckConfig, "class_noun"),
            _settings('{"min_photos": 3}', "check"),
            _KEY,
            Parameter("edits", str, words_api.API_EDITS, ""),
            setting(CheckConfig, "consent"),
        ),
    ),
    Endpoint(
        "train",
        words_api.API_TRAIN,
        _train,
        (
            _CHECK_JOB,
            _BASE,
            _PRESET,
            _TRAIN_SETTINGS,
            Parameter(
                "instance_token",
                str,
                words_api.API_INSTANCE_TOKEN.format(sentence=TrainConfig.model_fields["instance_token"].description),
                "",
                "instance_token",
                empty_is_none=True,
            ),
            _KEY,
            Parameter("publish_to", str, words_api.API_PUBLISH_TO, ""),
            Parameter("public", bool, PublishConfig.model_fields["public"].description or "", False),
            Parameter("token", str, words_api.API_TRAIN_TOKEN, ""),
            Parameter("publish_settings", dict | None, words_api.API_PUBLISH_SETTINGS, None),
        ),
        words_api.API_TRAIN_RETURNS,
    ),
    Endpoint(
        "plan", words_api.API_PLAN, _plan, (_CHECK_JOB, _BASE, _PRESET, _TRAIN_SETTINGS), words_api.API_PLAN_RETURNS
    ),
    Endpoint(
        "generate",
        words_api.API_GENERATE,
        _generate,
        (
            Parameter("train_job", str, words_api.API_TRAIN_JOB_OR_ADAPTER),
            *(setting(GenerateConfig, field) for field in ("pack", "prompts", "count", "keep", "seed")),
            _settings('{"guidance_scale": 5, "adapter_scale": 0.8}', "generate"),
            _KEY,
            setting(GenerateConfig, "adapter"),
            Parameter("token", str, words_api.API_GENERATE_TOKEN, ""),
        ),
    ),
    Endpoint(
        "export",
        words_api.API_EXPORT,
        _export,
        (
            _TRAIN_JOB,
            setting(ExportConfig, "format"),
            _settings('{"dtype": "float16", "checkpoint": 400}', "export"),
            _KEY,
        ),
    ),
    Endpoint(
        "publish",
        words_api.API_PUBLISH,
        _publish,
        (
            Parameter("train_job", str, words_api.API_TRAIN_JOB_TO_PUBLISH),
            setting(PublishConfig, "repo"),
            Parameter("token", str, words_api.API_PUBLISH_TOKEN, ""),
            setting(PublishConfig, "public"),
            Parameter("pictures_job", str, words_api.API_PICTURES_JOB, ""),
            replace(setting(PublishConfig, "choose"), sentence=words_api.API_CHOOSE),
            *(setting(PublishConfig, field) for field in ("update", "dry_run")),
            _settings('{"form": "merged", "title": "Ada", "gallery": 6}', "publish"),
            _KEY,
        ),
    ),
    Endpoint(
        "unpublish",
        words_api.API_UNPUBLISH,
        _unpublish,
        (setting(PublishConfig, "repo"), Parameter("token", str, words_api.API_UNPUBLISH_TOKEN)),
        "`deleted`: the repository",
    ),
    Endpoint(
        "finish",
        words_api.API_FINISH,
        _finish,
        (
            _PICTURES_OR_JOB,
            Parameter("chain", str, words_api.API_CHAIN, "headshot_white"),
            _GENERATE_JOB,
            _settings('{"fit.max_bytes": 5000000, "cutout.model": "u2net"}', "finish"),
            _KEY,
        ),
    ),
    Endpoint(
        "remove_background",
        words_api.API_REMOVE_BACKGROUND,
        _remove_background,
        (
            _PICTURES,
            setting(CutoutStep, "model"),
            # A picture as background would be one more upload; that is what /finish is for.
            setting(BackgroundStep, "fill", name="background", default="transparent", without={"picture"}),
            setting(BackgroundStep, "colour", default="#ffffff"),
            _KEY,
        ),
    ),
    Endpoint(
        "upscale",
        words_api.API_UPSCALE,
        _upscale,
        (_PICTURES, *(setting(UpscaleStep, field) for field in ("model", "factor", "long_side_px", "prompt")), _KEY),
    ),
    Endpoint(
        "contact_sheet",
        words_api.API_CONTACT_SHEET,
        _with_steps,
        (
            _PICTURES_OR_JOB,
            setting(FinishConfig, "sheet_title", name="title"),
            setting(FinishConfig, "sheet_columns", name="columns"),
            _GENERATE_JOB,
            _KEY,
        ),
    ),
    Endpoint(
        "job",
        words_api.API_JOB,
        _job,
        (
            _JOB_ID,
            Parameter("after", int, words_api.API_AFTER, 0),
            Parameter("files", bool, words_api.API_FILES, True),
        ),
        words_api.API_JOB_RETURNS,
    ),
    Endpoint(
        "jobs",
        words_api.API_JOBS,
        _jobs,
        (Parameter("limit", int, words_api.API_LIMIT, 50),),
        words_api.API_JOBS_RETURNS,
        list[dict],
    ),
    # Not more parameters of /jobs: over plain HTTP a call gives all of them, and older programs give one.
    Endpoint(
        "find_jobs",
        words_api.API_FIND_JOBS,
        _find_jobs,
        (
            Parameter("kind", str, words_api.API_KIND.format(kinds=", ".join(_KINDS)), ""),
            Parameter("before", str, words_api.API_BEFORE, ""),
            Parameter("limit", int, words_api.API_FIND_LIMIT, 50),
        ),
        words_api.API_FIND_JOBS_RETURNS,
        list[dict],
    ),
    Endpoint("retry", words_api.API_RETRY, _retry, (_JOB_ID, Parameter("token", str, words_api.API_RETRY_TOKEN, ""))),
    Endpoint("cancel", words_api.API_CANCEL, _cancel, (_JOB_ID,), "the job"),
    Endpoint(
        "forget",
        words_api.API_FORGET,
        _forget,
        (
            Parameter("job_id", str, words_api.API_FORGET_JOB, ""),
            Parameter("subject", str, words_api.API_FORGET_SUBJECT, ""),
            Parameter("everything", bool, words_api.API_FORGET_EVERYTHING, False),
            Parameter("dry_run", bool, words_api.API_FORGET_DRY_RUN, False),
        ),
        words_api.API_FORGET_RETURNS,
    ),
    Endpoint(
        "heart",
        words_api.API_HEART,
        _heart,
        (
            _JOB_ID,
            Parameter("files", list[str], words_api.API_HEART_FILES),
            Parameter("on", bool, words_api.API_HEART_ON, True),
        ),
        words_api.API_HEART_RETURNS,
    ),
    Endpoint(
        "rename",
        words_api.API_RENAME,
        _rename,
        (
            Parameter("name", str, words_api.API_RENAME_NAME),
            Parameter("subject", str, words_api.API_RENAME_SUBJECT, ""),
            Parameter("check_job", str, words_api.API_RENAME_SET, ""),
        ),
        words_api.API_RENAME_RETURNS,
    ),
    Endpoint("presets", words_api.API_PRESETS, _presets, (), words_api.API_PRESETS_RETURNS, list[dict]),
    Endpoint("packs", words_api.API_PACKS, _packs, (), words_api.API_PACKS_RETURNS, list[dict]),
    Endpoint("chains", words_api.API_CHAINS, _chains, (), words_api.API_CHAINS_RETURNS, list[dict]),
    Endpoint("bases", words_api.API_BASES, _bases, (), words_api.API_BASES_RETURNS, list[dict]),
    *ADMIN_ENDPOINTS,
)
"""Every endpoint. Names, parameter names and their order are a promise to the programs that call them."""
