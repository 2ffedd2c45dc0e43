"""A server that is stopped over and over, in every way, still brings its job to the end."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.config import CheckConfig
from studio.core.private import TABLE_NAME
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.jobs.database import Database
from studio.jobs.postgres import PostgresDatabase
from studio.jobs.sqlite import SqliteDatabase
from studio.pocket.samples import sample_photos
from studio.service import Studio

FAKES = Path(__file__).parent.parent / "jobs" / "fake_verbs.py"
OWNER = "ada"
SERVER = """
import signal, sys, time
import fake_verbs
from studio.jobs.states import VERBS
from studio.service import Studio
from studio.core.settings import Settings

home, verbs = sys.argv[1:]
settings = Settings(home=home, device="cpu", database_url=DATABASE)
studio = Studio(settings, verbs=fake_verbs.VERBS if verbs == "fake" else VERBS, grace_s=5.0)
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), studio.close(), sys.exit(0)))  # the pause is uvicorn's
studio.start()
print("ready", flush=True)
time.sleep(600)
"""


def serve(home: Path, verbs: str, database: str | None = None) -> "subprocess.Popen[str]":
    path = os.pathsep.join([str(FAKES.parent), str(PROJECT_ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER.replace("DATABASE", repr(database)), str(home), verbs],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert server.stdout is not None and server.stdout.readline() == "ready\n"
    return server


def child_of(server: "subprocess.Popen[str]") -> int | None:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    found = [int(pid) for task in children.parents[1].iterdir() for pid in (task / "children").read_text().split()]
    return found[0] if found else None


def stop(server: "subprocess.Popen[str]", how: str) -> None:
    """End a server as a crash does, as Ctrl-C does, or as a service manager does, which asks the child as well."""
    if how == "service" and (child := child_of(server)):
        os.kill(child, signal.SIGTERM)
    server.send_signal(signal.SIGKILL if how == "crash" else signal.SIGTERM)
    server.wait(timeout=60)
    assert server.stdout is not None
    server.stdout.close()


def broken(database: Database, home: Path, accepted: dict[str, int | None]) -> list[str]:
    """Return what is wrong of an installation when all is over; see ``invariants``."""
    try:
        found: list[str] = load_file(Path(__file__).with_name("invariants.py")).broken(database, home, accepted)
        return found
    finally:
        database.close()


def at_work(studio: Studio, job_id: str) -> bool:
    return studio.get(job_id, owner=OWNER).state not in ("pending", "pendingGpu", "pendingModel")


def stop_often(
    home: Path,
    verbs: str,
    stops: int,
    longest_s: float,
    studio: Studio,
    job_id: str,
    *,
    patience_s: float = 0.0,
    database: str | None = None,
) -> int:
    """Start and stop a server ``stops`` times; return how often the job was at work then.

    Each stop comes ``longest_s`` seconds after the start of the server at most, two of three times only when the job
    has begun to work or ``patience_s`` seconds have passed.
    """
    dice, running = random.Random(7), 0
    for number in range(stops):
        server = serve(home, verbs, database)
        give_up_s = time.monotonic() + (patience_s if dice.random() < 2 / 3 else 0.0)
        while not at_work(studio, job_id) and time.monotonic() < give_up_s:
            time.sleep(0.1)
        time.sleep(dice.uniform(0.1, longest_s))
        running += at_work(studio, job_id)
        stop(server, ("crash", "service", "close")[number % 3])
        state = studio.get(job_id, owner=OWNER).state
        assert state != "stalled", f"after {number + 1} stops: {studio.get(job_id, owner=OWNER).cause}"
    return running


def load_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.whole
@pytest.mark.parametrize(
    ("stops", "steps"), [(4, 60), pytest.param(200, 2600, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]
)
def test_a_job_whose_server_is_stopped_again_and_again_completes(stops: int, steps: int, tmp_path: Path) -> None:
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"pixels")
    studio = Studio(Settings(home=tmp_path / "home"), verbs=load_file(FAKES).VERBS)  # looks only; it is not started
    try:
        job = studio.submit_check(CheckConfig(subject=f"count {steps} 50"), [photo], owner=OWNER)
        running = stop_often(tmp_path / "home", "fake", stops, 1.2, studio, job.id)
        assert running > stops / 2, "otherwise nothing was interrupted"
        server = serve(tmp_path / "home", "fake")
        view = studio.wait(job.id, owner=OWNER, timeout_s=120)
        stop(server, "close")
        assert view.state == "completed", view.cause
        assert broken(SqliteDatabase(tmp_path / "home" / TABLE_NAME), tmp_path / "home", {job.id: steps}) == []
    finally:
        studio.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("stops", "steps"), [(15, 200), (70, 1000)])
def test_the_same_holds_in_postgres(
    stops: int, steps: int, tmp_path: Path, new_postgres_url: Callable[[], str]
) -> None:
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"pixels")
    home, url = tmp_path / "home", new_postgres_url()
    studio = Studio(Settings(home=home, database_url=url), verbs=load_file(FAKES).VERBS)  # type: ignore[arg-type]
    try:
        job = studio.submit_check(CheckConfig(subject=f"count {steps} 50"), [photo], owner=OWNER)
        # After a crash nobody works until the lease has ended.
        running = stop_often(home, "fake", stops, 1.2, studio, job.id, patience_s=12.0, database=url)
        assert running > stops / 2 - 1, "otherwise nothing was interrupted"
        server = serve(home, "fake", url)
        view = studio.wait(job.id, owner=OWNER, timeout_s=120)
        stop(server, "close")
        assert view.state == "completed", view.cause
        assert broken(PostgresDatabase(url), home, {job.id: steps}) == []
    finally:
        studio.close()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_training_whose_server_is_stopped_sixty_times_completes(tmp_path: Path) -> None:
    home = tmp_path / "home"
    photos = sample_photos(tmp_path / "photos", count=5, size_px=256)
    studio = Studio(Settings(home=home, device="cpu"))
    try:
        check = studio.submit_check(CheckConfig(subject="Ada", class_noun="woman"), photos, owner=OWNER)
        server = serve(home, "real")
        assert studio.wait(check.id, owner=OWNER, timeout_s=300).state == "completed"
        stop(server, "close")
        config = TrainConfig.parse(
            {
                "subject": "Ada", "class_noun": "woman", "steps": 400, "checkpoint_every_steps": 4,
                "samples_per_checkpoint": 1, "sample_steps": 1, "certify": False, "prior": {"mode": "none"},
            }
        )  # fmt: skip
        job = studio.submit_train(config, check.id, owner=OWNER)
        running = stop_often(home, "real", 60, 4.0, studio, job.id, patience_s=120.0)
        assert running > 20, "otherwise nothing was interrupted"
        server = serve(home, "real")
        view = studio.wait(job.id, owner=OWNER, timeout_s=1200)
        stop(server, "close")
        assert view.state == "completed", view.cause
        assert view.attempt > 30
    finally:
        studio.close()
