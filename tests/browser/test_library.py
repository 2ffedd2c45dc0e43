"""The library in a browser: who, not which job."""

from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 720), (390, 844)])
def test_each_subject_has_a_face_and_its_own_jobs(
    visit: Any, edge: Any, tmp_path: Path, shot: Any, width_px: int, height_px: int
) -> None:
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = [str(path) for path in sample_photos(tmp_path / "photos", count=6, size_px=256)]
    with edge.serve(settings, tmp_path / "server.txt", pace_s=0.005) as address:
        page = visit(address, width_px=width_px, height_px=height_px)
        for name in ("Ada", "Rex"):
            page.get_by_role("tab", name="Photos").click()
            page.locator("#ls-drop input[type=file]").set_input_files(photos)
            page.get_by_text(Path(photos[-1]).stem).first.wait_for()
            page.get_by_role("textbox", name="Name", exact=True).first.fill(name)
            page.get_by_role("button", name="Check photos").click()
            page.get_by_text(f"of {name}").or_(page.get_by_text("photos are ready")).first.wait_for()
            page.get_by_role("button", name="Continue to training").wait_for()
        page.get_by_role("button", name="Continue to training").click()
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("button", name="Make pictures").first.wait_for()
        page.get_by_role("tab", name="Library").click()
        shelf = page.locator("#ls-shelf")
        shelf.get_by_role("heading", name="Rex").wait_for()
        assert shelf.get_by_text("Runs").count() == 1 and "Ada" not in shelf.inner_text()
        shot(page, f"library-{width_px}")
        page.locator("#ls-subjects button").filter(has=page.locator("img")).nth(1).click()
        shelf.get_by_role("heading", name="Ada").wait_for()
        assert shelf.get_by_text("Runs").count() == 0 and "Rex" not in shelf.inner_text()
        page.get_by_role("button", name="Train again").click()
        page.get_by_role("tab", name="Train", selected=True).wait_for()
        chosen = page.get_by_label("Photos", exact=True).first.input_value()
        assert chosen.startswith("Ada")
        # What was made of Rex does not stand beside Ada, and comes back with Rex.
        assert page.get_by_role("button", name="Make pictures").count() == 0
        page.get_by_text("How training works").wait_for()
        page.get_by_label("Photos", exact=True).first.click()
        page.get_by_role("option", name="Rex").click()
        page.get_by_role("button", name="Make pictures").first.wait_for()
