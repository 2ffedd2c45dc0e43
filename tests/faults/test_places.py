"""A process dies at every named place, one after the other, and every job still has exactly one end."""

import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core.config import CheckConfig
from studio.core.private import TABLE_NAME
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.jobs.postgres import PostgresDatabase
from studio.jobs.sqlite import SqliteDatabase
from studio.service import Studio

HERE = Path(__file__).parent
FAKES = HERE.parent / "jobs"
OWNER = "ada"


def load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


places = load_file(HERE / "places.py")


class Installation:
    """A home whose server dies and comes again; jobs are submitted to it, and looked at, from here."""

    def __init__(self, folder: Path, runner: str, database: str | None = None, **variables: str) -> None:
        self.home, self.places, self.elsewhere = folder / "home", folder / "places", folder / "elsewhere"
        self._said, self._database = folder / "server.txt", database
        self.photo = folder / "a.png"
        self.photo.write_bytes(b"photo")
        site = places.site_folder(folder / "site", self.places)
        self.python_path = os.pathsep.join([site, str(FAKES)])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        told = {"home": str(self.home), "runner": runner, "port": port, "database": database}
        told |= {"places": str(self.places), "elsewhere": str(self.elsewhere)}
        path = f"{self.python_path}{os.pathsep}{PROJECT_ROOT}"
        self._environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables}
        self._command = [sys.executable, str(HERE / "mortal.py"), json.dumps(told)]
        settings = Settings(home=self.home, device="cpu", database_url=database)  # type: ignore[arg-type]
        self.studio = Studio(settings, verbs=load_file(FAKES / "fake_verbs.py").VERBS)  # looks only
        self.accepted: dict[str, int | None] = {}
        self._process: subprocess.Popen[str] | None = None

    def keep_up(self) -> None:
        """Start the server unless it runs; one that dies while it starts is started again."""
        for _ in range(20):
            if self._process is not None and self._process.poll() is None:
                return
            self.stop(signal.SIGKILL)
            with self._said.open("ab") as said:
                self._process = subprocess.Popen(
                    self._command, env=self._environment, stdout=subprocess.PIPE, stderr=said, text=True
                )
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
            assert line == "started\n" or self._process.wait(10) == -signal.SIGKILL, self._said.read_text()
        raise AssertionError("the server does not come up")

    def stop(self, number: int) -> None:
        if self._process is not None:
            with self._process as process:
                process.send_signal(number)
                process.wait(60)
            self._process = None

    def submit(self, steps: int, milliseconds: int = 20, *, die: bool = False) -> str:
        # A check that leaves a file, which the training reads.
        check = self.studio.submit_check(CheckConfig(subject="count 1 1"), [self.photo], owner=OWNER)
        words = "die 1" if die else f"count {steps} {milliseconds}"
        job = self.studio.submit_train(TrainConfig(instance_token=words), check.id, owner=OWNER)
        self.accepted |= {check.id: 1, job.id: None if die else steps}
        return job.id

    def open_jobs(self) -> list[str]:
        """Return the jobs that have not ended."""
        ended = ("completed", "stalled", "cancelled")
        return [view.id for view in self.studio.list(owner=OWNER, limit=1000) if view.state not in ended]

    def arm(self, place: str) -> None:
        (self.places / place).touch()

    def died(self) -> list[str]:
        path = self.places / places.DIED
        return path.read_text().splitlines() if path.exists() else []

    def until(self, is_so: Callable[[], Any], patience_s: float = 90.0) -> None:
        """Wait, and keep the server up meanwhile."""
        give_up_s = time.monotonic() + patience_s
        while not is_so():
            armed = [path.name for path in self.places.iterdir() if path.name != places.DIED]
            assert time.monotonic() < give_up_s, (armed, self.died()[-3:], self._said.read_text()[-3000:])
            self.keep_up()
            time.sleep(0.05)

    def finish(self) -> None:
        """Let all jobs end, and see that everything is as it must be."""
        self.until(lambda: not self.open_jobs(), 240.0)
        self.stop(signal.SIGTERM)
        views = {job: self.studio.get(job, owner=OWNER) for job in self.accepted}
        assert {job: view.cause for job, view in views.items() if view.state != "completed"} == {}
        database = PostgresDatabase(self._database) if self._database else SqliteDatabase(self.home / TABLE_NAME)
        try:
            assert load_file(HERE / "invariants.py").broken(database, self.home, self.accepted) == []
        finally:
            database.close()

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        for path in self.elsewhere.glob("*/pid"):
            try:
                os.killpg(int(path.read_text()), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                continue
        self.studio.close()


@pytest.fixture
def new_installation(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    made: list[Installation] = []

    def new(*words: Any, folder: Path = tmp_path, **variables: str) -> Installation:
        made.append(Installation(folder, *words, **variables))
        return made[-1]

    yield new
    for each in made:
        each.close()


def die_everywhere(installation: Installation, names: list[str]) -> None:
    """Let somebody die at each place while a job runs, in an order that a seed chooses."""
    random.Random(23).shuffle(names)
    for name in names:
        before = len(installation.died())
        installation.keep_up()
        if name in places.STARTING:
            job = installation.submit(40)
            installation.until(lambda job=job: installation.studio.get(job, owner=OWNER).progress)
            installation.arm(name)
            installation.stop(signal.SIGKILL)
        else:
            installation.arm(name)
            job = installation.submit(60, die=name in places.LOSS)  # long enough for a snapshot
        installation.until(lambda before=before: len(installation.died()) > before)
        assert installation.died()[-1] == name
        installation.until(lambda job=job: installation.studio.get(job, owner=OWNER).state == "completed")
    installation.finish()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_somebody_dies_at_every_place_of_a_server_and_a_child(new_installation: Callable[..., Installation]) -> None:
    die_everywhere(new_installation("local"), [*places.SERVER, *places.LOSS, *places.CHILD])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_same_holds_in_postgres(
    new_installation: Callable[..., Installation], new_postgres_url: Callable[[], str]
) -> None:
    die_everywhere(new_installation("local", new_postgres_url()), [*places.SERVER, *places.LOSS, *places.CHILD])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_somebody_dies_at_every_place_of_attempts_on_another_machine(
    kind: str, new_installation: Callable[..., Installation], new_postgres_url: Callable[[], str]
) -> None:
    url = new_postgres_url() if kind == "postgres" else None
    names = [*places.SERVER, *places.LOSS, *places.DESK, *places.AGENT, *places.CHILD]
    die_everywhere(new_installation("elsewhere", url), names)
