"""What happens to a job is in the outbox as soon as it has happened, once, and on SQLite and Postgres alike."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from studio.core.domain import Event
from studio.core.errors import NotFoundError
from studio.jobs.events import Outcome
from studio.jobs.schema import DELIVERIES, WEBHOOKS
from studio.jobs.store import Store
from studio.jobs.webhooks import outbox

OWNER = "ada"
PROGRESS = Event("progress", {"step": 1, "total": 4, "eta_s": 2.0, "message": "Ada"})
ADDRESS = "https://hooks.example/"


def told(store: Store, webhook: Any, **options: Any) -> list[str]:
    return [row.type for row in reversed(store.webhooks.deliveries(OWNER, webhook.id, 100, **options))]


def bodies(store: Store) -> list[dict[str, Any]]:
    with store._database.read() as db:
        return [json.loads(body) for body in db.scalars(select(DELIVERIES.c.body).order_by(DELIVERIES.c.number))]


def test_each_transition_is_one_event(store: Store, hook: Any, put: Any) -> None:
    webhook, _ = hook(store, ADDRESS)
    put(store, "c")
    put(store, "t", "train", "c")
    store.finish(store.claim(), Outcome("completed"))
    store.survey(device_busy=True)
    store.survey(device_busy=False)
    claim = store.claim()
    store.append(claim, [Event("stage", {"name": "loading"})])
    store.append(claim, [PROGRESS])
    store.append(claim, [PROGRESS])
    store.finish(claim, Outcome("stalled", cause="No room."))
    assert told(store, webhook) == [
        "job.completed", "job.images_ready", "job.pending_gpu", "job.model_ready", "job.stalled",
    ]  # fmt: skip
    assert [body["type"] for body in bodies(store)] == told(store, webhook)
    last = bodies(store)[-1]
    assert last["data"] == {
        "job": "t", "kind": "train", "state": "stalled", "attempt": 1, "source": "c", "cause": "No room.",
    }  # fmt: skip
    assert last["timestamp"].endswith("Z") and "Ada" not in json.dumps(bodies(store))


def test_progress_is_told_seldom_and_ends_with_the_job(store: Store, hook: Any, put: Any) -> None:
    webhook, _ = hook(store, ADDRESS, events=("job.progress", "job.cancelled"))
    put(store, "c")
    claim = store.claim()
    for _ in range(5):
        store.append(claim, [PROGRESS])
    assert told(store, webhook) == ["job.progress"]
    assert bodies(store)[0]["data"]["progress"] == {"step": 1, "total": 4, "eta_s": 2.0}
    store.cancel("c", OWNER)
    store.finish(claim, Outcome("completed"))
    assert told(store, webhook) == ["job.cancelled"], "how far it was nobody needs to hear any more"


def test_progress_comes_again_after_its_time(store: Store, hook: Any, put: Any, monkeypatch: Any) -> None:
    webhook, _ = hook(store, ADDRESS, events=("job.progress",), progress_every_s=10)
    put(store, "c")
    claim = store.claim()
    store.append(claim, [PROGRESS])
    (due,) = store.webhooks.due()
    store.webhooks.settle(due, 204, None)
    now_s = outbox.time.time()
    for later_s, count in ((9, 1), (11, 2)):
        monkeypatch.setattr(outbox.time, "time", lambda later_s=later_s: now_s + later_s)
        store.append(claim, [PROGRESS])
        assert len(told(store, webhook)) == count


def test_a_published_adapter_is_told_and_a_preview_is_not(store: Store, hook: Any, put: Any) -> None:
    webhook, _ = hook(store, ADDRESS, events=("adapter.uploaded",))
    put(store, "c")
    store.finish(store.claim(), Outcome("completed"))
    put(store, "t", "train", "c")
    store.finish(store.claim(), Outcome("completed"))
    for job, commit in (("p", "f" * 40), ("q", None)):
        put(store, job, "publish", "t")
        result = {"repo": "ada/x", "commit": commit, "url": "https://hub.example/ada/x", "public": False}
        store.finish(store.claim(), Outcome("completed", result=result))
    assert told(store, webhook) == ["adapter.uploaded"]
    assert bodies(store)[0]["data"]["repo"] == "ada/x" and bodies(store)[0]["data"]["commit"] == "f" * 40


def test_nobody_hears_of_jobs_of_others_or_without_wanting_to(store: Store, hook: Any, put: Any) -> None:
    other, _ = hook(store, ADDRESS, owner="eve")
    off, _ = hook(store, ADDRESS)
    store.webhooks.change(OWNER, off.id, {"active": False})
    put(store, "c")
    store.finish(store.claim(), Outcome("completed"))
    assert bodies(store) == [] and not other.cause


def test_a_transition_that_is_undone_tells_nothing(store: Store, hook: Any, put: Any, monkeypatch: Any) -> None:
    """The event is in the transition's own transaction: both are there, or neither."""
    webhook, _ = hook(store, ADDRESS)
    put(store, "c")
    claim = store.claim()
    add = outbox.add

    def killed(*given: Any) -> Any:
        add(*given)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            store.finish(claim, Outcome("completed"))
    assert store.get("c", OWNER).state == "checking" and told(store, webhook) == []
    store.finish(claim, Outcome("completed"))
    assert told(store, webhook) == ["job.completed"]


def test_what_comes_too_late_tells_nothing(store: Store, hook: Any, put: Any) -> None:
    webhook, _ = hook(store, ADDRESS)
    put(store, "c")
    claim = store.claim()
    store.finish(claim, Outcome("completed"))
    assert not store.finish(claim, Outcome("stalled", cause="Late."))
    assert told(store, webhook) == ["job.completed"]


def body_of(view: Any, context: Any) -> dict[str, Any]:
    return {"id": view.id, "state": view.state, **context}


@pytest.mark.parametrize("when", ["before", "running", "ended"])
def test_a_webhook_of_one_job_hears_all_of_it_whenever_it_comes(
    store: Store, put: Any, monkeypatch: Any, when: str
) -> None:
    monkeypatch.setattr(outbox, "resolve", lambda path: {"a:form": body_of}[path])

    def follow() -> None:
        asked = {"url": ADDRESS, "events": ["job.started", "job.completed"], "form": "a:form", "context": {"n": 1}}
        for _ in range(2):
            store.webhooks.follow(OWNER, "c", **asked)

    put(store, "c")
    put(store, "d")
    if when == "before":
        follow()
    claim = store.claim()
    if when == "running":
        follow()
    store.finish(claim, Outcome("completed"))
    if when == "ended":
        follow()
    states = ["completed", "completed"] if when == "ended" else ["checking", "completed"]
    assert bodies(store) == [{"id": "c", "state": state, "n": 1} for state in states]
    assert store.webhooks.all(OWNER) == [], "it is not one that its owner has made"
    with pytest.raises(NotFoundError):
        store.webhooks.follow("eve", "c", url=ADDRESS, events=[], form="a:form", context={})


def test_a_forgotten_job_takes_with_it_what_was_told_of_it(store: Store, hook: Any, put: Any) -> None:
    webhook, _ = hook(store, ADDRESS)
    put(store, "c")
    store.webhooks.follow(OWNER, "c", url=ADDRESS, events=["job.completed"], form="a:form", context={})
    store.cancel("c", OWNER)
    assert told(store, webhook)
    store.erase(["c"])
    assert bodies(store) == [] and store.webhooks.get(OWNER, webhook.id)
    with store._database.read() as db:
        assert "c" not in db.scalars(select(WEBHOOKS.c.job)).all()
