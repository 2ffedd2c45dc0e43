import random

from studio.core.domain import JobFacts
from studio.jobs.events import Outcome
from studio.jobs.line import Place, Waiting, places, served_in_order, usual_times
from studio.jobs.queue import NewJob


def add(store, job_id, owner="ada", kind="check", source=None):
    store.insert(NewJob(job_id, kind, owner, job_id, "fp", source, None, JobFacts(subject="Ada")))


def test_the_line_is_the_order_in_which_the_table_serves(store):
    draw = random.Random(1)
    for number in range(30):
        add(store, f"j{number}", draw.choice(["ada", "bo", "cy"]))
        if draw.random() < 0.3:
            store.finish(store.claim(), Outcome("completed", result={}))
    owners = {job.id: job.owner for owner in ("ada", "bo", "cy") for job in store.newest(owner, 100)}
    told = {job_id: store.get(job_id, owner).place for job_id, owner in owners.items()}
    told = {job_id: place for job_id, place in told.items() if place is not None}
    served = {}
    while (claim := store.claim()) is not None:
        served[claim.id] = len(served) + 1
    assert told == served and len(served) > 10


def test_a_job_that_runs_or_waits_for_another_one_has_no_place(store):
    add(store, "c")
    add(store, "t", kind="train", source="c")
    store.claim()
    assert [view.place for view in store.newest("ada", 10)] == [None, None]


def test_places_say_when_a_job_starts_from_what_is_known():
    line = [Waiting(name, "ada", 0, kind) for name, kind in (("a", "train"), ("b", "check"), ("c", "train"))]
    assert places(line, [30.0], {"train": 200.0, "check": 5.0}) == {
        "a": Place(1, 30.0),
        "b": Place(2, 230.0),
        "c": Place(3, 235.0),
    }
    # Two devices: the second job starts where the other one becomes free.
    assert places(line, [30.0, 50.0], {"train": 200.0, "check": 5.0})["b"] == Place(2, 50.0)
    assert places(line, [30.0], {"check": 5.0})["b"] == Place(2, None), "nobody knows how long a training takes"
    assert places(line, [None], {})["a"] == Place(1, None)
    assert places(line, [], {})["a"] == Place(1, 0.0)


def test_usual_time_is_the_median_of_a_kind():
    assert usual_times([("check", 1.0), ("train", 100.0), ("check", 3.0), ("check", 90.0)]) == {
        "check": 3.0,
        "train": 100.0,
    }


def test_one_owners_many_jobs_do_not_push_anothers_single_one_back():
    line = [Waiting(f"a{number}", "ada", 5, "check") for number in range(30)] + [Waiting("b", "bo", 0, "check")]
    assert [job.id for job in served_in_order(line)][:2] == ["b", "a0"]
