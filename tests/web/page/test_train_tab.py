"""The Train tab's plan and its publishing, asked for as the browser asks: one request per event, past the queue."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from studio.core.settings import Settings

Ask = Callable[..., str]


TOKEN = "hf_write0123456789"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "server.txt"


@pytest.fixture(scope="module")
def address(settings: Settings, serving: Any, log: Path) -> Iterator[str]:
    with serving(settings, log) as found:
        yield found


@pytest.fixture(scope="module")
def check_id(address: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    from studio.pocket.samples import sample_photos

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
    assert {"Rank", "Resolution (px)", "Batch size"} <= triggers
    after = [row for row in events if row["trigger_after"] is not None]
    assert len(after) == 3, "after the photos, the base and the preset have set what follows from them"

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
    assert "Plan: 60 steps, about 79 s, 1.07 GB of 2.15 GB memory" in ask(Photos=check_id)
    assert "Plan: 300 steps" in ask(Photos=check_id, Steps="300")


def test_without_photos_or_with_a_wrong_setting_there_is_no_plan(ask: Ask, check_id: str) -> None:
    assert ask(Photos=None) == ""
    assert ask(Photos=check_id, Rank=0) == ""


def test_a_run_is_published_when_it_is_done_and_the_token_is_asked_before(
    address: str, check_id: str, page_at: Any, settings: Settings, log: Path
) -> None:
    page = page_at(address)
    page.fire("Train", "select")  # the tab is opened: it learns of the photos
    there = settings.home / "jobs"
    before = len(list(there.glob("train-*")))
    wanted = {"Photos": check_id, "Repository": " ada/portrait ", "Token": TOKEN, "Who_can_see_it": "Everyone"}
    refused = page.fire("Train", "click", **{**wanted, "Token": "hf_read0123456789"})
    assert "Token: may only read" in refused["ls-train-notice"] and refused["Token"] != ""
    assert "Repository: " in page.fire("Train", "click", **{**wanted, "Repository": "portrait"})["ls-train-notice"]
    assert len(list(there.glob("train-*"))) == before, "refused before anything is started"
    done = page.fire("Train", "click", **wanted)
    assert f"Published: ada/portrait, commit {'c' * 40}." in done["ls-train-status"] and done["Token"] == ""
    assert TOKEN not in str(done) and TOKEN not in log.read_text()
    assert not any(TOKEN.encode() in path.read_bytes() for path in settings.home.rglob("*") if path.is_file())
    plain = page.fire("Train", "click", **{**wanted, "Repository": ""})
    assert "data-published" not in plain["ls-train-status"] and plain["ls-train-notice"] == ""


def test_a_pressed_checkpoint_stands_beside_the_one_that_was_pressed_before(
    address: str, page_at: Any, check_id: str
) -> None:
    page = page_at(address)
    page.fire("Train", "select")
    shown = page.fire("Train", "click", Photos=check_id)["ls-train-samples"]
    assert _beside(shown) == ["Before training", "Step 240 kept"]
    assert _beside(page.fire("ls-train-samples", "click", event_data={"step": 60})["ls-train-samples"]) == [
        "Step 60",
        "Step 240 kept",
    ]
    pressed = page.fire("ls-train-samples", "click", event_data={"step": 300})["ls-train-samples"]
    assert _beside(pressed) == ["Step 60", "Step 300"]
    assert pressed.count("data-frame") == 6 and pressed.count('aria-pressed="true"') == 2


def _beside(html: str) -> list[str]:
    heads = re.findall(r"<h3>(.*?)</h3>", html.partition("ls-pair")[2])
    return [re.sub(r"<[^>]*>", "", head) for head in heads]
