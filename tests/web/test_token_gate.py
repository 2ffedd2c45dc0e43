"""The gate of a server without logins: its token, or nothing."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from gradio_client import Client
from starlette.testclient import TestClient

from studio.core.errors import InputError
from studio.core.settings import Settings
from studio.remote.client import Server
from studio.web import guard, server, token_gate

TOKEN = "the-token-of-this-very-server"


@pytest.fixture
def app() -> FastAPI:
    """An app with one route that nobody told the gate about."""
    made = FastAPI()

    @made.get("/v1/jobs")
    @made.post("/v1/jobs")
    @made.get("/")
    def jobs() -> list[str]:
        return ["somebody's"]

    made.add_middleware(token_gate.TokenMiddleware, token=TOKEN)
    made.add_middleware(guard.GuardMiddleware, settings=Settings())
    return made


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1:7860", follow_redirects=False)


def test_a_new_route_is_closed_without_a_token(client: TestClient) -> None:
    for answer in (client.get("/v1/jobs"), client.post("/v1/jobs"), client.get("/"), client.get("/not-there")):
        assert answer.status_code == 401 and "Bearer TOKEN" in answer.json()["error"]
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer  {TOKEN} "}, 200),
        ({"x-hf-authorization": f"Bearer {TOKEN}"}, 200),
        ({"x-studio-token": TOKEN}, 200),
        ({"authorization": "Bearer "}, 401),
        ({"authorization": f"Bearer {TOKEN}x"}, 401),
        ({"authorization": "Bearer hf_0123456789"}, 401),
        ({"x-studio-token": ""}, 401),
        ({"x-studio-token": TOKEN[:-1]}, 401),
        ({"cookie": f"studio={TOKEN}"}, 401),
        ({"cookie": "=;;;\x01"}, 401),
        ({"x-studio-token": "tökén"}, 401),
    ],
)
def test_programs_send_the_token_in_a_header(client: TestClient, headers: dict[str, str], status: int) -> None:
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    assert client.get("/v1/jobs", headers=sent).status_code == status  # type: ignore[arg-type]
    assert client.get(f"/v1/jobs?token={TOKEN}").status_code == 401, "an address is logged and kept; only / takes it"


def test_a_browser_gets_its_cookie_by_the_printed_address(client: TestClient) -> None:
    page = {"accept": "text/html"}
    asked = client.get("/", headers=page)
    assert asked.status_code == 401 and '<input type="password" name="token"' in asked.text
    assert client.get("/?token=wrong", headers=page).status_code == 401 and not client.cookies
    opened = client.get(f"/?job=train-1&token={TOKEN}", headers=page)
    assert opened.status_code == 303 and opened.headers["location"] == "/?job=train-1"
    kept = opened.headers["set-cookie"]
    assert "HttpOnly" in kept and "SameSite=Lax" in kept and TOKEN not in kept
    assert client.get("/v1/jobs").json() == ["somebody's"]
    assert client.post("/v1/jobs").status_code == 200
    foreign = client.post("/v1/jobs", headers={"origin": "http://127.0.0.1:8000"})
    assert foreign.status_code == 403, "the cookie comes along, the origin tells"


def test_the_body_of_a_request_without_a_token_is_not_read(app: FastAPI) -> None:
    async def unread() -> Any:
        raise AssertionError("somebody read it")

    async def send(message: Any) -> None:
        sent.append(message.get("status"))

    sent: list[int | None] = []
    headers = [(b"host", b"127.0.0.1:7860"), (b"content-length", b"4000000")]
    scope = {"type": "http", "method": "POST", "path": "/v1/jobs", "headers": headers, "query_string": b""}
    asyncio.run(app({**scope, "raw_path": b"/v1/jobs", "root_path": ""}, unread, send))
    assert sent[0] == 401


def test_two_studios_on_one_host_keep_their_cookies_apart() -> None:
    async def nothing(*_: Any) -> None: ...

    names = {token_gate.TokenMiddleware(nothing, token)._cookie for token in (TOKEN, TOKEN + "2")}
    assert len(names) == 2


def test_others_never_reach_a_server_without_a_token(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, host="0.0.0.0", port=0, token="off")
    with pytest.raises(InputError, match="STUDIO_TOKEN: cannot be off"):
        server.serve(settings, on_ready=lambda address: None)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("token") / "home"


@pytest.fixture(scope="module")
def address(home: Path, serving: Any, settings: Settings) -> Iterator[str]:
    """The whole app with the token that it made."""
    made = settings.model_copy(update={"home": home})
    with serving(made, home.parent / "log.txt", token="") as found:
        yield found


def test_every_route_of_the_whole_app_is_closed_without_the_token(address: str) -> None:
    paths = ["/", "/config", "/theme.css", "/uploads", "/files/x", "/checks", "/assets/x.js", "/v1/jobs", "/login"]
    paths += [
        f"/gradio_api/{name}" for name in ("info", "openapi.json", "queue/join", "run/jobs", "call/jobs", "upload")
    ]
    for path in paths:
        for method in ("GET", "POST", "PUT", "HEAD"):
            assert httpx.request(method, address + path).status_code in (401, 415), (method, path)


def test_programs_with_the_token_work(address: str, home: Path, tmp_path: Path) -> None:
    token = (home / "server-token").read_text().strip()
    client = Client(address, token=token, verbose=False, analytics_enabled=False, download_files=tmp_path)
    other = Client(
        address, headers={"Authorization": f"Bearer {token}"}, verbose=False, analytics_enabled=False,
        download_files=tmp_path,
    )  # fmt: skip
    try:
        assert client.predict(api_name="/bases") == other.predict(api_name="/bases")
    finally:
        client.close()
        other.close()
    with Server(f"{address}/?token={token}") as studio:
        assert studio.choices("bases") and studio.held() == frozenset() and token not in studio.url
    assert re.search(r"gradio", httpx.get(f"{address}/", headers={"x-studio-token": token}).text)
