"""Two people at one studio: what is Ada's cannot be reached by Eve, whatever she knows of it.

One server of its own process with login on, as on a Space; the Hub is its stand-in, and the cookies are signed with the
secret that Gradio takes from the environment of a Space.
"""

import hashlib
import importlib.util
import json
import re
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import itsdangerous
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from studio.core.errors import InputError, NotFoundError
from studio.core.settings import Settings
from studio.remote.client import Server

TESTS = Path(__file__).parents[1]
ADA, EVE, APP = "hf_write0123456789", "hf_other0123456789", "hf_oauth0123456789"


def load(name: str, path: Path) -> ModuleType:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


EDGE = load("edge_of_login", TESTS / "web" / "conftest.py")
HUB = load("hub_of_login", TESTS / "reference" / "hub_stand_in.py")
LOGIN = load("login_stand_in", TESTS / "reference" / "login_stand_in.py")
SECRET = LOGIN.CLIENT_SECRET
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "ada/studio",
    "OAUTH_CLIENT_ID": LOGIN.CLIENT_ID,
    "OAUTH_CLIENT_SECRET": SECRET,
    "OAUTH_SCOPES": "openid profile",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("login")
    return Settings(
        home=folder / "home", port=0, presets_dir=EDGE.write_presets(folder / "presets"), login=True,
        admins=f"hf:0, hf:{HUB.account_id('ada')}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "server.txt"


@pytest.fixture(scope="module")
def hub() -> Iterator[Any]:
    with HUB.serve() as hub:
        hub.accounts[APP] = {"name": "ada", "role": "write", "auth": "oauth"}
        yield hub


@pytest.fixture(scope="module")
def provider() -> Iterator[Any]:
    with LOGIN.serve() as provider:
        yield provider


@pytest.fixture(scope="module")
def address(settings: Settings, log: Path, hub: Any, provider: Any) -> Iterator[str]:
    places = {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "OPENID_PROVIDER_URL": provider.address}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SPACE, **places}.items():
            patch.setenv(name, value)
        # On a Space Gradio asks the package "spaces" to wrap each function; the folder of that name is none.
        (settings.home.parent / "studio").symlink_to(TESTS.parent / "studio")
        with EDGE.serve(settings, log, root=settings.home.parent) as url:
            yield url


def cookie(name: str, *, secret: str = SECRET, left_s: float = 3600) -> dict[str, str]:
    """Return the cookie of somebody who has logged in."""
    person = {"sub": HUB.account_id(name), "preferred_username": name, "name": name, "profile": "", "picture": ""}
    info = {
        "access_token": f"hf_oauth_of_{name}",
        "scope": "openid profile",
        "expires_at": int(time.time() + left_s),
        "userinfo": person,
    }
    signer = itsdangerous.TimestampSigner(hashlib.sha256(f"{secret}-v4".encode()).hexdigest())
    return {"session": signer.sign(b64encode(json.dumps({"oauth_info": info}).encode())).decode()}


@pytest.fixture(scope="module")
def browsers(address: str) -> Iterator[Callable[..., httpx.Client]]:
    opened = []

    def browser(name: str | None = None, **options: Any) -> httpx.Client:
        cookies = cookie(name, **options) if name else None
        opened.append(httpx.Client(base_url=address, cookies=cookies, timeout=60))
        return opened[-1]

    yield browser
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def ada(browsers: Callable[..., httpx.Client]) -> httpx.Client:
    return browsers("ada")


@pytest.fixture(scope="module")
def eve(browsers: Callable[..., httpx.Client]) -> httpx.Client:
    return browsers("eve")


@pytest.fixture(scope="module")
def nobody(browsers: Callable[..., httpx.Client]) -> httpx.Client:
    return browsers()


@pytest.fixture(scope="module")
def programs(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Client]]:
    made = {
        name: Client(
            address,
            token=token,
            verbose=False,
            download_files=tmp_path_factory.mktemp(name),
            analytics_enabled=False,
        )
        for name, token in (("ada", ADA), ("eve", EVE))
    }
    yield made
    for client in made.values():
        client.close()


@pytest.fixture(scope="module")
def work(programs: dict[str, Client], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What Ada has done: a check of her photos, a run, pictures."""
    from studio.pocket.samples import sample_photos

    client = programs["ada"]
    photos = [handle_file(str(path)) for path in sample_photos(tmp_path_factory.mktemp("photos"), count=6, size_px=64)]
    check = client.predict(photos, "Ada", "woman", api_name="/check_photos")
    run = client.predict(check["id"], settings={"steps": 60}, api_name="/train")
    made = client.predict(run["id"], pack="places", api_name="/generate")
    return {"check": check, "train": run, "generate": made}


def uploaded(browser: httpx.Client, name: str = "face.jpg", data: bytes = b"a face") -> str:
    answer = browser.post("/gradio_api/upload", files={"files": (name, data, "image/jpeg")})
    assert answer.status_code == 200, answer.text
    (path,) = answer.json()
    return str(path)


def endpoint(browser: httpx.Client, name: str) -> int:
    rows = browser.get("/config").json()["dependencies"]
    return next(row["id"] for row in rows if row["api_name"] == name)


def asked(browser: httpx.Client, name: str, *data: Any) -> str:
    """Call an endpoint over plain HTTP and return what its stream says."""
    joined = browser.post(f"/gradio_api/call/{name}", json={"data": list(data)})
    assert joined.status_code == 200, joined.text
    return browser.get(f"/gradio_api/call/{name}/{joined.json()['event_id']}").text


def opening(browser: httpx.Client) -> dict[str, Any]:
    """Return the event that fills the page when it is opened."""
    rows = browser.get("/config").json()["dependencies"]
    return next(row for row in rows if row["targets"] and row["targets"][0][1] == "load")


def opened(browser: httpx.Client, session: str, **address: str) -> list[Any]:
    """Open the page in a session and return what is shown."""
    order = {"data": [], "fn_index": opening(browser)["id"], "session_hash": session}
    return list(browser.post("/gradio_api/run/predict", params=address, json=order).json()["data"])


# ----------------------------------------------------------------------------------------------------- who it is


def test_a_login_and_a_personal_token_of_one_account_are_the_same_owner(
    work: dict[str, Any], ada: httpx.Client, programs: dict[str, Client]
) -> None:
    assert work["train"]["owner"] == f"hf:{HUB.account_id('ada')}"
    assert ada.get(f"/files/{work['train']['id']}").json()["state"] == "completed"
    assert work["train"]["id"] in asked(ada, "jobs", 50)
    answer = programs["ada"].predict(work["generate"]["id"], api_name="/job")
    assert Path(answer["files"]["pictures.zip"]).is_file(), "her own files come through Gradio's links"


def test_logging_in_makes_the_visitor_the_owner_of_what_is_theirs_and_logging_out_nobody(
    address: str, provider: Any, work: dict[str, Any]
) -> None:
    """The whole way: Gradio's login, the provider's answer with a signed identity, Gradio's cookie, our owner."""
    held: dict[str, str] = {}

    def follow(url: str) -> httpx.Response:
        # The cookie is for https only, as on a Space, so a client on loopback has to be told to send it.
        cookies = {"cookie": "; ".join(f"{name}={value}" for name, value in held.items())}
        answer = httpx.get(url, headers=cookies, timeout=60)
        for line in answer.headers.get_list("set-cookie"):
            name, _, value = line.partition(";")[0].partition("=")
            held[name] = value
        return follow(str(answer.next_request.url)) if answer.next_request else answer

    for person, status in (("ada", 200), ("eve", 404)):
        provider.person = person
        assert follow(f"{address}/login/huggingface?_target_url=/").status_code == 200
        assert follow(f"{address}/files/{work['train']['id']}").status_code == status
    follow(f"{address}/logout?_target_url=/")
    assert held["session"] == "null"
    assert follow(f"{address}/files/{work['train']['id']}").status_code == 401


def test_a_form_to_change_a_picture_is_refused_in_words_to_those_who_are_known(
    ada: httpx.Client, nobody: httpx.Client
) -> None:
    form = {"files": {"image": ("a.png", b"png", "image/png")}, "data": {"prompt": "a hat"}}
    answer = ada.post("/openai/v1/images/edits", **form)
    assert 400 <= answer.status_code < 500, answer.text
    assert "is not taken" in answer.json()["error"]["message"]
    assert nobody.post("/openai/v1/images/edits", **form).status_code in (401, 404)


@pytest.mark.parametrize("header", ["authorization", "x-hf-authorization"])
def test_plain_routes_take_a_token_from_either_header(address: str, work: dict[str, Any], header: str) -> None:
    with httpx.Client(base_url=address, timeout=60) as program:
        found = {
            name: program.get(f"/files/{work['train']['id']}", headers={header: f"Bearer {token}"}).status_code
            for name, token in (("ada", ADA), ("eve", EVE), ("unknown", "hf_unknown0123456789"), ("app", APP))
        }
    assert found == {"ada": 200, "eve": 404, "unknown": 401, "app": 401}


def test_remote_use_sees_the_jobs_of_the_account_whose_token_it_sends(address: str, work: dict[str, Any]) -> None:
    run = work["train"]["id"]
    with Server(address, token=ADA) as hers, Server(address, token=EVE) as other, Server(address) as unknown:
        assert run in [row["id"] for row in hers.jobs(50)] and "report.json" in [row["path"] for row in hers.files(run)]
        assert other.jobs(50) == []
        with pytest.raises(NotFoundError):
            other.files(run)
        with pytest.raises(InputError, match="Set STUDIO_REMOTE_TOKEN"):
            unknown.jobs(50)


def test_the_token_of_a_login_elsewhere_opens_nothing_and_says_why(address: str) -> None:
    answer = httpx.get(f"{address}/uploads", headers={"authorization": f"Bearer {APP}"})
    assert answer.status_code == 401 and "not a personal access token" in answer.json()["detail"]


def test_the_hub_is_asked_once_about_a_token_and_the_token_is_kept_nowhere(
    address: str, hub: Any, settings: Settings, log: Path, work: dict[str, Any]
) -> None:
    token = "hf_again0123456789"
    hub.accounts[token] = hub.accounts[ADA]
    before = len(hub.asked("GET", "whoami"))
    with httpx.Client(base_url=address, headers={"authorization": f"Bearer {token}"}) as program:
        assert [program.get("/uploads").status_code for _ in range(3)] == [200] * 3
    assert len(hub.asked("GET", "whoami")) == before + 1
    held = [path for path in settings.home.rglob("*") if path.is_file()] + [log]
    for secret in (token, ADA, "hf_oauth_of_ada"):
        assert not [path for path in held if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    "forged",
    [{"secret": ""}, {"secret": "another"}, {"left_s": -1}],
    ids=["without a secret", "another secret", "expired"],
)
def test_a_cookie_that_was_made_up_or_has_expired_is_nobodys(
    browsers: Callable[..., httpx.Client], work: dict[str, Any], forged: dict[str, Any]
) -> None:
    answer = browsers("ada", **forged).get(f"/files/{work['train']['id']}")
    assert answer.status_code == 401 and "log in with Hugging Face" in answer.json()["detail"]


# -------------------------------------------------------------------------------------------------------- nobody


def test_nobody_sees_the_page_with_its_button_and_is_told_to_log_in(nobody: httpx.Client, ada: httpx.Client) -> None:
    page = nobody.get("/config").json()
    (button,) = (row for row in page["components"] if row["props"].get("elem_id") == "ls-login")
    assert button["props"]["value"] == "Log in with Hugging Face"
    notice = next(row["id"] for row in page["components"] if row["props"].get("elem_id") == "ls-login-notice")
    outputs = opening(nobody)["outputs"]
    first, second = opened(nobody, "opened-0"), opened(ada, "opened-1")
    assert "Log in to begin" in first[outputs.index(notice)] and second[outputs.index(notice)] == ""
    assert first[outputs.index(button["id"])]["value"] == "Log in with Hugging Face"
    assert second[outputs.index(button["id"])]["value"] == "Log out (ada)"
    assert [row["api_name"] for row in page["dependencies"] if "login" in str(row["api_name"])] == []


def test_the_pictures_of_the_page_itself_are_everybodys(nobody: httpx.Client) -> None:
    text = json.dumps(nobody.get("/config").json())
    named = {part.split('"')[0] for part in text.split("/gradio_api/file=")[1:]}
    assert named, "the button has a picture"
    for path in named:
        assert nobody.get(f"/gradio_api/file={path}").status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/uploads"),
        ("PUT", f"/uploads/{hashlib.sha256(b'x').hexdigest()}"),
        ("POST", "/checks"),
        ("GET", "/files/train-1"),
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/upload_progress?upload_id=1"),
        ("POST", "/gradio_api/call/jobs"),
        ("POST", "/gradio_api/call/v2/jobs"),
        ("GET", "/gradio_api/call/jobs/1"),
        ("POST", "/gradio_api/run/jobs"),
        ("POST", "/gradio_api/api/jobs"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/stream/1"),
        ("GET", "/gradio_api/file=/etc/passwd"),
    ],
)
def test_nobody_gets_401_and_words_wherever_something_is_somebodys(
    nobody: httpx.Client, method: str, path: str
) -> None:
    answer = nobody.request(method, path, json=None if method == "GET" else {"data": []})
    assert answer.status_code == 401 and "log in with Hugging Face" in answer.json()["detail"]
    form = nobody.request(method, path, files={"files": ("x.jpg", b"x")}) if method == "POST" else answer
    assert form.status_code == (415 if method == "POST" and path != "/gradio_api/upload" else 401)


def test_a_route_that_nobody_listed_is_closed(nobody: httpx.Client, ada: httpx.Client) -> None:
    for path in ("/v9/jobs", "/assets", "/configs", "/login/else", "/gradio_api/v1/jobs"):
        assert nobody.get(path).status_code == 401 and nobody.post(path).status_code == 401, path
    assert ada.get("/v9/jobs").status_code == 404, "there is none; hers is the right to know"


def test_the_body_of_nobody_is_refused_or_small(nobody: httpx.Client) -> None:
    def large() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 2**16

    for path, status in (("/checks", 401), ("/gradio_api/run/predict", 413)):
        assert nobody.post(path, content=large()).status_code == status


def test_a_program_without_a_token_is_told_what_to_send(address: str) -> None:
    client = Client(address, token=False, verbose=False, analytics_enabled=False)
    try:
        assert client.predict(api_name="/bases")
        for name in ("/jobs", "/unpublish"):
            with pytest.raises(AppError, match="Programs send a personal token"):
                client.predict(*(("ada/x", ADA) if name == "/unpublish" else ()), api_name=name)
    finally:
        client.close()


def test_no_event_of_the_page_works_for_nobody(nobody: httpx.Client, work: dict[str, Any], settings: Settings) -> None:
    """Every function of the page is called raw with Ada's ids in all places; none may tell or do anything."""
    rows = nobody.get("/config").json()["dependencies"]
    before = sorted(path for path in settings.home.rglob("*"))
    for row in rows:
        if row["backend_fn"] and row["api_visibility"] == "private":
            order = {
                "fn_index": row["id"],
                "session_hash": "nobody",
                "data": [work["check"]["id"]] * len(row["inputs"]),
            }
            text = nobody.post("/gradio_api/run/predict", json=order).text
            assert "files/" not in text and "web-cache/of-" not in text, row["api_name"]
    assert sorted(path for path in settings.home.rglob("*")) == before


# ---------------------------------------------------------------------------------------------------- by id


def test_by_id_nothing_can_be_looked_at_steered_or_built_on(programs: dict[str, Client], work: dict[str, Any]) -> None:
    eve, ids = programs["eve"], {kind: row["id"] for kind, row in work.items()}
    calls = [
        *(("/job", (ids[kind],)) for kind in ids),
        *(("/cancel", (ids[kind],)) for kind in ids),
        *(("/forget", (ids[kind],)) for kind in ids),
        ("/train", (ids["check"],)),
        ("/plan", (ids["check"],)),
        ("/generate", (ids["train"], "places")),
        ("/export", (ids["train"],)),
        ("/publish", (ids["train"], "eve/stolen", EVE)),
        ("/finish", ([], "plain_white", ids["generate"])),
        ("/contact_sheet", ([], "", 4, ids["generate"])),
    ]
    for name, arguments in calls:
        with pytest.raises(AppError, match="is not there"):
            eve.predict(*arguments, api_name=name)
    assert eve.predict(api_name="/jobs") == []
    assert eve.predict(everything=True, api_name="/forget")["jobs"] == []
    assert programs["ada"].predict(ids["train"], files=False, api_name="/job")["state"] == "completed"


def test_by_id_the_page_shows_nothing(eve: httpx.Client, ada: httpx.Client, work: dict[str, Any]) -> None:
    """The page's own events, raw: addresses that name the library or Ada's job, and lists in which it is chosen."""
    rows = eve.get("/config").json()["dependencies"]
    chosen = [row for row in rows if row["api_name"].startswith(("on_poll", "on_open")) and len(row["inputs"]) == 1]
    seen = {}
    for person, browser in (("ada", ada), ("eve", eve)):
        addresses: list[dict[str, str]] = [{"tab": "library"}, *({"job": job["id"]} for job in work.values())]
        shown = [json.dumps(opened(browser, f"page-{person}", **address)) for address in addresses]
        for row in chosen:
            for job in work.values():
                order = {"fn_index": row["id"], "session_hash": f"page-{person}", "data": [job["id"]]}
                shown.append(browser.post("/gradio_api/run/predict", json=order).text)
        seen[person] = "".join(shown)
    assert f"files/{work['check']['id']}/" in seen["ada"] and "Download the LoRA" in seen["ada"]
    assert not [job["id"] for job in work.values() if f"{job['id']}/" in seen["eve"]]
    assert "web-cache/of-" in seen["ada"] and "web-cache/of-" not in seen["eve"]
    assert "Download the LoRA" not in seen["eve"]


# -------------------------------------------------------------------------------------------------- by path, by link


def test_an_upload_goes_into_its_owners_folder_and_is_nobody_elses(
    ada: httpx.Client, eve: httpx.Client, nobody: httpx.Client, settings: Settings
) -> None:
    hers, other = uploaded(ada), uploaded(eve)
    assert hers != other and Path(hers).read_bytes() == Path(other).read_bytes() == b"a face"
    assert Path(hers).relative_to(settings.home / "web-cache").parts[0].startswith("of-")
    for form in ("file=", "file/", "file%3D"):
        found = [browser.get(f"/gradio_api/{form}{hers}").status_code for browser in (ada, eve, nobody)]
        assert found == [200, 404, 401], form
    assert ada.get(f"/gradio_api/file={hers}").headers["cache-control"].startswith("private")
    folder = Path(other).parent.parent
    around = f"{folder}/%2E%2E/{Path(hers).relative_to(folder.parent)}"
    assert eve.get(f"/gradio_api/file={around}").status_code == 404
    (folder / "link.jpg").symlink_to(hers)
    assert eve.get(f"/gradio_api/file={folder}/link.jpg").status_code == 404


def test_another_persons_file_cannot_be_named_as_ones_own_photo(
    ada: httpx.Client, eve: httpx.Client, settings: Settings, work: dict[str, Any]
) -> None:
    hers = uploaded(ada, "hers.jpg")
    kept = settings.home / "jobs" / work["generate"]["id"] / "out" / "pictures.zip"
    assert kept.is_file()
    for path in (hers, str(kept), "/etc/passwd", str(settings.home / "jobs.sqlite3")):
        named = {"path": path, "meta": {"_type": "gradio.FileData"}}
        order = {"data": [[named], "Eve", "woman", {}, None, "", False]}
        assert eve.post("/gradio_api/call/check_photos", json=order).status_code in (404, 422), path
        joined = {**order, "fn_index": endpoint(eve, "check_photos"), "session_hash": "eves"}
        assert eve.post("/gradio_api/queue/join", json=joined).status_code in (404, 422), path
        assert eve.post("/gradio_api/run/predict", json=joined).status_code in (404, 422), path
    assert Path(hers).is_file()
    order = {"data": [[{"path": hers, "meta": {"_type": "gradio.FileData"}}], "Ada", "woman", {}, None, "", False]}
    assert ada.post("/gradio_api/call/check_photos", json=order).status_code == 200


def test_links_to_pictures_adapters_and_reports_are_her_own(
    ada: httpx.Client, eve: httpx.Client, nobody: httpx.Client, work: dict[str, Any]
) -> None:
    stream = asked(ada, "job", work["generate"]["id"], 0, True)
    lent = {row["path"] for row in json.loads(stream.split("data: ", 1)[1])[0]["files"].values()}
    preview = work["check"]["result"]["verdicts"][0]["preview"]
    links = [f"/gradio_api/file={path}" for path in lent]
    links += [f"/files/{work['train']['id']}/adapter/adapter.json", f"/files/{work['check']['id']}/{preview}"]
    links += [f"/files/{work['generate']['id']}/{name}" for name in ("pictures.zip", "contact_sheet.png")]
    assert len(lent) > 3
    for link in links:
        assert [browser.get(link).status_code for browser in (ada, eve, nobody)] == [200, 404, 401], link


def test_the_plain_routes_hold_uploads_apart(ada: httpx.Client, eve: httpx.Client) -> None:
    digest = hashlib.sha256(b"photo").hexdigest()
    assert ada.put(f"/uploads/{digest}", content=b"photo").status_code == 201
    assert ada.get("/uploads").json() == {"held": [digest]} and eve.get("/uploads").json() == {"held": []}
    answer = eve.post("/checks", json={"photos": [{"sha256": digest, "name": "a.webp"}]})
    assert answer.status_code == 409 and answer.json()["problems"][0]["code"] == "not_uploaded"


# -------------------------------------------------------------------------------------------------- by raw event


def test_an_event_and_its_session_answer_to_their_owner_only(
    ada: httpx.Client, eve: httpx.Client, nobody: httpx.Client
) -> None:
    order = {"data": [50], "fn_index": endpoint(ada, "jobs"), "session_hash": "hers"}
    event = ada.post("/gradio_api/queue/join", json=order).json()["event_id"]
    wanted = [
        ("GET", "/gradio_api/queue/data?session_hash=hers", None),
        ("GET", "/gradio_api/queue/data?session_hash=eves&session_hash=hers", None),
        ("GET", "/gradio_api/heartbeat/hers", None),
        ("GET", f"/gradio_api/call/jobs/{event}", None),
        ("GET", f"/gradio_api/call/v2/jobs/{event}", None),
        ("POST", "/gradio_api/cancel", {"session_hash": "hers", "fn_index": 0, "event_id": event}),
        ("POST", "/gradio_api/cancel", {"session_hash": "eves", "fn_index": 0, "event_id": event}),
        ("POST", "/gradio_api/queue/join", order),
        ("POST", "/gradio_api/run/predict", order),
        ("POST", "/gradio_api/call/jobs", {"data": [50], "session_hash": "hers"}),
        ("POST", "/gradio_api/component_server", {"session_hash": "hers", "data": 1}),
        ("GET", "/gradio_api/stream/hers/1/1/playlist.m3u8", None),
    ]
    for browser, status in ((eve, 404), (nobody, 401)):
        for method, path, body in wanted:
            with browser.stream(method, path, json=body) as answer:
                assert answer.status_code == status, (method, path)
    unused = {"session_hash": "eves", "component_id": 1, "fn_name": "ls", "data": 1}
    closed = eve.post("/gradio_api/component_server", json=unused)
    others = ("stream/eves/1/1/playlist.m3u8", "custom_component/1/client/component/index.js", "of-a-later-version")
    for answer in (closed, *(eve.get(f"/gradio_api/{path}") for path in others)):
        assert answer.json()["detail"] == "There is no such thing of yours here.", "not even one's own"
    with ada.stream("GET", "/gradio_api/queue/data?session_hash=hers") as answer:
        told = next(line for line in answer.iter_lines() if "process_completed" in line)
    assert event in told and '"success":true' in told, "nobody had taken the answer away"


def test_the_progress_of_an_upload_is_told_to_its_owner_only(ada: httpx.Client, eve: httpx.Client) -> None:
    sent = ada.post("/gradio_api/upload?upload_id=hers", files={"files": ("ada-at-home.jpg", b"x" * 1000)})
    assert sent.status_code == 200
    assert eve.get("/gradio_api/upload_progress?upload_id=hers").status_code == 404


def test_a_session_of_nobody_is_taken_over_by_who_logs_in(
    ada: httpx.Client, eve: httpx.Client, nobody: httpx.Client
) -> None:
    order = {"data": [], "fn_index": endpoint(nobody, "presets"), "session_hash": "before"}
    for browser, status in ((nobody, 200), (ada, 200), (nobody, 401), (eve, 404)):
        assert browser.post("/gradio_api/queue/join", json=order).status_code == status


# -------------------------------------------------------------------------------------------------------- login off


def test_without_a_login_there_is_no_button_and_a_cookie_changes_nothing(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SPACE:
        monkeypatch.delenv(name, raising=False)
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=EDGE.write_presets(tmp_path / "presets"))
    with EDGE.serve(settings, tmp_path / "log.txt") as address:
        page = httpx.get(f"{address}/config").json()
        assert [row for row in page["components"] if row["props"].get("elem_id") == "ls-login"] == []
        assert httpx.get(f"{address}/login/huggingface").status_code == 404
        assert httpx.get(f"{address}/uploads", cookies=cookie("ada")).json() == {"held": []}
        with httpx.Client(base_url=address) as browser:
            path = uploaded(browser)
            assert Path(path).parent.parent == settings.home / "web-cache"
            assert browser.get(f"/gradio_api/file={path}").content == b"a face"


def test_on_this_machine_a_login_can_be_looked_at_when_it_is_asked_for(
    tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradio plays it, of whoever this machine is logged in as."""
    for name in SPACE:
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": ADA}.items():
        monkeypatch.setenv(name, value)
    presets = EDGE.write_presets(tmp_path / "presets")
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=presets, login=True)
    with EDGE.serve(settings, tmp_path / "log.txt") as address, httpx.Client(base_url=address) as browser:
        assert browser.get("/uploads").status_code == 401
        answer = browser.get("/login/callback?_target_url=/")
        session = answer.headers["set-cookie"].partition(";")[0].partition("=")[2]
        browser.cookies.set("session", session)
        assert browser.get("/uploads").json() == {"held": []}
        assert "Log out (ada)" in json.dumps(opened(browser, "played"))


# ---------------------------------------------------------------------------------------------------- interfaces


def described(browser: httpx.Client) -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and body of a request to every route of the description; ids are to be filled in."""
    paths = browser.get("/v1/openapi.json").json()["paths"]
    rows = []
    for path, methods in paths.items():
        for method, row in methods.items():
            body = row.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
            rows.append((method.upper(), path, body or {}))
    return rows


HANDLES = {"check": "check", "run": "train", "job": "generate", "edits": "check", "pictures_job": "generate"}
"""Field of a body that names a job -> the kind of job that it names."""


def named(path: str, body: dict[str, Any], ids: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Return a request with the ids of jobs in it."""
    body = {name: ids[HANDLES[name]] if name in HANDLES else value for name, value in body.items()}
    return path.replace("{job_id}", ids["generate"]).replace("{adapter}", ids["train"]), body


def timeless(text: str) -> str:
    """Return an answer without what differs between two receipts of nothing."""
    return re.sub(r'"(id|asked_s|forgotten_s)":("[0-9a-f]{16}"|[0-9.]+)', r'"\1":0', text)


def test_eve_gets_on_every_described_route_what_a_thing_that_is_not_there_gets(
    address: str, ada: httpx.Client, eve: httpx.Client, nobody: httpx.Client, work: dict[str, dict[str, Any]]
) -> None:
    hers = {kind: job["id"] for kind, job in work.items()}
    lost = {kind: f"{kind}-ffffffffffffffff" for kind in work}
    code = ada.get(f"/v1/adapters/{hers['train']}").json()["code"]
    coded, unknown = {**hers, "train": code}, {**lost, "train": "10000000"}
    rows = described(ada)
    assert len(rows) > 20
    before = ada.get("/v1/jobs").json()
    for method, path, body in rows:
        if path == "/v1/check":  # no upload of Ada's is Eve's: tests/web/test_routes.py; an edit of her set is the rest
            body = {"edits": ""}
        for ids, others in ((hers, lost), (coded, unknown)):
            place, order = named(path, body, ids)
            place_lost, order_lost = named(path, body, others)
            answer = eve.request(method, place, json=order)
            absent = eve.request(method, place_lost, json=order_lost)
            said = answer.text
            for kind in ids:
                said = said.replace(ids[kind], others[kind])
            assert (answer.status_code, timeless(said)) == (absent.status_code, timeless(absent.text)), (method, path)
            if "{" in path or order != body:
                assert answer.status_code == 404, (method, path, answer.text)
            assert not any(id_ in answer.text for id_ in hers.values() if id_ not in (place + json.dumps(order)))
            refused = nobody.request(method, place, json=order)
            assert refused.status_code == 401, (method, path)
            assert refused.headers["content-type"] == "application/problem+json"
    assert eve.get("/v1/jobs").json()["items"] == eve.get("/v1/adapters").json()["items"] == []
    assert ada.get("/v1/jobs").json() == before, "and nothing of hers was changed"
    for query in ({"cursor": hers["train"]}, {"source": hers["check"]}):
        answer = eve.get("/v1/jobs", params=query)
        assert answer.status_code == 404 or answer.json()["items"] == []


def test_a_key_of_adas_is_nothing_to_eve(address: str, ada: httpx.Client, eve: httpx.Client, tmp_path: Path) -> None:
    from studio.pocket.samples import sample_photos

    (photo,) = sample_photos(tmp_path / "one", count=1, size_px=64)
    row = {"name": "a.jpg", "data": b64encode(photo.read_bytes()).decode()}
    first, second = (
        who.post("/v1/check", json={"photos": [row], "class_noun": "woman"}, headers={"idempotency-key": f"k-{name}"})
        for name, who in (("ada", ada), ("eve", eve))
    )
    assert first.status_code == second.status_code == 202 and first.json()["owner"] != second.json()["owner"]
    with eve.stream("GET", f"/v1/jobs/{first.json()['id']}/events") as events:
        assert events.status_code == 404
    for job, who in ((first, ada), (second, eve)):
        assert who.delete(f"/v1/jobs/{job.json()['id']}").status_code == 200


def test_other_interfaces_know_the_same_owners(
    ada: httpx.Client, eve: httpx.Client, nobody: httpx.Client, work: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    from studio.pocket.samples import sample_photos

    run = work["train"]["id"]
    code = ada.get(f"/v1/adapters/{run}").json()["code"]
    assert [row["id"] for row in ada.get("/openai/v1/models").json()["data"]] == [code]
    assert eve.get("/openai/v1/models").json()["data"] == []
    for handle, lost in ((run, "train-ffffffffffffffff"), (code, "10000000")):
        for method, path in (("GET", "/openai/v1/models/{}"), ("POST", "/openai/v1/images/generations")):
            body = {"prompt": "a"} if method == "POST" else {}
            answers = [
                eve.request(method, path.format(name), json={**body, "model": name} if body else None)
                for name in (handle, lost)
            ]
            assert [answer.status_code for answer in answers] == [404, 404]
            assert answers[0].text.replace(handle, lost) == answers[1].text

    hers = {kind: job["id"] for kind, job in work.items()} | {"code": code}
    lost = {kind: f"{kind}-ffffffffffffffff" for kind in work} | {"code": "10000000"}
    root, draw = "/replicate/v1", {"input": {"prompt": "a"}}
    for method, path, order in (
        ("GET", "/trainings/{train}", None),
        ("POST", "/trainings/{train}/cancel", {}),
        ("GET", "/trainings/{code}", None),
        ("GET", "/predictions/{generate}", None),
        ("POST", "/predictions/{generate}/cancel", {}),
        ("GET", "/models/studio/adapter/versions/{code}", None),
        ("POST", "/models/studio/{code}/predictions", draw),
        ("POST", "/predictions", {**draw, "version": "{code}"}),
        ("POST", "/predictions", {**draw, "version": "{train}"}),
        ("POST", "/models/studio/train/versions/default/trainings", {"input": {"check": "{check}"}}),
    ):
        told = []
        for ids in (hers, lost):
            sent = (
                None
                if order is None
                else json.loads(re.sub(r"{(\w+)}", lambda m, ids=ids: ids[m[1]], json.dumps(order)))
            )
            answer = eve.request(method, root + path.format(**ids), json=sent)
            assert nobody.request(method, root + path.format(**ids), json=sent).status_code == 401
            text = answer.text
            for kind in ids:
                text = text.replace(ids[kind], lost[kind])
            told.append((answer.status_code, text))
        assert told[0] == told[1] and told[0][0] == 404, (method, path, told)
    for name, kind in (("trainings", "train"), ("predictions", "generate")):
        assert eve.get(f"{root}/{name}").json()["results"] == []
        assert hers[kind] in [row["id"] for row in ada.get(f"{root}/{name}").json()["results"]]
        assert eve.get(f"{root}/{name}?cursor={hers[kind]}").status_code == 404

    (photo,) = sample_photos(tmp_path / "one", count=1, size_px=64)
    picture = {"input_image": b64encode(photo.read_bytes()).decode()}
    first, second = (who.post("/remove", json=picture) for who in (ada, eve))
    assert first.status_code == second.status_code == 200
    (one,) = ada.get("/v1/jobs?kind=finish").json()["items"]
    (other,) = eve.get("/v1/jobs?kind=finish").json()["items"]
    assert one["id"] != other["id"] and one["owner"] != other["owner"], "the same request is another job of another"
    for method, path in (
        ("POST", "/remove"),
        ("POST", "/remove-opacity"),
        ("POST", "/upsampler"),
        ("GET", "/background"),
        ("GET", "/upscaler/"),
        ("GET", "/openai/v1/models"),
        ("POST", "/openai/v1/images/generations"),
    ):
        assert nobody.request(method, path, json={} if method == "POST" else None).status_code == 401, path
    assert nobody.get("/openai/v1/models").json()["error"]["code"] == "invalid_api_key"


# ------------------------------------------------------------------------------------------------- who runs the studio


def test_an_operator_sees_everybodys_queue_and_nothing_of_what_it_is_about(
    work: dict[str, Any], programs: dict[str, Client]
) -> None:
    seen = programs["ada"].predict(api_name="/admin")
    shares = {share["owner"]: share["jobs"] for share in seen["holdings"]["owners"]}
    assert shares["stranger"] == 1 and shares[work["check"]["owner"]] >= 3
    assert "places" not in json.dumps(seen["queue"]) and "title" not in json.dumps(seen)
    assert programs["ada"].predict(True, api_name="/admin_pause")["paused"] is True
    assert programs["ada"].predict(False, api_name="/admin_pause")["paused"] is False
    with pytest.raises(AppError, match="no job 'train-x'"):
        programs["ada"].predict("train-x", api_name="/admin_cancel")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("admin", ()),
        ("admin_pause", (True,)),
        ("admin_cancel", ("check-foreign",)),
        ("admin_retry", ("check-foreign",)),
        ("admin_clear_results", ()),
    ],
)
def test_who_is_no_operator_is_refused_and_nothing_happens(
    work: dict[str, Any],
    programs: dict[str, Client],
    nobody: httpx.Client,
    settings: Settings,
    name: str,
    given: tuple[Any, ...],
) -> None:
    with pytest.raises(AppError, match="for whoever runs this studio"):
        programs["eve"].predict(*given, api_name=f"/{name}")
    assert nobody.post(f"/gradio_api/call/{name}", json={"data": list(given)}).status_code == 401
    assert not (settings.home / "queue.paused").exists()


def test_the_operators_tab_is_shown_to_operators_only_and_its_buttons_are_closed_to_others(
    ada: httpx.Client, eve: httpx.Client, nobody: httpx.Client
) -> None:
    described = ada.get("/config").json()
    door = next(row["id"] for row in described["components"] if row["props"].get("label") == "Admin")
    assert next(row for row in described["components"] if row["id"] == door)["props"]["visible"] is False
    at = opening(ada)["outputs"].index(door)
    shown = {who: opened(one, f"admin-{who}", tab="admin")[at]["visible"] for who, one in
             (("ada", ada), ("eve", eve), ("nobody", nobody))}  # fmt: skip
    assert shown == {"ada": True, "eve": False, "nobody": False}
    pause = next(row["id"] for row in described["components"] if row["props"].get("value") == "Pause the queue")
    press = next(row for row in described["dependencies"] if [pause, "click"] in row["targets"])
    for one, why in ((eve, "For whoever runs this studio"), (nobody, "Log in with Hugging Face first")):
        order = {"data": [None], "fn_index": press["id"], "session_hash": "pressed-" + why[:3]}
        said = one.post("/gradio_api/run/predict", json=order)
        assert why.lower() in said.text.lower() and "data-queued" not in said.text
