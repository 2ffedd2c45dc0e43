"""Two servers on one Postgres and one bucket behind a gateway, agents elsewhere, many owners; one server is killed."""

import contextlib
import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from studio.core.config import CheckConfig
from studio.core.domain import TERMINAL_STATES, JobView
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.jobs.postgres import PostgresDatabase
from studio.jobs.schema import JOBS as JOBS_TABLE
from studio.service import Studio

PROGRAM = Path(__file__).with_name("away.py")
FAKES = Path(__file__).parent.parent / "jobs"
OWNERS = ("ada", "ben", "cem", "dia", "eva")
JOBS, STEPS, SLOTS = 40, 12, 3


class Gateway:
    """Passes each connection on to a server that takes it, one after the other, as a gateway does."""

    def __init__(self, ports: list[int]) -> None:
        self._ports = ports
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._ports.append(self._ports.pop(0))
            threading.Thread(target=_serve, args=(client, tuple(self._ports)), daemon=True).start()


def _serve(client: socket.socket, ports: tuple[int, ...]) -> None:
    with client, contextlib.suppress(OSError):
        for port in ports:
            try:
                server = socket.create_connection(("127.0.0.1", port))
            except OSError:
                continue
            with server:
                back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
                back.start()
                _pass_on(client, server)
                back.join()
            return


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(2**16):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def until(is_so: Callable[[], Any], patience_s: float = 120.0) -> float:
    """Wait; return how long, in seconds."""
    begun_s = time.monotonic()
    while not is_so():
        assert time.monotonic() < begun_s + patience_s
        time.sleep(0.05)
    return time.monotonic() - begun_s


def holders(database: PostgresDatabase) -> set[str]:
    """Return which servers look after what runs now."""
    with database.read() as db:
        return set(db.scalars(select(JOBS_TABLE.c.holder).where(JOBS_TABLE.c.holder.is_not(None))))


class Cluster:
    """The servers and what they share."""

    def __init__(self, folder: Path, database: str, storage: str) -> None:
        self._folder = folder
        self.home, self.elsewhere = folder / "home", folder / "elsewhere"
        self._more = json.dumps({"database_url": database, "storage_url": storage, "runner_jobs": SLOTS})
        self._ports = [free_port(), free_port()]
        self._gateway = Gateway(list(self._ports))
        self._servers: dict[int, subprocess.Popen[str]] = {}

    def start(self) -> None:
        """Start the next server."""
        number = len(self._servers)
        environment = {**os.environ, "PYTHONPATH": f"{PROJECT_ROOT}:{FAKES}", "OMP_NUM_THREADS": "1"}
        places = [self.home, self._ports[number], self.elsewhere, self._gateway.address, self._more]
        log = self._folder / f"server-{number}.txt"
        with log.open("wb") as said:
            server = subprocess.Popen(
                [sys.executable, str(PROGRAM), *map(str, places)],
                env=environment, stdout=subprocess.PIPE, stderr=said, text=True,
            )  # fmt: skip
        self._servers[number] = server
        assert server.stdout is not None and server.stdout.readline() == "started\n", log.read_text()

    def stop(self, number: int, how: int) -> None:
        """End a server."""
        server = self._servers[number]
        if server.poll() is None:
            server.send_signal(how)
            server.wait(60)
        assert server.stdout is not None
        server.stdout.close()

    def close(self) -> None:
        """End everything."""
        for number in self._servers:
            self.stop(number, signal.SIGKILL)
        self._gateway.close()
        for path in self.elsewhere.glob("*/pid"):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(path.read_text()), signal.SIGKILL)


@pytest.fixture
def cluster(tmp_path: Path, new_postgres_url: Callable[[], str], bucket: str) -> Iterator[tuple[Cluster, str]]:
    url = new_postgres_url()
    made = Cluster(tmp_path, url, bucket)
    yield made, url
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_forty_jobs_of_five_owners_all_end_when_the_server_that_leads_is_killed(
    cluster: tuple[Cluster, str], tmp_path: Path
) -> None:
    servers, url = cluster
    photo = tmp_path / "a.png"
    photo.write_bytes(b"photo")
    settings = Settings(home=servers.home, device="cpu", database_url=url)  # type: ignore[arg-type]
    studio = Studio(settings, verbs=load_file(FAKES / "fake_verbs.py").VERBS)  # looks only; it is not started
    database = PostgresDatabase(url)
    try:
        checks = {owner: studio.submit_check(CheckConfig(subject="quick"), [photo], owner=owner).id for owner in OWNERS}
        config = TrainConfig(instance_token=f"count {STEPS} 50")
        # One owner after the other: whoever comes last must not wait for all the others' jobs.
        trains = {
            studio.submit_train(config.model_copy(update={"seed": number}), checks[owner], owner=owner).id: owner
            for owner in OWNERS
            for number in range(JOBS // len(OWNERS))
        }
        servers.start()
        servers.start()

        def views() -> list[JobView]:
            return [studio.get(job, owner=owner) for job, owner in trains.items()]

        until(lambda: sum(view.state in TERMINAL_STATES for view in views()) >= random.Random(5).randrange(8, 16))
        before = holders(database)
        assert len(before) == 1, "one of them dispatches"
        servers.stop(0, signal.SIGKILL)
        took_s = until(lambda: (now := holders(database)) and not now & before, 10.0)
        ended = sum(view.state in TERMINAL_STATES for view in views())
        until(lambda: sum(view.state in TERMINAL_STATES for view in views()) > ended)
        until(lambda: all(view.state in TERMINAL_STATES for view in views()), 900.0)
        assert [view.state for view in views()] == ["completed"] * JOBS

        order = [trains[view.id] for view in sorted(views(), key=lambda view: view.started_s or 0.0)]
        for served in range(1, JOBS - len(OWNERS)):
            share = Counter(order[:served])
            shares = [share[owner] for owner in OWNERS]
            if max(shares) < JOBS // len(OWNERS):  # all of them have more that wait
                assert max(shares) - min(shares) <= 1 + SLOTS, f"not fair: {order}"
        print(f"taken over after {took_s:.1f} s; {sum(view.attempt > 1 for view in views())} jobs had a second attempt")
        servers.stop(1, signal.SIGTERM)
        accepted: dict[str, int | None] = dict.fromkeys(trains, STEPS) | dict.fromkeys(checks.values())
        broken = load_file(Path(__file__).with_name("invariants.py")).broken
        assert broken(database, servers.home, accepted) == []
    finally:
        database.close()
        studio.close()
