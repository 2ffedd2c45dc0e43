"""The queue in a file: what goes wrong with it is told in words, and what is written is on the disk."""

import sqlite3

import pytest

from studio.core.domain import Event
from studio.core.errors import ResourceError
from studio.jobs.queue import NewJob
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store

OWNER = "ada"


def new(folder, **options):
    return Store(SqliteDatabase(folder / "jobs.sqlite3", **options))


def add(store, job_id):
    return store.insert(NewJob(job_id, "check", OWNER, "t", "fp"))[0]


def test_a_damaged_table_is_called_damaged_and_the_files_are_said_to_be_safe(tmp_path):
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database at all" * 100)
    with pytest.raises(ResourceError, match=r"jobs\.sqlite3\) is damaged .*move the file") as raised:
        new(tmp_path).claim()
    assert "disk space" not in str(raised.value)


def test_a_table_whose_pages_are_damaged_is_called_so_too(tmp_path):
    path = tmp_path / "jobs.sqlite3"
    store = new(tmp_path)
    add(store, "a")
    store.close()
    data = bytearray(path.read_bytes())
    data[4096:8192] = b"\xff" * 4096
    path.write_bytes(data)
    with pytest.raises(ResourceError, match="is damaged"):
        new(tmp_path).newest(OWNER, 10)


def test_a_table_that_another_program_holds_is_called_held(tmp_path):
    store = new(tmp_path, busy_timeout_s=0.05)
    add(store, "a")
    with sqlite3.connect(tmp_path / "jobs.sqlite3", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ResourceError, match=r"is held by another program .*try again in a moment") as raised:
            add(store, "b")
        assert "disk space" not in str(raised.value)
        other.execute("ROLLBACK")
    other.close()
    assert add(store, "b").id == "b"
    store.close()


def test_a_full_disk_is_still_called_full(tmp_path):
    store = new(tmp_path)
    add(store, "a")
    claim = store.claim()
    with store._database.bare() as db:  # the one connection of this thread
        pages = db.exec_driver_sql("PRAGMA page_count").scalar_one()
        db.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(ResourceError, match="the disk is full; free some disk space"):
        store.append(claim, [Event("message", {"text": "x" * 100_000})])
    store.close()


def test_a_place_that_may_not_be_written_is_named(tmp_path):
    with pytest.raises(ResourceError, match=r"may not be opened or written .*missing.* set STUDIO_HOME"):
        new(tmp_path / "missing").claim()


def test_writes_reach_the_disk_before_a_call_returns(tmp_path):
    store = new(tmp_path)
    for open_one in (store._database.read, store._database.write):
        with open_one() as db:
            assert db.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
            assert db.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
            assert db.exec_driver_sql("PRAGMA secure_delete").scalar_one() == 1
    store.close()


def test_what_was_read_in_a_transaction_that_writes_still_holds_when_it_writes(tmp_path):
    store = new(tmp_path, busy_timeout_s=0.05)
    add(store, "a")
    with store._database.write(), pytest.raises(ResourceError, match="is held by another program"):
        add(store, "b")
    store.close()


def test_a_scrubbed_file_holds_nothing_of_what_was_erased(tmp_path):
    store = new(tmp_path)
    add(store, "a")
    store.tell("a", "info", "hunter2secret" * 50)
    store.erase(["a"])
    store.scrub()
    store.close()
    assert b"hunter2secret" not in (tmp_path / "jobs.sqlite3").read_bytes()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "held by another program"),
        (sqlite3.SQLITE_CORRUPT, "move the file"),
        (sqlite3.SQLITE_FULL, "disk is full"),
        (sqlite3.SQLITE_CANTOPEN, "folder {folder} and its files are yours"),
        (None, "start the studio again"),
    ],
)
def test_an_error_of_the_table_is_told_with_its_cure(tmp_path, code, words):
    error = sqlite3.OperationalError("x")
    if code is not None:
        error.sqlite_errorcode = code
    assert words.format(folder=tmp_path) in SqliteDatabase(tmp_path / "jobs.sqlite3").words_for(error)
