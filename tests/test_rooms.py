"""Holds the arrows of docs/ARCHITECTURE.md: who may import whom, inside and outside, read from the syntax trees."""

import ast
import functools
import sys
from pathlib import Path

import pytest

from studio.settings import PROJECT_ROOT

PACKAGE = PROJECT_ROOT / "studio"

GROUND = {
    "errors", "domain", "core", "catalog", "config", "settings", "packs", "presets", "adapters", "fit", "machine",
    "__init__",
}  # fmt: skip
MATHS = {
    "diffusion", "imaging", "pocket", "weights", "tensorfile", "formats", "weight_files", "networks", "device",
    "quantization",
}  # fmt: skip
ENGINES = {"families", "methods", "likeness", "matting", "upscaling"}
VERBS = {"photos", "train", "infer", "postprocess"}

TRAINING = {"offload", "curve", "checkpoints", "ladder", "optimizers", "steps", "evaluate"}

MAY_IMPORT: dict[str, set[str]] = {
    # ground: each one only those that stand before it
    "__init__": set(),
    "errors": set(),
    "domain": set(),
    "core": {"errors", "domain"},
    "catalog": {"errors"},
    "config": {"errors"},
    "settings": {"errors", "config"},
    "packs": {"errors", "domain", "config"},
    "presets": {"errors", "domain", "config", "settings", "packs"},
    "adapters": {"errors", "core"},
    "fit": {"catalog", "config", "core"},
    "machine": {"errors", "catalog", "config", "settings", "presets"},
    # maths on tensors and pixels; bases by name
    "diffusion": GROUND,
    "imaging": GROUND,
    "pocket": GROUND,
    "tensorfile": {"errors", "core"},
    "cache": {"errors", "core"},
    "sources": {"errors", "core", "adapters", "catalog", "settings", "tensorfile", "cache"},
    "weights": GROUND | {"tensorfile", "sources"},
    "formats": {"errors"},
    "weight_files": GROUND,
    "networks": GROUND,
    "device": GROUND,
    "quantization": GROUND,
    "offload": set(),
    # one foreign model per file
    "families": GROUND | MATHS,
    "methods": GROUND | MATHS | {"families"},
    "likeness": GROUND | MATHS,
    "matting": GROUND | MATHS,
    "upscaling": GROUND | MATHS,
    # the verbs, and the parts of train
    "curve": GROUND | MATHS,
    "checkpoints": GROUND | MATHS,
    "ladder": GROUND,
    "optimizers": GROUND,
    "steps": GROUND | MATHS | ENGINES,
    "evaluate": GROUND | MATHS | ENGINES | {"checkpoints", "steps"},
    "photos": GROUND | MATHS | ENGINES,
    "train": GROUND
    | MATHS
    | ENGINES
    | {
        "offload",
        "curve",
        "checkpoints",
        "ladder",
        "optimizers",
        "steps",
        "evaluate",
        "imports",
        "certificate",
    },
    "plan": GROUND | MATHS | ENGINES | TRAINING | {"train"},
    "imports": GROUND | MATHS | ENGINES,
    "selection": {"imaging"},
    "picture_cache": {"errors", "core", "settings"},
    "infer": GROUND | MATHS | ENGINES | {"selection", "picture_cache"},
    "postprocess": GROUND | MATHS | ENGINES,
    "resident": {"adapters", "errors", "device", "infer", "methods"},
    # what leaves the studio: drawn by infer, proved by a process that knows nothing of the studio
    "reload": set(),
    "certificate": {"errors", "domain", "core", "tensorfile"},
    "exports": GROUND | MATHS | ENGINES | {"infer", "certificate", "checkpoints"},
    "hub": {"errors", "domain", "core", "settings"},
    "card": {"__init__", "errors", "catalog", "adapters", "packs"},
    "publish": GROUND | MATHS | {"exports", "certificate", "checkpoints", "hub", "card"},
    # machinery and the one door; verbs are strings here
    "jobs": GROUND,
    "backup": GROUND | {"jobs"},
    "service": GROUND | {"jobs", "backup"},
    # whose a request is
    "asgi": set(),
    "login": {"errors", "asgi", "hub"},
    # edges
    "samples": GROUND | {"pocket"},
    "demo": GROUND | {"samples", "imaging", "pocket"},
    "doctor": GROUND | {"likeness", "backup", "device"},  # its probes run in child processes
    "ui": GROUND | {"service", "samples", "asgi", "login"},
    "routes": GROUND | {"service", "jobs", "ui"},
    "server": GROUND | {"service", "ui", "routes", "asgi", "login"},
    "remote": GROUND | {"imaging"},
    "spaces": GROUND,
    "zerogpu": GROUND | {"sources", "weights", "infer", "resident", "ui", "server"},
    "cli": GROUND | {"service", "samples", "demo", "doctor", "server", "remote", "spaces"},
    "__main__": {"cli"},
}
"""Top-level name below studio -> top-level names that it may import; its own room is always allowed."""

LIGHT = GROUND | {"jobs", "backup", "service", "asgi", "login", "samples", "ui", "routes", "server", "remote"}
LIGHT |= {"spaces", "cli"}
LIGHT |= {"__main__", "hub", "card"}
"""Never import torch, not even inside a function."""

FOREIGN: dict[str, set[str]] = {
    "torch": set(MAY_IMPORT) - LIGHT,
    "diffusers": set(MAY_IMPORT) - LIGHT,
    "transformers": set(MAY_IMPORT) - LIGHT,
    "peft": {"methods"},
    "bitsandbytes": {"optimizers", "quantization"},
    "prodigyopt": {"optimizers"},
    "schedulefree": {"optimizers"},
    "gradio": {"ui", "server", "zerogpu"},
    "fastapi": {"server", "routes"},
    "uvicorn": {"server"},
    "typer": {"cli"},
    "rich": {"cli"},
    "sqlite3": {"jobs"},
    "dlib": {"imaging", "likeness", "doctor"},
    "rembg": set(),  # its own import compiles for a minute; studio/matting/rembg.py loads its sessions by name
    "onnxruntime": {"matting"},
    "spandrel": {"networks"},
    "pymatting": {"imaging"},
    "redis": {"picture_cache"},
    "fsspec": {"backup"},
    "pickle": set(),
}
"""Foreign package -> rooms that may import it."""

FREE_FILES = {"base.py", "loading.py", "registry.py", "__init__.py", "groups.py", "tokens.py"}
"""Files of an engine room that are no engines."""


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def files() -> tuple[Path, ...]:
    return tuple(sorted(PACKAGE.rglob("*.py")))


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> list[tuple[str, int]]:
    """Return every imported dotted name with its line, inside functions and ``if TYPE_CHECKING`` too."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import; write the full name"
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def inner_imports(path: Path) -> list[tuple[tuple[str, ...], int]]:
    """Return the imported modules below studio as their parts, for example ("jobs", "store")."""
    found = []
    for name, line in imports(path):
        package, *parts = name.split(".")
        if package != "studio":
            continue
        while parts and not is_module(parts):
            parts = parts[:-1]
        found.append((tuple(parts) or ("__init__",), line))
    return found


def is_module(parts: list[str]) -> bool:
    place = PACKAGE.joinpath(*parts)
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def wrong_arrows(path: Path) -> list[str]:
    room = room_of(path)
    allowed = MAY_IMPORT.get(room, set()) | {room}
    return [
        f"{path.relative_to(PROJECT_ROOT)}:{line}: {room} must not import studio.{'.'.join(parts)}"
        for parts, line in inner_imports(path)
        if parts[0] not in allowed
    ]


def test_every_module_has_a_row_and_every_row_a_module():
    assert {room_of(path) for path in files()} == set(MAY_IMPORT)


def test_rows_have_no_circles():
    done: set[str] = set()
    while left := set(MAY_IMPORT) - done:
        free = {room for room in left if MAY_IMPORT[room] - {room} <= done}
        assert free, f"these import each other in a circle: {sorted(left)}"
        done |= free


def test_imports_point_down_only():
    wrong = [arrow for path in files() for arrow in wrong_arrows(path)]
    assert not wrong, "\n".join(wrong)


def test_app_composes_and_imports_no_engine():
    rooms = {parts[0] for parts, _ in inner_imports(PROJECT_ROOT / "app.py")}
    assert rooms <= GROUND | {"service", "server", "ui"}


@pytest.mark.parametrize("room", sorted(ENGINES))
def test_engines_never_import_each_other(room):
    wrong = []
    for path in sorted((PACKAGE / room).glob("*.py")):
        for parts, line in inner_imports(path):
            if parts[0] not in ENGINES or (path.name == "registry.py" and parts[0] == room):
                continue
            file = f"{parts[1]}.py" if len(parts) > 1 else "__init__.py"
            if file not in FREE_FILES - {"registry.py"}:
                wrong.append(f"{path.relative_to(PROJECT_ROOT)}:{line}: must not know {'.'.join(parts)}")
    assert not wrong, "\n".join(wrong)


def test_verbs_never_import_each_other():
    for verb in VERBS:
        assert not MAY_IMPORT[verb] & VERBS


@pytest.mark.parametrize("package", sorted(FOREIGN))
def test_foreign_package_stays_in_its_rooms(package):
    wrong = [
        f"{path.relative_to(PROJECT_ROOT)}:{line}: {name}"
        for path in files()
        for name, line in imports(path)
        if name.split(".")[0] == package and room_of(path) not in FOREIGN[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_only_settings_reads_the_environment():
    # jobs hands the server's environment on to a child; server sets what gradio reads.
    readers = {
        room_of(path)
        for path in files()
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"})
        or (isinstance(node, ast.Name) and node.id in {"environ", "getenv"})
    }
    assert readers <= {"settings", "jobs", "server"}


def test_importing_a_module_does_nothing():
    """Top level holds names and definitions; a bare call or a loop would act on import."""
    quiet = (
        ast.Import | ast.ImportFrom | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign
    )
    wrong = []
    for path in files():
        for node in tree_of(path).body:
            docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            if not (isinstance(node, quiet) or docstring or is_quiet_if(node) or mounts_commands(node)):
                wrong.append(f"{path.relative_to(PROJECT_ROOT)}:{node.lineno}")
    assert not wrong, wrong


def is_quiet_if(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "__name__ == '__main__'"}


def mounts_commands(node: ast.stmt) -> bool:
    """Tell whether this gives a group of commands its place, which typer has no decorator for."""
    return isinstance(node, ast.Expr) and ast.unparse(node).startswith("app.add_typer(")


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("studio/service.py", "from studio.train import train", "service must not import studio.train"),
        ("studio/jobs/worker.py", "def f():\n    import studio.service", "jobs must not import studio.service"),
        ("studio/photos.py", "from studio import infer", "photos must not import studio.infer"),
    ],
)
def test_this_test_can_fail(file, line, complaint, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "tree_of", lambda path: ast.parse(line))
    (arrow,) = wrong_arrows(PROJECT_ROOT / file)
    assert complaint in arrow
