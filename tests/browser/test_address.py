"""The window's address and title, and the notification when a job ends that nobody looks at."""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = pytest.mark.browser

NOTED = """
window.noted = [];
window.Notification = class {
    static permission = 'default';
    static requestPermission() { Notification.permission = 'granted'; window.noted.push('asked'); }
    constructor(title, options) { window.noted.push(`${title}: ${options.body}`); }
};
Object.defineProperty(document, 'hidden', {get: () => Notification.permission === 'granted'});
"""
"""A window whose notifications are written down, and that is in the background from the moment they are allowed."""


def _named(page: Any) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def test_address_and_title_follow_the_job_and_lead_back_to_it(visit: Any, edge: Any, tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = [str(path) for path in sample_photos(tmp_path / "photos", count=6, size_px=64)]
    with edge.serve(settings, tmp_path / "server.txt", pace_s=0.05) as address:
        page = visit(address, script=NOTED)
        page.locator("#ls-drop input[type=file]").set_input_files(photos)
        page.get_by_text(Path(photos[-1]).stem).first.wait_for()
        page.get_by_role("textbox", name="Name", exact=True).first.fill("Ada")
        page.get_by_role("button", name="Check photos").click()
        page.get_by_role("button", name="Continue to training").click()
        assert page.evaluate("window.noted") == [], "nobody is asked before there is something to wait for"
        page.get_by_role("button", name="Train", exact=True).click()
        page.wait_for_function("/^\\d+ % · Likeness Studio$/.test(document.title)")
        page.get_by_role("button", name="Make pictures").first.wait_for()
        page.wait_for_function("document.title === 'Likeness Studio' && window.noted.length === 2")
        assert page.evaluate("window.noted") == ["asked", "Training of Ada on pocket: It is finished."]
        page.wait_for_function("new URL(location).searchParams.get('job')?.startsWith('train-')")
        run = page.url
        page.get_by_role("tab", name="Generate").click()
        page.wait_for_function("new URL(location).searchParams.get('tab') === 'generate'")
        assert "job" not in _named(page)
        page.reload()
        page.get_by_role("tab", name="Generate", selected=True).wait_for()
        page.goto(run)
        page.get_by_role("tab", name="Train", selected=True).wait_for()
