"""Replicate's official client trains and makes pictures at the studio."""

import base64
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import replicate
from fastapi import FastAPI
from replicate.exceptions import ReplicateError
from starlette.requests import Request
from starlette.testclient import TestClient

from studio.core.config import GenerateConfig
from studio.core.domain import Event
from studio.core.settings import Settings
from studio.jobs.events import Outcome
from studio.jobs.webhooks.transport import signed
from studio.service import Studio
from studio.web.api import replicate_runs
from studio.web.api.interfaces import add_interfaces
from studio.web.api.replicate_runs import _wait_of
from studio.web.routes import add_routes
from studio.web.session import StudioSession


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[replicate.Client]:
    made = replicate.Client(api_token="the-token", base_url=f"{address}/replicate")
    yield made
    made._client.close()


def test_photos_become_a_training_and_the_training_pictures(
    client: replicate.Client, http: httpx.Client, photo: bytes
) -> None:
    training = client.trainings.create(
        model="studio/train",
        version="pocket_lora_cpu",
        input={
            "input_images": [io.BytesIO(photo), io.BytesIO(photo)],
            "subject": "Rex",
            "class_noun": "dog",
            "min_photos": 1,
            "consent": True,
            "steps": 40,
            "method": {"rank": 4},
        },
        destination="you/rex",
        file_encoding_strategy="base64",
    )
    training.reload()
    assert training.status == "succeeded" and training.model == "studio/train" and training.error is None
    assert training.created_at and training.completed_at and training.urls
    job = http.get(f"/v1/jobs/{training.id}").json()
    assert job["facts"]["subject"] == "Rex" and job["facts"]["preset"] == "pocket_lora_cpu"
    check = http.get(f"/v1/jobs/{job['source']}").json()
    assert len(check["result"]["verdicts"]) == 2 and check["result"]["consent"] is True
    assert training.output["version"] == f"studio/adapter:{job['code']}"
    assert http.get(training.output["weights"]).status_code == 200

    links = client.run(training.output["version"], input={"prompt": "in the park", "num_outputs": 2, "seed": 7})
    assert len(links) == 2 and all(http.get(link).content[:4] == b"\x89PNG" for link in links)
    made = http.get("/v1/jobs?kind=generate&limit=1").json()["items"][0]
    assert made["source"] == training.id and made["facts"]["prompt"] == "photo of {subject}, in the park"
    assert [row["seed"] for row in sorted(made["result"]["images"], key=lambda row: row["seed"])] == [7, 8]


def test_a_training_on_a_check_that_was_made_before(client: replicate.Client, work: dict[str, Any]) -> None:
    training = client.trainings.create("studio/train:default", {"check": work["check"]["id"], "steps": 40}, "you/ada")
    assert client.trainings.get(training.id).input == {"check": work["check"]["id"], "base": "pocket"}
    assert training.id in {row.id for row in client.trainings.list()}
    assert client.trainings.cancel(training.id).status == "succeeded", "it had ended"


@pytest.mark.parametrize("way", ["version", "model"])
def test_a_prediction_is_made_listed_and_looked_at(client: replicate.Client, work: dict[str, Any], way: str) -> None:
    code = work["train"]["code"]
    asked: dict[str, Any] = {"version": code} if way == "version" else {"model": f"studio/{code}"}
    made = client.predictions.create(**asked, input={"prompt": "{subject}", "width": 256, "height": 256}, wait=True)
    assert made.status == "succeeded" and made.version == code and made.output and len(made.output) == 1
    assert client.predictions.get(made.id).output == made.output
    assert made.id in {row.id for row in client.predictions.list()}
    assert client.predictions.cancel(made.id).status == "succeeded"


@pytest.mark.parametrize(
    ("version", "asked", "words"),
    [
        ("studio/train:default", {}, "check: is missing"),
        ("studio/train:default", {"check": "c", "input_images": []}, "check: is missing, or there are photos"),
        ("studio/train:default", {"check": "none", "stepz": 3, "method": {"rnk": 1}}, "stepz(.|\n)*"),
        ("studio/train:default", {"input_images": ["%"], "class_noun": "dog"}, "is not base64"),
        ("studio/train:default", {"input_images": [], "min_photos": 0, "tone": 1}, "tone(.|\n)*min_photos"),
        ("studio/train:none", {"check": "c"}, "none"),
        ("studio/other:default", {"check": "c"}, "use studio/train"),
        ("you/train:default", {"check": "c"}, "of the owner studio"),
    ],
)
def test_a_wrong_training_is_refused_in_words(
    client: replicate.Client, version: str, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(ReplicateError) as caught:
        client.trainings.create(version, asked, "you/ada")
    assert caught.value.status in (404, 422) and caught.value.detail
    assert re.search(words, caught.value.detail)


def test_a_wrong_prediction_is_refused_in_words(client: replicate.Client, work: dict[str, Any]) -> None:
    code = work["train"]["code"]
    for asked, status in (
        ({"version": "10000000", "input": {"prompt": "a"}}, 404),
        ({"version": work["check"]["id"], "input": {"prompt": "a"}}, 404),
        ({"version": code, "input": {"prompt": "", "steps": 3}}, 422),
        ({"version": code, "input": {"prompt": "a"}, "webhook": "https://10.0.0.1/"}, 422),
        ({"version": code, "input": {"prompt": "a"}, "stream": True}, 422),
        ({"model": f"you/{code}", "input": {"prompt": "a"}}, 404),
    ):
        with pytest.raises(ReplicateError) as caught:
            client.predictions.create(**asked)  # type: ignore[arg-type]
        assert caught.value.status == status and caught.value.title, asked
    for kind in (client.predictions, client.trainings):
        with pytest.raises(ReplicateError):
            kind.get(work["check"]["id"])


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        ("", None),
        ("wait", 60.0),
        ("wait=5", 5.0),
        ("wait=900", 60.0),
        ("respond-async, wait=2", 2.0),
        ("awaited", None),
    ],
)
def test_the_wait_that_is_preferred_is_kept_to_a_minute(header: str, wanted: float | None) -> None:
    scope = {"type": "http", "headers": [(b"prefer", header.encode())]}
    assert _wait_of(Request(scope)) == wanted


@pytest.fixture
def inside(held: Callable[..., Any], settings: Settings) -> Iterator[tuple[TestClient, Any]]:
    """A client of the routes alone before a studio whose pictures stay at half way, and that studio."""
    studio = held("generate")
    app, session = FastAPI(), StudioSession(studio, settings)
    add_routes(app, lambda request: session, settings)
    add_interfaces(app, lambda request: session, settings)
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client, studio
    for job in studio.jobs.values():
        job.stop.set()


def test_a_prediction_that_takes_longer_than_the_wait_is_still_starting(inside: Any, photo: bytes) -> None:
    """Its client takes any other status for the end."""
    http, _ = inside
    photos = [{"name": "a.jpg", "data": base64.b64encode(photo).decode()}]
    check = http.post("/v1/check", json={"photos": photos, "class_noun": "woman", "min_photos": 1}).json()["id"]
    code = http.post("/v1/train", json={"check": check, "steps": 40}).json()["code"]
    body = {"version": f"studio/adapter:{code}", "input": {"prompt": "a"}}
    answer = http.post("/replicate/v1/predictions", json=body, headers={"Prefer": "wait=1"})
    made = answer.json()
    assert answer.status_code == 201 and (made["status"], made["output"]) == ("starting", None)
    place = made["urls"]["get"]
    assert http.get(place).json()["status"] == "processing"
    assert http.post(made["urls"]["cancel"]).json()["status"] == http.get(place).json()["status"] == "canceled"


def test_lists_go_on_by_their_links(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    http, studio = inside
    monkeypatch.setattr(replicate_runs, "_PAGE", 2)
    for number in range(5):
        studio._submit("generate", GenerateConfig(prompts=("a",)), studio.settings.owner, f"list-{number}")
    found, place = [], "/replicate/v1/predictions"
    while place:
        part = http.get(place).json()
        assert len(part["results"]) <= 2 and part["previous"] is None
        found += [row["id"] for row in part["results"]]
        place = part["next"]
    assert found == [f"generate-list-{number}" for number in reversed(range(5))]


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[TestClient, Studio]]:
    """A client of the routes alone before a real studio that is not started and may reach this machine."""
    settings = Settings(home=tmp_path / "home", webhook_loopback=True)
    studio = Studio(settings)
    app, session = FastAPI(), StudioSession(studio, settings)
    add_routes(app, lambda request: session, settings)
    add_interfaces(app, lambda request: session, settings)
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client, studio
    studio.close()


def sent(studio: Studio, job_id: str) -> list[tuple[str, Any]]:
    """Return what waits to be sent about a job: type and body."""
    due, found = studio._store.webhooks, []
    while rows := due.due():
        for row in rows:
            found.append(json.loads(row.body))
            due.settle(row, 200, None)
    return [(row["status"], row) for row in found if row["id"] == job_id]


@pytest.mark.parametrize(
    ("wanted", "statuses"),
    [
        (None, ["processing", "processing", "succeeded"]),
        (["start"], ["processing"]),
        (["logs"], ["processing"]),
        (["output"], ["succeeded"]),
        (["output", "completed"], ["succeeded"]),
    ],
)
def test_a_training_tells_its_webhook_in_replicates_shape(
    real: Any, photo: bytes, wanted: Any, statuses: list[str]
) -> None:
    """Each event in the transaction in which it happens, whole objects, signed with the secret that its client asks."""
    http, studio = real
    photos = [{"name": "a.jpg", "data": base64.b64encode(photo).decode()}]
    check = http.post("/v1/check", json={"photos": photos, "class_noun": "woman", "min_photos": 1}).json()["id"]
    body = {"input": {"check": check, "steps": 40}, "webhook": "http://127.0.0.1:9/hook"}
    if wanted is not None:
        body["webhook_events_filter"] = wanted
    path = "/replicate/v1/models/studio/train/versions/default/trainings"
    made = [http.post(path, json=body, headers={"Idempotency-Key": "one"}).json() for _ in range(2)]
    run = made[0]["id"]
    assert made[1]["id"] == run and sent(studio, run) == [], "it waits"
    store, told = studio._store, []
    store.finish(store.claim(), Outcome("completed"))
    claim = store.claim()
    told += sent(studio, run)
    store.append(claim, [Event("progress", {"step": 1, "total": 2, "eta_s": None, "message": "drawing"})])
    told += sent(studio, run)
    store.finish(claim, Outcome("completed", result={"adapter": "adapter"}))
    told += sent(studio, run)
    # before its first progress a run is pendingModel, which is "starting" there
    assert [status.replace("starting", "processing") for status, _ in told] == statuses
    if told[-1][0] == "succeeded":
        shown, last = http.get(f"/replicate/v1/trainings/{run}").json(), told[-1][1]
        weights = last["output"].pop("weights")
        assert weights.startswith("http://127.0.0.1:7860/files/") and shown["output"].pop("weights") is None
        assert last == shown
    assert http.get("/v1/webhooks").json()["items"] == []


def test_its_official_client_verifies_what_a_webhook_is_sent(real: Any) -> None:
    http, _ = real
    key = http.get("/replicate/v1/webhooks/default/secret").json()["key"]
    assert http.get("/replicate/v1/webhooks/default/secret").json()["key"] == key
    headers = signed("msg_1", '{"id": "x"}', [key])
    secret = replicate.webhook.WebhookSigningSecret(key=key)
    replicate.webhooks.validate(headers=headers, body='{"id": "x"}', secret=secret)
    with pytest.raises(replicate.webhook.InvalidSignatureError):
        replicate.webhooks.validate(headers=headers, body='{"id": "y"}', secret=secret)


def test_an_address_that_may_not_be_reached_starts_nothing(real: Any) -> None:
    http, studio = real
    body = {"input": {"check": "c"}, "webhook": "http://169.254.169.254/x", "webhook_events_filter": ["done"]}
    path = "/replicate/v1/models/studio/train/versions/default/trainings"
    assert http.post(path, json=body).status_code == 422
    answer = http.post(path, json={**body, "webhook_events_filter": []})
    assert [row["where"] for row in answer.json()["problems"]] == ["webhook"]
    assert studio.list(owner="local") == []
