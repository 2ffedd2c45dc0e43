"""Attempts that go on without their server, on both databases."""

import pytest
from sqlalchemy import update

from studio.jobs.events import Outcome
from studio.jobs.queue import NewJob
from studio.jobs.schema import JOBS

OWNER = "ada"


def running(store, job_id="a", place=None):
    store.insert(NewJob(job_id, "check", OWNER, "Check", "f" + job_id))
    claim = store.claim()
    if place is not None:
        store.place(claim, place)
    return claim


def end_lease(store, job_id):
    with store._database.write() as db:
        db.execute(update(JOBS).where(JOBS.c.id == job_id).values(leased_until_s=store._now_s - 1.0))


def everything(claim, place):
    return True


@pytest.mark.parametrize("alone", [True, False])
def test_what_has_a_place_is_taken_over_and_everything_else_begun_anew(store, new_store, alone):
    away = running(store, "a", "ray a-1")
    here = running(store, "b")
    other = new_store()
    if not alone:
        assert other.adopt(False, everything) == [], "its server is there"
        end_lease(store, "a")
        end_lease(store, "b")
    assert other.adopt(alone, everything) == [(away, "ray a-1")]
    assert other.recover("It is gone.", alone=alone, without=["a"]) == ["b"]
    assert other.get("a", OWNER).state == "checking" and other.get("a", OWNER).attempt == 1
    assert not store.finish(here, Outcome("completed", result={}))
    assert other.finish(away, Outcome("completed", result={}))


def test_what_is_not_accepted_is_begun_anew(store, new_store):
    running(store, "a", "ray a-1")
    other = new_store()
    asked = []
    assert other.adopt(True, lambda claim, place: asked.append((claim.id, place)) is not None) == []
    assert asked == [("a", "ray a-1")]
    assert other.recover("It is gone.", alone=True) == ["a"]


def test_a_lease_that_is_given_up_can_be_taken_at_once_and_by_one_server_only(store, new_store):
    claim = running(store, "a", "ray a-1")
    second, third = new_store(), new_store()
    store.part(claim)
    assert second.adopt(False, everything) == [(claim, "ray a-1")]
    assert third.adopt(False, everything) == []
    store.part(claim)
    assert third.adopt(False, everything) == [], "it was no longer the first one's to give"
    second.beat()
    assert third.recover("It is gone.") == []


def test_the_next_attempt_has_no_place_before_it_is_told(store, new_store):
    claim = running(store, "a", "ray a-1")
    store.lose(claim, "It was killed.", 3)
    again = store.claim()
    assert again.attempt == 2
    store.place(claim, "ray a-1")  # late
    assert new_store().adopt(True, everything) == []
