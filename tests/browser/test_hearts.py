"""Hearts in a browser: at once, after a reload, as a filter, in the large view, and in what is made of the pictures."""

import zipfile
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 860), (390, 844)])
def test_hearts_are_seen_at_once_survive_a_reload_and_lead_on(
    visit: Callable[..., Any], own_run: Any, shot: Any, width_px: int, height_px: int
) -> None:
    client, renamed = own_run.client, f"Grace{width_px}"
    job = client.predict(own_run.run, "places", count=4, api_name="/generate")["id"]
    page = visit(f"{own_run.address}/?job={job}", width_px=width_px, height_px=height_px)
    page.set_default_timeout(30_000)
    hearts = page.locator("#ls-pictures [data-heart]")
    hearts.first.wait_for()
    loved = [hearts.nth(index).get_attribute("data-heart") for index in (2, 5)]
    for index in (2, 5):  # one right after the other: neither is lost
        hearts.nth(index).click()
    assert hearts.nth(5).get_attribute("aria-pressed") == "true"
    assert page.locator("[data-only] b").inner_text() == "2"
    page.get_by_text("Download the 2 hearts (zip)").wait_for()
    assert sorted(client.predict(job, files=False, api_name="/job")["hearts"]) == sorted(loved)

    page.locator("[data-only]").click()
    assert page.locator("#ls-pictures figure:visible").count() == 2
    shot(page, f"hearts-only-{width_px}")
    page.locator("[data-only]").click()
    page.locator("#ls-pictures a").first.click()
    page.locator(".ls-viewer [data-like]").click()
    assert hearts.first.get_attribute("aria-pressed") == "true"
    page.keyboard.press("h")
    assert hearts.first.get_attribute("aria-pressed") == "false"
    page.keyboard.press("Escape")
    page.get_by_text("Download the 2 hearts (zip)").wait_for()

    page.reload()
    hearts.first.wait_for()
    assert sorted(hearts.nth(index).get_attribute("data-heart") for index in (0, 1)) == sorted(loved)
    assert page.locator("#ls-pictures [aria-pressed=true][data-heart]").count() == 2
    shot(page, f"hearts-{width_px}")
    with page.expect_download() as download:
        page.get_by_text("Download the 2 hearts (zip)").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert archive.namelist() == sorted(loved)
    page.get_by_role("button", name="Finish these").click()
    page.get_by_label("Only the pictures with a heart").wait_for()
    page.get_by_role("button", name="Finish", exact=True).click()
    page.get_by_text("2 pictures finished").wait_for()
    page.get_by_role("tab", name="Library").click()
    page.locator("#ls-shelf").get_by_text("Favourites").wait_for()
    assert page.locator("#ls-shelf .ls-shelf").first.locator("img").count() == 2
    page.get_by_role("button", name="Rename a subject or a photo set").click()
    page.get_by_label("New name").fill(renamed)
    page.get_by_role("button", name="Rename", exact=True).click()
    page.locator("#ls-shelf").get_by_role("heading", name=renamed).wait_for()
    page.get_by_text(f"{own_run.subject} is now called {renamed}").wait_for()
    shot(page, f"library-renamed-{width_px}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
