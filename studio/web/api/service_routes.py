"""``/service/train`` and ``/service/inference``, as clients of an earlier DreamBooth service know them.

A training is two jobs of its sender: a check of the pictures and a full DreamBooth run on them. OUTPUT_DIR is the name
of the model among the owner's: the subject of both jobs, so that it is listed, renamed and forgotten like every other.
An answer waits until the work is done, for a training however long that takes; the same request sent again is the same
job.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile
from typing import Annotated, Any, Literal

from fastapi.concurrency import run_in_threadpool
from pydantic import AfterValidator, BeforeValidator, Field

from studio.core import machine
from studio.core.catalog import BASES
from studio.core.config import CheckConfig
from studio.core.domain import JobView
from studio.core.errors import InputError, NotFoundError, Problem, StudioError
from studio.core.strict import StrictModel
from studio.core.train_config import TrainConfig
from studio.web.api.errors import Problems, Refusal
from studio.web.api.operations import Call, Operation
from studio.web.api.pictures import as_base64, picture_from_base64, staged
from studio.web.api.prompts import MOST_CHARACTERS, with_subject
from studio.web.api.waiting import completed
from studio.web.codes import is_code
from studio.web.session import DONE, StudioSession

Data = dict[str, Any]

TRAIN_WAIT_S = 24 * 3600.0
INFERENCE_WAIT_S = 3600.0
USUAL_PX = 768
"""Side of pictures where neither the request nor the machine says otherwise."""
_FOLDER = re.compile(r"[\w][\w. -]*(?:/[\w][\w. -]*)*", re.ASCII)
_BETWEEN = " · "
"""Stands in a subject's name for the slash of a folder, which no name holds."""
_JOB = re.compile(r"train-[0-9a-f]{16}", re.ASCII)
_OF = re.compile(r"\bof\s+(.+)$", re.IGNORECASE)
_ARTICLES = frozenset({"a", "an", "the", "my"})
_AFTER_NOUNS = frozenset({"and", "at", "by", "for", "from", "in", "is", "near", "of", "on", "under", "wearing", "with"})


def _as_number(value: Any) -> Any:
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    return value


def _folder(value: str) -> str:
    text = value.strip().removeprefix("./").rstrip("/")
    if not _FOLDER.fullmatch(text) or ".." in text.split("/") or len(text.replace("/", _BETWEEN)) > 40:
        raise ValueError(
            "is no name in your storage; use up to 40 letters, digits, - _ and ., with / between names only"
        )
    return text


Whole = Annotated[int, BeforeValidator(_as_number)]
Number = Annotated[float, BeforeValidator(_as_number)]
Side = Annotated[Whole, Field(ge=32, le=2048, multiple_of=8)]


class TrainRequest(StrictModel):
    """Body of ``POST /service/train``; its names are those that its clients send."""

    INSTANCE_PROMPT: Annotated[str, Field(min_length=1, max_length=300)]
    """Names the subject, such as "a photo of sks dog": a rare word, and what it is."""
    OUTPUT_DIR: Annotated[str, Field(max_length=100), AfterValidator(_folder)]
    """Name of the model in your storage."""
    IMAGE_LIST: tuple[str, ...] = Field(min_length=1, max_length=1000)
    """The pictures in base64."""
    MODEL_NAME: Annotated[str, Field(max_length=300)] = ""
    """Base model; empty takes the one that suits this machine."""
    MAX_TRAINING_STEPS: Annotated[Whole, Field(ge=1, le=100_000)] = 400
    """Optimizer steps."""
    RESOLUTION: Side = USUAL_PX
    """Side of the pictures, pixels; left out with MODEL_NAME, no more than the base was made for."""
    TRAIN_BATCH_SIZE: Annotated[Whole, Field(ge=1, le=64)] = 1
    """Pictures per forward pass."""
    LR: Annotated[Number, Field(gt=0.0, le=1.0)] = 2e-6
    """Learning rate."""
    LR_SCHEDULER: Literal["constant", "constant_with_warmup", "cosine", "linear"] = "constant"
    """Learning-rate schedule."""
    LR_WARMUP_STEPS: Annotated[Whole, Field(ge=0, le=10_000)] = 0
    """Steps over which the learning rate rises."""
    GRADIENT_ACCUMULATION_STEPS: Annotated[Whole, Field(ge=1, le=64)] = 1
    """Forward passes per optimizer step."""
    MAIN_PROCESS_POR: int | str | None = None
    """Taken, without effect."""
    CONSENT: bool = False
    """For pictures of a person: that person, or whoever decides for a child, has agreed; kept with the pictures."""


class InferenceRequest(StrictModel):
    """Body of ``POST /service/inference``."""

    prompt: Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS)]
    """What to show; where it does not name the subject, "photo of {subject}" is put before it."""
    model_id: Annotated[str, Field(min_length=1, max_length=200)]
    """OUTPUT_DIR of a training, the name of an adapter's subject, the id of a run or its code."""
    size: Side = USUAL_PX
    """Side of the pictures, pixels; left out, no more than the base was made for."""
    num_image: Annotated[Whole, Field(ge=1, le=64)] = 10
    """Number of pictures."""


_PLACES: Mapping[str, str] = {
    "subject": "OUTPUT_DIR",
    "base": "MODEL_NAME",
    "steps": "MAX_TRAINING_STEPS",
    "resolution_px": "RESOLUTION",
    "micro_batch_size": "TRAIN_BATCH_SIZE",
    "batch_size": "GRADIENT_ACCUMULATION_STEPS",
    "learning_rate": "LR",
    "instance_token": "INSTANCE_PROMPT",
    "class_noun": "INSTANCE_PROMPT",
    "settings": "INSTANCE_PROMPT",
}
"""Setting of a check or a run -> the field of the request that it comes from."""


async def train(call: Call) -> Data:
    """Train a model and answer when it is there."""
    body: TrainRequest = call.body
    run = await run_in_threadpool(_submitted, call, body)
    done = await completed(call.session, run.id, TRAIN_WAIT_S, is_gone=call.request.is_disconnected)
    base = done.facts.base
    return {"message": f"The model is trained on {base} and kept as {body.OUTPUT_DIR}.", "model_id": body.OUTPUT_DIR}


def _submitted(call: Call, body: TrainRequest) -> JobView:
    token, noun = subject_words(body.INSTANCE_PROMPT)
    name = body.OUTPUT_DIR.replace("/", _BETWEEN)
    base = body.MODEL_NAME or machine.default_base(machine.look(call.desk.settings.device))
    side = body.RESOLUTION
    if "RESOLUTION" not in body.model_fields_set and not body.MODEL_NAME and base in BASES:
        side = min(side, BASES[base].resolution_px)
    check_form = {
        "subject": name,
        "class_noun": noun,
        "min_photos": 1,
        "keep_rejected": True,
        "max_photos": call.desk.settings.max_photos,
    }
    if body.CONSENT:  # left out otherwise: the same request stays the same job
        check_form["consent"] = True
    train_form = {
        "base": base,
        "class_noun": noun,
        "instance_token": token,
        "method": {"name": "full"},
        "steps": body.MAX_TRAINING_STEPS,
        "resolution_px": side,
        "batch_size": body.TRAIN_BATCH_SIZE * body.GRADIENT_ACCUMULATION_STEPS,
        "micro_batch_size": body.TRAIN_BATCH_SIZE,
        "learning_rate": body.LR,
        "lr_scheduler": body.LR_SCHEDULER,
        "lr_warmup_steps": body.LR_WARMUP_STEPS,
    }
    problems: list[Problem] = []
    check, config = _parsed(CheckConfig, check_form, problems), _parsed(TrainConfig, train_form, problems)
    pictures = []
    for number, text in enumerate(body.IMAGE_LIST):
        try:
            where = f"IMAGE_LIST.{number}"
            pictures.append(picture_from_base64(text, where, call.desk.settings.max_upload_bytes))
        except InputError as error:
            problems += error.problems
    if problems or check is None or config is None:
        raise InputError.of(problems)
    set_key = _digest([check_form, body.INSTANCE_PROMPT, *(hashlib.sha256(data).hexdigest() for data in pictures)])
    key = call.key or f"service-{_digest([set_key, train_form])}"
    check_key = f"{call.key}-check" if call.key else f"service-{set_key}"
    caption = re.sub(rf"(?<!\w){re.escape(token)}(?!\w)", "{instance_token}", body.INSTANCE_PROMPT).encode()
    files = [(f"{number:04d}{ending}", data) for number, picture in enumerate(pictures, 1)
             for ending, data in ((".png", picture), (".txt", caption))]  # fmt: skip
    session, owner = call.session, call.session.owner
    with staged(call.desk.uploads, owner, files) as paths:
        checked = session.studio.submit_check(check, paths, owner=owner, key=check_key)
    if checked.state in ("stalled", "cancelled"):  # one that ended badly before is asked for anew
        checked = session.retry(checked.id)
    run = session.studio.submit_train(config, checked.id, owner=owner, key=key, token=session.token)
    return session.retry(run.id) if run.state in ("stalled", "cancelled") else run


def _digest(request: Any) -> str:
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def _parsed(model: Any, form: Data, problems: list[Problem]) -> Any:
    try:
        return model.parse(form)
    except InputError as error:
        problems += [replace(row, where=_PLACES.get(row.where, row.where)) for row in error.problems]
        return None


def subject_words(prompt: str) -> tuple[str, str]:
    """Return the rare word and the noun of an instance prompt: ``sks`` and ``dog`` of "a photo of sks dog".

    The noun is empty where the prompt has none; it is guessed from the pictures then.
    """
    match = _OF.search(prompt.strip().rstrip("."))
    words = re.findall(r"[\w-]+", match[1] if match else prompt)
    words = [word for word in words if word.lower() not in _ARTICLES] or words or ["sks"]
    noun = list(takewhile(lambda word: word.lower() not in _AFTER_NOUNS, words[1:]))
    return words[0][:40], " ".join(noun[:2])[:40].strip()


async def inference(call: Call) -> Data:
    """Make pictures and answer with them."""
    job = await run_in_threadpool(_drawn, call)
    done = await completed(call.session, job.id, INFERENCE_WAIT_S, is_gone=call.request.is_disconnected)
    images = await run_in_threadpool(_images, call, done)
    return {"message": f"{len(images)} pictures are made.", "images": images}


def _drawn(call: Call) -> JobView:
    body: InferenceRequest = call.body
    session = call.session
    run = model_of(session, body.model_id)
    side = body.size
    base = run.facts.base
    if "size" not in body.model_fields_set and base in BASES:
        side = min(side, BASES[base].resolution_px)
    form = {"prompts": [with_subject(session, run, body.prompt)], "count": body.num_image, "width_px": side,
            "height_px": side}  # fmt: skip
    job = session.submit_generate(run.id, form, key=call.key or f"service-{_digest([run.id, form])}")
    return session.retry(job.id) if job.state in ("stalled", "cancelled") else job


def model_of(session: StudioSession, name: str) -> JobView:
    """Return the completed run that a client means.

    Args:
        session: of the owner, whose runs alone are looked at.
        name: OUTPUT_DIR, a subject's name, an id or a code; of several runs of one name the newest.

    Raises:
        NotFoundError: there is none, or it is not completed.
    """
    if is_code(name) or _JOB.fullmatch(name):
        found = session.job(name, "train")
        if found.state not in DONE:
            raise NotFoundError(f"the model {name} is {found.state}; it is there once its training is completed.")
        return found
    subject = name.strip().removeprefix("./").rstrip("/").replace("/", _BETWEEN)
    runs = (run for run in session.every("train") if run.facts.subject == subject or run.id == name)
    states = []
    for run in runs:
        if run.state in DONE:
            return run
        states.append(run.state)
    if states:
        raise NotFoundError(f"the model {name} is {states[0]}; it is there once its training is completed.")
    raise NotFoundError(f"there is no model {name!r}; train it with /service/train, or give the code of a run.")


def _images(call: Call, done: JobView) -> list[str]:
    found = []
    for row in (done.result or {})["images"]:
        path = call.session.out_file(done.id, row["file"])
        if path is None:
            raise StudioError(f"a picture of job {done.id} is gone.")
        found.append(as_base64(path))
    return found


def service_words(status: int, words: str, problems: Problems) -> Refusal:
    """Return a refusal as clients of ``/service`` read it."""
    return Refusal(status, {"message": words, "error": words, "problems": list(problems)})


ROUTES: tuple[Operation, ...] = (
    Operation("POST", "/service/train", "Train a model on pictures.", train, dict, body=TrainRequest),
    Operation("POST", "/service/inference", "Make pictures with a model.", inference, dict, body=InferenceRequest),
)
"""The routes by themselves."""
