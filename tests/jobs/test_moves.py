import pytest
from sqlalchemy import select, update

from studio.core.domain import Event
from studio.jobs.moves import locked, move, note_advance, say
from studio.jobs.queue import NewJob
from studio.jobs.schema import JOBS
from studio.jobs.states import TRANSITIONS
from studio.jobs.usage import NOW_S


@pytest.fixture
def db(new_store):
    store = new_store()
    store.insert(NewJob("a", "check", "ada", "t", "fp"))
    with store._database.write() as db:
        yield db


@pytest.mark.parametrize("target", sorted(TRANSITIONS))
def test_a_job_enters_only_states_that_may_follow(db, target):
    assert move(db, "a", target) == (target in TRANSITIONS["pending"])
    assert locked(db, "a")["state"] == (target if target in TRANSITIONS["pending"] else "pending")


def test_a_move_of_another_attempt_or_from_another_state_changes_nothing(db):
    assert not move(db, "a", "checking", attempt_is=1)
    assert not move(db, "a", "checking", only_from=("pendingImages",))
    assert not move(db, "b", "checking")
    assert move(db, "a", "checking", attempt_is=0, only_from=("pending",), attempt=1)
    assert (locked(db, "a")["state"], locked(db, "a")["attempt"]) == ("checking", 1)


def test_jobs_that_waited_too_long_are_locked_in_the_order_in_which_erasing_locks_them(new_store):
    store = new_store()
    for name in "abcd":
        store.insert(NewJob(name, "check", "ada", "t", "fp"))
    with store._database.write() as db:
        for name, state in zip("abcd", ["pendingGpu", "pending", "pendingGpu", "pending"], strict=True):
            db.execute(update(JOBS).where(JOBS.c.id == name).values(state=state, created_s=1.0, waits_since_s=None))
    assert store.expire(60.0) == ["a", "b", "c", "d"]


def test_a_pause_that_ends_is_left_out_of_waiting_but_for_what_came_in_it_and_what_runs(new_store):
    store = new_store()
    for name in "abc":
        store.insert(NewJob(name, "check", "ada", "t", "fp"))
    with store._database.write() as db:
        now_s = db.scalar(select(NOW_S[db.dialect.name]))
        for name, state, age_s in [("a", "pending", 500), ("b", "pendingGpu", 50), ("c", "checking", 500)]:
            values = {"state": state, "created_s": now_s - age_s, "waits_since_s": None}
            db.execute(update(JOBS).where(JOBS.c.id == name).values(values))
    store.end_pause(100.0)
    with store._database.write() as db:
        since_s = {row.id: row.waits_since_s for row in db.execute(select(JOBS.c.id, JOBS.c.waits_since_s))}
    assert since_s["a"] == pytest.approx(now_s - 400, abs=0.1) and since_s["c"] is None
    assert since_s["b"] == pytest.approx(now_s, abs=20)


def test_how_far_a_job_has_come_is_written_down_per_stage(db):
    told = [Event("stage", {"name": "loading"}), Event("progress", {"step": 3}), Event("progress", {"step": 2})]
    note_advance(db, locked(db, "a"), told)
    row = locked(db, "a")
    assert (row["stage"], row["reached"]) == ("loading", '{"loading": 3}')


def test_what_is_said_of_a_job_that_is_not_there_is_said_to_nobody(db):
    say(db, "b", "info", "hello")
    assert locked(db, "b") is None
