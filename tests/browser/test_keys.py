"""A studio that opens with API keys, in a browser: sign in, see as whom, sign out; and what of that others see."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.jobs.keys import open_keys

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("width_px", [1280, 390])
def test_who_signs_in_with_a_key_sees_as_whom_and_signs_out(
    edge: Any, browser: Any, tmp_path: Path, shot: Callable[[Any, str], None], width_px: int
) -> None:
    presets = edge.write_presets(tmp_path / "presets")
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=presets, login=False, auth="keys")
    keys = open_keys(settings)
    _, text = keys.create(owner="ada.lovelace", scopes=("jobs",))
    keys.close()
    with edge.serve(settings, tmp_path / "server.txt") as address:
        window = browser.new_context(viewport={"width": width_px, "height": 844})
        page = window.new_page()
        page.goto(address)
        page.get_by_label("Key").fill(text)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("Signed in as ada.lovelace").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        shot(page, f"keys-{width_px}")
        page.get_by_role("button", name="Sign out").click()
        page.get_by_role("button", name="Sign in").wait_for()
        page.goto(address)
        page.get_by_role("button", name="Sign in").wait_for()
        window.close()
    assert "Traceback" not in (tmp_path / "server.txt").read_text()
