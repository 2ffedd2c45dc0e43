import contextlib
import dataclasses
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import uvicorn

from studio.core.config import CheckConfig
from studio.core.errors import NotFoundError, ResourceError
from studio.core.settings import PROJECT_ROOT
from studio.jobs.queue import Claim
from studio.jobs.rentals import Rentals
from studio.jobs.runners.agents import AgentRunner, Launcher
from studio.jobs.runners.base import Attempt, Report, Runner
from studio.jobs.runners.desk import AgentDesk
from studio.jobs.runners.local import LocalRunner
from studio.jobs.runners.ray import RayLauncher
from studio.jobs.runners.rented.base import Wants
from studio.jobs.runners.rented.launcher import Pace, RentLauncher
from studio.jobs.runners.rented.money import Bounds
from studio.jobs.runners.rented.opened import SERVICES
from studio.jobs.runners.rented.runner import Patience, RentedRunner
from studio.jobs.runners.ticket import Ticket
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.states import RUNNING
from studio.jobs.storage.folder import FolderStorage
from studio.jobs.storage.links import LinkSigner
from studio.web import machines
from studio.web.machines import machines_app

FAKE_VERBS = Path(__file__).resolve().parents[1] / "fake_verbs.py"
SSHD = "/usr/sbin/sshd"

SSHD_CONFIG = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
ForceCommand cd {home} && HOME={home} PYTHONPATH={verbs} STUDIO_DEVICE=cpu sh -c "$SSH_ORIGINAL_COMMAND"
"""


def load(name: str) -> ModuleType:
    """Return a module of this folder."""
    path = Path(__file__).parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


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


class Counting:
    """Makes a runner tell the queue which attempt counts, as the worker's claim does."""

    def __init__(self, queue: OneJobQueue, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.queue = queue

    def start(self, attempt: Attempt) -> str:
        self.queue.attempts[attempt.claim.id] = attempt.claim.attempt
        return super().start(attempt)


class CountingRunner(Counting, AgentRunner):
    """The runner of agents."""


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
def runner_on() -> Callable[..., Any]:
    """Return ``runner_away``, for a launcher of one's own."""
    return runner_away


@pytest.fixture
def away(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A runner whose agents are processes on a home of their own, with all that it is made of."""
    launcher = ProcessLauncher(tmp_path / "elsewhere")
    with runner_away(tmp_path, launcher) as parts:
        yield parts
        for place in launcher.processes:
            launcher.kill(place)


@pytest.fixture
def machine() -> Iterator[SimpleNamespace]:
    """Another machine: what ``ssh`` needs to reach it, and its home."""
    if not Path(SSHD).exists() or shutil.which("ssh") is None:
        pytest.skip("needs Debian's packages openssh-server and openssh-client")
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as name:  # a socket's path is short
        folder = Path(name)
        home = folder / "h"
        home.mkdir()
        Path("/run/sshd").mkdir(exist_ok=True)
        for key in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        verbs = FAKE_VERBS.parent
        (folder / "config").write_text(SSHD_CONFIG.format(port=port, folder=folder, home=home, verbs=verbs))
        options = ["-p", str(port), "-i", str(folder / "client"), "-F", "none"]
        options += ["-o", f"UserKnownHostsFile={folder}/known", "-o", "StrictHostKeyChecking=accept-new"]
        with subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL) as process:
            give_up_s = time.monotonic() + 20
            while time.monotonic() < give_up_s:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            user = os.environ.get("USER") or "root"
            yield SimpleNamespace(host=f"{user}@127.0.0.1", options=options, home=home, port=port)
            process.terminate()


@pytest.fixture(scope="session")
def stand_ins() -> ModuleType:
    return load("rented/stand_ins")


class RentQueue(OneJobQueue):
    """A queue as far as renting asks it, with the real table of rentals."""

    def __init__(self, database: SqliteDatabase) -> None:
        super().__init__()
        self.ahead_s = 0.0
        """So much later it is for the books."""
        self.rentals = Rentals(database, lambda: time.time() + self.ahead_s)
        self.told: list[str] = []

    def is_attempt(self, job_id: str, attempt: int) -> bool:
        return self.attempts.get(job_id) == attempt and self.state in RUNNING

    def tell(self, job_id: str, level: str, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def small_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines of stand-ins find the studio's code where it is; sending it takes seconds."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz"):
        pass
    monkeypatch.setattr(machines, "code_archive", lambda: (data.getvalue(), "small"))


@pytest.fixture
def new_rented(tmp_path: Path, stand_ins: ModuleType, small_code: None) -> Iterator[Callable[..., SimpleNamespace]]:
    """Return a function that makes a runner on machines of a stand-in; when the test ends, none of them is left."""
    with contextlib.ExitStack() as stack:
        made: list[SimpleNamespace] = []

        def new(name: str, **bounds: float) -> SimpleNamespace:
            service = stand_ins.STAND_INS[name](tmp_path / name)
            stack.callback(service.close)
            database = SqliteDatabase(tmp_path / f"{name}.sqlite3")
            stack.callback(database.close)
            queue = RentQueue(database)
            signer = LinkSigner(b"k" * 32, lambda: parts.address)
            pace = {"beat_s": 0.1, "snapshot_s": 0.2, "patience_s": 60.0}
            desk = AgentDesk(queue, FolderStorage(tmp_path / "storage", signer), signer, pace)  # type: ignore[arg-type]
            address = stack.enter_context(serve_machines(desk))
            adapter = SERVICES[name](stand_ins.KEY, "0123456789ab", url=service.url, timeout_s=10.0)
            service.hurry = lambda: setattr(adapter._calls._client, "timeout", 0.4)
            limits = {"monthly_budget": 20.0, "max_per_job": 5.0, "max_price_per_hour": 0.8, "max_s": 3600.0}
            launcher = RentLauncher(
                adapter,
                desk,
                queue,  # type: ignore[arg-type]
                address,
                Wants("", 24.0, 80, 0.8),
                Bounds(**limits | bounds),
                "python:3.12-slim",
                Pace(pauses_s=(0.02, 0.05, 0.1), unclear_s=0.3, again_s=0.05, look_s=0.2),
            )
            patience = Patience(boot_s=60.0, first_step_s=60.0, stall_s=60.0)
            runner = CountingRented(queue, desk, launcher, patience, grace_s=5.0, lost_s=1.0)
            parts = SimpleNamespace(
                service=service, adapter=adapter, queue=queue, desk=desk, launcher=launcher, runner=runner,
                address=address, rentals=queue.rentals,
            )  # fmt: skip
            made.append(parts)
            return parts

        yield new
        left = {parts.service.name: dict(parts.service.machines) for parts in made if parts.service.machines}
    assert not left, f"machines that nobody has given back: {left}"


class CountingRented(Counting, RentedRunner):
    """The runner of rented machines."""


@pytest.fixture
def ticket_of(new_attempt: Callable[..., Attempt]) -> Callable[..., Ticket]:
    """Return a function that begins an attempt that counts, and returns its ticket."""

    def begin(parts: SimpleNamespace, number: int = 1, job_id: str = "check-0123456789abcdef") -> Ticket:
        parts.queue.attempts[job_id] = number
        box, _ = parts.desk.open(new_attempt("quick", number, job_id))
        return parts.desk.ticket(box, parts.launcher.address, grace_s=5.0)

    return begin


@pytest.fixture(params=["vast", "hf_jobs"])
def rented(request: pytest.FixtureRequest, new_rented: Callable[..., SimpleNamespace]) -> SimpleNamespace:
    """Each service, with all that a runner on its machines is made of."""
    return new_rented(request.param)


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


@pytest.fixture(scope="session")
def ray_package() -> None:
    """Skip where the package is missing, unless it may not be."""
    if importlib.util.find_spec("ray") is None:
        assert "STUDIO_REQUIRE_RAY" not in os.environ
        pytest.skip("needs the package ray")


@pytest.fixture(scope="session")
def ray_cluster(ray_package: None) -> Iterator[Any]:
    """One cluster for all tests: a head and a node with one GPU."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as name:  # sockets' paths
        cluster = load("fake_cluster").FakeCluster(Path(name), str(FAKE_VERBS.parent))
        cluster.launcher = PacedRayLauncher(cluster.address)
        try:
            yield cluster
        finally:
            cluster.launcher.hang_up()
            cluster.close()


@pytest.fixture
def on_ray(tmp_path: Path, ray_cluster: Any) -> Iterator[SimpleNamespace]:
    """A runner whose agents are actors in a Ray cluster, with all that it is made of."""
    with runner_away(tmp_path, ray_cluster.launcher) as parts:
        parts.cluster = ray_cluster
        yield parts
        while ray_cluster.launcher.places:
            with contextlib.suppress(ResourceError):
                ray_cluster.launcher.kill(ray_cluster.launcher.places.pop())


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("ray", "vast", "hf_jobs")]


class WarmRunner(LocalRunner):
    """The runner of this machine, with verbs that can stay, all that take a device."""

    def start(self, attempt: Attempt) -> str:
        return super().start(dataclasses.replace(attempt, warm_verb=attempt.verb if attempt.takes_device else None))


@pytest.fixture
def new_warm_runner(verbs_on_path: None) -> Iterator[Callable[..., WarmRunner]]:
    """Return a function that makes a runner whose processes stay for a minute."""
    made = []

    def new(**options: Any) -> WarmRunner:
        made.append(WarmRunner({"STUDIO_DEVICE": "cpu"}, **{"warm_s": 60.0, **options}))
        return made[-1]

    yield new
    for each in made:
        each.rest()


@pytest.fixture(params=["local", "warm", "process", *SLOW])
def runner(request: pytest.FixtureRequest, verbs_on_path: None) -> Runner:
    """Every runner there is."""
    if request.param == "local":
        return LocalRunner({"STUDIO_DEVICE": "cpu"})
    if request.param == "warm":
        return request.getfixturevalue("new_warm_runner")()
    if request.param in ("process", "ray"):
        return request.getfixturevalue({"process": "away", "ray": "on_ray"}[request.param]).runner
    return request.getfixturevalue("new_rented")(request.param).runner


@pytest.fixture
def homes(request: pytest.FixtureRequest, runner: Runner, tmp_path: Path) -> list[Path]:
    """Return where something of an attempt may be found."""
    if request.node.callspec.params["runner"] == "ray":
        return [tmp_path, request.getfixturevalue("ray_cluster").home]
    return [tmp_path]
