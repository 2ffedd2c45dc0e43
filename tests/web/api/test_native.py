"""The interface below /v1, over HTTP: submit, list, look, steer; each answer as the description says."""

import base64
import copy
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from studio.core.config import CheckConfig
from studio.core.settings import Settings
from studio.service import Studio
from studio.web.api.interfaces import add_interfaces
from studio.web.api.native import OPERATIONS
from studio.web.codes import code_of
from studio.web.routes import add_routes
from studio.web.session import StudioSession


@pytest.fixture(scope="module")
def described(http: httpx.Client) -> dict[str, Any]:
    answer = http.get("/v1/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture(scope="module")
def fits(described: dict[str, Any]) -> Callable[[httpx.Response, str], Any]:
    """Check an answer against what the description says of its status, and return its data."""

    def checked(answer: httpx.Response, path: str) -> Any:
        operation = described["paths"][path][answer.request.method.lower()]
        row = operation["responses"][str(answer.status_code)]
        if "content" not in row:
            assert answer.content == b""
            return None
        ((media_type, content),) = row["content"].items()
        assert answer.headers["content-type"].split(";")[0] == media_type
        schema = {**content["schema"], "components": described["components"]}
        jsonschema.validate(answer.json(), schema, cls=jsonschema.Draft202012Validator)
        return answer.json()

    return checked


# ------------------------------------------------------------------------------------------------------ submitting


def test_everything_from_photos_to_finished_pictures_goes_through(work: dict[str, Any], fits: Any, http: Any) -> None:
    assert [work[kind]["kind"] for kind in ("check", "train", "generate", "finish")] == list(work)
    assert work["train"]["source"] == work["check"]["id"] and work["generate"]["source"] == work["train"]["id"]
    assert len(work["generate"]["result"]["images"]) == 4
    for job in work.values():
        fits(http.get(f"/v1/jobs/{job['id']}"), "/v1/jobs/{job_id}")


def test_a_job_says_where_it_is_and_the_same_key_is_the_same_job(http: httpx.Client, photo: bytes, fits: Any) -> None:
    data = base64.b64encode(photo).decode()
    body = {"photos": [{"name": "a.jpg", "data": data}], "subject": "Key", "class_noun": "woman"}
    first, again = (http.post("/v1/check", json=body, headers={"Idempotency-Key": "once"}) for _ in range(2))
    assert fits(first, "/v1/check")["id"] == again.json()["id"] == first.headers["location"].removeprefix("/v1/jobs/")
    other = http.post("/v1/check", json={**body, "subject": "Other"}, headers={"Idempotency-Key": "once"})
    assert "another request" in fits(other, "/v1/check")["detail"] and other.status_code == 409
    assert http.post("/v1/check", json=body).json()["id"] != first.json()["id"], "without a key it is another one"


def test_photos_come_as_uploads_and_inside_the_request_in_their_order(http: httpx.Client, photo: bytes) -> None:
    sha256 = hashlib.sha256(photo).hexdigest()
    http.put(f"/uploads/{sha256}", content=photo)
    inline = {"name": "b.jpg", "data": f"data:image/jpeg;base64,{base64.b64encode(photo).decode()}"}
    body = {"photos": [inline, {"name": "a.jpg", "sha256": sha256}, {**inline, "name": "c.jpg"}], "class_noun": "woman"}
    job = http.post("/v1/check", json=body).json()
    assert [row["name"] for row in job["result"]["verdicts"]] == ["b.jpg", "a.jpg", "c.jpg"]
    assert http.get("/uploads").json() == {"held": []}
    missing = http.post("/v1/check", json=body)
    assert missing.status_code == 409 and missing.json()["problems"][0]["code"] == "not_uploaded"


def test_a_set_is_edited_by_what_changes(http: httpx.Client, work: dict[str, Any]) -> None:
    job = http.post("/v1/check", json={"edits": work["check"]["id"], "exclude": ["one.jpg"]}).json()
    (verdict,) = job["problems"] or job["result"]["verdicts"]
    assert job["facts"]["subject"] == "Ada" and verdict.get("where", verdict.get("name")) == "one.jpg"


@pytest.mark.parametrize(
    ("verb", "body", "where"),
    [
        ("check", {"fotos": [], "min_photos": 0, "photos": [{"name": "x"}]}, {"fotos", "min_photos", "photos.0"}),
        ("check", {"photos": [{"name": n, "data": "no!"} for n in "xy"]}, {"photos.0.data", "photos.1.data"}),
        ("train", {"stepz": 1, "method": {"rnk": 2}, "preset": 3}, {"check", "preset"}),
        ("train", {"check": "", "stepz": 1, "method": {"rnk": 2}}, {"check", "stepz", "method.rnk"}),
        ("train", {"check": "c", "publish": {"repo": "x"}, "steps": -1, "base": 4}, {"publish.repo", "base"}),
        ("generate", {"prompts": ["a"], "count": 0, "colour": 1}, {"count", "colour"}),
        ("generate", {"prompts": ["a"]}, {"run"}),
        ("finish", {"steps": [{"do": "cutout", "model": "none"}], "tone": 1}, {"steps.0.cutout.model", "tone"}),
        ("finish", {"settings": {"fit.max_bytes": 1}}, {"settings"}),
        ("export", {"format": "pickle"}, {"run", "format"}),
        ("publish", {"repo": "x", "gallery": 99}, {"run", "repo", "gallery"}),
    ],
)  # fmt: skip
def test_everything_wrong_with_an_order_is_named_at_once(
    http: httpx.Client, fits: Any, verb: str, body: dict[str, Any], where: set[str]
) -> None:
    answer = http.post(f"/v1/{verb}", json=body)
    assert answer.status_code == 422
    assert {row["where"] for row in fits(answer, f"/v1/{verb}")["problems"]} == where


def test_a_plan_of_a_training_starts_nothing(http: httpx.Client, work: dict[str, Any], fits: Any) -> None:
    before = http.get("/v1/jobs").json()
    plan = fits(http.post("/v1/train?whatif=true", json={"check": work["check"]["id"], "steps": 40}), "/v1/train")
    assert plan["steps"] == 40 and plan["peak_bytes"] == 2**30 and "40 steps" in plan["words"]
    body = {"run": work["train"]["code"], "pack": "places", "count": 3}
    plan = fits(http.post("/v1/generate?whatif=true", json=body), "/v1/generate")
    assert plan["pictures"] == 6 and plan["seconds"] == 18.0, "4 pictures took 12 seconds"
    assert http.get("/v1/jobs").json() == before
    wrong = http.post("/v1/generate?whatif=true", json={**body, "pack": "nowhere"})
    assert wrong.status_code == 404 and "nowhere" in wrong.json()["detail"]


def test_a_training_is_published_when_it_is_done(http: httpx.Client, work: dict[str, Any]) -> None:
    body = {"check": work["check"]["id"], "steps": 40, "publish": {"repo": "you/ada", "dry_run": True}}
    run = http.post("/v1/train", json=body).json()
    then = http.get(f"/v1/jobs/{run['publish_job']}").json()
    assert then["source"] == run["id"] and then["facts"]["repo"] == "you/ada"
    alone = http.post("/v1/publish", json={"run": code_of(run["id"]), "repo": "you/eda", "dry_run": True}).json()
    assert alone["result"]["repo"] == "you/eda" and alone["source"] == run["id"]


def test_finishing_takes_steps_as_well_as_a_chain(http: httpx.Client, photo: bytes) -> None:
    picture = {"name": "a.png", "data": base64.b64encode(photo).decode()}
    body = {"pictures": [picture], "steps": [{"do": "fit", "format": "jpeg"}], "sheet_title": "Ada"}
    job = http.post("/v1/finish", json=body).json()
    assert job["facts"]["steps"] == ["fit"] and [row["source"] for row in job["result"]["pictures"]] == ["a.png"]
    wrong = http.post("/v1/finish", json={"pictures": [picture], "chain": "plain_white", "settings": {"fit.tone": 1}})
    assert wrong.status_code == 422 and wrong.json()["problems"][0]["where"] == "fit.tone"


# ------------------------------------------------------------------------------------------------- looking, steering


def test_lists_come_in_parts_and_each_job_once(http: httpx.Client, work: dict[str, Any], fits: Any) -> None:
    everything = fits(http.get("/v1/jobs?limit=200"), "/v1/jobs")
    assert everything["next_cursor"] is None
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        part = fits(http.get("/v1/jobs", params={"limit": 2, **cursor}), "/v1/jobs")
        found += [row["id"] for row in part["items"]]
        if part["next_cursor"] is None:
            break
        assert len(part["items"]) == 2
        cursor = {"cursor": part["next_cursor"]}
    assert found == [row["id"] for row in everything["items"]]
    runs = http.get("/v1/jobs", params={"kind": "train", "state": "completed", "source": work["check"]["id"]}).json()
    assert {row["source"] for row in runs["items"]} == {work["check"]["id"]}
    assert all(row["code"] == code_of(row["id"]) for row in runs["items"])
    assert http.get("/v1/jobs?cursor=none").status_code == 404


@pytest.mark.parametrize(
    "path", ["/v1/jobs", "/v1/jobs/{train}", "/v1/adapters", "/v1/packs", "/v1/jobs/{finish}/images"]
)
def test_what_has_not_changed_is_not_sent_again(http: httpx.Client, work: dict[str, Any], path: str) -> None:
    path = path.format(**{kind: job["id"] for kind, job in work.items()})
    first = http.get(path)
    tag = first.headers["etag"]
    for given in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = http.get(path, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag), given
    assert http.get(path, headers={"If-None-Match": '"other"'}).json() == first.json()


def test_adapters_are_the_completed_runs_by_id_or_code(http: httpx.Client, work: dict[str, Any], fits: Any) -> None:
    run = work["train"]
    rows = fits(http.get("/v1/adapters?limit=100"), "/v1/adapters")["items"]
    (row,) = (row for row in rows if row["id"] == run["id"])
    assert (row["subject"], row["base"], row["likeness"], row["code"]) == ("Ada", "pocket", 0.86, run["code"])
    for handle in (run["id"], run["code"]):
        assert fits(http.get(f"/v1/adapters/{handle}"), "/v1/adapters/{adapter}") == row
    for handle in (work["check"]["id"], "10000000", "none"):
        assert http.get(f"/v1/adapters/{handle}").status_code == 404
    assert len(http.get("/v1/adapters?limit=1").json()["items"]) == 1


def test_files_and_pictures_of_a_job_can_be_fetched(http: httpx.Client, work: dict[str, Any], fits: Any) -> None:
    listed = fits(http.get(f"/v1/jobs/{work['generate']['id']}/files"), "/v1/jobs/{job_id}/files")
    for row in listed["files"][:3]:
        assert hashlib.sha256(http.get(row["url"]).content).hexdigest() == row["sha256"]
    for kind, count in (("generate", 4), ("finish", 4), ("check", 0)):
        images = fits(http.get(f"/v1/jobs/{work[kind]['id']}/images"), "/v1/jobs/{job_id}/images")["items"]
        assert len(images) == count
        for row in images[:1]:
            assert http.get(row["url"]).content[:4] == b"\x89PNG"
            assert http.get(row["small_url"]).headers["content-type"] == "image/webp"


def test_a_job_is_cancelled_continued_and_forgotten(http: httpx.Client, work: dict[str, Any], fits: Any) -> None:
    job = fits(http.post("/v1/export", json={"run": work["train"]["id"], "format": "kohya"}), "/v1/export")
    assert job["state"] == "pending"
    assert fits(http.post(f"/v1/jobs/{job['id']}/cancel"), "/v1/jobs/{job_id}/cancel")["state"] == "cancelled"
    unknown = http.post(f"/v1/jobs/{job['id']}/retry", json={"tokn": "x"})
    assert unknown.status_code == 422 and unknown.json()["problems"][0]["where"] == "tokn"
    assert fits(http.post(f"/v1/jobs/{job['id']}/retry"), "/v1/jobs/{job_id}/retry")["state"] == "completed"
    path = f"/v1/jobs/{job['id']}"
    counted = fits(http.delete(f"{path}?dry_run=true"), "/v1/jobs/{job_id}")
    assert counted["dry_run"] and counted["jobs"] == [job["id"]] and http.get(path).status_code == 200
    assert fits(http.delete(path), "/v1/jobs/{job_id}")["words"].startswith("Deleted for good")
    assert http.get(path).status_code == http.delete(path).status_code == 404


def test_the_lists_of_what_there_is_and_the_servers_health_answer(http: httpx.Client, fits: Any) -> None:
    for name in ("packs", "chains", "presets", "bases"):
        assert fits(http.get(f"/v1/{name}"), f"/v1/{name}")["items"][0]["name"]
    for name in ("health", "ready"):
        assert fits(http.get(f"/v1/{name}"), f"/v1/{name}")["status"] == "ok"
    assert http.get("/v1/packs?base=pocket").json()["problems"][0]["where"] == "base"


def test_a_server_that_can_take_no_job_is_not_ready(tmp_path: Path) -> None:
    client, real_one = real(tmp_path)
    with real_one:
        real_one.studio.start()
        assert client.get("/v1/ready").json() == {"status": "ok"}
        real_one.studio.server.drain(0)
        answer = client.get("/v1/ready")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
        assert [row["code"] for row in answer.json()["problems"]] == ["draining"]
        refused = client.post("/v1/check", json={"photos": [{"name": "a.jpg", "data": "aGFsbG8="}]})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        real_one.studio.close()
        shutil.rmtree(real_one.settings.home)
        codes = {row["code"] for row in client.get("/v1/ready").json()["problems"]}
        assert codes >= {"draining", "no_room"}, codes


def test_the_metrics_are_there_for_whoever_runs_the_server(http: httpx.Client, tmp_path: Path) -> None:
    answer = http.get("/v1/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4") and "studio_running 0" in answer.text
    assert 'studio_http_request_seconds_count{method="GET",route="/v1/metrics"' in http.get("/v1/metrics").text
    client, real_one = real(tmp_path, visitor=lambda: SimpleNamespace(owner="hf:1", token=None))
    with real_one:
        refused = client.get("/v1/metrics")
        assert refused.status_code == 403 and "STUDIO_METRICS_TOKEN" in refused.json()["error"]


# ---------------------------------------------------------------------------------------------------- the real studio


class real:  # noqa: N801  a context, used like a function
    """A client of the routes alone before a real studio that is not started."""

    def __init__(self, tmp_path: Path, visitor: Any = None) -> None:
        self.settings = Settings(home=tmp_path / "real")
        self.studio = Studio(self.settings)
        app, session = FastAPI(), StudioSession(self.studio, self.settings, visitor)
        add_routes(app, lambda request: session, self.settings)
        add_interfaces(app, lambda request: session, self.settings)
        self.client = TestClient(app, base_url="http://127.0.0.1:7860", raise_server_exceptions=False)

    def __iter__(self) -> Any:
        return iter((self.client, self))

    def __enter__(self) -> "real":
        return self

    def __exit__(self, *_: object) -> None:
        self.studio.close()


def broken(*_: Any, **__: Any) -> Any:
    from studio.core.errors import ResourceError

    raise ResourceError("the table cannot be read.")


def test_a_waiting_job_says_its_place_in_the_queue(tmp_path: Path, photo: bytes) -> None:
    client, studio = real(tmp_path)
    with studio:
        data = base64.b64encode(photo).decode()
        jobs = [
            client.post("/v1/check", json={"photos": [{"name": "a.jpg", "data": data}], "subject": name}).json()
            for name in ("One", "Two")
        ]
        places = [client.get(f"/v1/jobs/{job['id']}").json()["queue_position"] for job in jobs]
        assert places == [1, 2]
        assert [row["queue_position"] for row in client.get("/v1/jobs").json()["items"]] == [2, 1]
        assert "place" not in jobs[0] and "starts_in_s" in jobs[0]
        kept = studio.settings.home / "jobs" / jobs[0]["id"] / "photos" / "a.jpg"
        assert kept.read_bytes() == photo
        assert not [path for path in (studio.settings.home / "uploads").rglob("*") if path.is_file()]


def test_the_settings_of_a_check_are_those_of_its_class(tmp_path: Path, photo: bytes) -> None:
    client, studio = real(tmp_path)
    with studio:
        photos = [{"name": "a.jpg", "data": base64.b64encode(photo).decode()}]
        job = client.post(
            "/v1/check", json={"photos": photos, "crop": "none", "min_side_px": 64, "consent": True}
        ).json()
        kept = json.loads((studio.settings.home / "jobs" / job["id"] / "request.json").read_text())["config"]
        wanted = CheckConfig(crop="none", min_side_px=64, consent=True, max_photos=studio.settings.max_photos)
        assert kept == wanted.model_dump(mode="json")


def test_every_operation_is_described_with_an_example_that_is_taken(
    http: httpx.Client, described: dict[str, Any], work: dict[str, Any], photo: bytes
) -> None:
    made = {(method.upper(), path) for path, rows in described["paths"].items() for method in rows}
    assert made == {(row.method, row.path) for row in OPERATIONS}
    sha256 = hashlib.sha256(photo).hexdigest()
    assert http.put(f"/uploads/{sha256}", content=photo).status_code in (200, 201)
    for path, rows in described["paths"].items():
        for method, row in rows.items():
            if "requestBody" not in row or path.endswith("/retry") or path.startswith("/v1/webhooks"):
                continue  # what an example of a webhook names would be looked up: see test_webhooks
            example = copy.deepcopy(row["requestBody"]["content"]["application/json"]["example"])
            handles = {"check": work["check"]["id"], "run": work["train"]["id"], "job": work["generate"]["id"]}
            example |= {name: handle for name, handle in handles.items() if name in example}
            for sent in example.get("photos", ()):
                sent |= {"sha256": sha256} if "sha256" in sent else {}
            if path == "/v1/check":  # the scripted studio knows no captions
                example["photos"] = example["photos"][:1]
            if path == "/v1/finish":
                example["chain"] = "plain_white"
            ids = {"{job_id}": work["generate" if path.endswith("/hearts") else "check"]["id"], "{subject}": "Ada"}
            place = re.sub(r"{\w+}", lambda name: ids[name[0]], path)  # noqa: B023  used at once
            answer = http.request(method, place, json=example)
            assert answer.status_code == (202 if "202" in row["responses"] else 200), (path, answer.text)
