"""The adapter of a training goes to the link that came with its request, and what came of it is told."""

import io
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from studio.core.errors import UnavailableError
from studio.jobs.events import Outcome
from studio.jobs.store import Store
from studio.jobs.webhooks import uploads
from studio.jobs.webhooks.addresses import Reach
from studio.jobs.webhooks.sender import UPLOAD

OWNER, JOB = "ada", "c"
GOT: list[tuple[str, dict[str, str], bytes]] = []
STATUS = [200]


class _Storage(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        GOT.append((self.path, headers, self.rfile.read(int(headers["content-length"]))))
        status = STATUS.pop(0) if len(STATUS) > 1 else STATUS[0]
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def link() -> Iterator[str]:
    GOT.clear()
    STATUS[:] = [200]
    found = ThreadingHTTPServer(("127.0.0.1", 0), _Storage)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/models/ada.zip?X-Signature=secret"
    found.shutdown()
    found.server_close()


@pytest.fixture
def trained(store: Store, put: Any, tmp_path: Path, link: str) -> Path:
    """A run that is completed, whose request came with the link; its folder of jobs."""
    put(store, JOB, "train", owner=OWNER)
    store.webhooks.follow(OWNER, JOB, url=link, events=["job.completed"], form=UPLOAD, context={})
    assert store.webhooks.due() == []
    adapter = tmp_path / "jobs" / JOB / "out" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter.json").write_text("{}")
    (adapter / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
    claim = store.claim()
    assert claim is not None and claim.id == JOB
    store.finish(claim, Outcome("completed", result={"adapter": "adapter"}))
    return tmp_path / "jobs"


def said(store: Store) -> list[tuple[str, str]]:
    events = [event for _, event in store.events(JOB, OWNER, 0) if event.kind == "message"]
    return [(event.data["level"], event.data["text"]) for event in events]


def test_the_adapter_is_put_there_once_and_it_is_told(store: Store, trained: Path, sending: Any, until: Any) -> None:
    with sending(store, jobs_dir=trained):
        until(lambda: said(store))
    ((path, headers, body),) = GOT
    assert path == "/models/ada.zip?X-Signature=secret" and "content-type" not in headers
    assert "transfer-encoding" not in headers and headers["content-length"] == str(len(body))
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.namelist() == ["adapter.json", "pytorch_lora_weights.safetensors"]
        assert archive.read("pytorch_lora_weights.safetensors") == b"weights"
    assert said(store) == [("info", uploads.ARRIVED)]
    assert [path.name for path in (trained / JOB).iterdir()] == ["out"], "nothing is left of the zip"


def test_what_is_down_is_tried_again(store: Store, trained: Path, sending: Any, until: Any) -> None:
    STATUS[:] = [503, 500, 200]
    with sending(store, jobs_dir=trained):
        until(lambda: said(store))
    assert len(GOT) == 3 and said(store) == [("info", uploads.ARRIVED)]


def test_weights_that_lie_in_the_backup_alone_are_fetched_first(
    store: Store, trained: Path, sending: Any, until: Any
) -> None:
    weights = trained / JOB / "out" / "adapter" / "pytorch_lora_weights.safetensors"
    weights.unlink()
    asked: list[tuple[str, tuple[str, ...]]] = []

    def prepare(job: str, below: tuple[str, ...]) -> None:
        asked.append((job, below))
        if len(asked) == 1:
            raise UnavailableError("the backup cannot be reached.")
        weights.write_bytes(b"weights")

    with sending(store, jobs_dir=trained, prepare=prepare):
        until(lambda: said(store))
    assert asked == [(JOB, ("adapter",))] * 2
    ((_, _, body),) = GOT
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        assert archive.read(weights.name) == b"weights"


@pytest.mark.parametrize(
    ("status", "reach", "words"),
    [(403, Reach(loopback=True), "403"), (302, Reach(loopback=True), "redirect"), (200, Reach(), "https")],
)
def test_a_link_that_takes_nothing_is_told_and_given_up(
    store: Store, trained: Path, sending: Any, until: Any, status: int, reach: Reach, words: str
) -> None:
    STATUS[:] = [status]
    with sending(store, jobs_dir=trained, reach=lambda: reach, waits_s=(0.01,) * 2):
        until(lambda: said(store))
    ((level, text),) = said(store)
    assert level == "warning" and words in text and "secret" not in text
    assert len(GOT) == {403: 1, 302: 3, 200: 0}[status]


def test_a_run_that_is_forgotten_takes_its_link_along(store: Store, trained: Path) -> None:
    assert [due.job for due in store.webhooks.due()] == [JOB]
    store.erase([JOB])
    assert store.webhooks.due() == []
