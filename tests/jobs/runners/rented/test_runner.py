import math
import threading

import pytest

from studio.jobs.runners.rented.runner import Patience, RentedRunner, Signs, overdue
from studio.jobs.runners.ticket import Beat

PATIENCE = Patience(boot_s=10.0, first_step_s=20.0, stall_s=30.0)


@pytest.mark.parametrize(
    ("signs", "now_s", "watchdog"),
    [
        (Signs(), 1e9, None),
        (Signs(rented_s=0), 10, None),
        (Signs(rented_s=0), 11, "boot"),
        (Signs(rented_s=0, called_s=5), 25, None),
        (Signs(rented_s=0, called_s=5), 26, "first step"),
        (Signs(rented_s=0, called_s=5, moved_s=40), 70, None),
        (Signs(rented_s=0, called_s=5, moved_s=40), 71, "stall"),
        (Signs(rented_s=0, called_s=5, moved_s=100, max_s=100), 101, "maximum"),
    ],
)
def test_each_watchdog_has_its_time(signs, now_s, watchdog):
    found = overdue(signs, PATIENCE, now_s)
    assert (found and found[0]) == watchdog


@pytest.fixture
def watched(rented):
    """Machines that do nothing, and a clock that is put on."""
    rented.service.starts = False
    rented.now_s = 0.0
    rented.runner = RentedRunner(rented.desk, rented.launcher, PATIENCE, clock=lambda: rented.now_s)
    return rented


def begin(watched, new_attempt, follow):
    attempt = new_attempt("quick")
    watched.queue.attempts[attempt.claim.id] = 1
    handle = watched.runner.start(attempt)
    follow(watched.runner, handle, until=lambda events: watched.desk.box(handle).place is not None)
    assert watched.runner.poll(handle, 0.0).state == "running"
    assert len(watched.service.machines) == 1
    return handle


def tell(watched, handle, *events):
    job_id, _, attempt = handle.partition(".")
    watched.desk.beat(job_id, int(attempt), Beat.parse({"events": list(events)}))
    return watched.runner.poll(handle, 0.0)


STEP = {"kind": "progress", "data": {"step": 1, "total": 2}}


@pytest.mark.parametrize(
    ("told", "wait_s", "words"),
    [
        ((), 11.0, "was not heard of within"),
        (((),), 21.0, "made no first step within"),
        (((STEP,),), 31.0, "made no progress for"),
    ],
)
def test_a_machine_on_which_nothing_happens_is_given_back_and_the_job_goes_on_elsewhere(
    watched, new_attempt, follow, told, wait_s, words
):
    handle = begin(watched, new_attempt, follow)
    for events in told:
        assert tell(watched, handle, *events).state == "running"
    watched.now_s += wait_s
    report = watched.runner.poll(handle, 0.0)
    assert report.state == "lost" and report.outcome is None
    assert words in report.reason
    assert watched.runner.poll(handle, 0.0).reason == report.reason
    watched.runner.leave(handle)
    assert not watched.service.machines
    assert watched.rentals.open_ones(watched.service.name) == []


def test_the_time_that_renting_takes_is_no_progress(watched, new_attempt, follow, monkeypatch):
    real, may_go = watched.launcher.launch, threading.Event()
    monkeypatch.setattr(watched.launcher, "launch", lambda ticket: may_go.wait(20) and real(ticket))
    attempt = new_attempt("quick")
    watched.queue.attempts[attempt.claim.id] = 1
    handle = watched.runner.start(attempt)
    box = watched.desk.box(handle)
    follow(watched.runner, handle, until=lambda events: box.heard_s == math.inf)
    assert watched.runner.poll(handle, 0.0).state == "queued"
    may_go.set()
    follow(watched.runner, handle, until=lambda events: box.place is not None and box.heard_s < math.inf)
    watched.runner.poll(handle, 0.0)
    watched.now_s += 11.0
    assert "was not heard of within" in watched.runner.poll(handle, 0.0).reason
    watched.runner.leave(handle)


def test_when_the_longest_time_is_over_the_job_stops_with_words(watched, new_attempt, follow):
    handle = begin(watched, new_attempt, follow)
    tell(watched, handle, STEP)
    watched.now_s = 1e6
    report = watched.runner.poll(handle, 0.0)
    assert report.outcome.state == "stalled"
    assert "Retry the job to go on from its newest checkpoint" in report.outcome.cause
    watched.runner.leave(handle)
    assert not watched.service.machines


def test_while_its_files_are_brought_no_watchdog_ends_an_attempt(watched, new_attempt, follow):
    handle = begin(watched, new_attempt, follow)
    tell(watched, handle, STEP)
    watched.desk.box(handle).heard_s = math.inf
    watched.runner.poll(handle, 0.0)
    watched.now_s += 29.0
    assert watched.runner.poll(handle, 0.0).state == "running"
    watched.runner.leave(handle)


def test_a_job_runs_to_its_end_on_a_rented_machine_and_its_files_come_home(rented, new_attempt, follow):
    attempt = new_attempt("count 3 5")
    handle = rented.runner.start(attempt)
    report, events = follow(rented.runner, handle)
    said = [path.read_text() for path in rented.service.home.rglob("machine.log")]
    assert report.outcome is not None and report.outcome.state == "completed", (report, said)
    assert [event.data["step"] for event in events if event.kind == "metrics"] == [1, 2, 3]
    assert len((attempt.job_dir / "out" / "steps.txt").read_text().splitlines()) == 3
    (machine,) = rented.service.machines.values()
    assert not {"STUDIO_HUB_TOKEN", "HF_TOKEN"} & set(machine.secrets)
    rented.runner.leave(handle)
    assert rented.service.created == 1 and not rented.service.machines
    money = rented.rentals.money(attempt.claim.id)
    assert 0 < money.spent_on_job == money.spent < 0.2 and money.reserved == 0
    assert [text[:16] for text in rented.queue.told] == ["Rented a machine", "The rented machi"]


@pytest.mark.slow
def test_a_machine_that_dies_is_noticed_and_given_back(rented, new_attempt, follow):
    handle = rented.runner.start(new_attempt("count 500 20"))
    follow(rented.runner, handle, until=lambda events: any(event.kind == "metrics" for event in events))
    (machine,) = rented.service.machines.values()
    machine.process.kill()
    report, _ = follow(rented.runner, handle)
    assert report.state == "lost" and "is gone" in report.reason
    rented.runner.leave(handle)
    assert not rented.service.machines
