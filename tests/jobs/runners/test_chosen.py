from pathlib import Path

from studio.core.settings import Settings
from studio.jobs.runners.chosen import runners_of
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


def test_all_jobs_run_here_unless_another_machine_is_named(tmp_path: Path) -> None:
    store = Store(SqliteDatabase(tmp_path / "jobs.sqlite3"))
    desk, runner_of = runners_of(Settings(home=tmp_path), tmp_path, store, grace_s=1.0)
    assert desk is None and {runner_of(kind, tmp_path).name for kind in ("check", "train")} == {"local"}
    there = Settings(home=tmp_path, runner="ssh:gpu-box")
    desk, runner_of = runners_of(there, tmp_path, store, grace_s=1.0)
    assert desk is not None
    assert runner_of("check", tmp_path).name == "local" and runner_of("train", tmp_path).name != "local"
