"""The edge is tested against a scripted studio: the service's contract with drawn pictures, no worker, no torch."""

import atexit
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from studio.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("scripted_studio.py")

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


CHAIN = """
title: Plain white
description: On white.
steps:
  - do: cutout
  - do: background
  - do: fit
"""


@contextmanager
def serve(
    settings: Settings,
    log: Path,
    *,
    pace_s: float = 0.0,
    hold: Sequence[str] = (),
    root: Path = ROOT,
    token: str = "off",
) -> Iterator[str]:
    """Serve a scripted studio from a process of its own; gives the address. ``log`` gets all that it says.

    ``root`` holds the package ``studio``. ``token`` is the server's: off, since most tests are not about it; empty, and
    the server makes its own.

    A process, because Gradio leaves event loops unclosed, for which pytest would blame later tests.
    """
    order = json.dumps({"settings": settings.model_dump(mode="json"), "pace_s": pace_s, "hold": list(hold)})
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "STUDIO_TOKEN": token}
    if not token:
        del environment["STUDIO_TOKEN"]
    # A Space is one from the first import on; another root has modules of its own.
    serve_it = _started if root != ROOT or {"SPACE_ID", "HF_ENDPOINT"} & environment.keys() else _forked
    with serve_it(order, environment, log, root) as address:
        yield address


@contextmanager
def _started(order: str, environment: dict[str, str], log: Path, root: Path) -> Iterator[str]:
    """Serve from a process that imports all that it needs."""
    with (
        log.open("w") as said,
        subprocess.Popen(
            [sys.executable, str(SCRIPT), order],
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
        ) as child,
    ):
        assert child.stdout is not None
        try:
            address, _, _ = child.stdout.readline().partition(" ")
            assert address, log.read_text()
            yield address
        finally:
            child.kill()  # nothing in it is kept; a polite end waits three seconds for open connections
            child.wait(timeout=30)


@contextmanager
def _forked(order: str, environment: dict[str, str], log: Path, root: Path) -> Iterator[str]:
    """Serve from a fork of a process that has imported everything: four seconds less for each server."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        os.mkfifo(told)
        wanted = {"order": json.loads(order), "environment": environment, "log": str(log), "told": str(told)}
        forker = load_scripted().__dict__.setdefault("FORKER", Forker())
        forker.ask(json.dumps(wanted))
        address, _, server = told.read_text(encoding="utf-8").partition(" ")
    assert address, log.read_text()
    try:
        yield address
    finally:
        os.kill(int(server), signal.SIGKILL)
        end_s = time.monotonic() + 30
        while Path(f"/proc/{int(server)}").exists() and time.monotonic() < end_s:
            time.sleep(0.01)


class Forker:
    """The process that servers are forked from, one for all tests of a process; started when the first is wanted."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, order: str) -> None:
        """Let it fork a server."""
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, str(SCRIPT)], cwd=ROOT, env=environment, stdin=subprocess.PIPE, text=True
            )
            atexit.register(self._end)
        assert self._process.stdin is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()

    def _end(self) -> None:
        assert self._process is not None
        self._process.communicate()


def write_presets(folder: Path) -> Path:
    """Write one preset, one pack and one chain."""
    shipped = (("train", "pocket_lora_cpu", PRESET), ("packs", "places", PACK), ("finish", "plain_white", CHAIN))
    for kind, name, text in shipped:
        (folder / kind).mkdir(parents=True)
        (folder / kind / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


class Page:
    """The page as Gradio describes it: press a button, get what changes by label or element id."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.config: dict[str, Any] = httpx.get(f"{address}/config", timeout=60).json()
        self.parts = {row["id"]: row for row in self.config["components"]}

    def _name(self, part: int) -> str:
        props = self.parts[part]["props"]
        return str(props.get("label") or props.get("elem_id") or props.get("value") or part)

    def _event(self, name: str, kind: str) -> dict[str, Any]:
        return next(
            row
            for row in self.config["dependencies"]
            for part, trigger in row["targets"]
            if trigger == kind and part in self.parts and self._name(part) == name and row["backend_fn"]
        )

    def fire(self, name: str, kind: str, *, event_data: Any = None, **values: Any) -> dict[str, Any]:
        """Fire an event; ``values`` by label with blanks as underscores, others as the page has them."""
        event = self._event(name, kind)
        given = [
            values.get(self._name(part).replace(" ", "_"), self.parts[part]["props"].get("value"))
            for part in event["inputs"]
        ]
        body = {"fn_index": event["id"], "data": given, "session_hash": "somebody", "event_data": event_data}
        answer = httpx.post(f"{self.address}/gradio_api/run/predict", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        return {self._name(part): value for part, value in zip(event["outputs"], answer.json()["data"], strict=True)}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings with a home of their own, and Gradio's folder inside it."""
    folder = tmp_path_factory.mktemp("edge")
    made = Settings(home=folder / "home", port=0, presets_dir=write_presets(folder / "presets"), max_photos=20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(made.home / "web-cache"))
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
    from studio.pocket.samples import sample_photos

    return sample_photos(tmp_path / "photos", count=6, size_px=64)


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """``with serving(settings, log) as address``."""
    return serve


@pytest.fixture(scope="session")
def page_at() -> Callable[[str], Page]:
    """``page_at(address).fire(button, "click", **values)``."""
    return Page
