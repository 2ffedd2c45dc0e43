import pytest
from sqlalchemy import select, update

from studio.jobs.events import Outcome
from studio.jobs.queue import NewJob
from studio.jobs.schema import JOBS, USED
from studio.jobs.usage import month_of


def run(store, job_id, kind, seconds, *, how, owner="ada"):
    """Let an attempt of a job take so long, by the database's clock."""
    store.insert(NewJob(job_id, kind, owner, "t", "fp"))
    claim = store.claim()
    with store._database.write() as db:
        db.execute(update(JOBS).where(JOBS.c.id == job_id).values(claimed_s=JOBS.c.claimed_s - seconds))
    how(store, claim)


HOW = {
    "finish": lambda store, claim: store.finish(claim, Outcome("completed", result={})),
    "lose": lambda store, claim: store.lose(claim, "It died.", 3),
    "release": lambda store, claim: store.release(claim),
    "recover": lambda store, claim: store.recover("It died.", alone=True),
}


@pytest.mark.parametrize("how", HOW)
def test_an_attempts_time_is_booked_however_it_ends(store, how):
    run(store, "a", "train", 100.0, how=HOW[how])
    assert store.use("ada")[0].gpu_s == pytest.approx(100.0, abs=5)
    with store._database.read() as db:
        assert db.scalar(select(JOBS.c.claimed_s)) is None
    assert store.use("eve")[0].gpu_s == 0


def test_attempts_add_up_and_the_time_in_between_does_not_count(store):
    run(store, "a", "train", 100.0, how=HOW["release"])
    claim = store.claim()
    with store._database.write() as db:
        db.execute(update(JOBS).values(claimed_s=JOBS.c.claimed_s - 50.0))
    assert store.use("ada")[0].gpu_s == pytest.approx(150.0, abs=5), "what runs now counts, too"
    HOW["finish"](store, claim)
    assert store.use("ada")[0].gpu_s == pytest.approx(150.0, abs=5)


def test_a_check_takes_no_device_and_a_forgotten_job_stays_booked(store):
    run(store, "a", "check", 100.0, how=HOW["finish"])
    assert store.use("ada")[0].gpu_s == 0
    run(store, "b", "train", 60.0, how=HOW["finish"])
    store.erase(["b"])
    assert store.use("ada")[0].gpu_s == pytest.approx(60.0, abs=5)


def test_another_month_begins_at_nothing(store):
    run(store, "a", "train", 60.0, how=HOW["finish"])
    with store._database.write() as db:
        db.execute(update(USED).values(month="2020-01"))
    assert store.use("ada")[0].gpu_s == 0
    assert month_of(0.0) == "1970-01"


def test_open_jobs_and_photos_are_counted_of_their_owner_only(store):
    done = Outcome("completed", result={"verdicts": [{}, {}, {}]})
    run(store, "a", "check", 1.0, how=lambda store, claim: store.finish(claim, done))
    store.insert(NewJob("b", "check", "ada", "t", "fp"))
    store.insert(NewJob("c", "check", "eve", "t", "fp"))
    use, uncounted = store.use("ada")
    assert (use.photos, use.jobs, uncounted) == (3, 1, ["b"])
