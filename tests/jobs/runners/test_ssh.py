"""Against a real sshd on loopback, whose sessions see a home of their own."""

import socket
import sys
import time
from types import SimpleNamespace

import pytest

from studio.core.errors import InputError, ResourceError
from studio.jobs.runners.ssh import SshLauncher


@pytest.fixture
def launcher(machine: SimpleNamespace, away: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SshLauncher:
    server = away.address.removeprefix("http://")
    launcher = SshLauncher(machine.host, server, python=sys.executable, options=machine.options)
    monkeypatch.setattr(away.runner, "_launcher", launcher)
    away.address = "http://studio"  # what links say
    return launcher


def steps(events):
    return [event.data["step"] for event in events if event.kind == "metrics"]


@pytest.mark.slow
def test_a_job_runs_there_and_its_files_come_home(away, machine, launcher, new_attempt, follow):
    attempt = new_attempt("count 3 5")
    handle = away.runner.start(attempt)
    report, events = follow(away.runner, handle)
    said = [path.read_text() for path in machine.home.rglob("agent.log")]
    assert report.outcome is not None, (report, said)
    assert report.outcome.state == "completed"
    assert report.outcome.result["source_files"] == ["a.png"]
    assert steps(events) == [1, 2, 3]
    assert len((attempt.job_dir / "out" / "steps.txt").read_text().splitlines()) == 3
    away.runner.leave(handle)
    left = [path.name for path in (machine.home / ".likeness-studio" / "agents").iterdir()]
    assert [name for name in left if not name.startswith("code-")] == []  # no photo stays there
    assert len(left) == 1
    assert launcher._lines == {}
    assert not list(machine.home.rglob("server.sock"))


@pytest.mark.slow
def test_cancelling_ends_the_process_there(away, machine, launcher, new_attempt, follow, gone):
    handle = away.runner.start(new_attempt("spawn 500"))
    follow(away.runner, handle, until=steps)
    pids = next(machine.home.rglob("pids.txt"))
    numbers = [int(pid) for pid in pids.read_text().split()]
    began_s = time.monotonic()
    away.runner.cancel(handle, 1.0)  # it does not listen
    report, _ = follow(away.runner, handle)
    assert report.outcome is None or report.outcome.state == "cancelled"
    away.runner.leave(handle)
    assert all(gone(pid) for pid in numbers)
    assert time.monotonic() - began_s < 20
    assert list(machine.home.rglob("pids.txt")) == []


def test_a_machine_that_does_not_let_us_in_and_one_that_does_not_answer_have_words(machine):
    stranger = SshLauncher(machine.host, "127.0.0.1:1", options=["-p", str(machine.port), "-F", "none",
        "-o", "IdentityFile=/dev/null", "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no",
        "-o", "UserKnownHostsFile=/dev/null"])  # fmt: skip
    with pytest.raises(InputError, match="work without a question"):
        stranger.install()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = free.getsockname()[1]
    with pytest.raises(ResourceError, match="cannot be reached"):
        SshLauncher(machine.host, "127.0.0.1:1", options=["-p", str(closed), "-F", "none"]).install()
