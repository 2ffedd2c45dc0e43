"""The page in front of a scripted studio: what the user sees at every station, and on reopening."""

import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

Visit = Callable[..., Any]
Shot = Callable[[Any, str], None]

STEPS = re.compile(r"^\s*Steps\s+Optimizer")
"""A label holds the help text too."""

AT_ONCE = """
new MutationObserver((_, watch) => {
    const found = [...document.querySelectorAll('button')].find(
        (button) => button.innerText === 'Try it with sample photos');
    if (found) { watch.disconnect(); found.click(); }
}).observe(document, {childList: true, subtree: true});
"""
"""Presses the button in the moment in which it comes into being."""

FILLED_AT_ONCE = """
new MutationObserver((_, watch) => {
    const label = [...document.querySelectorAll('label')].find(
        (label) => label.offsetParent && /^\\s*Steps\\s+Optimizer/.test(label.innerText));
    const field = label && label.querySelector('input, textarea');
    if (field) {
        watch.disconnect();
        field.value = '6';
        field.dispatchEvent(new Event('input', {bubbles: true}));
    }
}).observe(document, {childList: true, subtree: true, attributes: true});
"""
"""Fills in the steps in the moment in which they come into sight."""

pytestmark = pytest.mark.browser


@pytest.fixture
def settings(tmp_path: Path, edge: Any) -> Settings:
    return Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "server.txt"
    yield path
    assert "Traceback" not in path.read_text()


def _check(page: Any, photos: list[Path]) -> None:
    page.locator("#ls-drop input[type=file]").set_input_files([str(path) for path in photos])
    page.get_by_text(photos[-1].stem).first.wait_for()
    page.get_by_label("Name").first.fill("Ada")
    page.get_by_role("button", name="Check photos").click()


def test_from_dropped_photos_to_a_zip_that_opens(
    visit: Callable[..., Any],
    edge: Any,
    settings: Settings,
    log: Path,
    tmp_path: Path,
    shot: Callable[[Any, str], None],
) -> None:
    photos = sample_photos(tmp_path / "photos", count=6, size_px=256)
    bad = tmp_path / "photos" / "holiday.jpg"
    bad.write_text("not a picture")
    with edge.serve(settings, log, pace_s=0.02) as address:
        page = visit(address)
        shot(page, "1-welcome")
        _check(page, [*photos, bad])
        page.get_by_role("button", name="Continue to training").wait_for()
        cards = page.locator("#ls-photos-cards")
        assert "6 of 7 photos of Ada are ready" in page.locator("#ls-photos-status").inner_text()
        assert "Is not a picture. Export it again as JPEG." in cards.inner_text()
        assert cards.locator(".rejected").count() == 1 and cards.locator("img").count() == 6
        shot(page, "2-checked")
        page.get_by_role("button", name="Continue to training").click()
        page.get_by_role("button", name="Train", exact=True).click()
        page.locator("#ls-train-samples img").first.wait_for()
        shot(page, "3-training")
        page.get_by_role("button", name="Make pictures").wait_for()
        assert "Likeness 0.86" in page.locator("#ls-train-status").inner_text()
        assert page.locator("#ls-train-curves svg").count() == 2
        shot(page, "4-trained")
        page.get_by_role("button", name="Make pictures").click()
        page.get_by_role("button", name="Generate", exact=True).click()
        with page.expect_download() as download:
            page.get_by_text("Download all (zip)").click()
        shot(page, "5-pictures")
        assert page.locator("#ls-pictures img").count() >= 4
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.testzip() is None and len(archive.namelist()) == 4
        assert "Traceback" not in page.content()


@pytest.mark.parametrize(("width_px", "height_px"), [(1280, 720), (390, 844)])
def test_from_an_empty_page_to_the_zip_of_the_sample_in_three_presses(
    visit: Visit, edge: Any, settings: Settings, log: Path, shot: Shot, width_px: int, height_px: int
) -> None:
    with edge.serve(settings, log, pace_s=0.02) as address:
        page = visit(address, width_px=width_px, height_px=height_px)
        presses = "addEventListener('click', (event) => window.presses = (window.presses || 0) + event.isTrusted, true)"
        page.evaluate(presses)
        page.get_by_role("button", name="Try it with sample photos").click()
        page.get_by_role("button", name="Train and make pictures").click()
        page.get_by_role("tab", name="Generate", selected=True).wait_for()
        waiting = page.locator("#ls-generate-status").get_by_text("Waiting for the training of Ada")
        waiting.or_(page.get_by_text("Download all (zip)")).first.wait_for()
        shot(page, f"whole-way-{width_px}")
        with page.expect_download() as download:
            page.get_by_text("Download all (zip)").click()
        assert page.evaluate("window.presses") == 3
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.testzip() is None and len(archive.namelist()) == 2
        page.get_by_role("tab", name="Train").click()
        page.locator("#ls-train-status").get_by_text("Likeness").first.wait_for()


@pytest.mark.parametrize("slowdown", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_a_press_is_answered_however_early_it_comes(
    visit: Visit, edge: Any, settings: Settings, log: Path, fill_samples: Callable[[Any], None], slowdown: int
) -> None:
    with edge.serve(settings, log) as address:
        early = visit(address, slowdown=slowdown, script=AT_ONCE)
        early.get_by_text("sample-08").first.wait_for()
        for _ in range(2):
            fill_samples(visit(address, slowdown=slowdown))


def test_reopening_the_page_finds_the_running_job_and_a_cancelled_one_goes_on_and_is_published(
    visit: Visit, edge: Any, settings: Settings, log: Path, tmp_path: Path, shot: Shot
) -> None:
    photos = sample_photos(tmp_path / "photos", count=5, size_px=64)
    with edge.serve(settings, log, hold=["train"]) as address:
        page = visit(address)
        _check(page, photos)
        page.get_by_role("button", name="Continue to training").click()
        page.get_by_role("button", name="Publish when done").locator("visible=true").click()
        page.get_by_placeholder("owner/name").fill("ada/portrait")
        token = page.locator("#ls-train-token input")
        token.fill("hf_read0123456789")
        page.get_by_role("button", name="Train", exact=True).click()
        page.locator("#ls-train-notice").get_by_text("may only read").wait_for()
        token.fill("hf_write0123456789")
        page.get_by_role("button", name="Train", exact=True).click()
        page.locator("#ls-train-status [data-state=training]").wait_for()
        page.wait_for_function("() => document.querySelector('#ls-train-token input').value === ''")
        shot(page, "3-published-when-done")
        page.close()
        again = visit(address)
        status = again.locator("#ls-train-status")
        status.locator("[data-state=training]").wait_for()
        assert again.get_by_role("tab", name="Train").get_attribute("aria-selected") == "true"
        assert "Step" in status.inner_text()
        status.get_by_text("It will be published as ada/portrait when it is done.").wait_for()
        again.get_by_role("button", name="Cancel").locator("visible=true").click()
        again.get_by_text("What was trained so far is kept").wait_for()
        status.get_by_text("Not published as ada/portrait: the run must be finished first.").wait_for()
        again.get_by_role("button", name="Continue this run").click()
        again.get_by_role("button", name="Make pictures").wait_for()
        status.get_by_text("Published: ada/portrait, commit").wait_for()
        assert "hf_write0123456789" not in again.content() + log.read_text()


def test_an_address_with_a_job_opens_that_job(
    visit: Visit, edge: Any, settings: Settings, log: Path, tmp_path: Path
) -> None:
    with edge.serve(settings, log) as address:
        page = visit(address)
        for name in ("Ada", "Ben"):
            _check(page, sample_photos(tmp_path / name, count=5, size_px=64))
            page.get_by_text("All 5 photos are ready").wait_for()
            page.reload()
            page.get_by_role("tab", name="Photos").wait_for()
        page.goto(f"{address}/?job=check-2")
        page.get_by_text("All 5 photos are ready").wait_for()
        page.goto(f"{address}/?job=check-foreign")
        page.get_by_text("All 5 photos are ready").wait_for()
        assert "a.jpg" not in page.locator("#ls-photos-cards").inner_text()


def test_mistakes_are_told_in_words_beside_the_form(
    visit: Callable[..., Any],
    edge: Any,
    settings: Settings,
    log: Path,
    tmp_path: Path,
    shot: Callable[[Any, str], None],
) -> None:
    with edge.serve(settings, log) as address:
        page = visit(address)
        page.get_by_role("button", name="Check photos").click()
        page.get_by_text("add 5 to 20 photos of one subject").wait_for()
        bad = tmp_path / "letter.jpg"
        bad.write_text("Dear")
        _check(page, [bad])
        page.get_by_text("Is not a picture. Export it again as JPEG.").first.wait_for()
        shot(page, "6-nothing-usable")
        page.get_by_role("tab", name="Train").click()
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_text("check some in the Photos tab first").wait_for()
        assert "Traceback" not in page.content()


def test_a_wrong_setting_is_named_as_the_form_names_it(
    visit: Visit, edge: Any, settings: Settings, log: Path, tmp_path: Path, fill_samples: Callable[[Any], None]
) -> None:
    with edge.serve(settings, log) as address:
        page = visit(address)
        fill_samples(page)
        page.get_by_role("button", name="Continue to training").click()
        page.get_by_role("button", name="Advanced").locator("visible=true").click()
        page.get_by_role("button", name="Steps and learning rates").click()
        page.get_by_label(STEPS).locator("visible=true").fill("many")
        page.get_by_role("button", name="Train", exact=True).click()
        page.locator("#ls-train-notice").get_by_text("many").first.wait_for()
        assert "Steps" in page.locator("#ls-train-notice").inner_text()


def test_what_is_filled_in_stays_however_early_it_comes(
    visit: Visit, edge: Any, settings: Settings, log: Path, fill_samples: Callable[[Any], None]
) -> None:
    with edge.serve(settings, log) as address:
        page = visit(address, slowdown=2, script=FILLED_AT_ONCE)
        fill_samples(page)
        page.get_by_role("button", name="Continue to training").click()
        page.get_by_role("button", name="Advanced").locator("visible=true").click()
        page.get_by_role("button", name="Steps and learning rates").click()
        page.get_by_label("Learning rate", exact=False).locator("visible=true").first.wait_for()
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("button", name="Make pictures").wait_for()
        assert " of 6, after" in page.locator("#ls-train-status").inner_text()
        assert page.get_by_label(STEPS).locator("visible=true").input_value() == "6"


@pytest.mark.parametrize(("width_px", "dark"), [(390, False), (360, True)])
def test_a_phone_shows_everything_without_scrolling_sideways(
    visit: Visit,
    edge: Any,
    settings: Settings,
    log: Path,
    shot: Shot,
    width_px: int,
    dark: bool,
    fill_samples: Callable[[Any], None],
) -> None:
    with edge.serve(settings, log) as address:
        page = visit(address, width_px=width_px, height_px=844, dark=dark)
        fill_samples(page)
        page.get_by_role("button", name="Continue to training").click()
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("button", name="Make pictures").click()
        page.get_by_role("button", name="Generate", exact=True).click()
        page.get_by_text("Download all (zip)").wait_for()
        for tab in ("Photos", "Train", "Generate", "Finish", "Publish"):
            page.get_by_role("tab", name=tab).click()  # none is hidden in a menu
            page.wait_for_timeout(300)
            shot(page, f"7-phone-{'dark-' if dark else ''}{tab.lower()}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width_px
