"""Five hundred pictures in one gallery: what the browser loads, and how long it is busy while they are scrolled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURES = 500
MOST_MS = 150.0
"""Most of the page's own time that one more screenful may take; people notice about as much as a stall."""
SCREENFUL = """
async (by) => {
    scrollBy(0, by);
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    return scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
}
"""


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 860), (390, 844)])
def test_five_hundred_pictures_scroll_without_a_stall_and_are_loaded_when_they_come_into_sight(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, width_px: int, height_px: int
) -> None:
    from gradio_client import Client, handle_file

    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = sample_photos(tmp_path / "photos", count=5, size_px=64)
    with edge.serve(settings, tmp_path / "server.txt") as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")
        run = client.predict(check["id"], api_name="/train")["id"]
        job = client.predict(run, "places", count=PICTURES // 2, api_name="/generate")["id"]
        client.close()
        page = visit(f"{address}/?job={job}", width_px=width_px, height_px=height_px)
        loaded: list[str] = []
        page.on("request", lambda request: loaded.append(request.url) if "small=1" in request.url else None)
        page.locator("#ls-pictures figure").nth(PICTURES - 1).wait_for(state="attached")
        page.wait_for_timeout(3000)
        assert page.locator("#ls-pictures figure").count() == PICTURES
        assert len(loaded) < 120, "only what is near the window is loaded"

        # Time of the page's own thread, not of the clock: on a busy machine a task waits for a core for longer than
        # it takes.
        meter = page.context.new_cdp_session(page)
        meter.send("Performance.enable", {"timeDomain": "threadTicks"})

        def spent_ms() -> float:
            metrics = meter.send("Performance.getMetrics")["metrics"]
            return next(1000 * row["value"] for row in metrics if row["name"] == "TaskDuration")

        steps, at_end, before = [], False, spent_ms()
        while not at_end and len(steps) < 400:
            at_end = page.evaluate(SCREENFUL, height_px)
            now = spent_ms()
            steps.append(now - before)
            before = now
        page.wait_for_timeout(2000)
        longest, mean = max(steps), sum(steps) / len(steps)
        print(f"{width_px} px: {len(steps)} screenfuls, {mean:.0f} ms each, the longest {longest:.0f} ms")
        assert at_end and len(steps) > 20
        assert longest < MOST_MS
        assert len(loaded) > 200, "and the rest when it is scrolled to"
