"""Every file of examples/ is run: the clients against the whole app with scripted jobs, the notebook in earnest."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core.presets import train_config
from studio.core.settings import PROJECT_ROOT, Settings
from studio.pocket.samples import sample_photos

EXAMPLES = PROJECT_ROOT / "examples"


def load_edge():
    spec = importlib.util.spec_from_file_location("edge", PROJECT_ROOT / "tests" / "web" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's home, where the examples find its token."""
    return tmp_path_factory.mktemp("examples") / "home"


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    edge = load_edge()
    folder = home.parent
    settings = Settings(home=home, port=0, presets_dir=edge.write_presets(folder / "presets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(settings.home / "web-cache"))
        with edge.serve(settings, folder / "log.txt", token="") as found:
            assert edge.httpx.get(f"{found}/uploads").status_code == 401
            yield found


@pytest.fixture(autouse=True)
def token_of_the_server(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_HOME", str(home))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    sample_photos(tmp_path / "photos", count=3, size_px=256)
    return tmp_path / "photos"


def run(tmp_path: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_every_example_has_a_test() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.name != "__pycache__"}
    assert names == {"python_client.py", "gradio_client_example.py", "curl.sh", "quickstart.ipynb"}


def test_the_python_client_trains_elsewhere_and_brings_pictures_home(
    address: str, photos: Path, tmp_path: Path
) -> None:
    script = str(EXAMPLES / "python_client.py")
    picture = run(tmp_path, sys.executable, script, address, str(photos), str(tmp_path / "far"))
    assert Path(picture).is_file() and picture.startswith(str(tmp_path / "far"))
    assert (tmp_path / "far" / "run" / "adapter" / "adapter.json").is_file()


def test_the_gradio_client_trains_and_gets_a_zip(address: str, photos: Path, tmp_path: Path) -> None:
    script = str(EXAMPLES / "gradio_client_example.py")
    archive = run(tmp_path, sys.executable, script, address, str(photos))
    assert Path(archive).read_bytes()[:2] == b"PK"


def test_curl_trains_and_gets_the_adapter(address: str, photos: Path, tmp_path: Path) -> None:
    out = run(tmp_path, "bash", str(EXAMPLES / "curl.sh"), address, str(photos), str(tmp_path / "curl"))
    assert json.loads((Path(out) / "adapter.json").read_text())["base"] == "pocket"


def notebook_cells() -> list[str]:
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, "commit it without results"
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.mark.slow  # the check runs it
@pytest.mark.timeout(900)
def test_the_notebook_runs_top_to_bottom(
    tmp_path: Path, tiny_presets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(train_config.__kwdefaults__, "presets_dir", tiny_presets)
    for name, value in (("OUT", str(tmp_path / "out")), ("STEPS", "2"), ("PHOTOS", str(tmp_path / "photos"))):
        monkeypatch.setenv(f"QUICKSTART_{name}", value)
    sample_photos(tmp_path / "photos", count=3)
    names: dict[str, object] = {}
    for number, cell in enumerate(notebook_cells()):
        exec(compile(cell, f"quickstart.ipynb[{number}]", "exec"), names)
    assert names["base"] == "pocket" and "likeness" in capsys.readouterr().out
    for file in ("run/adapter/adapter.json", "pictures/contact_sheet.png", "finished/pictures.zip"):
        assert (tmp_path / "out" / file).is_file(), file
    assert list((tmp_path / "out" / "comfyui").glob("*.safetensors"))
