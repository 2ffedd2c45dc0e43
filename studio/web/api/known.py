"""Routes that clients of earlier services know: backgrounds removed, pictures enlarged, asked and answered in base64.

Those of an earlier DreamBooth service are in ``service_routes``. Each request is a finish job of its sender, in the
queue like any other, and the answer waits for it. The key of the job is the digest of the request: whoever sends the
same again, say after a time-out, gets the same job and its picture.
"""

import hashlib
import json
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BeforeValidator, Field, field_validator

from studio.core.domain import JobView
from studio.core.errors import InputError, Problem, StudioError
from studio.core.finish_config import FinishConfig
from studio.core.names import choice_cure
from studio.core.strict import StrictModel
from studio.web.api import service_routes
from studio.web.api.errors import Problems, Refusal
from studio.web.api.operations import Call, Desk, Operation, add_operations
from studio.web.api.pictures import as_base64, picture_from_base64, staged
from studio.web.api.waiting import completed

Data = dict[str, Any]

MOST_BYTES = 5_000_000
"""What ``mblimit`` allows."""

NETWORKS: Mapping[str, str] = {
    "RealESRGAN_x4plus": "x4plus",
    "RealESRGAN_x4plus_anime_6B": "x4plus-anime",
    "realesr-animevideov3": "animevideov3",
    "realesr-general-x4v3": "general-x4v3",
}
"""Name of a network in Real-ESRGAN -> its name here; ours are taken, too."""
_WITH_DENOISE = "general-x4v3"
FACE_NETWORK = "GFPGANv1.4.pth"
"""The file in the folder ``weights`` of the home that ``face_enhance`` takes."""

U2Net = Literal["u2net", "u2netp", "u2net_human_seg", "u2net_cloth_seg", "silueta"]


def _as_text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


def _as_number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class RemoveBody(StrictModel):
    """Body of ``POST /remove`` and ``POST /remove-opacity``."""

    input_image: str
    """The picture in base64."""
    model: U2Net = "u2netp"
    """Matting model."""


class PromptedBody(StrictModel):
    """Body of ``POST /upsampler`` with a picture and a prompt."""

    image: str
    """The picture in base64."""
    prompt: str = Field(default="", max_length=1000)
    """What it shows: with it sd-x4 enlarges, without it x4plus."""
    resolution: Annotated[Literal[1024, 2048], BeforeValidator(_as_number)] = 1024
    """Longer side of the result, pixels."""
    mblimit: Annotated[Literal["true", "false"], BeforeValidator(_as_text)] = "false"
    """"true" makes a JPEG of at most 5 MB, "false" a PNG."""

    def steps(self) -> list[Data]:
        """Return the steps of the finish."""
        upscale: Data = {"do": "upscale", "long_side_px": self.resolution, "model": "x4plus"}
        if self.prompt.strip():
            upscale |= {"model": "sd-x4", "prompt": self.prompt}
        limited = {"do": "fit", "format": "jpeg", "max_bytes": MOST_BYTES}
        return [upscale, limited if self.mblimit == "true" else {"do": "fit"}]


class NetworkBody(StrictModel):
    """Body of ``POST /upsampler`` with a network."""

    input_string: str
    """The picture in base64."""
    model_name: str = "RealESRGAN_x4plus"
    """Network."""
    out_resolution: Annotated[int, BeforeValidator(_as_number), Field(ge=1024, le=8192)] = 1024
    """Longer side of the result, pixels."""
    face_enhance: bool = False
    """Also restore faces."""
    denoise_strength: float | None = Field(default=None, ge=0.0, le=1.0)
    """1 removes all noise, 0 keeps it; only realesr-general-x4v3 reads it, as in Real-ESRGAN."""

    @field_validator("model_name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in {*NETWORKS, *NETWORKS.values()}:
            raise ValueError(f"is no network that is here; {choice_cure(name, NETWORKS)}")
        return name

    def steps(self) -> list[Data]:
        """Return the steps of the finish."""
        model = NETWORKS.get(self.model_name, self.model_name)
        upscale: Data = {"do": "upscale", "model": model, "long_side_px": self.out_resolution}
        if model == _WITH_DENOISE and self.denoise_strength is not None:
            upscale["denoise"] = self.denoise_strength
        return [upscale, *([{"do": "face", "model": FACE_NETWORK}] if self.face_enhance else []), {"do": "fit"}]


def add_known(app: FastAPI, desk: Desk) -> None:
    """Add the routes: by themselves, and below the prefix of their service with its greeting."""
    add_operations(app, ROUTES, desk)
    for prefix, (greeting, routes) in SERVICES.items():

        def greet(call: Call, message: str = greeting) -> Data:
            return {"message": message, "hostname": socket.gethostname()}

        rows = [Operation("GET", path, greeting, greet, dict) for path in (prefix, f"{prefix}/")]
        rows += [replace(row, path=prefix + row.path) for row in ROUTES if row.path in routes]
        add_operations(app, rows, desk, below=prefix)


async def _remove(call: Call, fill: str) -> Data:
    body: RemoveBody = call.body
    steps = [{"do": "cutout", "model": body.model}, {"do": "background", "fill": fill}]
    return {"output_image": await _finished(call, body.input_image, "input_image", steps)}


async def remove_on_white(call: Call) -> Data:
    """Answer with the subject on white."""
    return await _remove(call, "white")


async def remove_transparent(call: Call) -> Data:
    """Answer with the subject on nothing."""
    return await _remove(call, "transparent")


async def upsample(call: Call) -> Data:
    """Answer with an enlarged picture, asked in either of the two known ways."""
    if ("image" in call.body) == ("input_string" in call.body):
        cure = "send either image (with prompt, resolution, mblimit) or input_string (with model_name, out_resolution)"
        raise InputError.of([Problem("image", "is missing, or there are two pictures", cure, "no_picture")])
    if "image" in call.body:
        prompted = PromptedBody.parse(call.body)
        image = await _finished(call, prompted.image, "image", prompted.steps())
    else:
        network = NetworkBody.parse(call.body)
        _require_face_network(call, network)
        image = await _finished(call, network.input_string, "input_string", network.steps())
    return {"status": "true", "message": "The picture is enlarged.", "image": image}


def _require_face_network(call: Call, body: NetworkBody) -> None:
    path = call.desk.settings.home.expanduser() / "weights" / FACE_NETWORK
    if body.face_enhance and not path.is_file():
        message = f"needs the network {FACE_NETWORK}, which is not here"
        cure = "put it into the folder weights of the studio's home, or leave face_enhance out"
        raise InputError.of([Problem("face_enhance", message, cure, "no_network")])


async def _finished(call: Call, text: str, where: str, steps: list[Data]) -> str:
    """Return a picture that went through steps, in base64."""
    config = FinishConfig.parse({"steps": steps})
    job = await run_in_threadpool(_submitted, call, text, where, config)
    done = await completed(call.session, job.id)
    (picture,) = (done.result or {})["pictures"]
    path = call.session.out_file(done.id, picture["file"])
    if path is None:
        raise StudioError(f"the picture of job {done.id} is gone.")
    return await run_in_threadpool(as_base64, path)


def _submitted(call: Call, text: str, where: str, config: FinishConfig) -> JobView:
    data = picture_from_base64(text, where, call.desk.settings.max_upload_bytes)
    order = json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()
    key = call.key or f"known-{hashlib.sha256(hashlib.sha256(order).digest() + data).hexdigest()}"
    with staged(call.desk.uploads, call.session.owner, [("picture", data)]) as paths:
        job = call.session.finish(config, pictures=paths, key=key)
    # One that stalled or was cancelled before is asked for anew.
    return call.session.retry(job.id) if job.state in ("stalled", "cancelled") else job


def upsampler_words(status: int, words: str, problems: Problems) -> Refusal:
    """Return a refusal as clients of ``/upsampler`` read it."""
    return Refusal(status, {"status": "false", "message": words, "image": "", "problems": list(problems)})


ROUTES: tuple[Operation, ...] = (
    *service_routes.ROUTES,
    Operation("POST", "/remove", "Put the subject on white.", remove_on_white, dict, body=RemoveBody),
    Operation("POST", "/remove-opacity", "Cut the subject out.", remove_transparent, dict, body=RemoveBody),
    Operation("POST", "/upsampler", "Enlarge a picture.", upsample, dict, body=PromptedBody, parse_body=False),
)
"""The routes by themselves."""

SERVICES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "/background": ("Likeness Studio removes backgrounds.", ("/remove", "/remove-opacity")),
    "/upscaler": ("Likeness Studio enlarges pictures.", ("/upsampler",)),
    "/dreambooth": ("Likeness Studio trains models and draws.", ("/service/train", "/service/inference")),
    "/service": ("Likeness Studio trains models and draws.", ()),
}
"""Prefix of a service -> its greeting and its routes."""
