"""The Publish tab's own events, called as the browser calls them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from studio.core.settings import Settings

TOKEN = "hf_write0123456789"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "server.txt"


@pytest.fixture(scope="module")
def page(settings: Settings, serving: Any, page_at: Any, log: Path) -> Iterator[Any]:
    with serving(settings, log) as address:
        yield page_at(address)


@pytest.fixture
def run(page: Any, photos: list[Path]) -> Iterator[tuple[str, str]]:
    """A trained run and a set of its pictures."""
    client = Client(page.address, verbose=False, download_files=False, analytics_enabled=False)
    check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")
    trained = client.predict(check["id"], api_name="/train")["id"]
    made = client.predict(trained, pack="places", api_name="/generate")["id"]
    page.fire("Publish", "select")  # the tab is opened: it learns of runs and pictures
    yield trained, made
    client.close()


def test_a_card_is_previewed_without_a_token_then_published_with_one_that_is_not_kept(
    page: Any, run: tuple[str, str], settings: Settings, log: Path
) -> None:
    trained, made = run
    wanted = {"Run": trained, "Repository": " ada/portrait ", "Pictures_for_the_gallery": made, "Token": ""}
    shown = page.fire("Preview", "click", **wanted)
    assert "What would be published" in shown["ls-publish-status"] and shown["ls-publish-notice"] == ""
    assert "# Ada" in shown["ls-card"]["value"] and "license:" not in shown["ls-card"]["value"]
    assert len(shown["ls-published"]["value"]) == 1

    refused = page.fire("Publish", "click", **{**wanted, "Token": "hf_read0123456789"})
    assert "Token: may only read" in refused["ls-publish-notice"]
    done = page.fire("Publish", "click", **{**wanted, "Token": TOKEN, "Who_can_see_it": "Everyone"})
    assert "Published: ada/portrait" in done["ls-publish-status"] and "Everyone can see it" in done["ls-publish-status"]
    assert done["ls-token"] == "" if "ls-token" in done else done["Token"] == ""
    assert TOKEN not in str(done) and TOKEN not in log.read_text()
    assert not any(TOKEN.encode() in path.read_bytes() for path in settings.home.rglob("*") if path.is_file())


def test_wrong_settings_are_told_beside_the_form(page: Any, run: tuple[str, str]) -> None:
    said = page.fire("Preview", "click", Run=run[0], Repository="portrait", About="x" * 3000)["ls-publish-notice"]
    assert "2 things to change" in said and "Repository: " in said and "About: " in said
    assert "No run is chosen" in page.fire("Preview", "click", Repository="ada/x")["ls-publish-notice"]


def test_the_pictures_of_a_set_can_be_chosen(page: Any, run: tuple[str, str]) -> None:
    chosen = page.fire("Pictures for the gallery", "input", Pictures_for_the_gallery=run[1])["Chosen pictures"]
    assert [value for _, value in chosen["choices"]] and chosen["visible"] is True
    none = page.fire("Pictures for the gallery", "input", Pictures_for_the_gallery="")["Chosen pictures"]
    assert none["choices"] == [] and none["visible"] is False


def test_the_token_is_a_password_field_and_never_part_of_the_page(page: Any) -> None:
    (field,) = [row["props"] for row in page.parts.values() if row["props"].get("elem_id") == "ls-token"]
    assert field["type"] == "password" and not field.get("value")
