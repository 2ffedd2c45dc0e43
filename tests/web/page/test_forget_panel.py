"""Delete in the page: what is offered, what is told before and after, and that no tab shows what is gone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from studio.core.settings import Settings


@pytest.fixture(scope="module")
def page(settings: Settings, serving: Any, page_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serving(settings, tmp_path_factory.mktemp("log") / "server.txt") as address:
        yield page_at(address)


OPEN, WHAT, SURE = "ls-forget-open", "What to delete", "Delete for good"


def offered(page: Any) -> list[tuple[str, str]]:
    return [tuple(choice) for choice in page.fire(OPEN, "click")[WHAT]["choices"]]


def test_a_subject_goes_with_all_that_was_made_of_it_and_no_tab_shows_it_any_more(
    page: Any, photos: list[Path], settings: Settings
) -> None:
    client = Client(page.address, verbose=False, download_files=False, analytics_enabled=False)
    files = [handle_file(str(path)) for path in photos]
    kept = client.predict(files, "Rex", "dog", api_name="/check_photos")["id"]
    check = client.predict(files, "Ada", api_name="/check_photos")["id"]
    run = client.predict(check, settings={"steps": 60}, api_name="/train")["id"]
    made = client.predict(run, "places", api_name="/generate")["id"]
    labels = [text for text, _ in offered(page)]
    assert labels[:3] == ["Everything of Ada", "Everything of Rex", "Everything of mine"]
    assert [text.partition(":")[0] for text in labels[3:]] == ["Pictures", "Run", "Photos", "Photos"]

    told = page.fire(WHAT, "input", What_to_delete="subject:Ada")
    assert "This would be deleted for good: 1 photo set, 1 training run, 1 set of pictures" in told["ls-forget-told"]
    assert told[SURE]["visible"] is True
    assert client.predict(made, files=False, api_name="/job")["state"] == "completed", "nothing is deleted yet"

    load = next(row for row in page.config["dependencies"] if row["backend_fn"] and row["targets"][0][1] == "load")
    body = {"fn_index": load["id"], "data": [], "session_hash": "somebody"}
    assert httpx.post(f"{page.address}/gradio_api/run/predict", json=body, timeout=60).status_code == 200
    gone = page.fire(SURE, "click", What_to_delete="subject:Ada")
    assert "Deleted for good on " in gone["ls-forget-told"] and gone[SURE]["visible"] is False
    assert "How training works" in gone["ls-train-status"]["value"], "the tab is as before there was a run"
    assert "Rex" in gone["ls-shelf"] and "Ada" not in gone["ls-shelf"], "nor does the library"
    assert kept in str(gone), "the photos tab shows what is left"
    assert [choice[0] for choice in gone[WHAT]["choices"]][:2] == ["Everything of Rex", "Everything of mine"]
    assert not (settings.home / "jobs" / run).exists() and (settings.home / "jobs" / kept).exists()
    client.close()


def test_nothing_chosen_is_said_and_deletes_nothing(page: Any, settings: Settings) -> None:
    before = sorted(path.name for path in (settings.home / "jobs").iterdir())
    assert "hoose first what to delete" in page.fire(SURE, "click", What_to_delete=None)["ls-forget-told"]
    assert "check-foreign" not in str(offered(page)), "another owner's"
    assert sorted(path.name for path in (settings.home / "jobs").iterdir()) == before
