"""Delete in front of a scripted studio: what would go is told first, then it is gone from tabs and disk."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = pytest.mark.browser


def test_everything_of_a_subject_is_deleted_after_a_second_look(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, shot: Callable[[Any, str], None]
) -> None:
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    files = [handle_file(str(path)) for path in sample_photos(tmp_path / "photos", count=3, size_px=256)]
    with edge.serve(settings, tmp_path / "server.txt") as address:
        client = Client(address, verbose=False, download_files=False, analytics_enabled=False)
        check = client.predict(files, "Ada", api_name="/check_photos")["id"]
        run = client.predict(check, settings={"steps": 60}, api_name="/train")["id"]
        client.predict(run, "places", api_name="/generate")
        client.close()
        page = visit(address)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.get_by_role("tab", name="Generate").click()
        page.locator("#ls-pictures img").first.wait_for()
        page.get_by_role("button", name="Delete photos, runs or pictures").click()
        page.get_by_label("What to delete").click()
        page.get_by_role("option", name="Everything of Ada").click()
        told = page.locator("#ls-forget-told")
        told.get_by_text("This would be deleted for good: 1 photo set, 1 training run, 1 set of pictures").wait_for()
        shot(page, "8-would-be-deleted")
        assert (settings.home / "jobs" / run).is_dir()
        page.get_by_role("button", name="Delete for good").click()
        told.get_by_text("Deleted for good on").wait_for()
        shot(page, "9-deleted")
        assert not list((settings.home / "jobs").glob("*-[0-9]*")), "nothing is left of it"
        assert page.locator("#ls-pictures img").count() == 0
        page.get_by_role("tab", name="Train").click()
        page.get_by_text("How training works").wait_for()
        assert page.locator("#ls-train-samples img").count() == 0
        page.get_by_role("button", name="Close", exact=True).click()
        told.wait_for(state="hidden")
        assert complaints == []
    assert "Traceback" not in (tmp_path / "server.txt").read_text()
