import pytest

from studio.core.domain import Event
from studio.jobs.moves import locked, move, note_advance, say
from studio.jobs.queue import NewJob
from studio.jobs.states import TRANSITIONS


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


def test_how_far_a_job_has_come_is_written_down_per_stage(db):
    told = [Event("stage", {"name": "loading"}), Event("progress", {"step": 3}), Event("progress", {"step": 2})]
    note_advance(db, locked(db, "a"), told)
    row = locked(db, "a")
    assert (row["stage"], row["reached"]) == ("loading", '{"loading": 3}')


def test_what_is_said_of_a_job_that_is_not_there_is_said_to_nobody(db):
    say(db, "b", "info", "hello")
    assert locked(db, "b") is None
