"""One press compares strengths, in a browser: four pictures of one prompt and seed in one row, on a phone, too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 860), (390, 844)])
def test_strengths_stand_in_one_row_the_weakest_first(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, shot: Any, width_px: int, height_px: int
) -> None:
    from gradio_client import Client, handle_file

    settings = Settings(home=tmp_path / "home", presets_dir=edge.write_presets(tmp_path / "presets"))
    photos = sample_photos(tmp_path / "photos", count=5, size_px=64)
    with edge.serve(settings, tmp_path / "server.txt") as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")
        client.predict(check["id"], api_name="/train")
        client.close()
        page = visit(f"{address}/?tab=generate", width_px=width_px, height_px=height_px)
        page.get_by_role("button", name="Compare strengths").click()
        figures = page.locator("#ls-pictures figure")
        figures.nth(3).wait_for()
        captions = page.locator("#ls-pictures figcaption").all_inner_texts()
        assert [caption.partition(" · ")[0] for caption in captions] == [
            "strength 0.5", "strength 0.75", "strength 1", "strength 1.25"
        ]  # fmt: skip
        boxes = [figures.nth(index).bounding_box() for index in range(4)]
        assert len({box["y"] for box in boxes}) == 1 and boxes[0]["x"] < boxes[1]["x"] < boxes[2]["x"] < boxes[3]["x"]
        page.locator("#ls-pictures img").nth(3).wait_for()
        shot(page, f"compare-{width_px}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
