"""A file behind a link: from the checked address only, no further, no larger, no longer than allowed."""

import asyncio
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from studio.core.errors import InputError
from studio.jobs.webhooks.addresses import Reach
from studio.jobs.webhooks.fetch import FetchLimits, fetch

SIGNED = "X-Signature=secretsecret"
HERE = Reach(loopback=True)
ASKED: list[str] = []


class _Files(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        ASKED.append(name)
        if name == "/moved":
            self.send_response(302)
            self.send_header("location", "/file")
            self.end_headers()
        elif name == "/refused":
            self.send_error(403)
        elif name == "/large":
            self.send_response(200)
            self.send_header("content-length", "5000000000")
            self.end_headers()
        else:
            self.send_response(200)
            self.end_headers()  # no length: it ends with the connection
            for _ in range({"/file": 1, "/endless": 10**6, "/slow": 50, "/empty": 0}[name]):
                try:
                    self.wfile.write(b"x" * 1000)
                except OSError:
                    return
                time.sleep(0.1 if name == "/slow" else 0)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), _Files)
    found.daemon_threads = True
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}"
    found.shutdown()
    found.server_close()


def fetched(url: str, path: Path, reach: Reach = HERE, **limits: float) -> None:
    given = FetchLimits(**limits) if limits else None
    asyncio.run(fetch(f"{url}?{SIGNED}", path, where="photos_url", reach=reach, max_bytes=10_000, limits=given))


def test_a_file_is_fetched(server: str, tmp_path: Path) -> None:
    fetched(f"{server}/file", tmp_path / "it")
    assert (tmp_path / "it").read_bytes() == b"x" * 1000


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("moved", "answers with 302"),
        ("refused", "answers with 403"),
        ("large", "more than 10 kB"),
        ("endless", "more than 10 kB"),
        ("slow", "too slow"),
        ("empty", "empty file"),
    ],
)
def test_anything_else_is_refused_and_the_link_is_not_repeated(
    server: str, tmp_path: Path, name: str, words: str
) -> None:
    ASKED.clear()
    path = tmp_path / "it"
    with pytest.raises(InputError, match=words) as caught:
        fetched(f"{server}/{name}", path, total_s=1.0 if name == "slow" else 20.0)
    assert [f"/{name}"] == ASKED, "nothing is followed"
    assert "secretsecret" not in str(caught.value) and caught.value.problems[0].where == "photos_url"
    assert not path.exists() or path.stat().st_size <= 10_000


@pytest.mark.parametrize(
    ("url", "addresses", "words"),
    [
        ("http://files.example/a.zip", ["93.184.216.34"], "does not begin with https"),
        ("https://files.example:8080/a.zip", ["93.184.216.34"], "names port 8080"),
        ("https://files.example/a.zip", ["169.254.169.254"], "not on the public internet"),
        ("https://files.example/a.zip", ["93.184.216.34", "10.0.0.1"], "not on the public internet"),
        ("https://files.example/a.zip", ["::ffff:127.0.0.1"], "not on the public internet"),
        ("https://ada:word@files.example/a.zip", ["93.184.216.34"], "name or a password"),
        ("file:///etc/passwd", [], "begins with https"),
        ("https://files.example/a.zip", [], "has no address"),
    ],
)
def test_no_link_leads_into_a_private_network(tmp_path: Path, url: str, addresses: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        fetched(url, tmp_path / "it", Reach(resolve=lambda host, port: addresses))
    assert not (tmp_path / "it").exists()
