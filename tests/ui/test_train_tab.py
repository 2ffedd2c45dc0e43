"""The Train tab's plan, asked for as the browser asks: one request per event, past the queue."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from studio.settings import Settings

Ask = Callable[..., str]


@pytest.fixture(scope="module")
def address(settings: Settings, serving: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(settings, tmp_path_factory.mktemp("log") / "server.txt") as found:
        yield found


@pytest.fixture(scope="module")
def check_id(address: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    from studio.samples import sample_photos

    photos = sample_photos(tmp_path_factory.mktemp("photos"), count=6, size_px=64)
    client = Client(address, verbose=False)
    return client.predict([handle_file(path) for path in photos], "Ada", "woman", api_name="/check_photos")["id"]


@pytest.fixture(scope="module")
def ask(address: str, check_id: str) -> Ask:
    """Return a call that fires the event of the plan with the page's own values, changed by label."""
    page = httpx.get(f"{address}/config", timeout=60).json()
    by_id = {row["id"]: row for row in page["components"]}
    (plan,) = [row["id"] for row in page["components"] if row["props"].get("elem_id") == "ls-train-plan"]
    events = [row for row in page["dependencies"] if row["outputs"] == [plan]]
    triggers = {by_id[target[0]]["props"].get("label") for row in events for target in row["targets"] if target[0]}
    assert {"Photos", "Rank", "Resolution (px)", "Batch size"} <= triggers
    assert len([row for row in events if row["trigger_after"] is not None]) == 2, "after the base and after the preset"

    def fire(event: dict[str, Any], changes: dict[str, Any]) -> Any:
        rows = [by_id[number]["props"] for number in event["inputs"]]
        data = [changes.pop(props["label"], props.get("value")) for props in rows]
        assert not changes, changes
        request = {"data": data, "fn_index": event["id"], "session_hash": "test"}
        answer = httpx.post(f"{address}/gradio_api/run/predict", json=request, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    # As the page does when it is opened; from then on the server knows this session's photos.
    fire(next(row for row in page["dependencies"] if row["targets"][0][1] == "load"), {})
    return lambda **changes: str(fire(events[0], changes)[0])


def test_the_plan_follows_the_photos_and_the_form(ask: Ask, check_id: str) -> None:
    # The scripted studio measures 1 s to load, 0.5 s a step, 1 s a picture; the preset has 10 steps per photo.
    assert "Plan: 60 steps, about 79 s, 1.0 GB of 2.0 GB memory" in ask(Photos=check_id)
    assert "Plan: 300 steps" in ask(Photos=check_id, Steps="300")


def test_without_photos_or_with_a_wrong_setting_there_is_no_plan(ask: Ask, check_id: str) -> None:
    assert ask(Photos=None) == ""
    assert ask(Photos=check_id, Rank=0) == ""
