"""A server goes and comes back while a job runs on another machine: its attempt goes on and is looked after again."""

import importlib.util
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
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.jobs.sqlite import SqliteDatabase
from studio.service import Studio

PROGRAM = Path(__file__).with_name("away.py")
FAKES = Path(__file__).parent.parent / "jobs"
OWNER = "ada"


class Away:
    """An installation whose server comes and goes."""

    def __init__(self, tmp_path: Path, studio: Studio) -> None:
        self.studio = studio
        self.home, self.elsewhere = tmp_path / "home", tmp_path / "elsewhere"
        self._log = tmp_path / "server.txt"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{PROJECT_ROOT}:{FAKES}"}
        command = [sys.executable, str(PROGRAM), str(self.home), str(self._port), str(self.elsewhere)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n", self._log.read_text()

    def stop(self, number: int) -> None:
        if self._process is not None:
            with self._process as process:
                process.send_signal(number)
                process.wait(60)
            self._process = None

    def train(self, words: str, photo: Path) -> str:
        check = self.studio.submit_check(CheckConfig(subject="quick"), [photo], owner=OWNER)
        return self.studio.submit_train(TrainConfig(instance_token=words), check.id, owner=OWNER).id

    def file(self, job: str, attempt: int, name: str) -> Path:
        return self.elsewhere / f"{job}-{attempt}" / "jobs" / job / "out" / name

    def steps(self, job: str) -> int:
        path = self.file(job, 1, "steps.txt")
        return len(path.read_text().splitlines()) if path.exists() else 0

    def agent(self, job: str) -> int:
        return int((self.elsewhere / f"{job}-1" / "pid").read_text())

    def metrics(self, job: str) -> list[int]:
        events = self.studio.events(job, owner=OWNER)
        return [event.data["step"] for _, event in events if event.kind == "metrics"]


def until(is_so: Callable[[], Any], patience_s: float = 60.0) -> None:
    give_up_s = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    verbs = load_file(FAKES / "fake_verbs.py").VERBS
    studio = Studio(Settings(home=tmp_path / "home", device="cpu"), verbs=verbs)
    away = Away(tmp_path, studio)
    try:
        yield away
    finally:
        away.stop(signal.SIGKILL)
        for path in away.elsewhere.glob("*/pid"):
            if is_alive(int(path.read_text())):
                os.killpg(int(path.read_text()), signal.SIGKILL)
        studio.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(b"photo")
    return path


@pytest.mark.whole
@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_the_attempt_goes_on_and_its_end_is_taken_by_the_next_server(away: Away, photo: Path, number: int) -> None:
    away.start()
    job = away.train("count 100 50", photo)
    until(lambda: away.studio.get(job, owner=OWNER).progress.get("step", 0) >= 3)
    agent = away.agent(job)
    away.stop(number)
    done = away.steps(job)
    until(lambda: away.steps(job) >= done + 3)  # nobody is there, and it works on
    assert away.studio.get(job, owner=OWNER).state == "training"
    away.start()
    until(lambda: (away.metrics(job) or [0])[-1] > done + 3)
    assert is_alive(agent)
    view = away.studio.wait(job, owner=OWNER, timeout_s=60)
    assert (view.state, view.attempt) == ("completed", 1)
    lines = (away.home / "jobs" / job / "out" / "steps.txt").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, 101))
    assert len({line.split()[1] for line in lines}) == 1, "one process has done it all"
    told = away.metrics(job)
    assert len(told) == len(set(told)), "no event is told twice"
    if number == signal.SIGTERM:
        assert told == list(range(1, 101))
    until(lambda: not is_alive(agent))


@pytest.mark.slow
def test_what_it_has_told_last_before_the_server_died_is_not_lost(away: Away, photo: Path) -> None:
    away.start()
    job = away.train("count 3 10", photo)
    ending = away.home / "storage" / "jobs" / job / "ending-1.json"
    until(ending.exists)
    away.stop(signal.SIGKILL)
    until(lambda: not is_alive(away.agent(job)))
    away.start()
    view = away.studio.wait(job, owner=OWNER, timeout_s=60)
    assert (view.state, view.attempt) == ("completed", 1)


@pytest.mark.slow
def test_a_cancel_while_nobody_was_there_reaches_it(away: Away, photo: Path) -> None:
    away.start()
    job = away.train("count 2000 50", photo)
    until(lambda: away.studio.get(job, owner=OWNER).progress.get("step", 0) >= 3)
    away.stop(signal.SIGKILL)
    away.studio.cancel(job, owner=OWNER)
    away.start()
    assert away.studio.wait(job, owner=OWNER, timeout_s=60).state == "cancelled"
    until(lambda: not is_alive(away.agent(job)))


@pytest.mark.slow
def test_one_that_died_meanwhile_is_begun_anew_from_what_it_had_brought(away: Away, photo: Path) -> None:
    away.start()
    job = away.train("count 100 50", photo)
    until(lambda: (away.home / "jobs" / job / "out" / "steps.txt").exists())
    away.stop(signal.SIGKILL)
    os.killpg(away.agent(job), signal.SIGKILL)
    away.start()
    view = away.studio.wait(job, owner=OWNER, timeout_s=60)
    assert (view.state, view.attempt) == ("completed", 2)
    lines = (away.home / "jobs" / job / "out" / "steps.txt").read_text().splitlines()
    assert [int(line.split()[0]) for line in lines] == list(range(1, 101))
    assert len({line.split()[1] for line in lines}) == 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_server_that_is_killed_again_and_again_loses_and_doubles_nothing(away: Away, photo: Path) -> None:
    dice = random.Random(11)
    away.start()
    jobs = [away.train("count 400 50", photo), away.train("count 100 50", photo)]
    until(lambda: away.steps(jobs[0]) > 0)
    for number in range(12):
        time.sleep(dice.uniform(0.0, 1.0))
        away.stop((signal.SIGKILL, signal.SIGTERM)[number % 2])
        away.start()
    views = [away.studio.wait(job, owner=OWNER, timeout_s=200) for job in jobs]
    assert [(view.state, view.attempt) for view in views] == [("completed", 1)] * 2
    away.stop(signal.SIGTERM)
    accepted: dict[Any, int | None] = {jobs[0]: 400, jobs[1]: 100}
    accepted |= {view.source: None for view in views}
    database = SqliteDatabase(away.home / "jobs.sqlite3")
    assert load_file(Path(__file__).with_name("invariants.py")).broken(database, away.home, accepted) == []
    database.close()
