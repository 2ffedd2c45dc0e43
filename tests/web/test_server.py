"""The guard in front of the app, tried on a trivial app behind it."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core.errors import InputError, ResourceError
from studio.core.settings import Settings
from studio.web import server

ROOT = Path(__file__).resolve().parents[2]
GIVEN_TO_LIBRARIES = (
    "GRADIO_TEMP_DIR",
    "GRADIO_ANALYTICS_ENABLED",
    "HF_HUB_DISABLE_TELEMETRY",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY",
)


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """The usual one before each test and after it: the server sets its own for the whole process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_whatever_is_written_after_the_environment_was_prepared_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in GIVEN_TO_LIBRARIES:
        monkeypatch.setenv(name, "")
    server.prepare_environment(Settings(home=tmp_path))
    (tmp_path / "by-a-library").mkdir()
    (tmp_path / "by-a-library" / "face.jpg").touch()
    assert [path.stat().st_mode & 0o077 for path in (tmp_path / "by-a-library").rglob("*")] == [0]
    assert (tmp_path / "by-a-library").stat().st_mode & 0o077 == 0


def test_a_taken_port_is_explained() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = Settings(port=taken.getsockname()[1])
        with pytest.raises(ResourceError, match="STUDIO_PORT"):
            server.serve(settings, on_ready=lambda address: None)


def test_a_login_without_a_platform_or_an_account_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SYSTEM", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="STUDIO_LOGIN: has no account"):
        server._require_account()
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_write0123456789")
    server._require_account()


def test_uploads_of_an_earlier_server_are_wiped_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in GIVEN_TO_LIBRARIES:
        monkeypatch.setenv(name, "")
    left = tmp_path / "web-cache" / "abc" / "face.jpg"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    server.prepare_environment(Settings(home=tmp_path))
    assert not left.parent.exists() and (tmp_path / "web-cache").is_dir()


OTHER_SERVER = """
import sys
from studio.web import server
from studio.core.settings import Settings
server.prepare_environment(Settings(home=sys.argv[1]))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_second_server_on_the_same_home_leaves_the_firsts_uploads_alone(tmp_path: Path) -> None:
    def start() -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", OTHER_SERVER, str(tmp_path)]
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        return child

    def end(child: "subprocess.Popen[str]") -> None:
        child.kill()
        child.communicate()

    first = start()
    photo = tmp_path / "web-cache" / "abc" / "face.jpg"
    photo.parent.mkdir()
    photo.write_bytes(b"x")
    second = start()
    assert photo.is_file(), "the first one has not given it to a job yet"
    end(first)
    third = start()
    assert photo.is_file(), "the second one lives on; it may have uploads, too"
    end(second)
    end(third)
    end(start())
    assert not photo.exists()


def test_a_home_that_cannot_be_used_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="STUDIO_HOME"):
        server.prepare_environment(Settings(home=tmp_path / "file"))


def test_pages_cut_off_at_the_end_leave_no_trace_in_the_log() -> None:
    def record(error: type[BaseException] | None, words: str) -> logging.LogRecord:
        trace = None if error is None else (error, error(), None)
        return logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, words, (), trace)

    quiet = server._ShutdownLogFilter()
    assert not quiet.filter(record(asyncio.CancelledError, "Exception in ASGI application"))
    assert not quiet.filter(record(None, "Cancel 2 running task(s), timeout graceful shutdown exceeded"))
    assert quiet.filter(record(ValueError, "Exception in ASGI application"))
    assert quiet.filter(record(None, "other words"))
