"""Two servers on one Postgres: both answer, one dispatches; when that is killed the other goes on within seconds."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from studio.core.config import CheckConfig
from studio.core.errors import ResourceError
from studio.core.settings import PROJECT_ROOT, Settings
from studio.service import Studio

FAKES = Path(__file__).parent.parent / "jobs" / "fake_verbs.py"
OWNER = "ada"
SERVER = """
import sys, time
import fake_verbs
from studio.core.settings import Settings
from studio.service import Studio

home, url = sys.argv[1:]
studio = Studio(Settings(home=home, device="cpu", database_url=url), verbs=fake_verbs.VERBS, grace_s=2.0)
studio.start()
print(studio._worker.leads(), flush=True)
while sys.stdin.readline():
    print(studio._worker.leads(), flush=True)
"""


class Server:
    """A server in a process of its own."""

    def __init__(self, home: Path, url: str) -> None:
        path = os.pathsep.join([str(FAKES.parent), str(PROJECT_ROOT)])
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(home), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self.led_at_first = self._answer()

    def leads(self) -> bool:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _answer(self) -> bool:
        assert self.process.stdout is not None
        return {"True\n": True, "False\n": False}[self.process.stdout.readline()]


def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> Any:
    end_s = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.02)
    return answer


def load_fakes() -> Any:
    spec = importlib.util.spec_from_file_location("fake_verbs", FAKES)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "one.jpg"
    path.write_bytes(b"pixels")
    return path


@pytest.fixture
def studio(
    tmp_path: Path, new_postgres_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Studio, str]]:
    """A studio in this process, which is not started, and the address of its database."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES.parent), str(PROJECT_ROOT)]))
    url = new_postgres_url()
    studio = Studio(
        Settings(home=tmp_path / "home", device="cpu", database_url=url),  # type: ignore[arg-type]
        verbs=load_fakes().VERBS,
        grace_s=1.0,
    )
    yield studio, url
    studio.close()


def steps(studio: Studio, job_id: str) -> list[list[str]]:
    path = studio.out_dir(job_id, owner=OWNER) / "steps.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.whole
def test_when_the_server_that_dispatches_is_killed_the_other_goes_on_with_its_job_within_ten_seconds(
    studio: tuple[Studio, str], photo: Path, tmp_path: Path
) -> None:
    looks, url = studio
    job = looks.submit_check(CheckConfig(subject="count 100000 50"), [photo], owner=OWNER)
    servers = [Server(tmp_path / "home", url)]
    try:
        until(lambda: steps(looks, job.id))
        servers.append(Server(tmp_path / "home", url))
        first, second = servers
        assert (first.led_at_first, second.led_at_first) == (True, False)
        seen = len(steps(looks, job.id))
        until(lambda: len(steps(looks, job.id)) > seen + 20)
        view = looks.get(job.id, owner=OWNER)
        assert (view.state, view.attempt) == ("checking", 1), "the second server has taken nothing from the first"

        first.kill()
        killed_s = time.monotonic()
        waits = looks.submit_check(CheckConfig(subject="quick"), [photo], owner=OWNER)
        until(second.leads, 10)
        until(lambda: looks.get(job.id, owner=OWNER).attempt == 2, 10)
        assert time.monotonic() - killed_s <= 10
        assert looks.wait(waits.id, owner=OWNER, timeout_s=30).state == "completed"

        before = len(steps(looks, job.id))
        until(lambda: len(steps(looks, job.id)) > before + 5)
        looks.cancel(job.id, owner=OWNER)
        assert looks.wait(job.id, owner=OWNER, timeout_s=30).state == "cancelled"
        done = steps(looks, job.id)
        assert [int(step) for step, _ in done] == list(range(1, len(done) + 1)), "nothing twice, nothing missing"
        assert len({pid for _, pid in done}) == 2
        assert any("server stopped" in str(event.data) for _, event in looks.events(job.id, owner=OWNER))
    finally:
        for server in servers:
            server.kill()


def test_a_child_whose_lease_cannot_be_renewed_is_ended_before_another_server_may_run_its_job(
    studio: tuple[Studio, str], photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, _ = studio
    here.start()
    job = here.submit_check(CheckConfig(subject="count 60 50"), [photo], owner=OWNER)
    until(lambda: steps(here, job.id))
    pid = int(steps(here, job.id)[0][1])

    def unreachable() -> None:
        raise ResourceError("the line is cut.")

    with monkeypatch.context() as cut:
        cut.setattr(here._store, "beat", unreachable)
        cut.setattr(here._store, "lease_s", 2.0)
        until(lambda: not Path(f"/proc/{pid}").exists(), 5)
    view = here.wait(job.id, owner=OWNER, timeout_s=60)
    assert view.state == "completed" and view.attempt >= 2, "and that counts against nothing"
    assert [int(step) for step, _ in steps(here, job.id)] == list(range(1, 61))


@pytest.mark.slow
def test_a_job_goes_on_while_postgres_is_started_again(
    postgres_servers: ModuleType, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES.parent), str(PROJECT_ROOT)]))
    with postgres_servers.serve() as server:
        settings = Settings(home=tmp_path / "home", device="cpu", database_url=server.url)
        here = Studio(settings, verbs=load_fakes().VERBS, grace_s=1.0)
        try:
            here.start()
            job = here.submit_check(CheckConfig(subject="count 100 50"), [photo], owner=OWNER)
            until(lambda: len(steps(here, job.id)) > 5)
            server.stop()
            with pytest.raises(ResourceError, match="cannot be reached"):
                here.get(job.id, owner=OWNER)
            time.sleep(1.0)
            server.start()
            view = here.wait(job.id, owner=OWNER, timeout_s=60)
            assert (view.state, view.attempt) == ("completed", 1), "the line was back before the lease ended"
            told = [event.data["step"] for _, event in here.events(job.id, owner=OWNER) if event.kind == "metrics"]
            assert told == list(range(1, 101)), "what it told meanwhile was kept"
            again = here.submit_check(CheckConfig(subject="quick"), [photo], owner=OWNER)
            assert here.wait(again.id, owner=OWNER, timeout_s=60).state == "completed", "it dispatches again"
        finally:
            here.close()


def test_a_cancel_at_the_other_server_stops_the_job(studio: tuple[Studio, str], photo: Path, tmp_path: Path) -> None:
    looks, url = studio
    server = Server(tmp_path / "home", url)
    try:
        job = looks.submit_check(CheckConfig(subject="count 600 50"), [photo], owner=OWNER)
        until(lambda: steps(looks, job.id))
        looks.cancel(job.id, owner=OWNER)
        assert looks.wait(job.id, owner=OWNER, timeout_s=20).state == "cancelled"
        running = looks.submit_check(CheckConfig(subject="stubborn"), [photo], owner=OWNER)
        until(lambda: looks.get(running.id, owner=OWNER).state == "checking")
        assert looks.forget(owner=OWNER, everything=True).forgotten_s is not None
        assert looks.list(owner=OWNER) == []
    finally:
        server.process.send_signal(signal.SIGKILL)
        server.kill()
