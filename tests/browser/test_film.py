"""The strip of checkpoints in a browser: two that are pressed stand side by side, by finger or by key."""

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 860), (390, 844)])
def test_two_checkpoints_stand_side_by_side_at_the_same_seed(
    visit: Callable[..., Any], own_run: Any, shot: Any, width_px: int, height_px: int
) -> None:
    page = visit(f"{own_run.address}/?job={own_run.run}", width_px=width_px, height_px=height_px)
    page.set_default_timeout(30_000)
    frames = page.locator(".ls-film button")
    frames.first.wait_for()
    assert frames.count() == 6
    assert page.locator(".ls-film em").inner_text() == "kept"
    pair = page.locator(".ls-pair")
    assert pair.locator("h3").all_inner_texts() == ["Before training", "Step 240 kept"]

    page.locator(".ls-film").evaluate("strip => strip.scrollLeft = 9999")
    page.wait_for_timeout(200)
    left = page.locator(".ls-film").evaluate("strip => strip.scrollLeft")
    frames.nth(5).focus()
    page.keyboard.press("Enter")
    pair.get_by_text("Step 300").wait_for()
    assert pair.locator("h3").all_inner_texts() == ["Step 240 kept", "Step 300"]
    assert page.evaluate("document.activeElement.dataset.frame") == "300", "the focus stays where it was pressed"
    assert page.locator(".ls-film").evaluate("strip => strip.scrollLeft") == left
    one, two = (pair.locator("img").nth(index).bounding_box() for index in (0, 1))
    assert one["y"] == two["y"] and one["width"] == two["width"] and two["x"] > one["x"] + one["width"]
    assert [pair.locator("img").nth(index).get_attribute("src")[-7:] for index in (0, 1)] == ["/00.png"] * 2
    shot(page, f"film-{width_px}")
    pair.locator("a").nth(1).click()
    page.locator(".ls-viewer").get_by_text("2 / 8").wait_for()
    assert not page.locator(".ls-viewer [data-like]").is_visible()
    page.keyboard.press("Escape")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
