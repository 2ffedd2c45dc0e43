"""Spaces: what is built is what would be pushed, and it starts as the platform starts it."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from studio import cli, spaces
from studio.errors import ConflictError, InputError, NotFoundError, ResourceError
from studio.settings import PROJECT_ROOT, load_settings

NAMES = ("demo", "gpu")


def front_matter(text: str) -> dict[str, Any]:
    found = re.match(r"---\n(.*?)\n---\n", text, flags=re.DOTALL)
    assert found, "a Space's README begins with front matter"
    data: dict[str, Any] = yaml.safe_load(found.group(1))
    return data


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
    for part in ("studio/cli.py", "studio/pocket/base/model_index.json", "presets/train/pocket_lora_cpu.yaml"):
        assert (built[name] / part).read_bytes() == (PROJECT_ROOT / part).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_front_matter_is_what_the_platform_reads(built: dict[str, Path], name: str) -> None:
    text = (built[name] / "README.md").read_text(encoding="utf-8")
    data = front_matter(text)
    assert (data["sdk"], data["app_file"], data["license"]) == ("gradio", "app.py", "apache-2.0")
    pins = dict(line.split("==") for line in (built[name] / "requirements.txt").read_text().split())
    assert data["sdk_version"] == pins["gradio[oauth]"], "two versions of gradio would be installed"
    assert isinstance(data["python_version"], str) and len(data["short_description"]) <= 60
    assert data["suggested_hardware"] == {"demo": "cpu-basic", "gpu": "l4x1"}[name]
    assert "private" in text, "it says who sees the photos"


def test_every_requirement_is_exact() -> None:
    pins = spaces.pinned()
    assert all(re.fullmatch(r"[\w.\-]+(\[\w+\])?==[\w.]+", pin) for pin in pins)
    wanted = {line.split(">=")[0] for line in spaces._lines("requirements.txt")}
    assert {pin.split("==")[0] for pin in pins} == wanted


@pytest.fixture(params=NAMES)
def page(request: pytest.FixtureRequest, built: dict[str, Path], tmp_path: Path) -> Iterator[str]:
    """The address of a built Space, started as the platform does: its folder, its variables, ``python app.py``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("STUDIO_", "PYTHON"))}
    platform = {
        "SYSTEM": "spaces",
        "SPACE_ID": "ada/studio",
        "SPACE_AUTHOR_NAME": "ada",
        "SPACE_REPO_NAME": "studio",
        "SPACE_HOST": "ada-studio.hf.space",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "GRADIO_SERVER_PORT": "0",  # the platform says 7860
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HOME": str(tmp_path),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    with subprocess.Popen(
        [sys.executable, "app.py"], cwd=built[request.param], env=kept | platform, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            address = re.search(r"http://\S+", child.stdout.readline())
            assert address, "app.py did not say where it is"
            yield address.group()
        finally:
            child.terminate()


def test_a_built_space_serves_its_first_page_under_the_platforms_name(page: str, tmp_path: Path) -> None:
    proxied = {"host": "ada-studio.hf.space"}
    answer = httpx2.get(page, headers=proxied, timeout=60)
    assert answer.status_code == 200 and "Likeness Studio" in answer.text
    assert "https://*.hf.space" in answer.headers["content-security-policy"]
    config = httpx2.get(f"{page}/config", headers=proxied, timeout=60).json()
    assert {row["api_name"] for row in config["dependencies"]} >= {"check_photos", "train", "generate"}
    assert (tmp_path / ".likeness-studio").is_dir()


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
    with pytest.raises(NotFoundError, match="demo, gpu"):
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
    assert cli.run([*shlex.split(build)[:-1], str(tmp_path / "space")]) == 0
    assert (tmp_path / "space" / "app.py").is_file()
    assert cli.run(shlex.split(push)) == 0
    assert "https://hub.example/spaces/YOUR-NAME/likeness-studio" in capsys.readouterr().out
    assert (hub.made["private"], hub.made["repo_type"], hub.made["space_sdk"]) == (True, "space", "gradio")
    assert hub.pushed["files"] == {path.name for path in (tmp_path / "space").iterdir()}
    assert cli.run(["space", "push", "demo", "--repo", "ada/studio", "--public"]) == 0
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
