"""``dev up``, as a person types it: real servers, ended again when they are there."""

import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from studio.cli import dev, main, serve
from studio.cli.together import Together
from studio.client import Client
from studio.core.config import CheckConfig
from studio.core.errors import InputError, ResourceError
from studio.core.settings import PROJECT_ROOT, Settings
from studio.pocket.samples import sample_photos

TOKEN = "dev-up-0123456789"


def up(home: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ, "PYTHONPATH": str(PROJECT_ROOT), "STUDIO_HOME": str(home), "STUDIO_TOKEN": TOKEN,
        "STUDIO_PORT": "0", "STUDIO_DEVICE": "cpu", "OMP_NUM_THREADS": "1", **variables,
    }  # fmt: skip
    # Whoever runs the tests in the background may let them ignore Ctrl-C, and what ignores it goes on doing so.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "studio", "dev", "up", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_starts_with_one_command_and_says_where_it_is(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "jobs.sqlite3").touch()  # so that it is the same wherever Postgres is installed
    with up(home, "--check", STUDIO_LANGUAGE="en", COLUMNS="200") as process:
        out, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "http://127.0.0.1:" in out and f"/?token={TOKEN}" in out
    assert f"{home / 'jobs.sqlite3'}, as before" in out and str(home / "storage") in out
    assert "Ctrl-C ends all of it" in out


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_with_a_database_one_answers_others_run_jobs_and_ctrl_c_ends_all(
    new_postgres_url: Callable[[], str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with up(home, "--json", "--workers", "2", STUDIO_DATABASE_URL=new_postgres_url()) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            told = json.loads(line)
            assert (told["database"], list(told["servers"])) == ("given", ["page", "worker 1", "worker 2"])
            with Client(told["servers"]["page"].partition("/?")[0], token=TOKEN) as studio:
                photos = sample_photos(tmp_path / "photos", count=5, size_px=256)
                check = studio.check(photos, CheckConfig(subject="Ada", class_noun="woman"))
                assert len(check.wait(timeout_s=120).photos) == 5
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()
        assert "Traceback" not in process.stderr.read()
    assert len((home / "secrets-key").read_text().strip()) >= 32


@pytest.mark.parametrize("lack", ["psycopg", "program", "root"])
def test_without_postgres_the_jobs_are_in_a_file_and_it_is_said_why(
    lack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dev.dev_postgres, "lacks", lambda: lack)
    settings = Settings(home=tmp_path / "home")
    with dev._database(settings) as database:
        assert (database.url, database.kind) == (None, lack)
        (part,) = dev._parts(settings, database, 3)
    assert part.variables == {"STUDIO_HOME": str(settings.home)}
    assert str(settings.home / "jobs.sqlite3") in dev._words(lack, settings.home)


def test_what_is_installed_here_is_served_from_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[Path] = []

    @contextlib.contextmanager
    def serving(folder: Path) -> Any:
        folders.append(folder)
        yield "postgresql://studio@/postgres?host=/x"

    monkeypatch.setattr(dev.dev_postgres, "lacks", lambda: None)
    monkeypatch.setattr(dev.dev_postgres, "serving", serving)
    settings = Settings(home=tmp_path / "home", port=7000)
    with dev._database(settings) as database:
        page, worker = dev._parts(settings, database, 1)
    assert folders == [settings.home / "postgres"] and database.kind == "here"
    assert (page.variables["STUDIO_PORT"], page.variables["STUDIO_WORKS"]) == ("7000", "never")
    assert (worker.variables["STUDIO_PORT"], worker.variables["STUDIO_WORKS"]) == ("7001", "always")
    assert page.variables["STUDIO_SECRETS_KEY"] == worker.variables["STUDIO_SECRETS_KEY"]


@pytest.mark.parametrize(
    ("given", "kind", "workers", "shares"),
    [
        ({"gpus": "0,1,GPU-5ab1"}, "cuda", 2, ["0,GPU-5ab1", "1"]),
        ({"gpus": "4,5"}, "cuda", 2, ["4", "5"]),
        ({"gpus": "4,5"}, "cuda", 1, [None]),  # it has them all
        ({"device": "cpu"}, "cpu", 3, [None] * 3),
        ({"runner": "ray", "runner_jobs": 1}, "cuda", 2, [None] * 2),  # they run elsewhere
    ],
)
def test_each_worker_has_gpus_of_its_own(
    given: dict[str, Any], kind: str, workers: int, shares: list[str | None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(serve.machine, "look", lambda device: SimpleNamespace(kind=kind))
    settings = Settings(**{"home": tmp_path / "home", "port": 7000, "device": "auto", **given})
    settings.home.mkdir()
    page, *others = dev._parts(settings, dev._Database("postgresql://x/y", "given"), workers)
    assert [part.variables.get("STUDIO_GPUS") for part in others] == shares
    assert "STUDIO_GPUS" not in page.variables


@pytest.mark.parametrize(
    ("given", "workers", "said"),
    [
        ({"gpus": "4,5"}, 3, "asks for 3, and jobs may use 2 GPUs here"),
        ({"gpus": "auto"}, 2, "may use 1 GPU here"),
        ({"runner": "ssh:gpu"}, 2, "asks for 2, and each would take gpu to be free"),
    ],
)
def test_more_workers_than_gpus_are_refused_with_what_is_possible(
    given: dict[str, Any], workers: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setattr(serve.machine, "look", lambda device: SimpleNamespace(kind="cuda"))
    settings = Settings(**{"home": tmp_path / "home", "device": "auto", **given})
    settings.home.mkdir()
    with pytest.raises(InputError, match=said):
        dev._parts(settings, dev._Database("postgresql://x/y", "given"), workers)


class Listener(http.server.BaseHTTPRequestHandler):
    """Answers everything, and notes what it is asked."""

    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heard.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


def test_the_token_goes_to_the_studio_and_to_no_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listener, "heard", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as here:
        thread = threading.Thread(target=here.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{here.server_port}"
        monkeypatch.setenv("http_proxy", address)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        try:
            dev._await(Settings(home=tmp_path, token=SecretStr(TOKEN)), f"{address}/?token={TOKEN}")
        finally:
            here.shutdown()
            thread.join()
    assert Listener.heard == ["/v1/ready"], "a proxy is asked for a whole address"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_while_it_starts_it_takes_the_database_with_it(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    lost: list[int] = []

    @contextlib.contextmanager
    def database(settings: Settings) -> Any:
        try:
            yield dev._Database(None, "file")
        finally:
            ended.append("database")

    class Slow(Together):
        def start(self) -> dict[str, str]:
            os.kill(os.getpid(), number)
            raise ResourceError("it went on.")

    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(dev, "_database", database)
    monkeypatch.setattr(dev, "Together", Slow)
    before = signal.signal(number, lambda number, frame: lost.append(number))  # else it would end the tests
    try:
        assert main.run(["dev", "up"]) == 0
        assert (ended, lost) == (["database"], [])
        os.kill(os.getpid(), number)
        assert lost == [number], "what was there before is there again"
    finally:
        signal.signal(number, before)
