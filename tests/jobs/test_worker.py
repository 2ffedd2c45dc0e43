import threading
import time

from studio.core.domain import Event
from studio.jobs.events import Outcome
from studio.jobs.queue import NewJob
from studio.jobs.runners.base import Report, Runner
from studio.jobs.slots import BESIDE
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.states import VERBS
from studio.jobs.store import Store
from studio.jobs.worker import Worker


class ScriptedRunner(Runner):
    """Gives one report after the other, the last one for ever."""

    name = "scripted"

    def __init__(self, *reports):
        self.reports = list(reports)
        self.started, self.cancelled, self.left = [], [], threading.Event()

    def start(self, attempt):
        self.started.append(attempt)
        return "handle"

    def poll(self, handle, wait_s):
        time.sleep(0.01)
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    def cancel(self, handle, grace_s):
        self.cancelled.append(grace_s)

    def leave(self, handle):
        self.left.set()


def run(tmp_path, runner, *, silence_s=60.0, do=lambda store: None):
    """Run one job with a runner; return it as it is afterwards, and its store."""
    store = Store(SqliteDatabase(tmp_path / "jobs.sqlite3"))
    store.insert(NewJob("check-1", "check", "ada", "Check", "f"))
    asked = []

    def runner_of(kind, job_dir):
        asked.append((kind, job_dir))
        return runner

    worker = Worker(
        store, tmp_path, tmp_path / "jobs", verbs=VERBS, runner_of=runner_of, grace_s=5.0, max_losses=1,
        silence_s=silence_s, tick_s=0.02,
    )  # fmt: skip
    worker.start()
    try:
        do(store)
        assert runner.left.wait(20)
        give_up_s = time.monotonic() + 20
        while store.get("check-1", "ada").finished_s is None and time.monotonic() < give_up_s:
            time.sleep(0.02)
        view, events = store.get("check-1", "ada"), store.events("check-1", "ada", 0)
    finally:
        worker.close()
        store.close()
    assert asked[0] == ("check", tmp_path / "jobs" / "check-1")
    return view, [event for _, event in events]


def test_what_a_runner_reports_becomes_events_and_the_end_of_the_job(tmp_path):
    told = Event("metrics", {"step": 1})
    runner = ScriptedRunner(
        Report("queued"), Report("running", (told,)), Report("ended", (), Outcome("completed", result={"n": 1}))
    )
    view, events = run(tmp_path, runner)
    assert (view.state, view.result) == ("completed", {"n": 1})
    assert told in events
    assert runner.started[0].claim.attempt == 1


def test_an_attempt_that_is_lost_stalls_the_job_with_the_runners_reason(tmp_path):
    view, _ = run(tmp_path, ScriptedRunner(Report("lost", reason="The machine is gone.")))
    assert view.state == "stalled"
    assert view.cause.startswith("The machine is gone.")


def test_the_owners_wish_reaches_the_runner_with_the_grace(tmp_path):
    runner = ScriptedRunner(Report("running"))

    def cancel(store):
        while not runner.started:
            time.sleep(0.01)
        store.cancel("check-1", "ada")
        while not runner.cancelled:
            time.sleep(0.01)
        runner.reports = [Report("ended", (), Outcome("cancelled"))]

    view, _ = run(tmp_path, runner, do=cancel)
    assert view.state == "cancelled"
    assert runner.cancelled == [5.0]


def test_silence_ends_an_attempt_that_has_begun_and_none_that_waits(tmp_path):
    runner = ScriptedRunner(*[Report("queued")] * 60, Report("running"))
    began_s = time.monotonic()
    view, _ = run(tmp_path, runner, silence_s=0.3)
    assert view.state == "stalled"
    assert "reported nothing" in view.cause
    assert runner.cancelled == [0.0]
    assert time.monotonic() - began_s > 0.6 + 0.3


class Surviving(ScriptedRunner):
    """Its attempts go on without the server, once they are where they run."""

    survives = True
    where = None

    def place(self, handle):
        return self.where

    def part(self, handle):
        self.left.set()


def test_what_goes_on_without_the_server_is_not_waited_for(tmp_path):
    store = Store(SqliteDatabase(tmp_path / "jobs.sqlite3"))
    store.insert(NewJob("check-1", "check", "ada", "Check", "f"))
    runner = Surviving(Report("running"))
    worker = Worker(
        store, tmp_path, tmp_path / "jobs", verbs=VERBS, runner_of=lambda kind, job_dir: runner, grace_s=5.0,
        max_losses=1, silence_s=60.0, tick_s=0.02,
    )  # fmt: skip
    assert worker.bound() == 0
    worker.start()
    try:
        give_up_s = time.monotonic() + 20
        while not worker.busy() and time.monotonic() < give_up_s:
            time.sleep(0.01)
        assert worker.bound() == 1  # it is on its way there
        runner.where = "there"
        while worker.bound() and time.monotonic() < give_up_s:
            time.sleep(0.01)
        assert (worker.bound(), worker.busy()) == (0, 1)
    finally:
        worker.close()
        store.close()
    assert runner.left.is_set() and runner.cancelled == []


def test_photos_are_checked_while_pictures_outlast_the_training_that_they_were_beside(tmp_path):
    class Outlasted:
        beside = ()

        def may_begin(self, slot):
            return False

        def blocked(self):
            return 1

    store, own = Store(SqliteDatabase(tmp_path / "jobs.sqlite3")), {"CUDA_VISIBLE_DEVICES": "0"}
    store.insert(NewJob("check-1", "check", "ada", "Check", "f"))
    worker = Worker(
        store, tmp_path, tmp_path / "jobs", verbs=VERBS, runner_of=lambda kind, job_dir: ScriptedRunner(), grace_s=5.0,
        max_losses=1, silence_s=60.0, slots=(own,), beside={"check"}, sharing=Outlasted(),
    )  # fmt: skip
    assert worker._claim(own) is None
    assert worker._claim(BESIDE).id == "check-1"
    store.close()
