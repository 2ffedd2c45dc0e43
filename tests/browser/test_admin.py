"""The operator's tab in a browser: seen by who runs the studio, and presses are answered."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 720), (390, 844)])
def test_whoever_runs_the_studio_sees_everybodys_queue_and_steers_it(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, shot: Any, width_px: int, height_px: int
) -> None:
    from gradio_client import Client, handle_file

    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = [handle_file(str(path)) for path in sample_photos(tmp_path / "photos", count=5, size_px=64)]
    kept = tmp_path / "home" / "cache" / "pictures" / ("ad" * 32) / "one.png"
    with edge.serve(settings, tmp_path / "server.txt", hold=["train"]) as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        check = client.predict(photos, "Ada", "woman", api_name="/check_photos")
        run = client.predict(check["id"], api_name="/train")["id"]
        client.close()
        kept.parent.mkdir(parents=True)
        kept.write_bytes(b"x" * 5000)
        page = visit(address, width_px=width_px, height_px=height_px, dark=width_px < 500)
        assert page.get_by_role("tab", name="This machine").count() == 0
        page.get_by_role("link", name="This machine").click()
        page.get_by_role("tab", name="This machine", selected=True).wait_for()
        queue, answer = page.locator("#ls-admin-queue"), page.locator("#ls-admin-notice")
        row = queue.locator(f"[data-queued={run}]")
        row.get_by_text("Training", exact=True).first.wait_for()
        holdings = page.locator("#ls-admin-holdings")
        holdings.get_by_text("Result cache").first.wait_for()
        for title in ("Owners", "Caches", "Disk"):
            assert holdings.get_by_role("heading", name=title).count() == 1
        goes_on = page.locator("#ls-admin-activity")
        assert goes_on.get_by_role("heading").all_inner_texts() == ["Servers", "Devices of this server"]
        assert "sample-" not in page.locator("[role=tabpanel]:visible").inner_text()
        shot(page, f"admin-{width_px}")

        page.get_by_role("button", name="Pause the queue").click()
        queue.get_by_text("The queue is paused").wait_for()
        page.get_by_role("button", name="Let the queue go on").click()
        answer.get_by_text("The queue goes on").wait_for()
        page.get_by_role("button", name="Cancel this job").click()
        answer.get_by_text("choose one first").wait_for()
        page.locator("#ls-admin-job input").click()
        page.get_by_role("option").filter(has_text="Training · local").click()
        page.get_by_role("button", name="Cancel this job").click()
        row.get_by_text("cancelled").wait_for()
        page.get_by_role("button", name="Put it back into the queue").click()
        row.wait_for(state="detached")
        page.get_by_role("button", name="Clear the result cache").click()
        answer.get_by_text("1 kept picture deleted, 5 kB").wait_for()
        assert not kept.exists()
        page.wait_for_timeout(300)
        shot(page, f"admin-cleared-{width_px}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "Traceback" not in (tmp_path / "server.txt").read_text()
