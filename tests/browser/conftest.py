"""A real browser in front of a real server. Without chromium these tests are skipped, unless STUDIO_REQUIRE_BROWSER=1.

STUDIO_SCREENSHOTS=<folder> keeps a picture of each station, to be looked at.
"""

import importlib.util
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from studio.core.settings import Settings
from studio.pocket.samples import sample_photos

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_NUMBERS = itertools.count(1)
PATIENCE_MS = 120_000
"""For what waits on a busy machine; nothing is slow by itself."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the main job with the real verbs first: of two workers one would else be left alone with it at the end."""
    items.sort(key=lambda item: item.path.name != "test_real_way.py")


def _edge() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "web" / "conftest.py"
    spec = importlib.util.spec_from_file_location("edge_fixtures", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def edge() -> ModuleType:
    """The helpers of tests/web: ``serve`` a scripted studio, ``write_presets``."""
    return _edge()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium through playwright."""
    found = next((path for path in CHROMIUM if Path(path).exists()), shutil.which("chromium"))
    if found is None:
        if os.environ.get("STUDIO_REQUIRE_BROWSER") == "1":
            pytest.fail("STUDIO_REQUIRE_BROWSER=1, but there is no chromium; install it, for example with apt.")
        pytest.skip("there is no chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open an address in a fresh window; at the end, see that nothing was asked of any other machine or of a queue.

    ``slowdown`` makes the browser that many times slower; ``script`` runs before anything of the page does.
    """
    asked: list[str] = []
    windows = []

    def opened(
        address: str,
        *,
        width_px: int = 1280,
        height_px: int = 860,
        dark: bool = False,
        slowdown: int = 1,
        script: str = "",
    ) -> Any:
        window = browser.new_context(
            viewport={"width": width_px, "height": height_px},
            color_scheme="dark" if dark else "light",
            accept_downloads=True,
        )
        windows.append(window)
        page = window.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda request: asked.append(request.url))
        window.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slowdown})
        page.add_init_script(script)
        page.goto(address)
        page.get_by_role("tab", name="Photos").wait_for()
        return page

    yield opened
    for window in windows:
        window.close()
    outside = [url for url in asked if urlsplit(url).hostname not in (None, "", "127.0.0.1")]
    assert outside == []
    queued = [url for url in asked if "/queue/" in url]
    assert queued == [], "an event that goes through Gradio's queue can be left without an answer"


@pytest.fixture(scope="session")
def full_studio(edge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a studio with one job of every kind, for all tests that can live with what the others press there."""
    folder = tmp_path_factory.mktemp("full")
    settings = Settings(home=folder / "home", port=0, presets_dir=edge.write_presets(folder / "presets"))
    with edge.serve(settings, folder / "server.txt") as address:
        _fill(address, sample_photos(folder / "photos", count=5, size_px=64))
        yield address


@dataclass(frozen=True)
class OwnRun:
    """A run that only one test knows, in a studio that it shares with others."""

    address: str
    client: Any
    """A ``gradio_client`` of that studio."""
    subject: str
    run: str
    """Its id."""


@pytest.fixture(scope="session")
def shared_studio(edge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any, list[Any]]]:
    """Address, client and photos of an empty studio for tests that look only at what they have made themselves."""
    from gradio_client import Client, handle_file

    folder = tmp_path_factory.mktemp("shared")
    settings = Settings(home=folder / "home", port=0, presets_dir=edge.write_presets(folder / "presets"))
    photos = [handle_file(str(path)) for path in sample_photos(folder / "photos", count=5, size_px=64)]
    with edge.serve(settings, folder / "server.txt") as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        yield address, client, photos
        client.close()
    assert "Traceback" not in (folder / "server.txt").read_text()


@pytest.fixture
def own_run(shared_studio: tuple[str, Any, list[Any]]) -> OwnRun:
    """A finished run of 300 steps, of a subject that nobody else has, in a studio that is shared."""
    address, client, photos = shared_studio
    subject = f"Ada{next(_NUMBERS)}"
    check = client.predict(photos, subject, "woman", api_name="/check_photos")["id"]
    run = client.predict(check, settings={"steps": 300}, api_name="/train")["id"]
    return OwnRun(address, client, subject, run)


def _fill(address: str, photos: list[Path]) -> None:
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, analytics_enabled=False)
    check = client.predict([handle_file(str(path)) for path in photos], "Ada", "woman", api_name="/check_photos")
    run = client.predict(check["id"], api_name="/train")
    pictures = client.predict(run["id"], pack="places", api_name="/generate")
    client.predict([], "plain_white", generate_job=pictures["id"], api_name="/finish")
    client.predict(run["id"], "ada/portrait", dry_run=True, api_name="/publish")
    client.close()


@pytest.fixture
def fill_samples() -> Callable[[Any], None]:
    """Press the sample button, once, and see its photos checked."""

    def filled(page: Any) -> None:
        page.get_by_role("button", name="Try it with sample photos").click()
        page.get_by_text("sample-08").first.wait_for()

    return filled


@pytest.fixture
def shot() -> Callable[[Any, str], None]:
    """Keep a picture of the page, if STUDIO_SCREENSHOTS names a folder."""
    folder = os.environ.get("STUDIO_SCREENSHOTS")

    def taken(page: Any, name: str) -> None:
        if folder:
            page.wait_for_timeout(700)  # pictures decode and bars move
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return taken
