"""One app for all tests of the interfaces, served over HTTP from a process of its own, with a scripted studio."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from studio.core.settings import Settings

WEB = Path(__file__).parents[1]


def load(path: Path) -> ModuleType:
    """Import a helper of the tests, which are no package, by its file."""
    name = f"api_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec and spec.loader
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the app."""
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="session")
def app_settings(place: Path) -> Settings:
    """Of the app: one upload may take 1 MB."""
    presets = load(WEB / "conftest.py").write_presets(place / "presets")
    return Settings(home=place / "home", port=0, presets_dir=presets, max_photos=20, max_upload_bytes=10**6)


@pytest.fixture(scope="session")
def address(serving: Callable[..., Any], app_settings: Settings, place: Path) -> Iterator[str]:
    """Where the app answers; exports stay where they are until they are cancelled, all other jobs end at once."""
    with serving(app_settings, place / "log.txt", hold=["export"]) as url:
        yield url


@pytest.fixture(scope="session")
def log(place: Path, address: str) -> Path:
    """What the app says."""
    return place / "log.txt"


@pytest.fixture(scope="session")
def http(address: str) -> Iterator[httpx.Client]:
    """A client of the app."""
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A small drawn photo."""
    from studio.pocket.samples import sample_photos

    (path,) = sample_photos(tmp_path_factory.mktemp("photo"), count=1, size_px=64)
    return path.read_bytes()


@pytest.fixture(scope="session")
def work(http: httpx.Client, photo: bytes) -> dict[str, dict[str, Any]]:
    """A check, a run, pictures and finished pictures, each submitted below /v1 and completed."""
    sha256 = hashlib.sha256(photo).hexdigest()
    assert http.put(f"/uploads/{sha256}", content=photo).status_code in (200, 201)

    def made(verb: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = http.post(f"/v1/{verb}", json=body)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = http.get(answer.headers["location"]).json()
        assert job["state"] == "completed", job
        return job

    photos = [{"name": "one.jpg", "sha256": sha256}]
    check = made("check", {"photos": photos, "subject": "Ada", "class_noun": "woman", "min_photos": 1})
    train = made("train", {"check": check["id"], "steps": 60, "method": {"rank": 4}})
    generate = made("generate", {"run": train["code"], "pack": "places", "count": 2})
    finish = made("finish", {"job": generate["id"], "chain": "plain_white"})
    return {"check": check, "train": train, "generate": generate, "finish": finish}
