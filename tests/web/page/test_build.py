"""The page as Gradio describes it to the browser."""

from typing import Any

import httpx
import pytest

from studio.core.settings import Settings


@pytest.fixture(scope="module")
def page(settings: Settings, serving: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The page's description."""
    with serving(settings, tmp_path_factory.mktemp("log") / "server.txt") as address:
        described: dict[str, Any] = httpx.get(f"{address}/config").json()
    return described


@pytest.fixture(scope="module")
def events(page: dict[str, Any]) -> list[dict[str, Any]]:
    """Every event of the page that reaches the server, and every endpoint."""
    return [row for row in page["dependencies"] if row["backend_fn"]]


def test_no_event_of_the_page_waits_for_the_queues_stream_which_may_close_before_the_answer(
    events: list[dict[str, Any]],
) -> None:
    of_the_page = [row for row in events if row["api_visibility"] == "private"]
    assert len(of_the_page) > 20
    assert [row["api_name"] for row in of_the_page if row["queue"]] == []


def test_the_endpoints_for_programs_stay_behind_the_queue(events: list[dict[str, Any]]) -> None:
    endpoints = [row for row in events if row["api_visibility"] == "public"]
    assert len(endpoints) == 23 and all(row["queue"] for row in endpoints)


def test_no_part_of_the_page_is_made_only_when_it_is_opened_over_what_was_filled_in(page: dict[str, Any]) -> None:
    assert [row["props"]["label"] for row in page["components"] if row["type"] == "accordion"] == []
