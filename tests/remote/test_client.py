import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from studio.cli import main
from studio.cli import remote as cli_remote
from studio.core.errors import ConflictError, InputError, NotFoundError, ResourceError
from studio.remote import client
from studio.remote.client import Server, ServerGoneError


def transport(answer: Callable[[httpx2.Request], httpx2.Response], **options: Any) -> Server:
    """Return a server whose answers are made up."""
    made = Server("http://studio.example", patience_s=options.pop("patience_s", 30), **options)
    made._http = httpx2.Client(base_url=made.url, headers=made._http.headers, transport=httpx2.MockTransport(answer))
    return made


def test_a_busy_server_is_tried_again_and_a_refusal_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.remote.run.time.sleep", lambda seconds: None)
    answers = [httpx2.Response(status) for status in (503, 429, 502)] + [httpx2.Response(200, json={"held": ["a"]})]
    assert transport(lambda request: answers.pop(0)).held() == {"a"} and not answers
    problem = {"where": "sha256", "message": "is wrong", "cure": "mend it", "code": "digest"}
    for status, kind in ((422, InputError), (404, NotFoundError), (409, ConflictError), (507, ResourceError)):
        body = {"error": "no, thanks", "problems": [problem]}
        asked: list[str] = []

        def refuse(request: httpx2.Request, status: int = status, body: Any = body, asked: Any = asked) -> Any:
            asked.append(request.url.path)
            return httpx2.Response(status, json=body)

        with pytest.raises(kind, match="no, thanks") as caught:
            transport(refuse).upload("0" * 64, b"")
        assert caught.value.problems[0].code == "digest" and len(asked) == 1


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


DEAD = "http://127.0.0.1:9"


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_server_that_never_answered_is_given_up_within_its_time(is_silent: bool, silent_server: str) -> None:
    began_s = time.monotonic()
    address = silent_server if is_silent else DEAD
    gone = pytest.raises(ServerGoneError, match=r"does not answer \(.+\)\. Is a studio running there")
    with Server(address, patience_s=60, contact_s=1) as server, gone:
        server.call("jobs", limit=1)
    assert time.monotonic() - began_s < 4


def test_a_server_that_answered_once_is_waited_for_longer() -> None:
    answers = [httpx2.Response(200, json={"held": []})] + [httpx2.Response(503)] * 2
    server = transport(lambda request: answers.pop(0) if answers else httpx2.Response(200, json={"held": ["a"]}))
    server._contact_s = 0.0
    assert server.held() == frozenset() and server.held() == {"a"}


@pytest.mark.parametrize(
    "verb",
    [["list"], ["status", "x"], ["status", "x", "--watch"], ["cancel", "x"], ["retry", "x"],
     ["download", "x", "--out", "o"], ["generate", "x", "--out", "o", "--pack", "business"],
     ["train", "PHOTOS", "--out", "o"]],
)  # fmt: skip
def test_every_remote_command_gives_up_with_words(
    verb: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In eight seconds unless told otherwise, to which a start is added; here in a fraction of one."""
    assert cli_remote.CONTACT_S <= 10
    monkeypatch.setattr(cli_remote, "CONTACT_S", 0.2)
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "PHOTOS").mkdir()
    began_s = time.monotonic()
    assert main.run(["remote", "--server", DEAD, *verb]) == 1
    assert "does not answer" in capsys.readouterr().err and time.monotonic() - began_s < 5


def test_a_token_is_sent_and_its_lack_is_explained_without_showing_it() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(401)

    with pytest.raises(InputError, match="STUDIO_REMOTE_TOKEN") as caught:
        transport(answer, token="hf_secret", insecure=True).held()
    assert asked[0].headers["authorization"] == "Bearer hf_secret"
    assert "hf_secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "token"),
    [
        ("http://studio.example:7860", "hf_secret0123456789"),
        ("http://192.168.1.20:7860/?token=hf_secret0123456789", None),
        ("http://ada:hf_secret0123456789@studio.example", None),
        ("http://localhost.evil.example", "hf_secret0123456789"),
    ],
)
def test_what_is_secret_crosses_no_network_in_the_open_unless_that_is_accepted(url: str, token: str | None) -> None:
    with pytest.raises(InputError, match=r"plain http.*--insecure") as caught:
        Server(url, token=token)
    assert "hf_secret" not in str(caught.value)
    Server(url, token=token, insecure=True).close()
    Server(url.replace("http://", "https://"), token=token).close()
    Server("http://studio.example:7860").close()


def test_a_password_in_the_address_is_sent_and_never_shown() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        raise httpx2.ConnectError(f"cannot reach https://ada:pass%20word@studio.example {request.url}")

    server = Server("https://ada:pass%20word@studio.example:8443/base/", patience_s=0)
    assert server.url == "https://studio.example:8443/base"
    server._http._transport = httpx2.MockTransport(answer)
    with pytest.raises(client.ServerGoneError) as caught:
        server.held()
    assert asked[0].headers["authorization"] == "Basic YWRhOnBhc3Mgd29yZA=="
    assert str(asked[0].url) == "https://studio.example:8443/base/uploads"
    assert "pass" not in str(caught.value) and "studio.example:8443" in str(caught.value)


@pytest.mark.parametrize("url", ["", "studio.example", "ftp://x", "http://", "http://[", "http://a:b"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InputError, match="not the address of a studio"):
        Server(url)


@pytest.mark.parametrize(
    ("stream", "outcome"),
    [
        ('event: complete\ndata: [{"a": 1}]\n\n', {"a": 1}),
        ("event: heartbeat\ndata: null\n\nevent: complete\ndata: [[]]\n\n", []),
        ('event: error\ndata: {"error": "no such job"}\n\n', InputError),
        ("event: error\ndata: null\n\n", client._RetryableError),
        ("", client._RetryableError),
        ("event: heartbeat\ndata: null\n\n", client._RetryableError),
    ],
)
def test_the_stream_of_an_endpoint_is_read(stream: str, outcome: Any) -> None:
    if isinstance(outcome, type):
        with pytest.raises(outcome):
            client._answer(stream)
    else:
        assert client._answer(stream) == outcome
