"""``dev up``, as a person types it: real servers, ended again when they are there."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.cli import dev
from studio.client import Client
from studio.core.config import CheckConfig
from studio.core.settings import PROJECT_ROOT, Settings
from studio.pocket.samples import sample_photos

TOKEN = "dev-up-0123456789"


def up(home: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    environment = {
        **os.environ, "PYTHONPATH": str(PROJECT_ROOT), "STUDIO_HOME": str(home), "STUDIO_TOKEN": TOKEN,
        "STUDIO_PORT": "0", "STUDIO_DEVICE": "cpu", "OMP_NUM_THREADS": "1", **variables,
    }  # fmt: skip
    command = [sys.executable, "-m", "studio", "dev", "up", *words]
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
