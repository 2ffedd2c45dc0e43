"""What deletes below /v1, and what tells about it: each answer as the description says, and each owner's alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from studio import __version__
from studio.core.config import CheckConfig
from studio.core.settings import Settings
from studio.service import Studio
from studio.web.api.errors import ErrorShapes
from studio.web.api.interfaces import SHAPES, add_interfaces
from studio.web.api.native import OPERATIONS
from studio.web.api.schema import openapi
from studio.web.login import Visitor
from studio.web.routes import add_routes
from studio.web.session import StudioSession

ADA, EVE = "hf:ada", "hf:eve"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """Not started, so that nothing is swept beside the tests."""
    yield (studio := Studio(Settings(home=tmp_path / "home", keep_days=30)))
    studio.close()


@pytest.fixture
def both(studio: Studio) -> Iterator[tuple[TestClient, TestClient]]:
    clients = []
    for owner in (ADA, EVE):
        session = StudioSession(studio, studio._settings)
        session = replace(session, visitor=lambda owner=owner: Visitor(owner, owner, None))
        app = FastAPI()
        add_routes(app, lambda request, session=session: session, studio._settings)
        add_interfaces(app, lambda request, session=session: session, studio._settings)
        app.add_middleware(ErrorShapes, shapes=SHAPES)
        clients.append(TestClient(app, base_url="http://127.0.0.1:7860"))
    with clients[0], clients[1]:
        yield clients[0], clients[1]


@pytest.fixture(scope="module")
def fits() -> Callable[[Any, str], Any]:
    described = openapi(OPERATIONS, version=__version__)

    def checked(answer: Any, path: str) -> Any:
        row = described["paths"][path][answer.request.method.lower()]["responses"][str(answer.status_code)]
        ((_, content),) = row["content"].items()
        schema = {**content["schema"], "components": described["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())
        return answer.json()

    return checked


@pytest.fixture
def plant(studio: Studio, tmp_path: Path) -> Callable[..., str]:
    def planted(owner: str, subject: str) -> str:
        photo = tmp_path / "me.jpg"
        photo.write_bytes(f"{owner} {subject}".encode())
        return studio.submit_check(CheckConfig(subject=subject), [photo], owner=owner).id

    return planted


def test_a_subject_goes_at_once_and_its_owner_reads_the_receipt(both: Any, fits: Any, plant: Any) -> None:
    ada, eve = both
    gone, kept, others = plant(ADA, "Zoë Q."), plant(ADA, "Bob"), plant(EVE, "Zoë Q.")
    path = "/v1/subjects/{subject}"
    told = fits(ada.delete("/v1/subjects/Zoë Q.?dry_run=true"), path)
    assert told["jobs"] == [gone] and told["dry_run"] and ada.get("/v1/receipts").json()["items"] == []
    receipt = fits(ada.delete("/v1/subjects/Zoë Q."), path)
    assert receipt["jobs"] == [gone] and receipt["forgotten_s"] is not None and receipt["files"] > 0
    assert [row["id"] for row in ada.get("/v1/jobs").json()["items"]] == [kept]
    assert [row["id"] for row in eve.get("/v1/jobs").json()["items"]] == [others]
    assert fits(ada.delete("/v1/subjects/Zoë Q."), path)["status"] == 404
    (row,) = fits(ada.get("/v1/receipts"), "/v1/receipts")["items"]
    assert row == receipt and fits(ada.get(f"/v1/receipts/{row['id']}"), "/v1/receipts/{receipt}") == receipt
    assert eve.get("/v1/receipts").json()["items"] == []
    assert fits(eve.get(f"/v1/receipts/{row['id']}"), "/v1/receipts/{receipt}")["status"] == 404


def test_everything_goes_at_once_and_only_what_is_ones_own(both: Any, fits: Any, plant: Any) -> None:
    ada, eve = both
    mine = {plant(ADA, "Ada"), plant(ADA, "Bob")}
    others = plant(EVE, "Ada")
    assert set(fits(ada.delete("/v1/everything?dry_run=true"), "/v1/everything")["jobs"]) == mine
    receipt = fits(ada.delete("/v1/everything"), "/v1/everything")
    assert set(receipt["jobs"]) == mine and ada.get("/v1/jobs").json()["items"] == []
    assert [row["id"] for row in eve.get("/v1/jobs").json()["items"]] == [others]


def test_receipts_come_in_parts_the_newest_first(both: Any, fits: Any, plant: Any) -> None:
    ada, _ = both
    ids = [plant(ADA, f"Subject {number}") for number in range(3)]
    for job in ids:
        assert ada.delete(f"/v1/jobs/{job}").status_code == 200
    first = fits(ada.get("/v1/receipts?limit=2"), "/v1/receipts")
    assert [row["jobs"] for row in first["items"]] == [[ids[2]], [ids[1]]]
    rest = ada.get(f"/v1/receipts?limit=2&cursor={first['next_cursor']}").json()
    assert [row["jobs"] for row in rest["items"]] == [[ids[0]]] and rest["next_cursor"] is None
    assert ada.get("/v1/receipts?cursor=nothing").status_code == 404


def test_an_owner_chooses_how_long_within_what_the_operator_allows(both: Any, fits: Any, studio: Studio) -> None:
    ada, eve = both
    assert fits(ada.get("/v1/retention"), "/v1/retention") == {"days": 30.0, "own_days": None, "most_days": 30.0}
    chosen = fits(ada.put("/v1/retention", json={"days": 7}), "/v1/retention")
    assert chosen == {"days": 7.0, "own_days": 7.0, "most_days": 30.0}
    for days in (31, 0, "x"):
        refused = ada.put("/v1/retention", json={"days": days})
        assert fits(refused, "/v1/retention")["problems"][0]["where"] == "days"
    assert ada.put("/v1/retention", json={}).status_code == 422, "nothing is changed by a slip"
    assert ada.get("/v1/retention").json()["days"] == 7.0 and eve.get("/v1/retention").json()["days"] == 30.0
    assert ada.put("/v1/retention", json={"days": None}).json()["days"] == 30.0
