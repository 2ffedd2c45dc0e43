"""One press compares strengths, in a browser: four pictures of one prompt and seed in one row, on a phone, too."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 860), (390, 844)])
def test_strengths_stand_in_one_row_the_weakest_first(
    visit: Callable[..., Any], own_run: Any, shot: Any, width_px: int, height_px: int
) -> None:
    page = visit(f"{own_run.address}/?job={own_run.run}", width_px=width_px, height_px=height_px)
    page.get_by_role("button", name="Make pictures").click()
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
