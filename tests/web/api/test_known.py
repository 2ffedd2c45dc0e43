"""Routes that existing clients know, asked as they ask: a JSON body, a picture in base64, one answer."""

import base64
import io
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from starlette.testclient import TestClient

from studio.core.settings import Settings
from studio.service import Studio
from studio.web.api import known, waiting
from studio.web.api.errors import ErrorShapes
from studio.web.api.interfaces import SHAPES, add_interfaces
from studio.web.routes import add_routes
from studio.web.session import StudioSession


def text_of(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def picture_of(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.mark.parametrize("prefix", ["", "/background"])
@pytest.mark.parametrize(("route", "fill"), [("/remove", "white"), ("/remove-opacity", "transparent")])
def test_a_background_is_removed(http: httpx.Client, photo: bytes, prefix: str, route: str, fill: str) -> None:
    for model in ("u2net", "u2netp", "u2net_human_seg", "u2net_cloth_seg", "silueta"):
        answer = http.post(prefix + route, json={"input_image": text_of(photo), "model": model})
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"output_image"}
        assert picture_of(answer.json()["output_image"]).size == (64, 64)
    job = http.get("/v1/jobs?kind=finish&limit=1").json()["items"][0]
    assert job["facts"]["steps"] == ["cutout", "background"] and job["owner"] == "local"


def test_the_same_request_is_the_same_job(http: httpx.Client, photo: bytes) -> None:
    def newest() -> str:
        return str(http.get("/v1/jobs?limit=1").json()["items"][0]["id"])

    body = {"input_image": f"data:image/jpeg;base64,{text_of(photo + b'another')}"}
    first, before = http.post("/remove", json=body), newest()
    assert http.post("/remove", json=body).json() == first.json() and newest() == before
    assert http.post("/remove-opacity", json=body).status_code == 200 and newest() != before


@pytest.mark.parametrize("prefix", ["", "/upscaler"])
@pytest.mark.parametrize(
    ("body", "steps"),
    [
        ({"image": "", "prompt": "", "resolution": 1024, "mblimit": "true"}, ["upscale", "fit"]),
        ({"image": "", "prompt": "a woman", "resolution": "2048", "mblimit": "false"}, ["upscale", "fit"]),
        ({"input_string": "", "model_name": "RealESRGAN_x4plus", "out_resolution": 1500}, ["upscale", "fit"]),
        (
            {"input_string": "", "model_name": "realesr-general-x4v3", "out_resolution": 1024, "face_enhance": False,
             "denoise_strength": 0.5},
            ["upscale", "fit"],
        ),
    ],
)  # fmt: skip
def test_a_picture_is_enlarged_in_both_known_ways(
    http: httpx.Client, photo: bytes, prefix: str, body: dict[str, Any], steps: list[str]
) -> None:
    asked = {name: text_of(photo) if name in ("image", "input_string") else value for name, value in body.items()}
    answer = http.post(f"{prefix}/upsampler", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "true" and answer.json()["message"]
    picture_of(answer.json()["image"])
    assert http.get("/v1/jobs?kind=finish&limit=1").json()["items"][0]["facts"]["steps"] == steps


def test_what_a_body_says_becomes_the_settings_of_the_steps() -> None:
    limited = known.PromptedBody(image="x", prompt="a cat", resolution=2048, mblimit="true").steps()
    assert limited == [
        {"do": "upscale", "long_side_px": 2048, "model": "sd-x4", "prompt": "a cat"},
        {"do": "fit", "format": "jpeg", "max_bytes": 5_000_000},
    ]
    plain = known.NetworkBody(input_string="x", model_name="RealESRGAN_x4plus_anime_6B", denoise_strength=0.3).steps()
    assert plain == [{"do": "upscale", "model": "x4plus-anime", "long_side_px": 1024}, {"do": "fit"}]
    faces = known.NetworkBody(
        input_string="x", model_name="realesr-general-x4v3", denoise_strength=0, face_enhance=True
    )
    assert faces.steps()[0]["denoise"] == 0 and faces.steps()[1] == {"do": "face", "model": "GFPGANv1.4.pth"}


@pytest.mark.parametrize(
    ("path", "body", "where"),
    [
        ("/remove", {}, {"input_image"}),
        ("/remove", {"input_image": "x", "model": "isnet", "alpha": 1}, {"model", "alpha"}),
        ("/remove", {"input_image": "%"}, {"input_image"}),
        ("/background/remove-opacity", {"input_image": base64.b64encode(b"<html>").decode()}, {"input_image"}),
    ],
)
def test_a_wrong_request_is_refused_by_name(
    http: httpx.Client, path: str, body: dict[str, Any], where: set[str]
) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == 422 and {row["where"] for row in answer.json()["problems"]} == where


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, {"image"}),
        ({"image": "x", "input_string": "x"}, {"image"}),
        ({"image": "x", "resolution": 4096, "mblimit": "yes", "tone": 1}, {"resolution", "mblimit", "tone"}),
        ({"input_string": "x", "model_name": "RealESRGAN_x4", "out_resolution": 512}, {"model_name", "out_resolution"}),
        ({"input_string": "x", "face_enhance": True}, {"face_enhance"}),
    ],
)
def test_the_upsampler_says_false_and_why(http: httpx.Client, body: dict[str, Any], where: set[str]) -> None:
    answer = http.post("/upscaler/upsampler", json=body)
    told = answer.json()
    assert answer.status_code == 422 and (told["status"], told["image"]) == ("false", "") and told["message"]
    assert {row["where"] for row in told["problems"]} == where
    large = http.post("/upsampler", content=b" " * (4 * 2**20 + 1))
    assert large.status_code == 413 and large.json()["status"] == "false"


def test_a_service_greets_with_its_message_and_its_host(http: httpx.Client) -> None:
    for prefix, word in (("/background", "backgrounds"), ("/upscaler", "enlarges")):
        for path in (prefix, f"{prefix}/"):
            answer = http.get(path)
            assert answer.status_code == 200 and word in answer.json()["message"], path
            assert answer.json()["hostname"] == socket.gethostname()
        assert http.get(f"{prefix}/nothing").status_code == 404
    assert http.get("/background/remove").status_code == 405


@pytest.fixture
def real(tmp_path: Path) -> Any:
    """A client of the routes before a real studio, and that studio."""
    from fastapi import FastAPI

    settings = Settings(home=tmp_path / "real")
    studio = Studio(settings)
    app, session = FastAPI(), StudioSession(studio, settings)
    add_routes(app, lambda request: session, settings)
    add_interfaces(app, lambda request: session, settings)
    app.add_middleware(ErrorShapes, shapes=SHAPES)
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client, studio
    studio.close()


def test_an_answer_that_takes_too_long_names_its_job_and_comes_when_asked_again(
    real: Any, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, studio = real
    monkeypatch.setattr(waiting.completed, "__defaults__", (0.1,))
    body = {"input_image": text_of(photo)}
    answer = client.post("/remove", json=body)
    (job,) = studio.list(owner="local")
    assert answer.status_code == 504 and job.id in answer.json()["error"] and job.state == "pending"
    assert client.post("/remove", json=body).status_code == 504 and len(studio.list(owner="local")) == 1
    studio.cancel(job.id, owner="local")
    assert client.post("/remove", json=body).status_code == 504, "a cancelled one begins anew"
    assert studio.get(job.id, owner="local").state == "pending"
    told = client.post("/upsampler", json={"image": text_of(photo)})
    assert told.status_code == 504 and told.json()["status"] == "false" and "takes longer" in told.json()["message"]


@pytest.mark.slow
def test_a_real_picture_is_enlarged_and_weights_that_are_not_here_are_told(real: Any, tmp_path: Path) -> None:
    from studio.pocket.samples import sample_photos

    client, studio = real
    studio.start()
    (path,) = sample_photos(tmp_path / "photos", count=1, size_px=256)
    photo = text_of(path.read_bytes())
    body = {"input_string": photo, "model_name": "realesr-animevideov3", "out_resolution": 1024}
    made = client.post("/upsampler", json=body).json()
    assert made["status"] == "true", made["message"]
    assert max(picture_of(made["image"]).size) == 1024
    answer = client.post("/remove", json={"input_image": photo, "model": "silueta"})
    assert answer.status_code == 500 and "weights of matting model silueta" in answer.json()["error"]
    broken = client.post("/remove", json={"input_image": text_of(path.read_bytes()[:200])})
    assert broken.status_code in (422, 500) and broken.json()["error"]
