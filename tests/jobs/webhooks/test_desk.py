"""An address that may not be reached is refused before it is stored."""

from typing import Any

import pytest

from studio.core.errors import InputError, NotFoundError
from studio.core.webhooks import WebhookChange, WebhookConfig
from studio.jobs.store import Store
from studio.jobs.webhooks.addresses import Reach
from studio.jobs.webhooks.desk import WebhookDesk


@pytest.fixture
def desk(store: Store) -> WebhookDesk:
    known = {"hooks.example": ["8.8.8.8"], "inside.example": ["8.8.8.8", "10.0.0.1"]}
    return WebhookDesk(store.webhooks, Reach(resolve=lambda host, port: known.get(host, [])))


@pytest.mark.parametrize("url", ["https://inside.example/", "https://nowhere.example/", "http://hooks.example/"])
def test_it_is_refused_when_it_is_made_and_when_it_is_changed(desk: WebhookDesk, url: str) -> None:
    made, _ = desk.create(WebhookConfig(url="https://hooks.example/"), owner="ada")
    calls: tuple[Any, ...] = (
        lambda: desk.create(WebhookConfig(url=url), owner="ada"),
        lambda: desk.change(made.id, WebhookChange(url=url), owner="ada"),
        lambda: desk.require(url, "url"),
    )
    for call in calls:
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.problems[0].where == "url" and "https address" in caught.value.problems[0].cure
    assert desk.all(owner="ada") == [made]


def test_what_is_left_out_stays(desk: WebhookDesk) -> None:
    config = WebhookConfig(url="https://hooks.example/", events=("job.completed",), description="Ours")
    made, _ = desk.create(config, owner="ada")
    changed = desk.change(made.id, WebhookChange(events=(), progress_every_s=5), owner="ada")
    assert (changed.url, changed.events, changed.description, changed.progress_every_s) == (made.url, (), "Ours", 5)
    with pytest.raises(NotFoundError):
        desk.change(made.id, WebhookChange(url="http://10.0.0.1/"), owner="eve")
