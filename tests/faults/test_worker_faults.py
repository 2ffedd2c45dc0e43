"""kill -9 of everything, in the middle: no job is lost, no process stays behind."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio.core.config import CheckConfig
from studio.core.errors import ResourceError
from studio.core.settings import PROJECT_ROOT, Settings
from studio.service import Studio

FAKES = Path(__file__).parent.parent / "jobs" / "fake_verbs.py"
OWNER = "ada"

SERVER = """
import sys, time
from pathlib import Path
import fake_verbs
from studio.core.config import CheckConfig
from studio.service import Studio
from studio.core.settings import Settings

home, photo, subject = sys.argv[1:]
studio = Studio(Settings(home=home), verbs=fake_verbs.VERBS)
studio.start()
print(studio.submit_check(CheckConfig(subject=subject), [Path(photo)], owner="ada").id, flush=True)
time.sleep(600)
"""


def load_fakes():
    spec = importlib.util.spec_from_file_location("fake_verbs", FAKES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "one.jpg"
    path.write_bytes(b"pixels")
    return path


@pytest.fixture
def studio(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES.parent), str(PROJECT_ROOT)]))
    studio = Studio(Settings(home=tmp_path / "home"), verbs=load_fakes().VERBS, grace_s=1.0)
    yield studio
    studio.close()


def until(condition, timeout_s=30.0):
    end_s = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.02)
    return answer


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")  # dead, but its new parent has not looked yet
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


def steps(studio, job):
    path = studio.out_dir(job.id, owner=OWNER) / "steps.txt"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def test_child_killed_at_random_moments_goes_on_from_where_it_was(studio, photo):
    dice = random.Random(7)
    studio.start()
    job = studio.submit_check(CheckConfig(subject="count 200 10"), [photo], owner=OWNER)
    for _ in range(2):
        seen = len(steps(studio, job))
        wanted = seen + dice.randint(1, 20)
        done = until(lambda wanted=wanted: len(rows := steps(studio, job)) >= wanted and rows)
        os.kill(int(done[-1][1]), signal.SIGKILL)
        until(lambda pid=int(done[-1][1]): is_gone(pid))
    view = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert (view.state, view.attempt) == ("completed", 3)
    assert [int(step) for step, _ in steps(studio, job)] == list(range(1, 201))
    assert len({pid for _, pid in steps(studio, job)}) == 3


def test_job_that_is_always_killed_stalls_in_words_and_the_queue_lives_on(studio, photo):
    studio.start()
    job = studio.submit_check(CheckConfig(subject="die 3"), [photo], owner=OWNER)
    other = studio.submit_check(CheckConfig(subject="quick"), [photo], owner=OWNER)
    view = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert view.state == "stalled"
    assert "was killed, probably out of memory" in view.cause and "3 times" in view.cause
    assert studio.wait(other.id, owner=OWNER, timeout_s=60).state == "completed"
    studio.retry(job.id, owner=OWNER)
    assert studio.wait(job.id, owner=OWNER, timeout_s=60).state == "completed"


def test_killed_server_takes_its_children_along_and_the_next_one_goes_on(studio, photo, tmp_path):
    home = tmp_path / "home"
    command = [sys.executable, "-c", SERVER, str(home), str(photo), "spawn 120"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        job_id = server.stdout.readline().strip()
        out = home / "jobs" / job_id / "out"
        until(lambda: (out / "steps.txt").exists())
        pids = [int(pid) for pid in (out / "pids.txt").read_text().split()]
        server.kill()
    until(lambda: all(map(is_gone, pids)), timeout_s=5)
    before = (out / "steps.txt").read_text()

    assert studio.get(job_id, owner=OWNER).state == "checking", "nobody has looked since"
    studio.start()
    view = studio.wait(job_id, owner=OWNER, timeout_s=60)
    assert (view.state, view.attempt) == ("completed", 2)
    after = (out / "steps.txt").read_text()
    assert after.startswith(before)
    assert [int(line.split()[0]) for line in after.splitlines()] == list(range(1, 121))
    assert any("server stopped" in str(event.data) for _, event in studio.events(job_id, owner=OWNER))


def test_process_that_a_verb_leaves_behind_is_ended_with_it(studio, photo):
    studio.start()
    job = studio.submit_check(CheckConfig(subject="abandon"), [photo], owner=OWNER)
    assert studio.wait(job.id, owner=OWNER, timeout_s=60).state == "completed"
    left = int((studio.out_dir(job.id, owner=OWNER) / "pids.txt").read_text())
    until(lambda: is_gone(left), timeout_s=5)


def test_cancel_ends_the_whole_group(studio, photo):
    studio.start()
    job = studio.submit_check(CheckConfig(subject="spawn 10000"), [photo], owner=OWNER)
    until(lambda: steps(studio, job))
    pids = [int(pid) for pid in (studio.out_dir(job.id, owner=OWNER) / "pids.txt").read_text().split()]
    studio.cancel(job.id, owner=OWNER)
    assert studio.wait(job.id, owner=OWNER, timeout_s=20).state == "cancelled"
    until(lambda: all(map(is_gone, pids)), timeout_s=5)


def test_full_disk_under_the_table_delays_events_and_loses_none(studio, photo, monkeypatch):
    store = studio._store
    append, finish, refusals = store.append, store.finish, []

    def fail_at_first(real, times):
        def call(*arguments):
            if len(refusals) < times:
                refusals.append(real)
                raise ResourceError("disk is full")
            return real(*arguments)

        return call

    monkeypatch.setattr(store, "append", fail_at_first(append, 3))
    monkeypatch.setattr(store, "finish", fail_at_first(finish, 4))
    studio.start()
    job = studio.submit_check(CheckConfig(subject="count 50 20"), [photo], owner=OWNER)
    assert studio.wait(job.id, owner=OWNER, timeout_s=60).state == "completed"
    assert len(refusals) == 4
    metrics = [event.data["step"] for _, event in studio.events(job.id, owner=OWNER) if event.kind == "metrics"]
    assert metrics == list(range(1, 51))


def test_job_whose_folder_was_deleted_stalls_in_words(studio, photo):
    job = studio.submit_check(CheckConfig(subject="quick"), [photo], owner=OWNER)
    folder = studio.out_dir(job.id, owner=OWNER).parent
    (folder / "request.json").unlink()
    studio.start()
    view = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert view.state == "stalled"
    assert view.cause == "The job's folder is damaged (request.json cannot be read); submit the job again."


def test_while_the_table_takes_no_writes_an_open_job_says_why_instead_of_seeming_to_work(studio, photo, monkeypatch):
    store, full = studio._store, [True]
    words = "the table of jobs (jobs.sqlite3) cannot grow because the disk is full; free some disk space and try again."

    def no_room(real):
        def call(*arguments):
            if full:
                raise ResourceError(words)
            return real(*arguments)

        return call

    studio.start()
    job = studio.submit_check(CheckConfig(subject="count 20 20"), [photo], owner=OWNER)
    waiting = studio.submit_check(CheckConfig(subject="quick"), [photo], owner=OWNER)
    assert studio.get(job.id, owner=OWNER).cause is None
    for name in ("append", "finish"):
        monkeypatch.setattr(store, name, no_room(getattr(store, name)))
    until(lambda: studio.get(job.id, owner=OWNER).cause == words)
    shown = studio.get(job.id, owner=OWNER)
    assert shown.state == "checking" and words[:20] in str(studio.list(owner=OWNER)[1].cause)
    full.clear()
    ended = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert (ended.state, ended.cause) == ("completed", None)
    assert studio.wait(waiting.id, owner=OWNER, timeout_s=60).state == "completed"
