"""What is handed over to the Finish and Publish tabs, and the Finish tab's own events, called as the browser does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from studio.core.settings import Settings


@pytest.fixture(scope="module")
def page(settings: Settings, serving: Any, page_at: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with serving(settings, tmp_path_factory.mktemp("log") / "server.txt") as address:
        yield page_at(address)


@pytest.fixture
def client(page: Any) -> Iterator[Client]:
    client = Client(page.address, verbose=False, download_files=False, analytics_enabled=False)
    yield client
    client.close()


@pytest.fixture
def runs(client: Client, photos: list[Path]) -> list[str]:
    """A run each of two subjects; the page knows of both."""
    uploads = [handle_file(str(path)) for path in photos]
    checks = [client.predict(uploads, name, "woman", api_name="/check_photos")["id"] for name in ("Ada", "Bea")]
    return [client.predict(check, api_name="/train")["id"] for check in checks]


def test_pictures_and_runs_are_handed_over_to_finishing_and_publishing(
    page: Any, client: Client, runs: list[str]
) -> None:
    page.fire("Generate", "select")
    shown = page.fire("Generate", "click", Subject=runs[0], Pack="places")
    assert shown["Finish these"]["visible"] is True and shown["Publish these"]["visible"] is True
    assert "data-look" in shown["ls-pictures"] and "?small=1" in shown["ls-pictures"]
    pictures = shown["Earlier pictures"]["value"]
    client.predict(runs[1], pack="places", api_name="/generate")  # newer, and so what the tabs would choose themselves

    finish = page.fire("Finish these", "click")
    assert finish["Pictures"]["value"] == pictures and finish["What to finish"] == "Generated pictures"

    publish = page.fire("Publish these", "click")
    assert publish["Run"]["value"] == runs[0] and publish["Pictures for the gallery"]["value"] == pictures
    assert publish["Chosen pictures"]["visible"] is True and publish["Chosen pictures"]["choices"]


def test_a_run_is_handed_over_to_publishing(page: Any, client: Client, photos: list[Path]) -> None:
    check = client.predict([handle_file(str(path)) for path in photos], "Eve", "woman", api_name="/check_photos")["id"]
    page.fire("Train", "select")
    shown = page.fire("Train", "click", Photos=check)
    assert shown["Publish this run"]["visible"] is True
    newer = client.predict(check, settings={"seed": 5}, api_name="/train")["id"]
    publish = page.fire("Publish this run", "click")
    assert publish["Run"]["value"] == shown["Earlier runs"]["value"] != newer
    assert publish["Pictures for the gallery"]["value"] == ""


def test_size_and_background_are_chosen_by_name(page: Any, client: Client, runs: list[str]) -> None:
    pictures = client.predict(runs[0], pack="places", api_name="/generate")["id"]
    page.fire("Finish", "select")
    shown = page.fire("Background", "change", Background="colour")
    assert shown["Colour of the background"]["visible"] is True
    wrong = {"Pictures": pictures, "Size": "avatar", "Background": "colour", "Colour_of_the_background": "red"}
    said = page.fire("Finish", "click", **wrong)["ls-finish-notice"]
    assert "background.colour" in said
    done = page.fire("Finish", "click", **{**wrong, "Colour_of_the_background": "rgba(10.2, 20, 30, 1)"})
    assert done["ls-finish-notice"] == "" and "?small=1" in done["ls-finished"] and "data-choose" in done["ls-finished"]


def test_nothing_to_finish_is_said_in_plain_words(page: Any) -> None:
    said = page.fire("Finish", "click", What_to_finish="My own pictures")["ls-finish-notice"]
    assert "there is nothing to finish yet" in said and "drop pictures" in said
