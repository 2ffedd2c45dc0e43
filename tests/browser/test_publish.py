"""The Publish tab in front of a scripted studio: the card first, then the commit; the token is gone from the page."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = pytest.mark.browser

TOKEN = "hf_write0123456789"


def test_a_run_is_previewed_and_published(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, shot: Callable[[Any, str], None]
) -> None:
    from gradio_client import Client, handle_file

    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = sample_photos(tmp_path / "photos", count=5, size_px=64)
    with edge.serve(settings, tmp_path / "server.txt") as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")
        run = client.predict(check["id"], api_name="/train")
        client.predict(run["id"], pack="places", api_name="/generate")
        client.close()
        page = visit(address)
        page.get_by_role("tab", name="Publish").click()
        page.get_by_placeholder("you/ada").fill("portrait")
        page.get_by_role("button", name="Preview", exact=True).click()
        page.locator("#ls-publish-notice").get_by_text("not a valid repository name").wait_for()
        page.get_by_placeholder("you/ada").fill("ada/portrait")
        page.get_by_role("button", name="Preview", exact=True).click()
        page.get_by_text("What would be published").wait_for()
        page.locator("#ls-card").get_by_text("Ada").wait_for()
        assert page.locator("#ls-card script").count() == 0
        page.locator("#ls-published img").first.wait_for()
        token = page.locator("#ls-token input")
        assert token.get_attribute("type") == "password"
        token.fill("hf_read0123456789")
        page.get_by_role("button", name="Publish", exact=True).click()
        page.locator("#ls-publish-notice").get_by_text("may only read").wait_for()
        token.fill(TOKEN)
        page.get_by_role("button", name="Publish", exact=True).click()
        page.get_by_text("Published: ada/portrait").wait_for()
        page.wait_for_function("() => document.querySelector('#ls-token input').value === ''")
        shot(page, "7-published")
        assert TOKEN not in page.content()
    assert TOKEN not in (tmp_path / "server.txt").read_text()
    assert "Traceback" not in (tmp_path / "server.txt").read_text()
