import socket
import threading
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
        server.jobs(1)
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


def told_by(*streams: str) -> tuple[Server, list[httpx2.Request]]:
    """Return a server with one stream for each connection, and what it was asked."""
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, text=streams[min(len(asked), len(streams)) - 1])

    return transport(answer), asked


def test_the_events_of_a_job_come_once_each_and_end_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LOOK_S", 0.01)
    state = 'event: state\ndata: {"state": "training", "queue_position": null}\n\n'
    first = 'id: 7\nevent: progress\ndata: {"step": 1}\n\n'
    second = 'id: 8\nevent: progress\ndata: {"step": 2}\n\n'
    end = 'event: end\ndata: {"id": "j", "state": "completed", "queue_position": null}\n\n'
    cut = f"retry: 2000\n\n{state}{first}id: 8\nevent: prog"
    server, asked = told_by(cut, f": still here\n\n{second}{end}")
    found = list(server.told("j"))
    assert [told.number for told in found] == [0, 7, 8, 0] and [row.url.params["after"] for row in asked] == ["0", "7"]
    assert found[-1].kind == "end" and found[-1].data == {"id": "j", "state": "completed", "place": None}
    assert "queue_position" in found[0].data


def test_following_a_silent_job_ends_when_nobody_wants_to_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_LOOK_S", 0.01)
    wanted = iter([False, False, True, True])
    server, asked = told_by("retry: 2000\n\n")
    assert list(server.told("j", should_end=lambda: next(wanted))) == [] and asked


def test_a_stream_that_is_refused_or_never_opens_says_so() -> None:
    gone = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is no job", "problems": []}
    with pytest.raises(NotFoundError, match="there is no job"):
        list(transport(lambda request: httpx2.Response(404, json=gone)).told("j"))
    with Server(DEAD, patience_s=0, contact_s=0) as server, pytest.raises(ServerGoneError):
        list(server.told("j"))


def test_a_long_list_of_jobs_comes_in_parts() -> None:
    asked: list[dict[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        begin = int(asked[-1].get("cursor", 0))
        rows = [{"id": str(begin + number), "queue_position": 1} for number in range(int(asked[-1]["limit"]))]
        return httpx2.Response(200, json={"items": rows, "next_cursor": str(begin + len(rows))})

    rows = transport(answer).jobs(450)
    assert [row["id"] for row in rows] == [str(number) for number in range(450)] and rows[0]["place"] == 1
    assert asked == [{"limit": "200"}, {"limit": "200", "cursor": "200"}, {"limit": "50", "cursor": "400"}]


def test_what_an_abandoned_connection_still_tells_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A try that was given up opens while the next one does."""
    event = 'id: 1\nevent: progress\ndata: {"step": 1}\n\n'
    end = 'event: end\ndata: {"id": "j", "state": "completed"}\n\n'
    tries: list[int] = []
    late = threading.Event()

    def answer(request: httpx2.Request) -> httpx2.Response:
        tries.append(1)
        if len(tries) == 1:
            late.wait(10)
            return httpx2.Response(200, text=event)
        late.set()
        time.sleep(0.3)
        return httpx2.Response(200, text=event + end)

    server = transport(answer)
    monkeypatch.setattr(server, "_timeout", lambda: httpx2.Timeout(1.0))
    assert [told.number for told in server.told("j")] == [1, 0] and len(tries) == 2
