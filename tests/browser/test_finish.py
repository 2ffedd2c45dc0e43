"""The Finish tab in front of a scripted studio: own pictures through a chain, before and after, a zip that opens."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = pytest.mark.browser


def test_own_pictures_go_through_a_chain_and_home_in_a_zip(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, shot: Callable[[Any, str], None]
) -> None:
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = sample_photos(tmp_path / "photos", count=3, size_px=256)
    with edge.serve(settings, tmp_path / "server.txt") as address:
        page = visit(address)
        page.get_by_role("tab", name="Finish").click()
        page.get_by_label("My own pictures").click()
        page.locator("#ls-finish-drop").wait_for()
        page.locator("#ls-finish-drop input[type=file]").set_input_files([str(path) for path in photos])
        page.get_by_text(photos[-1].stem).first.wait_for()
        assert "cut out" in page.get_by_text("fit size and bytes").inner_text()
        page.get_by_role("button", name="Finish", exact=True).click()
        page.get_by_text("3 pictures finished").wait_for()
        page.locator("#ls-finish-slider img").first.wait_for()
        # Completed: the field is free for others, and Gradio's copies of the photos are gone.
        page.wait_for_function(
            "name => !document.querySelector('#ls-finish-drop').innerText.includes(name)",
            arg=photos[-1].stem,
            timeout=20_000,
        )
        dropped = {path.read_bytes() for path in photos}
        kept = [path for path in (settings.home / "web-cache").rglob("*") if path.is_file()]
        assert not [path for path in kept if path.read_bytes() in dropped]
        first = page.locator("#ls-finish-slider img").first.get_attribute("src")
        shot(page, "6-finished")
        with page.expect_download() as download:
            page.get_by_text("Download all (zip)").locator("visible=true").click()
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.testzip() is None and len(archive.namelist()) == 3
        page.locator("#ls-finished button").last.click()
        page.wait_for_function(
            "src => document.querySelector('#ls-finish-slider img').getAttribute('src') !== src", arg=first
        )
        page.set_viewport_size({"width": 390, "height": 860})
        page.wait_for_function(
            "() => [...document.querySelectorAll('#ls-finished button, #ls-finish-slider img')].every("
            "part => part.getBoundingClientRect().right <= window.innerWidth)"
        )
        shot(page, "7-finished-on-a-phone")
    assert "Traceback" not in (tmp_path / "server.txt").read_text()
