"""Who else on this machine may look into the studio's home: nobody."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from studio.cli import main
from studio.core import fit
from studio.core.config import CheckConfig
from studio.core.private import make_home
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.pictures.picture_cache import DiskCache
from studio.service import Studio
from studio.web import server


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    """The usual umask, under which what is made is readable for everybody."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _measured(home: Path) -> None:
    fit.remember(home, TrainConfig(), fit.MeasuredRun("cpu", 1.0, 0.5, 1.0, 2**30, 8, 9))


MAKERS: dict[str, Callable[[Path], object]] = {
    "the server": lambda home: server.prepare_environment(Settings(home=home)),
    "the service": lambda home: Studio(Settings(home=home)).list(owner="ada"),
    "a bug report": lambda home: main._bug_report(ValueError("x")),
    "a measured plan": _measured,
    "a kept picture": lambda home: DiskCache(home / "cache" / "pictures", 10**6).put("ab" * 32, b"x"),
}


@pytest.mark.parametrize("who", MAKERS)
def test_the_home_is_closed_to_others_whoever_makes_it_first(
    who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("GRADIO_ANALYTICS_CACHE_FREQUENCY", "")
    home = tmp_path / "new" / "home"
    monkeypatch.setenv("STUDIO_HOME", str(home))
    MAKERS[who](home)
    assert mode(home) == 0o700
    assert [path for path in home.iterdir() if path.is_dir() and mode(path) & 0o077] == []


def test_the_table_of_jobs_and_what_lies_beside_it_are_closed_and_so_is_an_open_one_of_an_earlier_version(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "jobs.sqlite3").touch(mode=0o644)
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"pixels")
    studio = Studio(Settings(home=home))
    studio.start()
    job = studio.submit_check(CheckConfig(), [photo], owner="ada")
    studio.wait(job.id, owner="ada", timeout_s=60)
    found = {path.name for path in home.iterdir() if path.is_file()}
    assert found >= {"jobs.sqlite3", "jobs.sqlite3-wal", "worker.lock"}
    readable = [path for path in home.iterdir() if mode(path) & 0o077]
    written = [path for path in (home / "jobs" / job.id / "out").rglob("*") if mode(path) & 0o077]
    studio.close()
    assert (mode(home), readable, written) == (0o700, [], [])


def test_a_folder_with_other_things_in_it_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    (tmp_path / "shared" / "other.txt").touch()
    make_home(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o755
