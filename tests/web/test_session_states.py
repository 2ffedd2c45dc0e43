"""Nothing is kept of calls without a session, and little of a browser's."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

from studio.core.settings import Settings
from studio.web.session_states import MOST_WAITING, SessionStates, SmallSessionState


@pytest.fixture(scope="module")
def api(serving: Any, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    log = tmp_path_factory.mktemp("log") / "server.txt"
    with serving(settings, log) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def states(events: dict[str, Any]) -> SessionStates:
    """Return the states of a page without components whose queue holds these events."""
    queue = SimpleNamespace(event_ids_to_events=events, pending_messages_per_session={}, pending_event_ids_session={})
    config = SimpleNamespace(blocks={}, fns={})
    return SessionStates(SimpleNamespace(_queue=queue, default_config=config, state_session_capacity=7))


def test_a_call_without_a_session_gets_a_state_that_nobody_keeps() -> None:
    held = states({"event": object()})
    assert isinstance(held["event"], SmallSessionState) and "event" not in held
    assert held["browser"] is held["browser"] and "browser" in held
    assert not held["browser"].config_values


def test_answers_that_nobody_fetches_are_dropped_oldest_first_but_none_of_a_call_that_runs() -> None:
    held = states({"running": object()})
    queue = held.blocks._queue
    names = ["running", *(f"done-{number}" for number in range(MOST_WAITING + 9))]
    for name in names:
        queue.pending_messages_per_session[name] = object()
        queue.pending_event_ids_session[name] = {name}
    assert held["running"] is not None
    assert list(queue.pending_messages_per_session) == ["running", *names[-MOST_WAITING:]]
    assert set(queue.pending_event_ids_session) == set(queue.pending_messages_per_session)


def _grown_mb(api: httpx.Client, calls: int, *, fetch: bool) -> float:
    """Return how much the server grew by so many calls without a session, MB; the first twenty are not counted."""
    port = api.base_url.port
    (server,) = {
        row.pid for row in psutil.net_connections() if row.laddr and row.laddr[1] == port and row.status == "LISTEN"
    }

    def rss_mb() -> float:
        return psutil.Process(server).memory_info().rss / 1e6

    before_mb = 0.0
    for number in range(20 + calls):
        if number == 20:
            before_mb = rss_mb()
        started = api.post("/gradio_api/call/jobs", json={"data": [50]})
        if fetch:
            assert "event: complete" in api.get(f"/gradio_api/call/jobs/{started.json()['event_id']}").text
    return rss_mb() - before_mb


def test_calls_without_a_session_keep_no_memory(api: httpx.Client) -> None:
    assert abs(_grown_mb(api, 40, fetch=True)) < 10, "0.45 MB for each before: 18 MB"


@pytest.mark.slow
@pytest.mark.parametrize("fetch", [True, False])
def test_two_thousand_calls_without_a_session_keep_no_memory(api: httpx.Client, fetch: bool) -> None:
    assert abs(_grown_mb(api, 2000, fetch=fetch)) < 10
