"""Starting is quick: the first page costs little more than importing gradio."""

import os
import re
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _import_gradio_s() -> float:
    started_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import gradio"], check=True)
    return time.perf_counter() - started_s


def _first_page_s(home: Path) -> float:
    """Return the seconds from starting ``python app.py`` to the end of its first page."""
    started_s = time.perf_counter()
    environment = {**os.environ, "STUDIO_PORT": "0", "STUDIO_HOME": str(home)}
    with subprocess.Popen(
        [sys.executable, str(ROOT / "app.py")], stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        assert child.stdout is not None
        try:
            address = re.search(r"http://\S+", child.stdout.readline())
            assert address, "app.py did not say where it is"
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with browser.open(address.group(), timeout=60) as page:
                assert b"gradio" in page.read()
            return time.perf_counter() - started_s
        finally:
            child.terminate()


@pytest.mark.slow
def test_the_first_page_takes_at_most_half_again_as_long_as_importing_gradio(tmp_path: Path) -> None:
    _import_gradio_s()  # fills the file cache for both
    best = [(_import_gradio_s(), _first_page_s(tmp_path)) for _ in range(3)]
    gradio_s, page_s = (min(times) for times in zip(*best, strict=True))
    assert page_s <= 1.5 * gradio_s, f"first page {page_s:.2f} s, import gradio {gradio_s:.2f} s"
