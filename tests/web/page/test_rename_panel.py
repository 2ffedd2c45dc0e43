"""Rename in the Library tab, called as the browser calls it."""

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


def test_a_subject_and_a_photo_set_are_renamed_and_shown_under_their_new_names(page: Any, photos: list[Path]) -> None:
    client = Client(page.address, verbose=False, download_files=False, analytics_enabled=False)
    check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")["id"]
    client.predict(check, api_name="/train")
    opened = page.fire("Library", "select")
    assert opened["ls-rename"]["visible"] is True and opened["New name"] == "Ada"
    (subject, photo_set) = opened["What to rename"]["choices"]
    assert tuple(subject) == ("Subject: Ada", "subject:Ada") and photo_set[1] == f"set:{check}"

    chosen = page.fire("What to rename", "input", What_to_rename=photo_set[1])
    assert chosen["New name"] == ""
    named = page.fire("Rename", "click", What_to_rename=photo_set[1], New_name="summer")
    assert "The photo set is now called summer" in named["ls-rename-told"] and "Ada, summer" in named["ls-shelf"]

    done = page.fire("Rename", "click", What_to_rename="subject:Ada", New_name="Grace")
    assert "Ada is now called Grace" in done["ls-rename-told"]
    assert "trigger word" in done["ls-rename-told"] and "published" in done["ls-rename-told"]
    assert "Grace, summer" in done["ls-shelf"] and "Ada" not in done["ls-shelf"]
    assert done["What to rename"]["value"] == "subject:Grace" and done["New name"] == "Grace"
    refused = page.fire("Rename", "click", What_to_rename="subject:Grace", New_name="")
    assert "New name: is empty" in refused["ls-rename-told"]
    client.close()
