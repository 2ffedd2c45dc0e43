"""The routes of an earlier DreamBooth service, asked as its clients ask: JSON, base64, one answer."""

import base64
import io
import json
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from PIL import Image
from pydantic import SecretStr
from starlette.testclient import TestClient

from studio.core.settings import Settings
from studio.service import Studio
from studio.web.api import service_routes
from studio.web.api.errors import ErrorShapes
from studio.web.api.interfaces import SHAPES, add_interfaces
from studio.web.api.service_routes import TrainRequest, subject_words
from studio.web.codes import code_of
from studio.web.login import Visitor
from studio.web.routes import add_routes
from studio.web.session import StudioSession

NEEDED = ("INSTANCE_PROMPT", "OUTPUT_DIR", "IMAGE_LIST")


def text_of(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


@pytest.fixture(scope="module")
def order(photo: bytes) -> dict[str, Any]:
    """The request as its clients are told to send it."""
    return {
        "INSTANCE_PROMPT": "a photo of sks dog",
        "OUTPUT_DIR": "models/rex",
        "IMAGE_LIST": [text_of(photo), f"data:image/jpeg;base64,{text_of(photo)}"],
    }


@pytest.mark.parametrize("prefix", ["", "/dreambooth"])
def test_a_model_is_trained_and_draws(http: httpx.Client, order: dict[str, Any], prefix: str) -> None:
    answer = http.post(f"{prefix}/service/train", json=order)
    told = answer.json()
    assert answer.status_code == 200 and "is trained" in told["message"] and told["model_id"] == "models/rex"
    run = http.get("/v1/jobs?kind=train&limit=1").json()["items"][0]
    assert run["facts"]["base"] == "pocket" and run["facts"]["subject"] == "models · rex"
    check = http.get(f"/v1/jobs/{run['source']}").json()
    assert check["facts"]["class_noun"] == "dog" and check["result"]["photos"]
    for model in ("models/rex", "./models/rex/", "models · rex", run["id"], run["code"]):
        body = {"prompt": "sks dog on the moon", "model_id": model, "num_image": 2}
        answer = http.post(f"{prefix}/service/inference", json=body)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"message", "images"} and "2 pictures" in answer.json()["message"]
        assert [Image.open(io.BytesIO(base64.b64decode(text))).format for text in answer.json()["images"]] == [
            "PNG"
        ] * 2


def test_the_same_request_is_the_same_job(http: httpx.Client, order: dict[str, Any]) -> None:
    def count() -> int:
        return len(http.get("/v1/jobs?limit=200").json()["items"])

    body = {**order, "OUTPUT_DIR": "same"}
    assert http.post("/service/train", json=body).status_code == 200
    before = count()
    assert http.post("/service/train", json=body).status_code == 200 and count() == before
    assert http.post("/service/train", json={**body, "MAX_TRAINING_STEPS": 401}).status_code == 200
    assert count() == before + 1, "another training on the same pictures"


def test_a_name_stands_for_the_newest_model_that_is_done(http: httpx.Client, order: dict[str, Any]) -> None:
    for steps in (10, 20):
        body = {**order, "OUTPUT_DIR": "twice", "MAX_TRAINING_STEPS": steps}
        assert http.post("/service/train", json=body).status_code == 200
    newest = http.get("/v1/jobs?kind=train&limit=1").json()["items"][0]["id"]
    assert http.post("/service/inference", json={"prompt": "sks", "model_id": "twice"}).status_code == 200
    drawn = http.get("/v1/jobs?kind=generate&limit=1").json()["items"][0]
    assert drawn["source"] == newest and len(drawn["result"]["images"]) == 10


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"LEARNING_RATE": 1, "SEED": 3}, {"LEARNING_RATE", "SEED"}),
        (dict.fromkeys(NEEDED), set(NEEDED)),
        ({"IMAGE_LIST": []}, {"IMAGE_LIST"}),
        ({"IMAGE_LIST": ["%", "aGVsbG8="]}, {"IMAGE_LIST.0", "IMAGE_LIST.1"}),
        ({"MAX_TRAINING_STEPS": 0, "RESOLUTION": 500, "LR": 0}, {"MAX_TRAINING_STEPS", "RESOLUTION", "LR"}),
        ({"LR_SCHEDULER": "polynomial"}, {"LR_SCHEDULER"}),
        ({"TRAIN_BATCH_SIZE": 32, "GRADIENT_ACCUMULATION_STEPS": 32}, {"GRADIENT_ACCUMULATION_STEPS"}),
        ({"INSTANCE_PROMPT": "a photo of dog dog"}, {"INSTANCE_PROMPT"}),
        *(({"OUTPUT_DIR": name}, {"OUTPUT_DIR"}) for name in
          ("/etc/passwd", "../other", "a/../../b", "gs://bucket/x", "a\\b", "a//b", "", ".", "x" * 41, "a\0b")),
    ],
)  # fmt: skip
def test_a_wrong_training_is_refused_by_name(
    http: httpx.Client, order: dict[str, Any], change: dict[str, Any], where: set[str]
) -> None:
    body = {name: value for name, value in {**order, **change}.items() if value is not None}
    answer = http.post("/service/train", json=body)
    assert answer.status_code == 422, answer.text
    assert {row["where"] for row in answer.json()["problems"]} == where
    assert all(name.partition(".")[0] in answer.json()["message"] for name in where)


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({}, 422, {"prompt", "model_id"}),
        ({"prompt": "a", "model_id": "x", "seed": 1, "size": 7, "num_image": 0}, 422, {"seed", "size", "num_image"}),
        ({"prompt": "a", "model_id": "nobody"}, 404, set()),
        ({"prompt": "a", "model_id": "10000000"}, 404, set()),
        ({"prompt": "a", "model_id": "../../etc"}, 404, set()),
    ],
)
def test_a_wrong_inference_is_refused(http: httpx.Client, body: Any, status: int, where: set[str]) -> None:
    answer = http.post("/service/inference", json=body)
    assert answer.status_code == status and answer.json()["message"]
    assert {row["where"] for row in answer.json()["problems"]} == where


def test_the_service_greets_with_its_message_and_its_host(http: httpx.Client) -> None:
    for path in ("/dreambooth", "/dreambooth/", "/service", "/service/"):
        told = http.get(path).json()
        assert "trains" in told["message"] and told["hostname"] == socket.gethostname()
    assert http.get("/dreambooth/service/train").status_code == 405
    assert http.post("/service/nothing", json={}).status_code == 404


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a photo of sks dog", ("sks", "dog")),
        ("A photo of zwx golden retriever.", ("zwx", "golden retriever")),
        ("photo of a sks person in the snow", ("sks", "person")),
        ("sks woman", ("sks", "woman")),
        ("zwx", ("zwx", "")),
        ("a picture of the", ("the", "")),
        ("!!", ("sks", "")),
    ],
)
def test_the_prompt_names_the_token_and_what_it_is(prompt: str, words: tuple[str, str]) -> None:
    assert subject_words(prompt) == words


class Clients:
    """Clients of two owners before one real studio that is not started."""

    def __init__(self, folder: Path, settings: Settings | None = None) -> None:
        self.settings = settings or Settings(home=folder / "home")
        self.studio = Studio(self.settings)
        self.ada, self.eve = self.client("local"), self.client("hf:eve")

    def client(self, owner: str) -> TestClient:
        session = StudioSession(self.studio, self.settings)
        if owner != "local":
            session = replace(session, visitor=lambda: Visitor(owner, "eve", None))
        app = FastAPI()
        add_routes(app, lambda request: session, self.settings)
        add_interfaces(app, lambda request: session, self.settings)
        app.add_middleware(ErrorShapes, shapes=SHAPES)
        return TestClient(app, base_url="http://127.0.0.1:7860")


@pytest.fixture
def real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    monkeypatch.setattr(service_routes, "TRAIN_WAIT_S", 0.1)
    monkeypatch.setattr(service_routes, "INFERENCE_WAIT_S", 0.1)
    clients = Clients(tmp_path)
    with clients.ada, clients.eve:
        yield clients
    clients.studio.close()


def config_of(clients: Clients, kind: str) -> dict[str, Any]:
    (job,) = (job for job in clients.studio.list(owner="local") if job.kind == kind)
    path = clients.settings.home / "jobs" / job.id / "request.json"
    config: dict[str, Any] = json.loads(path.read_text())["config"]
    return config


def test_a_body_becomes_a_full_dreambooth_with_its_defaults(real: Clients, order: dict[str, Any]) -> None:
    assert real.ada.post("/service/train", json=order).status_code == 504
    train, check = config_of(real, "train"), config_of(real, "check")
    assert (train["method"]["name"], train["steps"], train["batch_size"], train["micro_batch_size"]) == (
        "full",
        400,
        1,
        1,
    )
    assert (train["learning_rate"], train["lr_scheduler"], train["lr_warmup_steps"]) == (2e-6, "constant", 0)
    assert (train["base"], train["resolution_px"], train["instance_token"]) == ("pocket", 128, "sks")
    assert (check["subject"], check["class_noun"], check["min_photos"]) == ("models · rex", "dog", 1)
    captions = sorted((real.settings.home / "jobs").glob("check-*/photos/**/*.txt"))
    assert [path.read_text() for path in captions] == ["a photo of {instance_token} dog"] * 2
    assert TrainRequest.model_fields["RESOLUTION"].default == 768
    assert check["consent"] is False, "nobody has said so"


@pytest.mark.parametrize("said", [True, "true"])
def test_that_the_person_agreed_is_kept_with_the_pictures(real: Clients, order: dict[str, Any], said: Any) -> None:
    assert real.ada.post("/service/train", json={**order, "CONSENT": said}).status_code == 504
    assert config_of(real, "check")["consent"] is True


def test_what_a_body_says_is_what_is_trained(real: Clients, order: dict[str, Any]) -> None:
    more = {
        "MODEL_NAME": "pocket", "MAX_TRAINING_STEPS": "30", "RESOLUTION": 256, "TRAIN_BATCH_SIZE": 2, "LR": "1e-5",
        "LR_SCHEDULER": "cosine", "LR_WARMUP_STEPS": 5, "GRADIENT_ACCUMULATION_STEPS": 3, "MAIN_PROCESS_POR": 29500,
    }  # fmt: skip
    assert real.ada.post("/service/train", json={**order, **more}).status_code == 504
    train = config_of(real, "train")
    assert (train["base"], train["steps"], train["resolution_px"]) == ("pocket", 30, 256)
    assert (train["batch_size"], train["micro_batch_size"], train["learning_rate"]) == (6, 2, 1e-5)
    assert (train["lr_scheduler"], train["lr_warmup_steps"]) == ("cosine", 5)


def test_another_owner_cannot_use_a_model(real: Clients, order: dict[str, Any]) -> None:
    real.ada.post("/service/train", json=order)
    (run,) = (job for job in real.studio.list(owner="local") if job.kind == "train")
    words = set()
    for model in ("models/rex", run.id, code_of(run.id)):
        answer = real.eve.post("/service/inference", json={"prompt": "a", "model_id": model})
        assert answer.status_code == 404, model
        words.add(answer.json()["message"].replace(model, "X"))
    assert not any("pending" in text for text in words), "nobody learns that there is one"
    told = real.ada.post("/service/inference", json={"prompt": "a", "model_id": "models/rex"}).json()
    assert "completed" in told["message"], "its own owner does"


def test_one_that_was_cancelled_begins_anew(real: Clients, order: dict[str, Any]) -> None:
    answer = real.ada.post("/service/train", json=order)
    jobs = {job.kind: job for job in real.studio.list(owner="local")}
    assert answer.status_code == 504 and jobs["train"].id in answer.json()["message"]
    for job in jobs.values():
        real.studio.cancel(job.id, owner="local")
    assert real.ada.post("/service/train", json=order).status_code == 504
    again = {job.id: job.state for job in real.studio.list(owner="local")}
    assert set(again) == {job.id for job in jobs.values()} and "cancelled" not in again.values()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_real_model_is_trained_and_draws_also_when_only_the_storage_has_it(tmp_path: Path) -> None:
    from studio.pocket.samples import sample_photos

    vault = tmp_path / "vault"
    address = SecretStr(f"file://{vault}")
    clients = Clients(tmp_path, Settings(home=tmp_path / "home", backup_url=address, weights_max_bytes=0, warm_s=0))
    clients.studio.start()
    photos = [text_of(path.read_bytes()) for path in sample_photos(tmp_path / "photos", count=5, size_px=128)]
    order = {
        "INSTANCE_PROMPT": "photo of sks woman",
        "OUTPUT_DIR": "ada",
        "IMAGE_LIST": photos,
        "MAX_TRAINING_STEPS": 3,
    }
    with clients.ada as http:
        answer = http.post("/service/train", json=order)
        assert answer.status_code == 200, answer.text
        body = {"prompt": "photo of sks woman at the beach", "model_id": "ada", "num_image": 2}
        drawn = http.post("/service/inference", json=body)
        assert drawn.status_code == 200, drawn.text
    pictures = [Image.open(io.BytesIO(base64.b64decode(text))) for text in drawn.json()["images"]]
    assert [picture.size for picture in pictures] == [(128, 128)] * 2

    (run,) = (job for job in clients.studio.list(owner="local") if job.kind == "train")
    out = clients.studio.out_dir(run.id, owner="local")
    weights = list(out.rglob("*.safetensors"))
    end_s = time.monotonic() + 60
    while not (vault / "jobs" / run.id / "DONE").is_file():
        assert time.monotonic() < end_s
        time.sleep(0.1)
    for path in (*weights, *out.parent.glob(".used-*")):
        os.utime(path, (time.time() - 7200,) * 2)
    assert clients.studio._weights.evict() > 10**6 and not list(out.rglob("*.safetensors"))
    with clients.ada as http:
        again = http.post("/service/inference", json={**body, "num_image": 3})
        assert again.status_code == 200, again.text
    assert again.json()["images"][:2] == drawn.json()["images"] and len(again.json()["images"]) == 3
    back = {path.relative_to(out).parts[0] for path in out.rglob("*.safetensors")}
    assert back == {"adapter"}, "checkpoints stay there, nobody asked for them"
    clients.studio.close()
