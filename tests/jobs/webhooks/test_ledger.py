"""Webhooks in the tables: each its owner's, secrets shown once, lists in parts, nothing kept for ever."""

import dataclasses
import json
from typing import Any

import pytest
from standardwebhooks import Webhook

from studio.core.errors import ConflictError, NotFoundError, ResourceError
from studio.core.private import owner_digest
from studio.core.webhooks import WebhookConfig
from studio.jobs.sealed import Seal
from studio.jobs.store import Store
from studio.jobs.webhooks import ledger

OWNER, ADDRESS = "ada", "https://hooks.example/"


def test_a_secret_is_shown_at_creation_and_rotation_and_nowhere_else(store: Store, hook: Any) -> None:
    webhook, secret = hook(store, ADDRESS, events=("job.stalled", "job.completed"), description="Ours")
    assert secret.startswith("whsec_") and len(Webhook(secret)._whsecret) == 32
    changed, new = store.webhooks.rotate(OWNER, webhook.id)
    store.webhooks.test(OWNER, webhook.id)
    again = store.webhooks.change(OWNER, webhook.id, {"description": "x"})
    shown = [
        again, *store.webhooks.all(OWNER), store.webhooks.get(OWNER, webhook.id), changed,
        *store.webhooks.deliveries(OWNER, webhook.id, 9),
    ]  # fmt: skip
    text = json.dumps([dataclasses.asdict(row) for row in shown]) + repr(store.webhooks.due())
    assert secret not in text and new not in text and "whsec_" not in text
    assert webhook.events == ("job.completed", "job.stalled") and changed.old_secret_until_s
    assert set(store.webhooks.due()[0].secrets) == {secret, new}


def test_every_call_is_the_owners_own(store: Store, hook: Any) -> None:
    webhook, _ = hook(store, ADDRESS)
    sent = store.webhooks.test(OWNER, webhook.id)
    calls = (
        lambda: store.webhooks.get("eve", webhook.id),
        lambda: store.webhooks.change("eve", webhook.id, {"url": "https://eve.example/"}),
        lambda: store.webhooks.drop("eve", webhook.id),
        lambda: store.webhooks.rotate("eve", webhook.id),
        lambda: store.webhooks.test("eve", webhook.id),
        lambda: store.webhooks.deliveries("eve", webhook.id, 9),
        lambda: store.webhooks.redeliver("eve", webhook.id, sent.id),
    )
    for call in calls:
        with pytest.raises(NotFoundError):
            call()
    assert store.webhooks.all("eve") == [] and store.webhooks.get(OWNER, webhook.id).url == ADDRESS


def test_a_delivery_is_found_below_its_own_webhook_only(store: Store, hook: Any) -> None:
    mine, other = hook(store, ADDRESS)[0], hook(store, ADDRESS)[0]
    sent = store.webhooks.test(OWNER, mine.id)
    with pytest.raises(NotFoundError):
        store.webhooks.redeliver(OWNER, other.id, sent.id)
    with pytest.raises(ConflictError, match="on its way"):
        store.webhooks.redeliver(OWNER, mine.id, sent.id)
    store.webhooks.drop(OWNER, mine.id)
    assert store.webhooks.due() == []


def test_deliveries_come_in_parts_and_by_state(store: Store, hook: Any) -> None:
    webhook, _ = hook(store, ADDRESS)
    sent = [store.webhooks.test(OWNER, webhook.id).id for _ in range(5)]
    (due,) = store.webhooks.due()
    store.webhooks.settle(due, 200, None)
    first = store.webhooks.deliveries(OWNER, webhook.id, 2)
    rest = store.webhooks.deliveries(OWNER, webhook.id, 9, before=first[-1].id)
    assert [row.id for row in (*first, *rest)] == sent[::-1]
    assert [row.id for row in store.webhooks.deliveries(OWNER, webhook.id, 9, state="delivered")] == sent[:1]


def test_an_owner_has_twenty_at_most(store: Store, hook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST_WEBHOOKS", 2)
    for _ in range(2):
        hook(store, ADDRESS)
    with pytest.raises(ConflictError, match="delete one"):
        hook(store, ADDRESS)
    hook(store, ADDRESS, owner="eve")


def test_what_is_switched_off_is_sent_nothing(store: Store, hook: Any) -> None:
    webhook, _ = hook(store, ADDRESS)
    store.webhooks.test(OWNER, webhook.id)
    assert not store.webhooks.change(OWNER, webhook.id, {"active": False}).active
    (row,) = store.webhooks.deliveries(OWNER, webhook.id, 9)
    assert row.state == "failed" and store.webhooks.due() == []
    for call in (store.webhooks.test, lambda *given: store.webhooks.redeliver(*given, row.id)):
        with pytest.raises(ConflictError, match="not active"):
            call(OWNER, webhook.id)


def test_pauses_grow_to_a_day(store: Store, hook: Any) -> None:
    assert 23 * 3600 < sum(ledger.WAITS_S) < 24 * 3600 and list(ledger.WAITS_S) == sorted(ledger.WAITS_S)
    webhook, _ = hook(store, ADDRESS)
    made = store.webhooks.test(OWNER, webhook.id)
    (due,) = store.webhooks.due()
    for attempts, wait_s in enumerate(ledger.WAITS_S):
        due = dataclasses.replace(due, attempts=attempts)
        assert store.webhooks.settle(due, 503, "The answer was 503.") == "waiting"
        (row,) = store.webhooks.deliveries(OWNER, webhook.id, 9)
        assert 0.85 * wait_s < row.next_attempt_s - made.created_s < 1.15 * wait_s + 60
    last = dataclasses.replace(due, attempts=len(ledger.WAITS_S))
    assert store.webhooks.settle(last, None, "No answer.") == "failed"
    assert store.webhooks.settle(last, 200, None) is None, "it has ended"


def test_the_requests_of_an_owner_share_one_secret(store: Store) -> None:
    secret = store.webhooks.secret_of_requests(OWNER)
    assert secret == store.webhooks.secret_of_requests(OWNER) != store.webhooks.secret_of_requests("eve")
    assert store.webhooks.all(OWNER) == []


def test_old_deliveries_and_webhooks_of_ended_jobs_are_pruned(store: Store, hook: Any, put: Any) -> None:
    webhook, _ = hook(store, ADDRESS)
    secret = store.webhooks.secret_of_requests(OWNER)
    store.webhooks.test(OWNER, webhook.id)
    for job in ("c", "d"):
        put(store, job)
        store.webhooks.follow(OWNER, job, url=ADDRESS, events=["job.stalled"], form="a:form", context={})
    store.cancel("c", OWNER)
    for due in store.webhooks.due():
        store.webhooks.settle(due, 200, None)
    store.webhooks.prune(3600)
    assert store.webhooks.deliveries(OWNER, webhook.id, 9)
    store.webhooks.prune(-3600)
    left = [row.state for row in store.webhooks.deliveries(OWNER, webhook.id, 9)]
    assert left == ["waiting"], "of the job that was cancelled"
    with store._database.read() as db:
        jobs = set(db.scalars(ledger.select(ledger.WEBHOOKS.c.job)))
    assert jobs == {None, "-", "d"} and store.webhooks.secret_of_requests(OWNER) == secret


def test_all_of_an_owner_is_forgotten_and_nothing_of_another(store: Store, hook: Any) -> None:
    mine, theirs = hook(store, ADDRESS)[0], hook(store, ADDRESS, owner="eve")[0]
    for owner, webhook in ((OWNER, mine), ("eve", theirs)):
        store.webhooks.test(owner, webhook.id)
        store.webhooks.secret_of_requests(owner)
    store.webhooks.forget(owner_digest(OWNER))
    assert store.webhooks.all(OWNER) == [] and store.webhooks.all("eve") == [theirs]
    assert [due.owner for due in store.webhooks.due()] == ["eve"]


KEY, NEWER = "a" * 40, "b" * 40


def stored(store: Store) -> list[str]:
    """Return every secret as it lies in the table."""
    with store._database.read() as db:
        rows = db.execute(ledger.select(ledger.WEBHOOKS.c.secret, ledger.WEBHOOKS.c.old_secret)).all()
    return [secret for row in rows for secret in row if secret]


def with_key(store: Store, keys: str | None) -> ledger.Ledger:
    """Return the same tables as a studio with this STUDIO_SECRETS_KEY sees them."""
    return ledger.Ledger(store._database, Seal(keys))


def test_with_a_key_no_secret_lies_open_in_the_table(store: Store, put: Any) -> None:
    sealing = with_key(store, KEY)
    webhook, first = sealing.create(OWNER, WebhookConfig(url=ADDRESS))
    _, second = sealing.rotate(OWNER, webhook.id)
    put(store, "c")
    shared = sealing.secret_of_requests(OWNER)
    sealing.follow(OWNER, "c", url=ADDRESS, events=["job.stalled"], form="a:form", context={})
    lying = stored(store)
    assert len(lying) == 4 and not [secret for secret in lying if "whsec_" in secret]
    sealing.test(OWNER, webhook.id)
    assert [due.secrets for due in sealing.due()] == [(second, first)]
    newer = with_key(store, f"{NEWER},{KEY}")
    assert [due.secrets for due in newer.due()] == [(second, first)], "all keys open"
    assert newer.secret_of_requests(OWNER) == shared == sealing.secret_of_requests(OWNER)
    for lost in (with_key(store, None), with_key(store, NEWER)):
        assert [due.secrets for due in lost.due()] == [()]
        with pytest.raises(ResourceError, match="STUDIO_SECRETS_KEY"):
            lost.secret_of_requests(OWNER)


def test_secrets_from_before_the_key_are_read_and_then_sealed(store: Store, hook: Any) -> None:
    webhook, first = hook(store, ADDRESS)
    _, second = store.webhooks.rotate(OWNER, webhook.id)
    shared = store.webhooks.secret_of_requests(OWNER)
    store.webhooks.test(OWNER, webhook.id)
    sealing = with_key(store, KEY)
    assert [due.secrets for due in sealing.due()] == [(second, first)]
    store.webhooks.seal()
    assert sorted(stored(store)) == sorted((first, second, shared)), "without a key they stay as they are"
    sealing.seal()
    sealed = stored(store)
    assert not [secret for secret in sealed if "whsec_" in secret]
    sealing.seal()
    assert stored(store) == sealed
    assert [due.secrets for due in sealing.due()] == [(second, first)]
    assert sealing.secret_of_requests(OWNER) == shared


def test_a_sealed_secret_opens_in_its_own_row_only(store: Store) -> None:
    sealing = with_key(store, KEY)
    mine, _ = sealing.create(OWNER, WebhookConfig(url=ADDRESS))
    theirs, _ = sealing.create("eve", WebhookConfig(url=ADDRESS))
    with store._database.write() as db:
        taken = db.scalar(ledger.select(ledger.WEBHOOKS.c.secret).where(ledger.WEBHOOKS.c.id == mine.id))
        moved = ledger.update(ledger.WEBHOOKS).where(ledger.WEBHOOKS.c.id == theirs.id)
        db.execute(moved.values(secret=taken))
    sealing.test("eve", theirs.id)
    assert [due.secrets for due in sealing.due()] == [()]
