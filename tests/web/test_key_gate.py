"""Two owners with API keys at one studio: what is Ada's cannot be reached by Eve, whatever she knows of it.

One server of its own process. What Eve tries is made from the OpenAPI description, so that a route that is added later
is tried, too.
"""

import hashlib
import importlib.util
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from sqlalchemy import update

from studio.core.settings import Settings
from studio.jobs.keys import Keys, open_keys
from studio.jobs.schema import KEYS

TESTS = Path(__file__).parents[1]


def load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


EDGE = load("edge_of_keys", TESTS / "web" / "conftest.py")
Work = dict[str, dict[str, Any]]
PHOTO_NAME = "ada-marker.jpg"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("keys")
    presets = EDGE.write_presets(folder / "presets")
    return Settings(home=folder / "home", port=0, presets_dir=presets, login=False, auth="keys")


@pytest.fixture(scope="module")
def keys(settings: Settings) -> Iterator[Keys]:
    found = open_keys(settings)
    yield found
    found.close()


@pytest.fixture(scope="module")
def address(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("log") / "server.txt"
    with EDGE.serve(settings, log, hold=["export"]) as url:
        yield url


@pytest.fixture(scope="module")
def client(address: str, keys: Keys) -> Iterator[Callable[..., httpx.Client]]:
    """Return a client with a new key."""
    opened = []

    def new(owner: str, *scopes: Any, days: float | None = None, headers: Any = None, **quota: Any) -> httpx.Client:
        key, text = keys.create(owner=owner, scopes=scopes or ("jobs", "publish"), days=days, quota=quota)
        told = {"authorization": f"Bearer {text}", **(headers or {})}
        one = httpx.Client(base_url=address, headers=told, timeout=60)
        one.key_id, one.text = key.id, text  # type: ignore[attr-defined]
        opened.append(one)
        return one

    yield new
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def ada(client: Callable[..., httpx.Client]) -> httpx.Client:
    return client("ada")


@pytest.fixture(scope="module")
def eve(client: Callable[..., httpx.Client]) -> httpx.Client:
    return client("eve")


@pytest.fixture(scope="module")
def work(ada: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """One job of each kind of Ada's; the export is at half way."""
    from studio.pocket.samples import sample_photos

    (path,) = sample_photos(tmp_path_factory.mktemp("photo"), count=1, size_px=64)
    photo = path.read_bytes()
    sha256 = hashlib.sha256(photo).hexdigest()
    assert ada.put(f"/uploads/{sha256}", content=photo).status_code == 201

    def made(verb: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = ada.post(f"/v1/{verb}", json=body)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = ada.get(answer.headers["location"]).json()
        return job

    photos = [{"name": PHOTO_NAME, "sha256": sha256}]
    check = made("check", {"photos": photos, "subject": "Ada", "class_noun": "woman", "min_photos": 1})
    train = made("train", {"check": check["id"], "steps": 60, "method": {"rank": 4}})
    generate = made("generate", {"run": train["id"], "pack": "places", "count": 2})
    finish = made("finish", {"job": generate["id"], "chain": "plain_white"})
    export = made("export", {"run": train["id"]})
    return {"check": check, "train": train, "generate": generate, "finish": finish, "export": export}


def secrets_of(work: Work) -> list[str]:
    return [*(job["id"] for job in work.values()), work["train"]["code"], PHOTO_NAME]


def bodies(work: Work) -> dict[str, list[dict[str, Any]]]:
    """Return, by path, the requests in which Eve names what is Ada's."""
    check, run, code, made = (work["check"]["id"], work["train"]["id"], work["train"]["code"], work["generate"]["id"])
    return {
        "/v1/check": [{"edits": check}],
        "/v1/jobs/{job_id}": [{"name": "hers"}],
        "/v1/jobs/{job_id}/hearts": [{"files": ["images/beach/00.png"]}],
        "/v1/subjects/{subject}": [{"name": "hers"}],
        "/v1/train": [{"check": check}],
        "/v1/generate": [{"run": name, "pack": "places"} for name in (run, code)],
        "/v1/finish": [{"job": made, "chain": "plain_white"}],
        "/v1/export": [{"run": name} for name in (run, code)],
        "/v1/publish": [{"run": name, "repo": "eve/x", "dry_run": True} for name in (run, code)],
    }


def test_by_the_description_nothing_of_anothers_can_be_reached(
    ada: httpx.Client, eve: httpx.Client, work: Work
) -> None:
    described = eve.get("/v1/openapi.json").json()["paths"]
    before = [ada.get(f"/v1/jobs/{job['id']}").json() for job in work.values()]
    own, hidden, tried = bodies(work), secrets_of(work), 0
    for path, operations in described.items():
        for method, operation in operations.items():
            names = re.findall(r"{(\w+)}", path)
            ids = [*(job["id"] for job in work.values()), work["train"]["code"]] if names else [""]
            for one in ids:
                place = re.sub(r"{\w+}", one, path)
                for body in own.get(path, [{}]) if "requestBody" in operation else [None]:
                    answer = eve.request(method, place, json=body)
                    tried += 1
                    told = f"{method} {place} {body}: {answer.status_code} {answer.text[:300]}"
                    if names or path in own:
                        assert answer.status_code == 404, told
                    else:
                        assert not [secret for secret in hidden if secret in answer.text], told
                        assert answer.status_code < 500, told
    assert tried > 40
    for source in (work["check"]["id"], work["train"]["id"]):
        answer = eve.get("/v1/jobs", params={"source": source, "cursor": source})
        assert answer.status_code == 404 or answer.json()["items"] == []
    assert [ada.get(f"/v1/jobs/{job['id']}").json() for job in work.values()] == before


def test_no_link_of_anothers_opens(ada: httpx.Client, eve: httpx.Client, work: Work) -> None:
    links = [f"/hearts/{work['generate']['id']}"]
    for job in work.values():
        links.append(f"/files/{job['id']}")
        for row in ada.get(f"/files/{job['id']}").json()["files"]:
            link = f"/files/{job['id']}/{row['path']}"
            assert ada.get(link).status_code == 200, link
            links += [link, f"{link}?small=true"]
    assert len(links) > 20
    for link in links:
        assert eve.get(link).status_code == 404, link
    assert eve.get("/uploads").json() == {"held": []}


def test_the_routes_of_other_services_know_nothing_of_anothers(eve: httpx.Client, work: Work) -> None:
    code, run = work["train"]["code"], work["train"]["id"]
    for path in ("/openai/v1/models", "/replicate/v1/predictions", "/replicate/v1/trainings"):
        assert not [secret for secret in secrets_of(work) if secret in eve.get(path).text], path
    for name in (code, run):
        order = {"model": name, "prompt": "photo of {subject}"}
        assert eve.post("/openai/v1/images/generations", json=order).status_code == 404
        assert eve.get(f"/openai/v1/models/{name}").status_code == 404
    for kind in ("trainings", "predictions"):
        for job in work.values():
            assert eve.get(f"/replicate/v1/{kind}/{job['id']}").status_code == 404
            assert eve.post(f"/replicate/v1/{kind}/{job['id']}/cancel").status_code == 404


def test_gradios_endpoints_and_files_know_nothing_of_anothers(
    address: str,
    ada: httpx.Client,
    eve: httpx.Client,
    work: Work,
    settings: Settings,
    tmp_path: Path,
) -> None:
    program = Client(address, token=eve.text, verbose=False, analytics_enabled=False)  # type: ignore[attr-defined]
    try:
        assert program.predict(api_name="/jobs") == []
        for job in work.values():
            for name in ("/job", "/cancel", "/forget"):
                with pytest.raises(AppError, match="is not there"):
                    program.predict(job["id"], api_name=name)
    finally:
        program.close()
    files = {"files": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(64), "image/png")}
    (path,) = ada.post("/gradio_api/upload", files=files).json()
    assert ada.get(f"/gradio_api/file={path}").status_code == 200
    assert eve.get(f"/gradio_api/file={path}").status_code == 404
    assert eve.get(f"/gradio_api/file={settings.home}/jobs.sqlite3").status_code == 404
    begun = ada.post("/gradio_api/call/jobs", json={"data": [50, ""]})
    if begun.status_code == 200:
        assert eve.get(f"/gradio_api/call/jobs/{begun.json()['event_id']}").status_code == 404


def test_without_a_key_nothing_answers_but_the_page_that_asks_for_one(address: str) -> None:
    with httpx.Client(base_url=address) as nobody:
        for path in ("/", "/config", "/v1/health", "/v1/openapi.json", "/files/x", "/gradio_api/info", "/theme.css"):
            answer = nobody.get(path)
            assert answer.status_code == 401 and "API key" in answer.text, path
        page = nobody.get("/", headers={"accept": "text/html"})
        assert page.status_code == 401 and "Sign in with your key" in page.text
        for wrong in ("lsk_000000000000_" + "a" * 43, "off", "x"):
            assert nobody.get("/v1/jobs", headers={"authorization": f"Bearer {wrong}"}).status_code == 401


def test_a_browser_signs_in_and_out_with_a_cookie_that_is_not_the_key(
    address: str, ada: httpx.Client, keys: Keys
) -> None:
    with httpx.Client(base_url=address, timeout=60) as browser:
        refused = browser.post("/sign-in", data={"key": "lsk_wrong"})
        assert refused.status_code == 401 and "This key opens nothing here" in refused.text
        key, text = keys.create(owner="ada", scopes=("jobs",))
        entered = browser.post("/sign-in", data={"key": f" {text} "})
        assert entered.status_code == 303 and entered.headers["location"] == "/"
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and text[len(key.id) + 1 :] not in cookie
        page = browser.get("/", headers={"accept": "text/html"})
        assert page.status_code == 200 and "Sign in with your key" not in page.text
        described = browser.get("/config").text
        assert "Log in with Hugging Face" not in described and "/sign-out" in described
        foreign = {"origin": "https://evil.example"}
        assert browser.post("/v1/check", json={}, headers=foreign).status_code == 403
        keys.revoke(key.id)
        told = browser.get("/", headers={"accept": "text/html"})
        assert told.status_code == 401 and "This key is revoked" in told.text
        out = browser.post("/sign-out")
        assert out.status_code == 303 and "Max-Age=0" in out.headers["set-cookie"]


def test_scopes_hold_on_every_way_in(client: Callable[..., httpx.Client], work: Work) -> None:
    reader, worker = client("ada", "read"), client("ada", "jobs")
    job = work["export"]["id"]
    assert reader.get(f"/v1/jobs/{job}").status_code == 200
    writes = (
        ("PUT", f"/uploads/{'0' * 64}"),
        ("POST", "/checks"),
        ("POST", "/v1/check"),
        ("POST", f"/v1/jobs/{job}/cancel"),
        ("DELETE", f"/v1/jobs/{job}"),
        ("POST", "/remove"),
        ("POST", "/openai/v1/images/generations"),
        ("POST", "/gradio_api/upload"),
    )
    for method, path in writes:
        answer = reader.request(method, path, json={} if method == "POST" else None)
        assert answer.status_code == 403 and "needs the scope jobs" in answer.text, path
    called = reader.post("/gradio_api/run/cancel", json={"data": [job]})
    assert called.status_code == 422 and "needs the scope jobs" in called.text
    assert reader.get(f"/v1/jobs/{job}").json()["state"] != "cancelled"
    order = {"run": work["train"]["id"], "repo": "ada/x", "dry_run": True}
    assert "needs the scope publish" in worker.post("/v1/publish", json=order).text
    order = {"check": work["check"]["id"], "publish": {"repo": "ada/x"}, "token": "hf_write0123456789"}
    refused = worker.post("/v1/train", json=order)
    assert refused.status_code == 403 and "needs the scope publish" in refused.text


def test_a_revoked_and_an_expired_key_are_refused_at_the_next_request(
    client: Callable[..., httpx.Client], keys: Keys
) -> None:
    revoked, expired = client("ada", "read"), client("ada", "read", days=1)
    assert revoked.get("/v1/jobs").status_code == expired.get("/v1/jobs").status_code == 200
    keys.revoke(revoked.key_id)  # type: ignore[attr-defined]
    with keys._database.write() as db:
        db.execute(update(KEYS).where(KEYS.c.id == expired.key_id).values(expires_s=1.0))  # type: ignore[attr-defined]
    for one, words in ((revoked, "revoked"), (expired, "expired")):
        answer = one.get("/v1/jobs")
        assert answer.status_code == 401 and words in answer.json()["detail"]


def test_an_open_stream_of_events_ends_within_seconds_of_a_revocation(
    client: Callable[..., httpx.Client], keys: Keys, work: Work
) -> None:
    reader = client("ada", "read")
    began = threading.Event()
    ended_s: list[float] = []

    def follow() -> None:
        with reader.stream("GET", f"/v1/jobs/{work['export']['id']}/events") as stream:
            for _ in stream.iter_bytes():
                began.set()
        ended_s.append(time.monotonic())

    thread = threading.Thread(target=follow)
    thread.start()
    assert began.wait(20)
    time.sleep(3)
    assert thread.is_alive(), "while the key opens something, so does the stream"
    revoked_s = time.monotonic()
    keys.revoke(reader.key_id)  # type: ignore[attr-defined]
    thread.join(20)
    assert not thread.is_alive() and ended_s[0] - revoked_s < 10


def test_a_key_may_ask_so_often_and_send_so_much(client: Callable[..., httpx.Client]) -> None:
    often = client("ada", "read", requests_per_minute=3)
    answers = [often.get("/v1/health") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["ratelimit"].startswith('"minute";r=2;t=')
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert answers[3].headers["content-type"] == "application/problem+json"
    much = client("ada", "jobs", body_bytes=100)
    assert much.post("/v1/check", content=b"x" * 101).status_code == 413
    assert much.post("/v1/check", content=iter([b"x" * 60, b"x" * 60])).status_code == 413
    assert much.post("/v1/check", json={"photos": []}).status_code == 422


def test_quotas_are_refused_with_words_and_usage_tells_them(client: Callable[..., httpx.Client], work: Work) -> None:
    small = client("ada", "jobs", jobs=1, photos=1)
    refused = small.post("/v1/generate", json={"run": work["train"]["id"], "pack": "places"})
    assert refused.status_code == 429
    (problem,) = refused.json()["problems"]
    assert problem["where"] == "jobs" and "1 may be" in problem["message"]
    told = small.get("/v1/usage").json()
    assert told["jobs"] == {"used": 1, "limit": 1} and told["photos"] == {"used": 1, "limit": 1}
    assert told["owner"] == "ada" and told["key"]["scopes"] == ["jobs"]
    assert client("eve", "read").get("/v1/usage").json()["jobs"]["used"] == 0


def test_an_administrator_acts_for_others_and_each_time_is_written_down(
    client: Callable[..., httpx.Client], keys: Keys, work: Work
) -> None:
    job = work["check"]["id"]
    as_ada = {"x-studio-owner": "ada"}
    admin = client("root", "admin")
    assert admin.get(f"/v1/jobs/{job}").status_code == 404, "in its own name it is nobody else"
    before = len(keys.accesses())
    assert admin.get(f"/v1/jobs/{job}", headers=as_ada).json()["id"] == job
    rows = keys.accesses()
    assert len(rows) == before + 1 and rows[0]["key"] == admin.key_id  # type: ignore[attr-defined]
    assert (rows[0]["owner"], rows[0]["method"], rows[0]["path"]) == ("ada", "GET", f"/v1/jobs/{job}")
    assert admin.delete("/v1/subjects/Nobody%20Here?dry_run=true", headers=as_ada).status_code == 404
    assert keys.accesses()[0]["path"] == "/v1/subjects/...", "what is kept for good names nobody"
    eve = client("eve")
    assert eve.get(f"/v1/jobs/{job}", headers=as_ada).status_code == 403
    assert len(keys.accesses()) == before + 2
