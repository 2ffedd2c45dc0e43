import dataclasses
import fcntl
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio.jobs.runners import local

OTHER_JOB = "check-fedcba9876543210"
LEAVES_TRACES = """
import dataclasses, os, sys

@dataclasses.dataclass
class Found:
    pid: int
    traces: list

def run(config, source, out, *, on_event, should_stop):
    traces = [name for name, lost in (("TRACE", "TRACE" in os.environ), ("PATH", "PATH" not in os.environ)) if lost]
    traces += ["folder"] if os.path.basename(os.getcwd()) == "elsewhere" else []
    os.environ["TRACE"] = "secret"
    del os.environ["PATH"]
    os.makedirs(out / "elsewhere")
    os.chdir(out / "elsewhere")
    sys.stdout.write(f"printed by {config.subject} and not flushed")
    return Found(os.getpid(), traces)
"""


def test_leftover_process_that_holds_the_lock_is_killed_and_no_stranger(tmp_path):
    path = tmp_path / "child.lock"
    path.write_text(str(os.getpid()))
    local.end_leftovers(tmp_path)  # nobody holds the lock: the number in it means nothing, and we live on

    code = (
        f"import fcntl, os, time; f = open({str(path)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
        "; f.write(str(os.getpid())); f.flush(); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as leftover:
        leftover.stdout.readline()
        local.end_leftovers(tmp_path)
        assert leftover.wait(timeout=10) == -9
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_every_way_to_end_without_a_result_has_words():
    assert "probably out of memory" in local.words_of(-9)
    assert "crashed (SIGABRT)" in local.words_of(-6)
    assert "status 3" in local.words_of(3)


# ------------------------------------------------------------------------------------------- processes that stay


@pytest.fixture
def run(new_attempt, follow):
    """Return a function that runs an attempt to its end; gives its report, its events, its process and its folder."""
    numbers = itertools.count(1)

    def to_end(runner, words="quick", verb="fake_verbs:run", **more):
        attempt = new_attempt(words, job_id=f"check-{next(numbers):016x}", **more)
        attempt = dataclasses.replace(attempt, verb=verb)
        handle = runner.start(attempt)
        report, events = follow(runner, handle)
        runner.leave(handle)
        return report, events, local.process_of(attempt.job_dir), attempt.job_dir

    return to_end


def open_files_below(folder, pid):
    """Return which files of a folder the processes of a group hold open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(process.name)) == pid:
                found += [os.readlink(handle) for handle in (process / "fd").iterdir()]
        except OSError:
            continue
    return [path for path in found if path.startswith(str(folder))]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_that_stays_takes_the_next_attempt_and_holds_nothing_of_the_one_before(new_warm_runner, run, gone):
    runner = new_warm_runner()
    first, _, pid, folder = run(runner, "chatter 200")
    assert first.outcome.state == "completed" and not gone(pid, 0.0)
    with (folder / "child.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    give_up_s = time.monotonic() + 10
    while open_files_below(folder, pid) and time.monotonic() < give_up_s:  # the guard closes the lock in its own time
        time.sleep(0.02)
    assert open_files_below(folder, pid) == []
    log = (folder / "log.txt").read_bytes()

    second, events, again, other = run(runner, "chatter 100")
    assert again == pid and second.outcome.result["steps"] == 100
    assert [event.data["step"] for event in events if event.kind == "metrics"] == list(range(1, 101))
    assert (folder / "log.txt").read_bytes() == log
    assert (other / "log.txt").read_text().startswith("--- attempt 1\n")
    assert "printed 100" in (other / "log.txt").read_text()
    runner.rest()
    assert gone(pid)


def test_nothing_that_a_verb_has_set_or_printed_is_there_for_the_next_one(new_warm_runner, run, tmp_path, monkeypatch):
    (tmp_path / "leaves_traces.py").write_text(LEAVES_TRACES)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    runner = new_warm_runner()
    ada, _, pid, adas = run(runner, "Ada", verb="leaves_traces:run")
    bob, _, again, bobs = run(runner, "Bob", verb="leaves_traces:run")
    assert pid == again
    assert ada.outcome.result["traces"] == bob.outcome.result["traces"] == []
    for folder, name in ((adas, "Ada"), (bobs, "Bob")):
        printed = [line for line in (folder / "log.txt").read_text().splitlines() if "printed by" in line]
        assert printed == [f"printed by {name} and not flushed"]


TOKEN = {"STUDIO_JOB_HUB_TOKEN": "hf_sesame"}


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ({}, {}, True),
        ({"secrets": TOKEN}, {"secrets": TOKEN}, False),  # it would outlive its job in the process
        ({"secrets": TOKEN}, {}, False),  # another owner
        ({}, {"secrets": {"STUDIO_CIVITAI_KEY": None, "STUDIO_GUEST": "1"}}, False),
        ({}, {"takes_device": False}, None),  # a photo check beside it
    ],
)
def test_only_an_attempt_that_would_get_the_same_variables_is_taken(new_warm_runner, run, gone, before, after, stays):
    runner = new_warm_runner()
    *_, first, _ = run(runner, **before)
    *_, second, _ = run(runner, **after)
    assert (first == second) is (stays is True)
    assert gone(first, 0.0 if stays is not False else 10.0) is (stays is False)


def test_each_device_has_its_own(new_warm_runner, run, gone):
    runner = new_warm_runner()
    *_, first, _ = run(runner, slot={"CUDA_VISIBLE_DEVICES": "0"})
    *_, other, _ = run(runner, slot={"CUDA_VISIBLE_DEVICES": "1"})
    *_, again, _ = run(runner, slot={"CUDA_VISIBLE_DEVICES": "0"})
    assert first == again != other and not gone(other, 0.0)


def test_a_training_finds_the_device_free(new_warm_runner, run, gone, new_attempt):
    runner = new_warm_runner()
    *_, first, _ = run(runner)
    training = new_attempt("quick", job_id=OTHER_JOB)
    handle = local.LocalRunner.start(runner, training)  # of a verb that does not stay
    assert gone(first, 0.0)
    runner.leave(handle)


@pytest.mark.parametrize("words", ["refuse", "boom", "leave", "die 1", "abandon"])
def test_a_process_is_used_once_where_its_attempt_went_wrong_or_left_something_behind(
    new_warm_runner, run, gone, words
):
    runner = new_warm_runner()
    *_, pid, _ = run(runner)
    *_, same, _ = run(runner, words)
    assert same == pid and gone(pid)
    report, _, other, _ = run(runner)
    assert report.outcome.state == "completed" and other != pid


def test_a_process_is_used_once_where_its_attempt_was_cancelled(new_warm_runner, run, new_attempt, follow, gone):
    runner = new_warm_runner()
    *_, pid, _ = run(runner)
    handle = runner.start(new_attempt("count 500 20", job_id=OTHER_JOB))
    follow(runner, handle, until=bool)
    runner.cancel(handle, 20.0)
    report, _ = follow(runner, handle)
    runner.leave(handle)
    assert report.outcome.state == "cancelled" and gone(pid)
    *_, other, _ = run(runner)
    assert other != pid


def test_a_late_cancel_does_not_reach_the_next_attempt(new_warm_runner, new_attempt, follow):
    runner = new_warm_runner()
    first = runner.start(new_attempt("quick"))
    follow(runner, first)
    second = runner.start(new_attempt("count 20 20", job_id=OTHER_JOB))
    runner.cancel(first, 0.0)
    runner.leave(first)
    report, _ = follow(runner, second)
    assert report.outcome.state == "completed" and report.outcome.result["steps"] == 20
    runner.leave(second)


def test_a_process_that_was_killed_while_it_waited_costs_the_next_attempt_nothing(new_warm_runner, run, gone):
    runner = new_warm_runner()
    *_, pid, _ = run(runner)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    report, _, other, _ = run(runner)
    assert report.outcome.state == "completed" and other != pid
    os.kill(other, signal.SIGTERM)  # as a service manager asks everything to stop
    assert gone(other)


def test_a_process_waits_for_so_long_and_no_longer(new_warm_runner, run, gone):
    runner = new_warm_runner(warm_s=0.3)
    *_, pid, _ = run(runner)
    assert gone(pid, 5.0)
    *_, other, _ = run(new_warm_runner(warm_s=0))
    assert gone(other, 0.0)


SERVER = """
import sys
from pathlib import Path
from studio.jobs.queue import Claim
from studio.jobs.runners.local import LocalRunner, process_of
from studio.jobs.runners.base import Attempt

folder = Path(sys.argv[1])
runner = LocalRunner({"STUDIO_DEVICE": "cpu"}, warm_s=60)
attempt = Attempt(Claim(folder.name, "check", 1), "fake_verbs:run", folder, warm_verb="fake_verbs:run")
handle = runner.start(attempt)
while runner.poll(handle, 1.0).state != "ended":
    pass
print(process_of(folder), flush=True)
sys.stdin.read()
"""


def test_a_process_that_waits_goes_with_its_server_and_leaves_no_guard(new_attempt, verbs_on_path, gone):
    folder = new_attempt("quick").job_dir
    command = [sys.executable, "-c", SERVER, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ["PYTHONPATH"]])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as server:
        pid = int(server.stdout.readline())
        group = local_group(pid)
        assert len(group) == 2  # it and its guard
        server.kill()
    assert all(gone(each) for each in group)


def local_group(pid):
    found = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [each for each in found if Path(f"/proc/{each}").exists() and os.getpgid(each) == pid]
