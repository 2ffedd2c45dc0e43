"""The Generate tab in front of a scripted studio: tiles to choose from, pictures to look at, and where they go next."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = pytest.mark.browser

SECOND = """
title: Four seasons
description: A year.
preview: {colours: ["#3f7d4f", "#dda74f", "#b23b32"]}
shots:
  - {name: snow, prompt: "{subject} in snow"}
  - {name: leaves, prompt: "{subject} in leaves"}
  - {name: rain, prompt: "{subject} in rain"}
  - {name: sun, prompt: "{subject} in the sun"}
"""


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 720), (390, 844)])
def test_a_pack_is_chosen_by_its_tile_and_its_pictures_are_looked_at_and_handed_on(
    visit: Callable[..., Any],
    edge: Any,
    tmp_path: Path,
    shot: Callable[[Any, str], None],
    width_px: int,
    height_px: int,
) -> None:
    from gradio_client import Client, handle_file

    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    (tmp_path / "presets" / "packs" / "four.yaml").write_text(SECOND)
    photos = sample_photos(tmp_path / "photos", count=5, size_px=64)
    with edge.serve(settings, tmp_path / "server.txt") as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")
        client.predict(check["id"], api_name="/train")
        client.close()
        page = visit(address, width_px=width_px, height_px=height_px)
        page.set_default_timeout(30_000)
        page.get_by_role("tab", name="Generate").click()

        page.wait_for_timeout(2000)  # the tab has learnt of the run and its packs; nothing on it says so
        tile = page.get_by_label("Four seasons")
        tile.focus()
        page.keyboard.press("Space")
        page.locator("#ls-generate-pack label:has(input:checked)").get_by_text("Four seasons").wait_for()
        page.get_by_text("Ada in snow").first.wait_for(state="attached")
        shot(page, f"generate-packs-{width_px}")

        page.get_by_label("My own prompts").click()
        prompts = page.locator("#ls-generate-prompts textarea")
        prompts.fill("a sketch of  at sea")
        prompts.evaluate("field => field.setSelectionRange(12, 12)")
        page.get_by_role("button", name="Insert {subject}: Ada").click()
        assert prompts.input_value() == "a sketch of {subject} at sea"
        shot(page, f"generate-prompts-{width_px}")

        page.get_by_label("A prompt pack").click()
        page.get_by_role("button", name="Generate", exact=True).click()
        page.locator("#ls-pictures img").first.wait_for()
        figures = page.locator("#ls-pictures figure")
        small = figures.first.locator("img").bounding_box()
        caption = figures.first.locator("figcaption").bounding_box()
        assert caption["y"] >= small["y"] + small["height"], "the caption stands below its picture"
        shot(page, f"generate-pictures-{width_px}")

        figures.first.locator("a").click()
        viewer = page.locator(".ls-viewer")
        viewer.get_by_text("1 / 8").wait_for()
        first = viewer.locator("img").get_attribute("src")
        assert "small" not in first
        page.keyboard.press("ArrowRight")
        viewer.get_by_text("2 / 8").wait_for()
        assert viewer.locator("img").get_attribute("src") != first
        if os.environ.get("STUDIO_SCREENSHOTS"):
            page.screenshot(path=Path(os.environ["STUDIO_SCREENSHOTS"]) / f"generate-viewer-{width_px}.png")
        boxes = [button.bounding_box() for button in viewer.locator("[data-step], [data-like], a").all()]
        middles = {round(box["y"] + box["height"] / 2) for box in boxes}
        assert len(boxes) == 5 and max(middles) - min(middles) <= 1, "the viewer's buttons stand on one line"
        frame = viewer.bounding_box()
        below = height_px - frame["y"] - frame["height"]
        assert abs(frame["y"] - below) <= 2, "the viewer stands in the middle"
        viewer.locator("p").evaluate("caption => caption.textContent += ' and a long prompt'.repeat(60)")
        assert viewer.evaluate("view => view.scrollHeight <= view.clientHeight"), "long captions cut nothing off"
        with page.expect_download() as download:
            viewer.get_by_text("Download").click()
        with Image.open(download.value.path()) as original:
            assert original.format == "PNG"
        page.keyboard.press("Escape")
        viewer.wait_for(state="hidden")

        page.get_by_role("button", name="Publish these").click()
        page.get_by_label("Chosen pictures").wait_for()
        page.get_by_role("tab", name="Generate").click()
        page.get_by_role("button", name="Finish these").click()
        page.get_by_label("Background").first.wait_for()
        page.get_by_role("button", name="Finish", exact=True).click()
        page.get_by_text("8 pictures finished").wait_for()
        page.locator("#ls-finish-slider img").first.wait_for()
        shot(page, f"generate-finished-{width_px}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "Traceback" not in (tmp_path / "server.txt").read_text()
