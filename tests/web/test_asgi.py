import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from studio.web import asgi


def channel(*messages: dict[str, Any]) -> asgi.Receive:
    left = list(messages)

    async def receive() -> asgi.Message:
        return left.pop(0)

    return receive


def test_a_body_that_was_read_is_given_on_before_what_follows() -> None:
    more = {"type": "http.request", "body": b"a", "more_body": True}
    last = {"type": "http.request", "body": b"b", "more_body": False}

    async def both() -> tuple[bytes, list[asgi.Message]]:
        receive = channel(more, last, {"type": "http.disconnect"})
        body = await asgi.read(receive)
        again = asgi.replayed(body, receive)
        return body, [await again(), await again()]

    body, messages = asyncio.run(both())
    assert body == b"ab"
    assert messages == [{"type": "http.request", "body": b"ab", "more_body": False}, {"type": "http.disconnect"}]


def test_a_client_that_goes_away_does_not_keep_the_reader() -> None:
    assert asyncio.run(asgi.read(channel({"type": "http.disconnect"}))) == b""


def test_a_refusal_says_its_words_and_what_is_wrong() -> None:
    sent: list[Any] = []

    async def send(message: asgi.Message) -> None:
        sent.append(message)

    rows = [{"where": "steps", "message": "is too large"}]
    asyncio.run(asgi.answer(send, 422, "No.", headers=[(b"retry-after", b"1")], problems=rows))
    body = json.loads(sent[1]["body"])
    assert sent[0]["status"] == 422 and (b"retry-after", b"1") in sent[0]["headers"]
    assert body["error"] == "No." and body["problems"] == rows
    assert [(row["parameter_name"], row["message"]) for row in body["detail"]] == [("steps", "is too large")]


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 100_000, b"\xff"])
def test_what_is_no_json_names_no_file(body: bytes) -> None:
    assert asgi.parsed(body) is None
    assert list(asgi.named_paths(body)) == []


def test_every_path_is_found_however_deep_it_stands() -> None:
    body = json.dumps({"data": [{"path": "/a", "more": [{"path": "/b"}]}, {"path": 3}]}).encode()
    assert sorted(asgi.named_paths(body)) == ["/a", "/b"]


def test_a_link_out_of_a_folder_does_not_lie_in_it(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out.txt")
    assert asgi.lies_in(tmp_path / "in" / "a.txt", tmp_path / "in")
    assert not asgi.lies_in(tmp_path / "in" / "link", tmp_path / "in")
    assert not asgi.lies_in(tmp_path / "in" / ".." / "out.txt", tmp_path / "in")
    assert not asgi.lies_in("a\x00b", tmp_path / "in")


def test_headers_and_cookies_are_found_whatever_their_case_and_however_damaged_others_are() -> None:
    headers = [(b"X-Token", b"one"), (b"cookie", b"\xff=;;; a b"), (b"Cookie", b"studio=two; other=three")]
    scope = {"headers": headers}
    assert (asgi.header_of(scope, b"x-token"), asgi.header_of(scope, b"accept")) == (b"one", b"")
    assert (asgi.cookie_of(scope, "studio"), asgi.cookie_of(scope, "nobody")) == ("two", "")
