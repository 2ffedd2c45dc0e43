"""Pictures of the app for the documents: the real page in front of real jobs, with the sample photos only.

::

    python -m benchmarks.screenshots --home out/screenshots --look out/look

trains the sample person once (minutes; a home that has the run is used again), opens the page in Chromium and writes
``docs/page_generate.jpg``, the pictures of ``docs/GUIDE.md`` and the strip of the first page. ``--look`` keeps a
picture of every tab, empty and with results, on a desktop and on a phone, light and dark, to be looked at.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from studio.client import Client
from studio.core.config import CheckConfig, GenerateConfig, PublishConfig
from studio.pocket.samples import SAMPLE_CLASS_NOUN, SAMPLE_NAME, sample_photos

ROOT = Path(__file__).resolve().parents[1]
STRIP = ROOT / "studio" / "web" / "page" / "templates" / "strip.jpg"
GUIDE = {
    "1_photos": "Photos",
    "2_train": "Train",
    "3_generate": "Generate",
    "4_finish": "Finish",
    "5_publish": "Publish",
    "6_library": "Library",
    "7_machine": "This machine",
}
"""Pictures of docs/GUIDE.md: name -> tab."""
TABS = ("Library", "Photos", "Train", "Generate", "Finish", "Publish")
DESKTOP, PHONE = (1280, 860), (390, 844)
MAX_BYTES = 150_000
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
_PATIENCE_MS = 180_000
DRAWN = """
() => [...document.images].every((one) => one.complete || !one.checkVisibility()
    || one.getBoundingClientRect().top > innerHeight)
"""
"""Whether every picture in the window has come."""
THROUGH = """
async () => {
    for (let at = 0; at < document.documentElement.scrollHeight; at += innerHeight / 2) {
        scrollTo(0, at);
        await new Promise((done) => setTimeout(done, 100));
    }
}
"""
"""Scrolls once through the page."""
_TILE_PX, _GAP_PX, _PAUSE_PX = 100, 6, 14


@contextmanager
def served(home: Path) -> Iterator[str]:
    """Serve the studio with this home on the CPU; gives the address with its token."""
    environment = {**os.environ, "STUDIO_HOME": str(home), "STUDIO_PORT": "0", "STUDIO_DEVICE": "cpu"}
    home.mkdir(parents=True, exist_ok=True)
    log = (home / "server.txt").open("w", encoding="utf-8")
    with (
        log,
        subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], stdout=subprocess.PIPE, stderr=log, text=True, env=environment
        ) as server,
    ):
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if found := re.search(r"http://\S+", line):
                    yield found[0]
                    break
        finally:
            server.terminate()


def make_jobs(address: str, home: Path) -> list[Path]:
    """Take the sample the whole way; returns its pictures, the most alike first."""
    url, token = address.split("?")[0], re.search(r"token=([^&\s]+)", address)
    with Client(url, token=token[1] if token else None) as studio:
        photos = sample_photos(home / "sample")
        check = studio.check(photos, CheckConfig(subject=SAMPLE_NAME, class_noun=SAMPLE_CLASS_NOUN), key="check")
        run = studio.train(check, key="train")
        print("training:", run.wait(on_event=_tell).likeness_after)
        pictures = studio.generate(run, GenerateConfig(pack="pocket_scenes", count=1), key="generate")
        made = pictures.wait(on_event=_tell)
        print("pictures:", made.likeness_mean)
        studio.heart(pictures, *(made.images[number].file for number in (1, 4)))
        print("finished:", len(studio.finish(pictures, "avatar", key="finish").wait().pictures))
        card = PublishConfig(repo="you/ada", dry_run=True)
        print("card:", len(studio.publish(run, card, pictures=pictures, key="publish").wait().files), "files")
    best = sorted(made.images, key=lambda image: -(image.likeness or 0.0))
    return [home / "jobs" / pictures.id / "out" / image.file for image in best]


def _tell(event: Any) -> None:
    if event.kind == "stage":
        print(" ", event.data.get("message"), flush=True)


def write_strip(home: Path, pictures: Sequence[Path]) -> None:
    """Cut the strip of the first page: three photos, a picture before training, two of those after it."""
    photos = sorted((home / "sample").glob("*.jpg"))
    before = sorted((home / "jobs").glob("*/out/samples/0/*.png"))
    chosen = [photos[0], photos[1], photos[4], before[-1], pictures[0], pictures[1]]
    width = 6 * _TILE_PX + 5 * _GAP_PX + 2 * _PAUSE_PX
    strip, left = Image.new("RGB", (width, _TILE_PX), "#f6f5f3"), 0
    for number, path in enumerate(chosen):
        with Image.open(path) as picture:
            strip.paste(picture.convert("RGB").resize((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS), (left, 0))
        left += _TILE_PX + _GAP_PX + (_PAUSE_PX if number in (2, 3) else 0)
    strip.save(STRIP, quality=85)


def save(data: bytes, path: Path) -> None:
    """Write a screenshot as JPEG of at most ``MAX_BYTES``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = path.with_suffix(".png")
    raw.write_bytes(data)
    with Image.open(raw) as picture:
        for quality in (88, 80, 70, 60):
            picture.convert("RGB").save(path, quality=quality, optimize=True)
            if path.stat().st_size <= MAX_BYTES:
                break
    raw.unlink()


class Camera:
    """Opens the page in Chromium and takes pictures of it."""

    def __init__(self, browser: Any, address: str) -> None:
        self._browser, self._address = browser, address

    def page(self, size: tuple[int, int], *, dark: bool = False) -> Any:
        """Return the page in a fresh window."""
        window = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        page = window.new_page()
        page.set_default_timeout(_PATIENCE_MS)
        page.on("console", lambda said: print("console:", said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: print("error in the page:", error))
        page.goto(self._address)
        page.get_by_role("tab", name="Photos").wait_for()
        page.wait_for_timeout(2500)
        return page

    def take(self, page: Any, tab: str, path: Path, *, whole: bool = False) -> None:
        """Take a picture of one tab."""
        door = page.get_by_role("tab", name=tab)
        if not door.is_visible():  # the operator's is opened by the link at the foot
            page.get_by_role("link", name=tab).click()
            door.wait_for()
        door.click()
        page.wait_for_timeout(1500)  # the tab is drawn
        if whole:  # pictures come when they come near the window
            page.evaluate(THROUGH)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_function(DRAWN)
        page.wait_for_timeout(300)
        save(page.screenshot(full_page=whole), path)
        print(path, path.stat().st_size)


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path("out/screenshots"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument("--look", type=Path, help="also keep pictures of everything here")
    given = parser.parse_args(arguments)
    chromium = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    home = given.home.resolve()
    with served(home) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        camera = Camera(browser, address)
        if given.look and not (home / "sample").exists():
            for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
                page = camera.page(size)
                for tab in TABS:
                    camera.take(page, tab, given.look / f"empty-{name}-{tab.lower()}.jpg", whole=name == "phone")
        if not (given.out / "guide" / "0_start.jpg").exists() or not (home / "sample").exists():
            camera.take(camera.page(DESKTOP), "Photos", given.out / "guide" / "0_start.jpg")
        write_strip(home, make_jobs(address, home))
        camera.take(camera.page(DESKTOP), "Generate", given.out / "page_generate.jpg")
        for name, tab in GUIDE.items():
            camera.take(camera.page(DESKTOP), tab, given.out / "guide" / f"{name}.jpg")
        for name, size, dark in (("desktop", DESKTOP, False), ("phone", PHONE, False), ("dark", DESKTOP, True)):
            if given.look:
                page = camera.page(size, dark=dark)
                for tab in (*TABS, GUIDE["7_machine"]):
                    camera.take(page, tab, given.look / f"full-{name}-{tab.lower().replace(' ', '_')}.jpg", whole=True)
        browser.close()


if __name__ == "__main__":
    main()
