import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn

from studio.core.config import CheckConfig
from studio.core.errors import NotFoundError, ResourceError
from studio.core.settings import PROJECT_ROOT
from studio.jobs.queue import Claim
from studio.jobs.runners.agents import AgentRunner, Launcher
from studio.jobs.runners.base import Attempt, Report, Runner
from studio.jobs.runners.desk import AgentDesk
from studio.jobs.runners.local import LocalRunner
from studio.jobs.runners.ray import RayLauncher
from studio.jobs.runners.ticket import Ticket
from studio.jobs.storage.folder import FolderStorage
from studio.jobs.storage.links import LinkSigner
from studio.web.machines import machines_app

FAKE_VERBS = Path(__file__).resolve().parents[1] / "fake_verbs.py"


@pytest.fixture
def new_attempt(tmp_path: Path) -> Callable[..., Attempt]:
    """Return a function that makes an attempt of a job of one photo; its words say what the scripted verb does."""

    def new(words: str, number: int = 1, job_id: str = "check-0123456789abcdef", **more: Any) -> Attempt:
        job_dir = tmp_path / "home" / "jobs" / job_id
        (job_dir / "photos").mkdir(parents=True, exist_ok=True)
        (job_dir / "photos" / "a.png").write_bytes(b"a photo")
        config = CheckConfig(subject=words, class_noun="woman").model_dump(mode="json")
        (job_dir / "request.json").write_text(json.dumps({"kind": "check", "config": config, "source": None}))
        return Attempt(Claim(job_id, "check", number), "fake_verbs:run", job_dir, **more)

    return new


@pytest.fixture
def follow() -> Callable[..., tuple[Report, list[Any]]]:
    """Return a function that polls an attempt to its end, or until ``until`` is true of its events so far."""

    def poll(
        runner: Runner, handle: str, until: Callable[[list[Any]], bool] = lambda events: False
    ) -> tuple[Report, list[Any]]:
        events: list[Any] = []
        give_up_s = time.monotonic() + 90
        while time.monotonic() < give_up_s:
            report = runner.poll(handle, 0.1)
            events += report.events
            if report.state in ("ended", "lost") or until(events):
                return report, events
        raise AssertionError(f"no end; events: {events}")

    return poll


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def gone() -> Callable[[int], bool]:
    """Return a function that waits for a process to be gone and tells whether it is."""

    def wait(pid: int, patience_s: float = 10.0) -> bool:
        give_up_s = time.monotonic() + patience_s
        while is_alive(pid) and time.monotonic() < give_up_s:
            time.sleep(0.05)
        return not is_alive(pid)

    return wait


@pytest.fixture
def verbs_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(FAKE_VERBS.parent))


class OneJobQueue:
    """A queue as far as the desk asks it: the newest attempt of each job runs."""

    def __init__(self) -> None:
        self.attempts: dict[str, int] = {}
        self.state = "training"

    def ids(self) -> frozenset[str]:
        return frozenset(self.attempts)

    def owner_of(self, job_id: str) -> str:
        return "ada"

    def get(self, job_id: str, owner: str) -> Any:
        if job_id not in self.attempts:
            raise NotFoundError(job_id)
        return SimpleNamespace(state=self.state, attempt=self.attempts[job_id])


class ProcessLauncher(Launcher):
    """Starts agents as processes of this machine, on a home of their own, with nothing of ours."""

    name = "process"

    def __init__(self, home: Path, address: str = "") -> None:
        self.home = home
        self.address = address
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.pace: dict[str, Any] = {"beat_s": 0.1, "snapshot_s": 0.2, "patience_s": 60.0}

    def launch(self, ticket: Ticket) -> str:
        place = self.home / f"{ticket.job}-{ticket.attempt}"
        place.mkdir(parents=True)
        ticket = ticket.model_copy(update=self.pace)
        (place / "ticket.json").write_text(ticket.model_dump_json())
        command = [sys.executable, "-m", "studio", "attempt", str(place / "ticket.json")]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "STUDIO_HOME": str(self.home / "studio")}
        environment |= {"PYTHONPATH": f"{PROJECT_ROOT}:{FAKE_VERBS.parent}", "STUDIO_DEVICE": "cpu"}
        environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        with (place / "agent.log").open("wb") as log:
            self.processes[str(place)] = subprocess.Popen(
                command, env=environment, cwd=place, stdout=log, stderr=log, start_new_session=True
            )
        return str(place)

    def is_alive(self, place: str) -> bool:
        return self.processes[place].poll() is None

    def kill(self, place: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.processes[place].pid, signal.SIGKILL)
        self.processes[place].wait()


@contextlib.contextmanager
def serve_machines(desk: AgentDesk) -> Iterator[str]:
    """Answer agents on a port of this machine; gives the address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(32)
        server = uvicorn.Server(uvicorn.Config(machines_app(desk), log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class CountingRunner(AgentRunner):
    """Tells the queue which attempt counts, as the worker's claim does."""

    def __init__(self, queue: OneJobQueue, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.queue = queue

    def start(self, attempt: Attempt) -> str:
        self.queue.attempts[attempt.claim.id] = attempt.claim.attempt
        return super().start(attempt)


@contextlib.contextmanager
def runner_away(folder: Path, launcher: Any) -> Iterator[SimpleNamespace]:
    """A runner whose agents this launcher brings on their way, with all that it is made of."""
    queue = OneJobQueue()
    signer = LinkSigner(b"k" * 32, lambda: parts.address)
    storage = FolderStorage(folder / "storage", signer)
    desk = AgentDesk(queue, storage, signer)  # type: ignore[arg-type]
    runner = CountingRunner(queue, desk, launcher, grace_s=5.0, lost_s=1.0)
    parts = SimpleNamespace(queue=queue, signer=signer, storage=storage, desk=desk, launcher=launcher, runner=runner)
    with serve_machines(desk) as address:
        parts.address = launcher.address = address
        yield parts


@pytest.fixture
def away(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A runner whose agents are processes on a home of their own, with all that it is made of."""
    launcher = ProcessLauncher(tmp_path / "elsewhere")
    with runner_away(tmp_path, launcher) as parts:
        yield parts
        for place in launcher.processes:
            launcher.kill(place)


class PacedRayLauncher(RayLauncher):
    """Brings agents of a quick pace."""

    def __init__(self, address: str) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "RAY_ADDRESS": address}
        super().__init__("", environment=environment, patience_s=30.0)
        self.places: list[str] = []

    def launch(self, ticket: Ticket) -> str:
        place = super().launch(ticket.model_copy(update={"beat_s": 0.1, "snapshot_s": 0.2, "patience_s": 60.0}))
        self.places.append(place)
        return place


class FakeCluster:
    """A Ray cluster of fake GPUs on this machine, and the home that its nodes see."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "RAY_TMPDIR": str(folder)}
        environment |= {"PYTHONPATH": str(FAKE_VERBS.parent), "STUDIO_DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        environment |= {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        # Nodes without a head end themselves after a minute; here sooner.
        environment |= {"RAY_gcs_rpc_server_reconnect_timeout_s": "3"}
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("ray_cluster.py")],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        assert self.address, (folder / "log").read_text()
        self.launcher = PacedRayLauncher(self.address)
        self._nodes: list[int] = []
        self._added = 0
        self.add_node()

    def tell(self, words: str) -> None:
        """Say what to do, and wait until it is done."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(words, file=self._process.stdin, flush=True)
        assert self._process.stdout.readline() == "done\n"

    def add_node(self) -> None:
        """Add a node with one GPU."""
        self._added += 1
        self.tell(f"add {self._added}")
        self._nodes.append(self._added)

    def kill_node(self) -> None:
        """Kill the oldest node."""
        self.tell(f"kill {self._nodes.pop(0)}")

    def restart(self) -> None:
        """Begin the cluster anew, with one node."""
        self.tell("restart")
        self._nodes.clear()
        self.add_node()

    def close(self) -> None:
        self.launcher.hang_up()
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(60)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[FakeCluster]:
    """One cluster for all tests: a head and a node with one GPU."""
    if importlib.util.find_spec("ray") is None:
        assert "STUDIO_REQUIRE_RAY" not in os.environ
        pytest.skip("needs the package ray")
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as name:  # sockets' paths
        cluster = FakeCluster(Path(name))
        try:
            yield cluster
        finally:
            cluster.close()


@pytest.fixture
def on_ray(tmp_path: Path, ray_cluster: FakeCluster) -> Iterator[SimpleNamespace]:
    """A runner whose agents are actors in a Ray cluster, with all that it is made of."""
    with runner_away(tmp_path, ray_cluster.launcher) as parts:
        parts.cluster = ray_cluster
        yield parts
        while ray_cluster.launcher.places:
            with contextlib.suppress(ResourceError):
                ray_cluster.launcher.kill(ray_cluster.launcher.places.pop())


@pytest.fixture(params=["local", "process", pytest.param("ray", marks=pytest.mark.slow)])
def runner(request: pytest.FixtureRequest, verbs_on_path: None) -> Runner:
    """Every runner there is."""
    if request.param == "local":
        return LocalRunner({"STUDIO_DEVICE": "cpu"})
    if request.param in ("process", "ray"):
        return request.getfixturevalue({"process": "away", "ray": "on_ray"}[request.param]).runner
    return request.getfixturevalue("new_rented")(request.param).runner


@pytest.fixture
def homes(request: pytest.FixtureRequest, runner: Runner, tmp_path: Path) -> list[Path]:
    """Return where something of an attempt may be found."""
    if request.node.callspec.params["runner"] == "ray":
        return [tmp_path, request.getfixturevalue("ray_cluster").home]
    return [tmp_path]
