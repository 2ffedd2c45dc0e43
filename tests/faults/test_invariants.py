"""The checker of the kill loops sees each thing that may go wrong."""

import fcntl
import hashlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import delete, insert, update

from studio.jobs.events import Outcome
from studio.jobs.queue import NewJob
from studio.jobs.schema import EVENTS, JOBS
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store

LINE = b"1 77\n2 77\n"
LISTED = {"path": "steps.txt", "bytes": len(LINE), "sha256": hashlib.sha256(LINE).hexdigest()}


@pytest.fixture(scope="module")
def invariants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("invariants", Path(__file__).with_name("invariants.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def look(tmp_path: Path, invariants: ModuleType) -> Iterator[Callable[..., list[str]]]:
    """Return a function that changes a sound installation of one job and says what is wrong then."""
    database = SqliteDatabase(tmp_path / "jobs.sqlite3")
    store = Store(database)
    store.insert(NewJob("a", "check", "ada", "Check", "f"))
    claim = store.claim()
    assert claim is not None
    store.finish(claim, Outcome("completed", result={"steps": 2}))
    out, kept = tmp_path / "jobs" / "a" / "out", tmp_path / "storage" / "jobs" / "a"
    out.mkdir(parents=True)
    kept.mkdir(parents=True)
    (out / "steps.txt").write_bytes(LINE)
    told = {"attempt": 1, "ending": {"state": "completed", "result": {"steps": 2}, "files": [LISTED]}}
    (kept / "result.json").write_text(json.dumps(told))

    def change(*statements: object, **files: bytes) -> list[str]:
        with database.write() as db:
            for statement in statements:
                db.execute(statement)  # type: ignore[call-overload]
        for name, data in files.items():
            {"steps": out / "steps.txt", "result": kept / "result.json"}[name].write_bytes(data)
        found: list[str] = invariants.broken(database, tmp_path, {"a": 2})
        return found

    yield change
    store.close()


def test_a_sound_installation_has_nothing_wrong(look: Callable[..., list[str]]) -> None:
    assert look() == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (delete(JOBS), "a was accepted and is lost"),
        (update(JOBS).values(id="b"), "b is there and nobody has asked for it"),
        (update(JOBS).values(state="checking"), "a has not ended: it is checking"),
        (update(JOBS).values(result=None), "a is completed and has no result"),
        (update(JOBS).values(state="cancelled"), "a is cancelled and has a result"),
        (update(JOBS).values(state="stalled", result=None), "a is stalled without a cause"),
        (update(JOBS).values(finished_s=None), "a has ended at no time"),
        (update(JOBS).values(holder="a server"), "a has ended and holds a lease"),
        (update(JOBS).values(attempt=0), "a has the result of an attempt that it never had"),
        (update(JOBS).values(result="{}"), "a shows another result than the one that was committed first"),
        (insert(EVENTS).values(job="a", seq=9, kind="message", data="{}"), "a has events that were never numbered"),
        (insert(EVENTS).values(job="c", seq=1, kind="message", data="{}"), "c has events and is not there"),
    ],
)
def test_what_is_wrong_in_the_table_is_seen(look: Callable[..., list[str]], statement: object, words: str) -> None:
    assert words in look(statement)


def test_what_is_wrong_in_the_files_is_seen(look: Callable[..., list[str]], tmp_path: Path) -> None:
    assert "a has done a step twice, or not at all" in look(steps=b"1 77\n2 77\n2 78\n")
    assert "a shows another steps.txt than the committed attempt's" in look(steps=b"1 77\n2 78\n")
    with (tmp_path / "jobs" / "a" / "child.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert look(steps=LINE) == ["a still has a process"]
    assert look() == []
