"""Spaces: what is built is what would be pushed, and it starts as the platform starts it."""

import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
from packaging.requirements import Requirement

from studio.cli import main
from studio.core.errors import ConflictError, InputError, NotFoundError, ResourceError
from studio.core.settings import PROJECT_ROOT, load_settings
from studio.web import spaces

_spec = importlib.util.spec_from_file_location("space_platform", (Path(__file__).parents[1] / "space_platform.py"))
assert _spec and _spec.loader
platform = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(platform)
front_matter, started = platform.front_matter, platform.started

NAMES = ("demo", "gpu", "zerogpu")
HARDWARE = {"demo": "cpu-basic", "gpu": "l4x1", "zerogpu": "zero-a10g"}
ENDPOINTS = {
    "demo": {"check_photos", "train", "generate", "publish"},
    "gpu": {"check_photos", "train", "generate", "publish"},
    "zerogpu": {"generate"},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("spaces")
    for name in NAMES:
        spaces.build(name, folder / name)
    return {name: folder / name for name in NAMES}


def test_the_spaces_are_these() -> None:
    assert tuple(spaces.names()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_space_holds_the_studio_and_nothing_else(built: dict[str, Path], name: str) -> None:
    top = {path.name for path in built[name].iterdir()}
    assert top == {"README.md", "requirements.txt", "app.py", "LICENSE", "studio", "presets"}
    files = [path for path in built[name].rglob("*") if path.is_file()]
    assert not [path for path in files if "__pycache__" in path.parts or path.name.startswith(".")]
    for part in ("studio/cli/main.py", "studio/pocket/base/model_index.json", "presets/train/pocket_lora_cpu.yaml"):
        assert (built[name] / part).read_bytes() == (PROJECT_ROOT / part).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_front_matter_is_what_the_platform_reads(built: dict[str, Path], name: str) -> None:
    text = (built[name] / "README.md").read_text(encoding="utf-8")
    data = front_matter(text)
    assert (data["sdk"], data["app_file"], data["license"]) == ("gradio", "app.py", "apache-2.0")
    pins = dict(line.split("==") for line in (built[name] / "requirements.txt").read_text().split())
    assert data["sdk_version"] == pins["gradio[oauth]"], "two versions of gradio would be installed"
    assert isinstance(data["python_version"], str) and len(data["short_description"]) <= 60
    assert data["suggested_hardware"] == HARDWARE[name]
    assert "private" in text, "it says who sees what"


@pytest.mark.parametrize("name", NAMES)
def test_every_requirement_is_exact_and_what_the_studio_needs(name: str) -> None:
    pins = [Requirement(pin) for pin in spaces.pinned(name)]
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin in pins)
    exact = {pin.name: str(pin.specifier).removeprefix("==") for pin in pins}
    needed = [Requirement(line) for line in spaces._lines(PROJECT_ROOT / "requirements.txt")]
    assert {row.name for row in needed} == set(exact) - {"spaces"}
    assert not [row.name for row in needed if not row.specifier.contains(exact[row.name])], "below a floor"


def test_zerogpu_gets_its_package_its_torch_and_a_login_that_may_only_read() -> None:
    pins = spaces.pinned("zerogpu")
    assert {"torch==2.11.0", "torchvision==0.26.0"} < set(pins) and any(pin.startswith("spaces==") for pin in pins)
    data = front_matter((spaces.SPACES_DIR / "zerogpu" / "README.md").read_text(encoding="utf-8"))
    assert data["python_version"] == "3.12.12", "the newest that ZeroGPU documents"
    assert data["hf_oauth"] is True and data["hf_oauth_scopes"] == ["read-repos"]


@pytest.mark.whole
@pytest.mark.parametrize("name", ["demo", "gpu"])  # zerogpu in test_zerogpu.py
def test_a_built_space_serves_its_first_page_under_the_platforms_name(
    built: dict[str, Path], tmp_path: Path, name: str
) -> None:
    with started(built[name], tmp_path) as address:
        config = platform.require_first_page(address, ENDPOINTS[name])
        assert [row for row in config["components"] if row["props"].get("elem_id") == "ls-login"], "people log in"
        assert httpx2.get(f"{address}/uploads", headers=platform.PROXIED, timeout=60).status_code == 401
    assert (tmp_path / ".likeness-studio").is_dir()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", NAMES)
def test_a_built_space_starts_in_a_fresh_environment_from_its_own_requirements(
    built: dict[str, Path], tmp_path: Path, name: str
) -> None:
    """The one test that needs a package index: it installs what the platform would, several gigabytes."""
    data = front_matter((built[name] / "README.md").read_text(encoding="utf-8"))
    environment, home = tmp_path / "venv", tmp_path / "home"
    home.mkdir()
    python = str(environment / "bin" / "python")
    try:
        subprocess.run([platform.interpreter(data["python_version"]), "-m", "venv", str(environment)], check=True)
        install = [python, "-m", "pip", "install", "-q", "-r", "requirements.txt"]
        done = subprocess.run(install, cwd=built[name], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]
        with platform.device_api() as (api, asked):
            offload = tmp_path / "offload"
            lent = {
                "SPACES_ZERO_GPU": "true",
                "SPACES_ZERO_DEVICE_API_URL": api,
                "ZEROGPU_OFFLOAD_DIR": str(offload),
                "STUDIO_RESIDENT_BASES": "pocket,sd15",
            }
            variables = {"HF_HUB_OFFLINE": "1", **(lent if name == "zerogpu" else {})}
            with started(built[name], home, python=python, **variables) as address:
                config = platform.require_first_page(address, ENDPOINTS[name])
            if name == "zerogpu":
                assert asked == ["/startup-report"], "the platform knows that the Space asks for GPUs"
                moved_bytes = sum(path.stat().st_size for path in offload.iterdir())
                assert moved_bytes > 2**20, "the base was put on the GPU at start, not at each request"
                assert "is not on this machine" in str(config), "a base that cannot be had is told of"
    finally:
        shutil.rmtree(environment, ignore_errors=True)


def test_only_on_a_space_the_platforms_names_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7861")
    assert (load_settings().host, load_settings().port) == ("127.0.0.1", 7860)
    monkeypatch.setenv("SPACE_ID", "ada/studio")
    assert (load_settings().host, load_settings().port) == ("0.0.0.0", 7861)
    monkeypatch.setenv("STUDIO_HOST", "127.0.0.2")
    monkeypatch.setenv("STUDIO_PORT", "1")
    assert (load_settings().host, load_settings().port) == ("127.0.0.2", 1)


def test_a_space_is_not_built_over_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConflictError, match="empty"):
        spaces.build("demo", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(NotFoundError, match="demo, gpu, zerogpu"):
        spaces.build("none", tmp_path / "none")


class FakeHub:
    """Stands in for HfApi: remembers what it was asked, or refuses."""

    def __init__(self) -> None:
        self.made: dict[str, Any] = {}
        self.pushed: dict[str, Any] = {}
        self.refuse: Exception | None = None

    def __call__(self) -> "FakeHub":
        return self

    def create_repo(self, repo_id: str, **options: Any) -> str:
        if self.refuse:
            raise self.refuse
        self.made = {"repo_id": repo_id, **options}
        return f"https://hub.example/spaces/{repo_id}"

    def upload_folder(self, *, folder_path: Path, **options: Any) -> None:
        self.pushed = {**options, "files": {path.name for path in folder_path.iterdir()}}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    return fake


def test_a_push_is_private_unless_asked_and_sends_what_was_built(
    hub: FakeHub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    build, push = re.findall(r"python -m studio (space .*)", readme)
    assert main.run([*shlex.split(build)[:-1], str(tmp_path / "space")]) == 0
    assert (tmp_path / "space" / "app.py").is_file()
    assert main.run(shlex.split(push)) == 0
    assert "https://hub.example/spaces/YOUR-NAME/likeness-studio" in capsys.readouterr().out
    assert (hub.made["private"], hub.made["repo_type"], hub.made["space_sdk"]) == (True, "space", "gradio")
    assert hub.pushed["files"] == {path.name for path in (tmp_path / "space").iterdir()}
    assert main.run(["space", "push", "demo", "--repo", "ada/studio", "--public"]) == 0
    assert hub.made["private"] is False


def test_what_the_hub_refuses_is_explained(hub: FakeHub) -> None:
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    def answered(status: int) -> Exception:
        response = httpx2.Response(status, request=httpx2.Request("POST", "https://hub.example"))
        return HfHubHTTPError("no", response=response)

    for refusal, kind, words in (
        (answered(403), InputError, "status 403"),
        (answered(502), ResourceError, "status 502"),
        (LocalTokenNotFoundError("no token"), InputError, "hf auth login"),
        (OfflineModeIsEnabled("offline"), ResourceError, "cannot be reached"),
    ):
        hub.refuse = refusal
        with pytest.raises(kind, match=words):
            spaces.push("demo", "ada/studio")
    with pytest.raises(InputError, match="ada/likeness-studio"):
        spaces.push("demo", "no id")
