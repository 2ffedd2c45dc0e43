"""Webhooks below /v1: made, looked at, changed, tried and deleted; each answer as the description says."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from studio import __version__
from studio.core.settings import Settings
from studio.service import Studio
from studio.web.api.errors import ErrorShapes
from studio.web.api.interfaces import SHAPES, add_interfaces
from studio.web.api.native import OPERATIONS
from studio.web.api.schema import openapi
from studio.web.api.webhooks import OPERATIONS as OURS
from studio.web.login import Visitor
from studio.web.routes import add_routes
from studio.web.session import StudioSession

HERE = "http://127.0.0.1:9/hooks"


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[TestClient, TestClient]]:
    """Clients of two owners before one real studio, that is not started."""
    settings = Settings(home=tmp_path / "home", webhook_loopback=True)
    studio = Studio(settings)
    clients = []
    for owner in ("local", "hf:eve"):
        session = StudioSession(studio, settings)
        if owner != settings.owner:
            session = replace(session, visitor=lambda owner=owner: Visitor(owner, "eve", None))
        app = FastAPI()
        add_routes(app, lambda request, session=session: session, settings)
        add_interfaces(app, lambda request, session=session: session, settings)
        app.add_middleware(ErrorShapes, shapes=SHAPES)
        clients.append(TestClient(app, base_url="http://127.0.0.1:7860"))
    clients[0].studio = studio
    with clients[0], clients[1]:
        yield clients[0], clients[1]
    studio.close()


@pytest.fixture(scope="module")
def fits() -> Callable[[Any, str], Any]:
    """Check an answer against what the description says of its status, and return its data."""
    described = openapi(OPERATIONS, version=__version__)

    def checked(answer: Any, path: str) -> Any:
        row = described["paths"][path][answer.request.method.lower()]["responses"][str(answer.status_code)]
        if "content" not in row:
            assert answer.content == b""
            return None
        ((media_type, content),) = row["content"].items()
        assert answer.headers["content-type"].split(";")[0] == media_type
        schema = {**content["schema"], "components": described["components"]}
        jsonschema.validate(answer.json(), schema, cls=jsonschema.Draft202012Validator)
        return answer.json()

    return checked


def test_a_webhook_lives_from_its_secret_to_its_end(both: Any, fits: Any) -> None:
    http, _ = both
    all_, one = "/v1/webhooks", "/v1/webhooks/{webhook}"
    answer = http.post(all_, json={"url": HERE, "events": ["job.completed"], "description": "Ours"})
    made = fits(answer, all_)
    place = answer.headers["location"]
    secret = made.pop("secret")
    assert answer.status_code == 201 and place == f"{all_}/{made['id']}" and secret.startswith("whsec_")
    assert fits(http.get(place), one) == made
    assert fits(http.get(all_), all_) == {"items": [made], "next_cursor": None}
    turned = fits(http.post(f"{place}/rotate"), f"{one}/rotate")
    assert turned.pop("secret") != secret and turned["old_secret_until_s"] > turned["created_s"]
    sent = [fits(http.post(f"{place}/test"), f"{one}/test") for _ in range(3)]
    part = fits(http.get(f"{place}/deliveries?limit=2"), f"{one}/deliveries")
    rest = http.get(f"{place}/deliveries", params={"cursor": part["next_cursor"]}).json()
    assert [row["id"] for row in (*part["items"], *rest["items"])] == [row["id"] for row in sent[::-1]]
    assert rest["next_cursor"] is None and sent[0]["type"] == "webhook.test"
    again = f"{place}/deliveries/{sent[0]['id']}/redeliver"
    assert fits(http.post(again), f"{one}/deliveries/{{delivery}}/redeliver")["status"] == 409, "it is on its way"
    assert fits(http.patch(place, json={"active": False}), one)["active"] is False
    assert http.get(f"{place}/deliveries?state=failed").json()["items"][0]["error"]
    assert fits(http.post(f"{place}/test"), f"{one}/test")["status"] == 409
    assert http.patch(place, json={"active": True}).status_code == 200
    assert fits(http.post(again), f"{one}/deliveries/{{delivery}}/redeliver")["state"] == "waiting"
    assert fits(http.delete(place), one) is None
    assert http.get(place).status_code == http.delete(place).status_code == 404
    assert secret not in http.get(all_).text


def test_what_may_not_be_reached_is_refused_with_its_cure(both: Any, fits: Any) -> None:
    http, _ = both
    for url in ("http://169.254.169.254/latest", "https://10.0.0.1/", "gopher://127.0.0.1/", "http://a:b@127.0.0.1/"):
        told = fits(http.post("/v1/webhooks", json={"url": url}), "/v1/webhooks")
        assert told["status"] == 422 and [row["where"] for row in told["problems"]] == ["url"], url
    told = http.post("/v1/webhooks", json={"url": HERE, "events": ["job.done"], "secret": "x"}).json()
    assert {row["where"] for row in told["problems"]} == {"events.0", "secret"}
    assert http.get("/v1/webhooks").json()["items"] == []


def test_another_owner_reaches_none_of_it(both: Any) -> None:
    """Every operation, by the ids of the first one."""
    ada, eve = both
    made = ada.post("/v1/webhooks", json={"url": HERE}).json()
    sent = ada.post(f"/v1/webhooks/{made['id']}/test").json()
    asked = 0
    for operation in OURS:
        if "{webhook}" not in operation.path:
            continue
        path = operation.path.format(webhook=made["id"], delivery=sent["id"])
        answer = eve.request(operation.method, path, json={} if operation.body else None)
        assert answer.status_code == 404, path
        asked += 1
    assert asked == 7 and eve.get("/v1/webhooks").json()["items"] == []
    assert ada.get(f"/v1/webhooks/{made['id']}").json()["active"]


def test_forgetting_everything_takes_webhooks_too(both: Any) -> None:
    ada, eve = both
    kept = {http: http.post("/v1/webhooks", json={"url": HERE}).json()["id"] for http in (ada, eve)}
    ada.studio.forget(owner="local", everything=True)
    assert ada.get("/v1/webhooks").json()["items"] == []
    assert [row["id"] for row in eve.get("/v1/webhooks").json()["items"]] == [kept[eve]]


def test_examples_are_what_is_taken() -> None:
    bodies = [(row.body, row.example) for row in OURS if row.body is not None]
    assert len(bodies) == 2
    for body, example in bodies:
        assert body.parse(example).model_dump(exclude_unset=True)


def test_a_served_app_answers_them_behind_all_its_gates(http: Any) -> None:
    assert http.get("/v1/webhooks").json() == {"items": [], "next_cursor": None}
    for method in ("GET", "PATCH", "DELETE"):
        answer = http.request(method, "/v1/webhooks/wh_none", json={} if method == "PATCH" else None)
        assert answer.status_code == 404 and answer.headers["content-type"] == "application/problem+json", method
    private = http.post("/v1/webhooks", json={"url": "https://127.0.0.1/"})
    assert private.status_code == 422 and private.json()["problems"][0]["code"] == "forbidden_address"
