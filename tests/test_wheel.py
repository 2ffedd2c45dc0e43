"""The wheel: built, installed into a fresh environment, and run outside of the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from studio.core.presets import list_packs, list_presets
from studio.core.settings import PROJECT_ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it from a copy, so that no build folder stays in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if not name.startswith(("tests/", "docs/", "benchmarks/")) and (PROJECT_ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT_ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run([*command, "-w", folder, "."], cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_the_base_the_presets_and_the_spaces(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "studio/pocket/base/model_index.json" in names
    versions = {path.name for path in (PROJECT_ROOT / "studio/jobs/migrations/versions").glob("v*.py")}
    assert versions and {f"studio/jobs/migrations/versions/{name}" for name in versions} <= names
    for kind in ("presets", "spaces"):
        files = {path.relative_to(PROJECT_ROOT).as_posix() for path in (PROJECT_ROOT / kind).rglob("*.*")}
        assert {f"studio/shipped/{name}" for name in files if "__pycache__" not in name} <= names
    templates = {path.relative_to(PROJECT_ROOT).as_posix() for path in (PROJECT_ROOT / "studio").rglob("*.html")}
    assert templates and templates <= names
    catalogues = {path.relative_to(PROJECT_ROOT).as_posix() for path in (PROJECT_ROOT / "studio").rglob("*.po")}
    assert catalogues and catalogues <= names


def test_an_installed_studio_lists_all_presets_outside_of_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Without its dependencies, which are taken from this environment: their install is the work of .ci/run."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(command, check=True)
    kept = {name: value for name, value in os.environ.items() if name != "STUDIO_PRESETS_DIR"}
    environment = {**kept, "PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        script = site / "bin" / "likeness-studio"
        done = subprocess.run(
            [sys.executable, script, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert {row["name"] for row in json.loads(run("presets", "--json"))["presets"]} == {p.name for p in list_presets()}
    assert {row["name"] for row in json.loads(run("packs", "--json"))["packs"]} == {p.name for p in list_packs()}
    run("space", "build", "demo", "--out", "space")
    assert (tmp_path / "space" / "studio" / "pocket" / "base" / "model_index.json").is_file()
    assert (tmp_path / "space" / "presets" / "train" / "pocket_lora_cpu.yaml").is_file()
    assert not (tmp_path / "space" / "studio" / "shipped").exists()
