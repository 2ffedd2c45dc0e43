"""The main job through the browser with the real verbs and the embedded base: short, but nothing is played.

The Hub alone is a stand-in, of the same protocol.
"""

import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
LONG_MS = 280_000
STEPS = re.compile(r"^\s*Steps\s+Optimizer")
"""A label holds the help text too."""

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


def test_sample_photos_become_a_zip_of_pictures_and_a_published_run(
    visit: Callable[..., Any],
    hub: Any,
    near_hub: dict[str, str],
    tmp_path: Path,
    shot: Callable[[Any, str], None],
    fill_samples: Callable[[Any], None],
) -> None:
    environment = {**near_hub, "STUDIO_PORT": "0", "STUDIO_HOME": str(tmp_path / "home"), "STUDIO_DEVICE": "cpu"}
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
            page.get_by_role("tab", name="Finish").click()
            chosen(page, "Chain", "Avatar")
            page.get_by_role("button", name="Finish", exact=True).click()
            with page.expect_download() as download:
                page.locator("#ls-finish-status").get_by_text("Download all (zip)").click()
            shot(page, "10-real-finished")
            page.get_by_role("tab", name="Publish").click()
            page.get_by_placeholder("you/ada").fill("ada/portrait")
            chosen(page, "Pictures for the gallery", "Finished: ")
            page.locator("#ls-token input").fill("hf_write0123456789")
            page.get_by_role("button", name="Publish", exact=True).click()
            page.get_by_text("Published: ada/portrait").wait_for()
            page.locator("#ls-published img").first.wait_for()
            shot(page, "11-real-published")
            assert "Traceback" not in page.content() + log.read_text()
            assert "hf_write0123456789" not in page.content() + log.read_text()
        finally:
            server.terminate()

    from huggingface_hub import HfApi, ModelCard

    pulled = HfApi(endpoint=hub.address, token="hf_write0123456789")
    names = ("README.md", "pytorch_lora_weights.safetensors", "gallery/01.png")
    card, adapter, picture = (
        Path(pulled.hf_hub_download("ada/portrait", name, cache_dir=tmp_path / "cache")) for name in names
    )
    assert adapter.stat().st_size > 100_000 and hub.repos["ada/portrait"].private
    shown = ModelCard.load(card).data.widget
    assert shown[0]["output"]["url"] == "gallery/01.png" and len(shown) == len(pictures)
    with zipfile.ZipFile(download.value.path()) as archive:
        finished = [archive.read(name) for name in archive.namelist() if name.endswith(".jpg")]
    assert any(same_picture(picture.read_bytes(), data) for data in finished), "the gallery holds a finished picture"
    from_zip = {name for name in pulled.list_repo_files("ada/portrait") if name.startswith("gallery/")}
    assert len(from_zip) == len(finished) == len(pictures)


def chosen(page: Any, label: str, words: str) -> None:
    """Choose in a dropdown the first entry that begins with ``words``."""
    page.get_by_label(label).locator("visible=true").first.click()
    page.get_by_role("option").filter(has_text=re.compile(f"^\\s*(✓)?\\s*{re.escape(words)}")).first.click()


def same_picture(one: bytes, other: bytes) -> bool:
    with Image.open(io.BytesIO(one)) as first, Image.open(io.BytesIO(other)) as second:
        return np.array_equal(np.asarray(first.convert("RGB")), np.asarray(second.convert("RGB")))
