"""The Photos tab in front of a scripted studio: thumbnails at once, one press to the verdicts, a set that is edited."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

pytestmark = pytest.mark.browser

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT.parent / "shared" / "data" / "dreambooth"
VIEWPORTS = pytest.mark.parametrize(("width_px", "height_px"), [(1280, 720), (390, 844)])


def _fits(page: Any, width_px: int) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth") <= width_px)


@VIEWPORTS
def test_one_press_leads_from_the_sample_to_the_verdicts(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, shot: Any, width_px: int, height_px: int
) -> None:
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    with edge.serve(settings, tmp_path / "server.txt") as address:
        page = visit(address, width_px=width_px, height_px=height_px)
        page.get_by_role("button", name="Try it with sample photos").click()
        page.get_by_role("button", name="Continue to training").wait_for()
        assert page.locator("#ls-photos-cards img").count() == 8
        assert _fits(page, width_px)
        shot(page, f"photos-sample-{width_px}")
    assert "Traceback" not in (tmp_path / "server.txt").read_text()


@VIEWPORTS
def test_dropped_photos_are_seen_at_once_and_a_set_is_edited_without_dropping_them_again(
    visit: Callable[..., Any], edge: Any, tmp_path: Path, shot: Any, width_px: int, height_px: int
) -> None:
    photos = sample_photos(tmp_path / "photos", count=6, size_px=256)
    twin = photos[0].with_name("twin.jpg")
    twin.write_bytes(photos[0].read_bytes())
    letter = photos[0].with_name("letter.jpg")
    letter.write_text("Dear")
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    with edge.serve(settings, tmp_path / "server.txt") as address:
        page = visit(address, width_px=width_px, height_px=height_px)
        cards, status = page.locator("#ls-photos-cards"), page.locator("#ls-photos-status")
        drop = page.locator("#ls-drop input[type=file]")
        drop.set_input_files([str(path) for path in (*photos[:5], twin, letter)])
        cards.get_by_text("Not checked yet").first.wait_for()
        assert cards.locator(".new").count() == 7 and cards.locator(".new img").count() == 6
        assert "cannot be shown" in cards.inner_text()
        shot(page, f"photos-dropped-{width_px}")
        page.get_by_label("Name").first.fill("Rex")
        page.get_by_role("button", name="Check photos").click()
        status.get_by_text("5 of 7 photos of Rex are ready").wait_for()
        left_out = cards.locator(".rejected", has_text="twin.jpg")
        assert left_out.locator("img").count() == 1 and "Risk: bad." in left_out.inner_text()
        assert cards.locator(".rejected", has_text="letter.jpg").locator("button").count() == 0
        shot(page, f"photos-checked-{width_px}")

        left_out.get_by_role("button", name="Use anyway").click()
        left_out.get_by_text("Will be used anyway").wait_for()
        first = cards.locator(".ls-photo", has_text="sample-01.jpg")
        first.get_by_role("button", name="Take out").click()
        page.get_by_role("button", name="Check again with 2 changes").wait_for()
        first.get_by_role("button", name="Undo").click()
        page.get_by_role("button", name="Check again with 1 change", exact=True).wait_for()
        first.get_by_role("button", name="Take out").click()

        cards.locator(".ls-photo", has_text="sample-02.jpg").get_by_role("button", name="Adjust").click()
        editor = page.locator("#ls-photo-editor")
        editor.get_by_label("Caption").fill("at the sea")
        frame = editor.locator(".ls-crop i")
        before = frame.get_attribute("style")
        editor.get_by_label("number input for Size").fill("50")
        editor.get_by_label("number input for Size").press("Enter")
        page.wait_for_function("was => document.querySelector('.ls-crop i').getAttribute('style') !== was", arg=before)
        shot(page, f"photos-crop-{width_px}")
        editor.get_by_role("button", name="Keep crop and caption").click()
        page.get_by_role("button", name="Check again with 4 changes").click()

        cards.locator(".rejected", has_text="sample-01.jpg").get_by_text("Was taken out by you.").wait_for()
        assert "5 of 6" in status.inner_text() or "5 of 7" in status.inner_text()
        assert cards.locator(".good, .usable").filter(has_text="twin.jpg").count() == 1
        assert _fits(page, width_px)
        shot(page, f"photos-edited-{width_px}")

        drop.set_input_files(str(photos[5]))
        cards.get_by_text("sample-06.jpg").wait_for()
        page.get_by_role("button", name="Add to this set").click()
        status.get_by_text("6 of").wait_for()
        page.get_by_role("button", name="Change this set").click()
        page.locator("#ls-change-set").get_by_label("Name").fill("Rexine")
        page.get_by_role("button", name="Check again", exact=True).click()
        status.get_by_text("photos of Rexine are ready").wait_for()
        back = cards.locator(".rejected", has_text="sample-01.jpg")
        assert back.get_by_role("button", name="Put back").count() == 1, "what was edited before is kept"
    assert "Traceback" not in (tmp_path / "server.txt").read_text()


@pytest.fixture
def real_address(tmp_path: Path) -> Iterator[str]:
    """The address of a studio with the real verbs."""
    ours = {"STUDIO_PORT": "0", "STUDIO_HOME": str(tmp_path / "home"), "STUDIO_DEVICE": "cpu", "STUDIO_TOKEN": "off"}
    with (
        (tmp_path / "server.txt").open("w") as said,
        subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, **ours},
        ) as server,
    ):
        assert server.stdout is not None
        yield server.stdout.readline().rsplit(" ", 1)[-1].strip()
        server.terminate()
        server.wait(30)


@pytest.mark.timeout(400)
@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")
def test_dogs_that_were_called_a_woman_become_a_set_of_dogs_without_being_dropped_again(
    visit: Callable[..., Any], real_address: str, tmp_path: Path, shot: Any
) -> None:
    page = visit(real_address, width_px=390, height_px=844)
    page.locator("#ls-drop input[type=file]").set_input_files([str(path) for path in sorted((REAL / "dog").iterdir())])
    page.locator("#ls-photos-cards .new img").nth(4).wait_for()
    page.get_by_label("Name").first.fill("Rex")
    page.get_by_label("What is it?").first.fill("woman")
    page.get_by_label("What is it?").first.press("Enter")
    page.get_by_role("button", name="Check photos").click()
    page.get_by_text("No face was found in any of 5 photos of a woman").first.wait_for()
    cards, status = page.locator("#ls-photos-cards"), page.locator("#ls-photos-status")
    cards.locator(".rejected img").nth(4).wait_for()
    assert "None of these photos can be used" in status.inner_text() and "00.jpg" not in status.inner_text()
    assert page.get_by_role("button", name="Continue this check").count() == 0
    shot(page, "photos-dogs-as-a-woman")
    page.get_by_role("button", name="Change this set").click()
    page.locator("#ls-change-set").get_by_label("What is it?").fill("dog")
    page.locator("#ls-change-set").get_by_label("What is it?").press("Enter")
    page.get_by_role("button", name="Check again").click()
    status.get_by_text("5 of 5 photos of Rex are ready").wait_for()
    said = status.inner_text()
    assert "Whether all photos show one subject was not checked" in said and "good set" not in said
    assert "5 photos can be used. Add 3 more; 8 to 20 are best." in said
    assert cards.locator(".good").count() == 5
    shot(page, "photos-dogs-as-dogs")
    originals = list((tmp_path / "home" / "jobs").glob("*/out/originals/*.jpg"))
    assert len(originals) == 10 and "Traceback" not in (tmp_path / "server.txt").read_text()
