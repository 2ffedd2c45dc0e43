"""Agents as real processes on a home of their own, over loopback."""

import json
import os
import signal
import time
from types import SimpleNamespace

import httpx2
import pytest

from studio.core.errors import ConflictError, InputError, ResourceError
from studio.core.settings import Settings
from studio.jobs.runners import agent
from studio.jobs.runners.desk import GoneError


def steps(events):
    return [event.data["step"] for event in events if event.kind == "metrics"]


def snapshot(away, job_id):
    names = away.storage.names(f"jobs/{job_id}")
    return [name for name in names if name.endswith("snapshot.json")]


def test_after_kill_9_the_next_attempt_goes_on_from_what_was_brought(away, verbs_on_path, new_attempt, follow, gone):
    attempt = new_attempt("count 60 50")
    handle = away.runner.start(attempt)
    follow(away.runner, handle, until=lambda events: len(steps(events)) > 5)
    give_up_s = time.monotonic() + 30
    while not snapshot(away, attempt.claim.id) and time.monotonic() < give_up_s:
        away.runner.poll(handle, 0.1)
    (place,) = away.launcher.processes
    (child,) = [int(path.read_text()) for path in away.launcher.home.rglob("child.lock")]
    os.kill(away.launcher.processes[place].pid, signal.SIGKILL)
    report, _ = follow(away.runner, handle)
    assert report.state == "lost"
    assert "is gone" in report.reason
    assert gone(child)
    away.runner.leave(handle)

    handle = away.runner.start(new_attempt("count 60 1", number=2))
    report, events = follow(away.runner, handle)
    assert report.outcome.state == "completed"
    assert steps(events)[0] > 1  # went on
    assert steps(events)[-1] == 60
    done = [line.split()[0] for line in (attempt.job_dir / "out" / "steps.txt").read_text().splitlines()]
    assert done == [str(step) for step in range(1, 61)]
    away.runner.leave(handle)
    assert away.storage.names(f"jobs/{attempt.claim.id}/files") == []  # photos, too


def test_a_late_agent_is_refused_stops_and_leaves_no_process(away, verbs_on_path, new_attempt, follow, gone):
    attempt = new_attempt("count 500 20")
    handle = away.runner.start(attempt)
    follow(away.runner, handle, until=lambda events: len(steps(events)) > 2)
    (place,) = away.launcher.processes
    child = int(next(away.launcher.home.rglob("child.lock")).read_text())
    away.queue.attempts[attempt.claim.id] = 2  # somebody else has taken the job over
    assert away.launcher.processes[place].wait(timeout=30) == 3
    assert gone(child)
    assert list(away.launcher.home.rglob("photos")) == []


def test_an_agent_whose_server_is_away_works_on_and_tells_it_all_afterwards(away, verbs_on_path, new_attempt, follow):
    attempt = new_attempt("count 30 20")
    handle = away.runner.start(attempt)
    follow(away.runner, handle, until=lambda events: len(steps(events)) > 2)
    real = away.desk.beat
    away.desk._boxes[handle].lock.acquire()  # it answers nobody
    time.sleep(1.5)
    away.desk._boxes[handle].lock.release()
    report, events = follow(away.runner, handle)
    assert report.outcome.state == "completed"
    assert steps(events)[-1] == 30
    assert real == away.desk.beat
    away.runner.leave(handle)


def test_links_that_are_over_when_they_are_used_are_asked_for_again(
    away, verbs_on_path, new_attempt, follow, monkeypatch
):
    real = away.storage.link
    lives = []

    def link(method, name, *, expires_s, max_bytes):
        """The first link to each object is over at once; fetched or brought, it needs a second one."""
        is_first = (method, name) not in lives
        lives.append((method, name))
        return real(method, name, expires_s=-1.0 if is_first else expires_s, max_bytes=max_bytes)

    monkeypatch.setattr(away.storage, "link", link)
    attempt = new_attempt("count 3 5")
    handle = away.runner.start(attempt)
    report, _ = follow(away.runner, handle)
    said = [path.read_text() for path in away.launcher.home.rglob("agent.log")]
    assert report.outcome is not None and report.outcome.state == "completed", (report, said)
    assert report.outcome.result["source_files"] == ["a.png"]
    assert len((attempt.job_dir / "out" / "steps.txt").read_text().splitlines()) == 3
    assert {method for method, _ in lives} == {"GET", "PUT"}
    assert all(lives.count(each) >= 2 for each in lives)
    away.runner.leave(handle)


def test_an_input_that_is_there_no_more_ends_the_agent_with_words(
    away, verbs_on_path, new_attempt, follow, monkeypatch
):
    real = away.launcher.launch

    def launch(ticket):
        away.desk.drop_files(ticket.job)
        return real(ticket)

    monkeypatch.setattr(away.launcher, "launch", launch)
    handle = away.runner.start(new_attempt("quick"))
    assert follow(away.runner, handle)[0].state == "lost"
    (said,) = [path.read_text() for path in away.launcher.home.rglob("agent.log")]
    assert "photos/a.png any more" in said
    away.runner.leave(handle)


def test_a_file_that_is_no_ticket_is_refused(tmp_path):
    (tmp_path / "ticket.json").write_text("{}")
    with pytest.raises(InputError, match="job"):
        agent.run(tmp_path / "ticket.json", Settings(home=tmp_path))
    with pytest.raises(InputError, match="cannot be read"):
        agent.run(tmp_path / "none.json", Settings(home=tmp_path))


def test_two_agents_of_one_ticket_do_not_run_at_once(away, new_attempt, tmp_path):
    away.queue.attempts["check-0123456789abcdef"] = 1
    box, _ = away.desk.open(new_attempt("quick"))
    ticket = away.desk.ticket(box, away.address, grace_s=1.0)
    (tmp_path / "ticket.json").write_text(json.dumps(ticket.model_dump(mode="json")))
    with agent._only_one(tmp_path), pytest.raises(ConflictError, match="runs already"):
        agent.run(tmp_path / "ticket.json", Settings(home=tmp_path))


@pytest.fixture
def line(tmp_path, monkeypatch):
    """The way to a server that is never asked anything."""
    monkeypatch.setattr(agent, "_PAUSES_S", (0.001,) * 4)
    ticket = SimpleNamespace(patience_s=1.0, address="http://127.0.0.1:9", token="t", job="check-1", attempt=1)
    return agent._Line(ticket, tmp_path)


def test_a_storage_that_refuses_every_fresh_link_is_believed(line):
    used = []

    def use(link):
        used.append(link)
        raise agent._RefusedError(403)

    with pytest.raises(ResourceError, match="the storage answers 403"):
        line._exchanged(use, "first", lambda: "fresh")
    assert used == ["first", "fresh", "fresh", "fresh"]


@pytest.mark.parametrize("error", [agent._RefusedError(403), httpx2.ConnectError("away")])
def test_an_exchange_ends_as_gone_where_the_attempt_counts_no_more(line, error):
    def use(link):
        line.is_over.set()
        raise error

    with pytest.raises(GoneError):
        line._exchanged(use, "first", lambda: "fresh")
