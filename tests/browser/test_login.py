"""The button that logs in: there where people log in, and nowhere else; what a visitor sees before and after."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from studio.core.settings import Settings

pytestmark = pytest.mark.browser
TESTS = Path(__file__).resolve().parents[1]


def _provider() -> ModuleType:
    name = "login_stand_in"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, TESTS / "reference" / f"{name}.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def address(edge: ModuleType, tmp_path: Path) -> Iterator[str]:
    """A studio with login on, before a stand-in of Hugging Face's login."""
    module = _provider()
    presets = edge.write_presets(tmp_path / "presets")
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=presets, login=True)
    # On a Space Gradio asks the package "spaces" to wrap each function; the folder of that name is none.
    (tmp_path / "studio").symlink_to(TESTS.parent / "studio")
    with module.serve() as provider, pytest.MonkeyPatch.context() as patch:
        space = {"SYSTEM": "spaces", "SPACE_ID": "ada/studio", "OAUTH_SCOPES": "openid profile"}
        space |= {"OAUTH_CLIENT_ID": module.CLIENT_ID, "OAUTH_CLIENT_SECRET": module.CLIENT_SECRET}
        for name, value in {**space, "OPENID_PROVIDER_URL": provider.address}.items():
            patch.setenv(name, value)
        with edge.serve(settings, tmp_path / "server.txt", root=tmp_path) as url:
            yield url


def test_a_visitor_is_told_to_log_in_does_so_works_and_leaves(
    address: str, visit: Callable[..., Any], fill_samples: Callable[[Any], None], shot: Callable[[Any, str], None]
) -> None:
    page = visit(address)
    page.get_by_text("Log in to begin").wait_for()
    page.get_by_role("button", name="Try it with sample photos").click()
    page.get_by_text("log in with Hugging Face first").wait_for()
    shot(page, "login_nobody")
    page.get_by_role("button", name="Log in with Hugging Face").click()
    page.get_by_role("button", name="Log out (ada)").wait_for()
    assert page.get_by_text("Log in to begin").count() == 0
    fill_samples(page)
    page.get_by_role("button", name="Continue to training").wait_for()
    frame = page.locator("#ls-photos-cards img").first
    frame.wait_for()
    assert frame.evaluate("picture => picture.complete && picture.naturalWidth > 0"), "her own pictures are shown"
    shot(page, "login_ada")
    page.get_by_role("button", name="Log out (ada)").click()
    page.get_by_text("Log in to begin").wait_for()
    assert page.get_by_role("button", name="Continue to training").count() == 0


def test_without_a_login_there_is_no_button(edge: ModuleType, tmp_path: Path, visit: Callable[..., Any]) -> None:
    settings = Settings(home=tmp_path / "home", port=0, presets_dir=edge.write_presets(tmp_path / "presets"))
    with edge.serve(settings, tmp_path / "server.txt") as address:
        page = visit(address)
        assert page.get_by_role("button", name="Log in with Hugging Face").count() == 0
