"""The Publish tab's own events, called as the browser calls them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file

from studio.settings import Settings

TOKEN = "hf_write0123456789"


class Page:
    """The page as Gradio describes it: press a button, get what changes by label or element id."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.config: dict[str, Any] = httpx.get(f"{address}/config", timeout=60).json()
        self.parts = {row["id"]: row for row in self.config["components"]}

    def _name(self, part: int) -> str:
        props = self.parts[part]["props"]
        return str(props.get("label") or props.get("elem_id") or props.get("value") or part)

    def _event(self, name: str, kind: str) -> dict[str, Any]:
        return next(
            row
            for row in self.config["dependencies"]
            for part, trigger in row["targets"]
            if trigger == kind and part in self.parts and self._name(part) == name and row["backend_fn"]
        )

    def fire(self, name: str, kind: str, **values: Any) -> dict[str, Any]:
        """Fire an event; ``values`` by label with blanks as underscores, others as the page has them."""
        event = self._event(name, kind)
        given = [
            values.get(self._name(part).replace(" ", "_"), self.parts[part]["props"].get("value"))
            for part in event["inputs"]
        ]
        body = {"fn_index": event["id"], "data": given, "session_hash": "somebody"}
        answer = httpx.post(f"{self.address}/gradio_api/run/predict", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return {self._name(part): value for part, value in zip(event["outputs"], answer.json()["data"], strict=True)}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "server.txt"


@pytest.fixture(scope="module")
def page(settings: Settings, serving: Any, log: Path) -> Iterator[Page]:
    with serving(settings, log) as address:
        yield Page(address)


@pytest.fixture
def run(page: Page, photos: list[Path]) -> Iterator[tuple[str, str]]:
    """A trained run and a set of its pictures."""
    client = Client(page.address, verbose=False, download_files=False, analytics_enabled=False)
    check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")
    trained = client.predict(check["id"], api_name="/train")["id"]
    made = client.predict(trained, pack="places", api_name="/generate")["id"]
    page.fire("Publish", "select")  # the tab is opened: it learns of runs and pictures
    yield trained, made
    client.close()


def test_a_card_is_previewed_without_a_token_then_published_with_one_that_is_not_kept(
    page: Page, run: tuple[str, str], settings: Settings, log: Path
) -> None:
    trained, made = run
    wanted = {"Run": trained, "Repository": " ada/portrait ", "Pictures_for_the_gallery": made, "Token": ""}
    shown = page.fire("Preview", "click", **wanted)
    assert "What would be published" in shown["ls-publish-status"] and shown["ls-publish-notice"] == ""
    assert "# Ada" in shown["ls-card"]["value"] and "license:" not in shown["ls-card"]["value"]
    assert len(shown["ls-published"]["value"]) == 1

    refused = page.fire("Publish", "click", **{**wanted, "Token": "hf_read0123456789"})
    assert "Token: may only read" in refused["ls-publish-notice"]
    done = page.fire("Publish", "click", **{**wanted, "Token": TOKEN, "Who_may_see_it": "Everybody"})
    assert (
        "Published: ada/portrait" in done["ls-publish-status"] and "everybody may see it" in done["ls-publish-status"]
    )
    assert done["ls-token"] == "" if "ls-token" in done else done["Token"] == ""
    assert TOKEN not in str(done) and TOKEN not in log.read_text()
    assert not any(TOKEN.encode() in path.read_bytes() for path in settings.home.rglob("*") if path.is_file())


def test_wrong_settings_are_told_beside_the_form(page: Page, run: tuple[str, str]) -> None:
    said = page.fire("Preview", "click", Run=run[0], Repository="portrait", About="x" * 3000)["ls-publish-notice"]
    assert "2 things to change" in said and "Repository: " in said and "About: " in said
    assert "No run is chosen" in page.fire("Preview", "click", Repository="ada/x")["ls-publish-notice"]


def test_the_pictures_of_a_set_can_be_chosen(page: Page, run: tuple[str, str]) -> None:
    chosen = page.fire("Pictures for the gallery", "input", Pictures_for_the_gallery=run[1])["Chosen pictures"]
    assert [value for _, value in chosen["choices"]] and chosen["visible"] is True
    none = page.fire("Pictures for the gallery", "input", Pictures_for_the_gallery="")["Chosen pictures"]
    assert none["choices"] == [] and none["visible"] is False


def test_the_token_is_a_password_field_and_never_part_of_the_page(page: Page) -> None:
    (field,) = [row["props"] for row in page.parts.values() if row["props"].get("elem_id") == "ls-token"]
    assert field["type"] == "password" and not field.get("value")
