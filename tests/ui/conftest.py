"""The edge is tested against a scripted studio: the service's contract with drawn pictures, no worker, no torch."""

import importlib.util
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from studio.settings import Settings

PRESET = """
title: Quick portrait
description: About two minutes on a laptop.
base: pocket
hardware: cpu
config:
  base: pocket
  steps: {per_photo: 10, minimum: 60, maximum: 300}
  learning_rate: 0.001
  method: {rank: 8, target: attention+conv}
"""

PACK = """
title: Two places
description: A beach and a library.
bases: [pocket]
shots:
  - {name: beach, prompt: "photo of {subject} at the beach"}
  - {name: library, prompt: "photo of {subject} in a library"}
"""


def load_scripted() -> ModuleType:
    """Return the module beside this file; tests are no package, so it is loaded by its path."""
    name = "scripted_studio"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "scripted_studio.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@contextmanager
def live(studio: Any, settings: Settings) -> Iterator[str]:
    """Serve the app in a thread; gives its address."""
    import uvicorn

    from studio.server import create_app

    config = uvicorn.Config(create_app(studio, settings), port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end_s = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < end_s, "the server did not start"
        time.sleep(0.02)
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=10)


def write_presets(folder: Path) -> Path:
    """Write one preset and one pack."""
    for kind, name, text in (("train", "pocket_lora_cpu", PRESET), ("packs", "places", PACK)):
        (folder / kind).mkdir(parents=True)
        (folder / kind / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a home of their own, and Gradio's folder inside it."""
    from studio.server import prepare_environment

    folder = tmp_path_factory.mktemp("edge")
    made = Settings(home=folder / "home", presets_dir=write_presets(folder / "presets"), max_photos=20)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
            patch.setenv(name, "")
        prepare_environment(made)
        yield made


@pytest.fixture(scope="module")
def studio(settings: Settings) -> Any:
    """A scripted studio whose jobs are over as soon as they are submitted."""
    return load_scripted().ScriptedStudio(settings)


@pytest.fixture(scope="module")
def held(settings: Settings) -> Callable[..., Any]:
    """Make a scripted studio that keeps some kinds of job at half way."""
    return lambda *kinds: load_scripted().ScriptedStudio(settings, hold=kinds)


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Six sample photos."""
    from studio.samples import sample_photos

    return sample_photos(tmp_path / "photos", count=6, size_px=64)


@pytest.fixture(scope="session")
def serving() -> Callable[[Any, Settings], Any]:
    """``with serving(studio, settings) as address``."""
    return live
