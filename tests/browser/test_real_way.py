"""The main job through the browser with the real verbs and the embedded base: short, but nothing is played."""

import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
LONG_MS = 280_000
STEPS = re.compile(r"^\s*Steps\s+Optimizer")
"""A label holds the help text too."""

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_sample_photos_become_a_zip_of_pictures(
    visit: Callable[..., Any], tmp_path: Path, shot: Callable[[Any, str], None], fill_samples: Callable[[Any], None]
) -> None:
    environment = {**os.environ, "STUDIO_PORT": "0", "STUDIO_HOME": str(tmp_path / "home")}
    log = tmp_path / "server.txt"
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, str(ROOT / "app.py")], stdout=subprocess.PIPE, stderr=said, text=True, env=environment
        ) as server,
    ):
        assert server.stdout is not None
        try:
            address = server.stdout.readline().rsplit(" ", 1)[-1].strip()
            page = visit(address)
            page.set_default_timeout(LONG_MS)
            fill_samples(page)
            page.get_by_role("button", name="Check photos").click()
            page.get_by_role("button", name="Continue to training").click()
            page.get_by_role("button", name="Advanced").locator("visible=true").click()
            page.get_by_role("button", name="Steps and learning rates").click()
            page.get_by_label(STEPS).locator("visible=true").fill("6")
            page.get_by_role("button", name="Checkpoints and samples").click()
            page.get_by_label("Sample steps").locator("visible=true").fill("4")
            page.get_by_role("button", name="Train", exact=True).click()
            page.get_by_role("button", name="Make pictures").wait_for()
            shot(page, "8-real-trained")
            page.get_by_role("button", name="Make pictures").click()
            page.get_by_label("My own prompts").check()
            page.locator("textarea").locator("visible=true").fill(
                "photo of {subject} at the beach\nphoto of {subject} in the snow"
            )
            page.get_by_role("button", name="Generate", exact=True).click()
            with page.expect_download() as download:
                page.get_by_text("Download all (zip)").click()
            shot(page, "9-real-pictures")
            with zipfile.ZipFile(download.value.path()) as archive:
                pictures = [name for name in archive.namelist() if name.endswith(".png")]
                assert len(pictures) >= 4
                with archive.open(pictures[0]) as file, Image.open(file) as picture:
                    assert picture.width >= 64
            assert "Traceback" not in page.content() + log.read_text()
        finally:
            server.terminate()
