"""README and docs/API.md: every command and every block of code is executed, with tiny numbers where it is long."""

import importlib.util
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from studio.cli import common, main
from studio.core.machine import DEMO_TIME
from studio.core.presets import train_config
from studio.core.settings import Settings
from studio.pocket.samples import sample_photos
from studio.web.api.interfaces import add_interfaces
from studio.web.routes import add_routes

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
API = (ROOT / "docs" / "API.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:7860"
PYTHON = ".venv/bin/python"


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


INSTALL, TEST, COMMANDS, FAR, SPACE = _blocks(README, "bash")
CLIENT, VERBS = _blocks(README, "python")


@pytest.fixture
def sandbox(tiny_presets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory in which the studio takes the tiny presets."""
    folder = tmp_path / "sandbox"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("STUDIO_PRESETS_DIR", str(tiny_presets))
    monkeypatch.setitem(train_config.__kwdefaults__, "presets_dir", tiny_presets)
    return folder


@pytest.fixture
def server(tiny_presets: Path, sandbox: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the whole app with scripted jobs; its token lies in the user's home, as after ``python app.py``.

    Scripted, because each real job loads torch anew: minutes for all of these. test_app.py starts the real one.
    """
    spec = importlib.util.spec_from_file_location("edge_of_readme", ROOT / "tests" / "web" / "conftest.py")
    assert spec and spec.loader
    edge = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(edge)
    home = Path(os.environ["STUDIO_HOME"])
    (sandbox / ".likeness-studio").symlink_to(home)
    monkeypatch.setattr(Path, "home", lambda: sandbox)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(home / "web-cache"))
    with edge.serve(Settings(home=home, port=0, presets_dir=tiny_presets), sandbox / "log.txt", token="") as address:
        yield address


def _parts(command: str) -> list[list[str]]:
    return [shlex.split(part) for part in command.strip().split("&&")]


def test_installing_is_one_command_that_ends_with_the_app_serving() -> None:
    venv, install, serve = _parts(INSTALL)
    assert venv == ["python3", "-m", "venv", ".venv"]
    assert install == [".venv/bin/pip", "install", "-r", "requirements.txt", "-c", "constraints.txt"]
    assert serve == [PYTHON, "app.py"]  # started by the fixture ``server``
    assert all((ROOT / name).is_file() for name in ("requirements.txt", "constraints.txt", "app.py"))


def test_testing_is_one_command() -> None:
    install, test = _parts(TEST)
    assert install == [".venv/bin/pip", "install", "-r", "requirements-dev.txt", "-c", "constraints.txt"]
    assert test == [PYTHON, "-m", "pytest", "-n", "2", "--dist", "worksteal"]


@pytest.mark.whole
def test_every_command_of_the_readme_runs(sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = [shlex.split(line) for line in COMMANDS.strip().splitlines()]
    for command in commands:
        assert command[:3] == [PYTHON, "-m", "studio"]
        code = main.run(command[3:])
        shown = capsys.readouterr()
        assert code == 0, f"{shlex.join(command)}: {shown.err}"
        assert shown.out.strip()
    for name in ("demo/demo_sheet.png", "dataset/dataset.json", "run/report.json", "pictures/contact_sheet.png"):
        assert (sandbox / "out" / name).is_file(), name
    assert len(list((sandbox / "out" / "snow").rglob("[0-9]*.png"))) == 4


def test_the_readme_shows_every_command_but_those_that_need_a_server() -> None:
    shown = {line.split()[3] for line in COMMANDS.strip().splitlines()}
    groups = {group.name for group in common.app.registered_groups}
    assert (shown - groups) | {"attempt", "mcp", "serve", "unpublish"} == {
        command.name or command.callback.__name__ for command in common.app.registered_commands
    }  # type: ignore[union-attr]


@pytest.mark.whole
def test_the_python_of_the_readme_runs(sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample_photos(Path("out/demo/photos"))
    exec(compile(VERBS, "README.md", "exec"), {})
    before, after, file = capsys.readouterr().out.split()
    assert float(before) == pytest.approx(float(after), abs=1.5)  # two steps: numbers, not yet progress
    assert (sandbox / "out" / "ada-pictures" / file).is_file()


@pytest.mark.timeout(600)  # every program that the two documents show, one after the other
def test_the_client_code_of_readme_and_api_runs_against_the_app(
    server: str, sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample_photos(Path("out/demo/photos"))
    assert ADDRESS in CLIENT
    exec(compile(CLIENT.replace(ADDRESS, server), "README.md", "exec"), {})
    assert float(capsys.readouterr().out.split()[-1]) < 2
    assert Path("out/client-pictures/pictures.zip").read_bytes()[:2] == b"PK"
    for example in _blocks(API, "python"):
        exec(compile(example.replace(ADDRESS, server), "docs/API.md", "exec"), {})
    assert "sample-01.jpg" in capsys.readouterr().out


def test_the_remote_commands_of_the_readme_run_against_the_app(
    server: str, sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample_photos(Path("out/demo/photos"), count=3)
    for line in FAR.strip().splitlines():
        assert ADDRESS in line
        _, _, _, *command = shlex.split(line.replace(ADDRESS, server))
        assert main.run(command) == 0, capsys.readouterr().err
    assert (sandbox / "out" / "far" / "adapter" / "adapter.json").is_file()
    assert (sandbox / "out" / "far-pictures" / "contact_sheet.png").is_file()


def test_the_api_document_names_every_plain_route() -> None:
    app = FastAPI()
    for add in (add_routes, add_interfaces):
        add(app, lambda request: None, Settings())  # type: ignore[arg-type, return-value]
    made = {
        (method, route.path)
        for route in app.routes
        if isinstance(route, APIRoute) and not route.path.endswith("{rest:path}")  # which refuses in words
        for method in route.methods
    }
    rows = r"^\| `(GET|PUT|POST|PATCH|DELETE) (/[^`]+)` \|"
    assert made == set(re.findall(rows, API.replace("{relative}", "{relative:path}"), re.MULTILINE))


def test_the_time_of_the_demo_is_the_same_wherever_it_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert DEMO_TIME in " ".join(README.split())
    assert main.run(["demo", "--help"]) == 0
    assert DEMO_TIME in " ".join(capsys.readouterr().out.split())
    for path in (*(ROOT / "studio").rglob("*.py"), *(ROOT / "spaces").rglob("*.md"), *(ROOT / "docs").rglob("*.md")):
        others = re.findall(r"(?i)\bdemo\b[^.\n]*\bminutes?\b", path.read_text(encoding="utf-8").replace(DEMO_TIME, ""))
        assert not others, f"{path.name}: {others}"
