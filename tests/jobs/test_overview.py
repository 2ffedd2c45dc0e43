"""What the tables tell whoever runs a studio, on SQLite and on Postgres."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import insert, update

from studio.core.webhooks import WebhookConfig
from studio.jobs.events import Outcome
from studio.jobs.queue import NewJob
from studio.jobs.schema import DELIVERIES, JOBS, KEYS
from studio.jobs.store import Store

TRAIN, CHECK = "train-0000000000000001", "check-0000000000000002"
HOOK = WebhookConfig(url="https://user:secret@hooks.example.org/ada/secret?token=secret")


def begin(store: Store, job_id: str, owner: str) -> Any:
    store.insert(NewJob(job_id, job_id.partition("-")[0], owner, "Photos of Somebody", "print"))  # type: ignore[arg-type]
    return store.claim()


def test_servers_are_known_by_what_they_run(new_store: Callable[..., Store]) -> None:
    ours, other = new_store(), new_store(lease_s=7.0)
    claim = begin(other, TRAIN, "ada")
    begin(ours, CHECK, "eve")
    other.place(claim, "ssh gpu.example.org 4711")
    with ours._database.write() as db:
        times = {"claimed_s": JOBS.c.claimed_s - 60, "leased_until_s": JOBS.c.leased_until_s - 5}
        db.execute(update(JOBS).where(JOBS.c.id == TRAIN).values(**times))
    training, check = ours.overview.running()
    assert (training.id, training.kind, training.owner, training.attempt) == (TRAIN, "train", "ada", 1)
    assert (training.is_ours, training.place, check.is_ours, check.place) == (False, "ssh", True, None)
    assert check.server == ours.overview.server and " " in check.server
    assert 60 <= training.began_s < 70 and 5 <= training.silent_s < 8 and check.silent_s < 3
    other.finish(claim, Outcome("completed", result={}))
    assert [job.id for job in ours.overview.running()] == [CHECK]
    assert "Somebody" not in repr(ours.overview.running())


def test_owners_are_known_by_their_jobs_and_their_keys(store: Store) -> None:
    claim = begin(store, TRAIN, "ada")
    assert store.overview.uses()["ada"].use.jobs == 1
    store.finish(claim, Outcome("completed", result={}))
    store.keep_for("ada", 3.0)
    key = {"name": "k", "hash": "h", "scopes": "read", "created_s": 0.0}
    rows = [("live", "eve", None, None), ("revoked", "ada", 1.0, None), ("over", "ada", None, 1.0)]
    with store._database.write() as db:
        for name, owner, revoked_s, expires_s in rows:
            db.execute(insert(KEYS).values(id=name, owner=owner, revoked_s=revoked_s, expires_s=expires_s, **key))
    found = store.overview.uses()
    assert set(found) == {"ada", "eve"}
    assert (found["ada"].use.jobs, found["ada"].days, found["ada"].keys) == (0, 3.0, 0)
    assert (found["eve"].use.jobs, found["eve"].days, found["eve"].keys) == (0, None, 1)


def test_deliveries_tell_the_host_of_an_address_and_no_more(store: Store) -> None:
    view, _ = store.webhooks.create("ada", HOOK)
    tests = [store.webhooks.test("ada", view.id) for _ in range(3)]
    states = ("delivered", "failed", "waiting")
    with store._database.write() as db:
        for told, state in zip(tests, states, strict=True):
            status = {"delivered": 200, "failed": 500}.get(state)
            values = {"state": state, "status": status, "attempts": 4}
            db.execute(update(DELIVERIES).where(DELIVERIES.c.id == told.id).values(**values))
        waits = DELIVERIES.c.id == tests[2].id
        db.execute(update(DELIVERIES).where(waits).values(due_s=DELIVERIES.c.created_s + 3600))
    found = store.overview.deliveries()
    assert found.counts == store.overview.delivery_counts() == dict.fromkeys(states, 1) and found.webhooks == 1
    assert [row.state for row in found.newest] == ["waiting", "failed", "delivered"], "what asks for a look comes first"
    waiting, failed, _ = found.newest
    assert (failed.owner, failed.host, failed.status, failed.attempts, failed.next_s) == (
        "ada", "hooks.example.org", 500, 4, None
    )  # fmt: skip
    assert waiting.next_s is not None and 3590 < waiting.next_s <= 3600
    assert "secret" not in repr(found)


def test_machines_that_may_cost_money_are_counted(store: Store) -> None:
    row = {"service": "vast", "job": TRAIN, "attempt": 1, "what": "RTX", "price_per_hour": 1.0, "extra": 0.0}
    for label in ("one", "two"):
        store.rentals.reserve({**row, "label": label}, lambda money: 2.5)
        store.rentals.rented(label, label)
    assert store.overview.rented() == 2 and store.rentals.money().reserved == 5.0
    store.rentals.gone("vast", "one")
    assert store.overview.rented() == 1
