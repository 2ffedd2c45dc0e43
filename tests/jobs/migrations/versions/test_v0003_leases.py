import sqlite3
from contextlib import closing

import pytest

from studio.core.domain import JobFacts
from studio.jobs.database import HEAD
from studio.jobs.queue import Claim
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store

OWNER = "ada"


def test_a_table_of_version_2_keeps_all_that_was_in_it(old_table):
    store = Store(SqliteDatabase(old_table(2)))
    views = store.newest(OWNER, 10)
    assert [(view.id, view.state, view.attempt, view.created_s) for view in views] == [
        ("publish", "pending", 0, 6.5),
        ("finish", "stalled", 1, 5.5),
        ("export", "cancelled", 0, 4.5),
        ("generate", "pending", 0, 3.5),
        ("train", "training", 3, 2.5),
        ("check", "completed", 1, 1.5),
    ]
    assert views[1].cause == "No room." and views[-1].facts == JobFacts(subject="Ada")
    assert store.events("check", OWNER, 0)[0][1].data["text"] == "hello"
    store.close()


@pytest.mark.parametrize("version", [1, 2])
def test_a_job_that_ran_before_there_were_leases_is_recovered_at_once(old_table, version):
    store = Store(SqliteDatabase(old_table(version)))
    assert store.recover("The server stopped.") == ["train"]
    assert store.claim() == Claim("train", "train", 4)
    store.close()


def test_an_earlier_studio_sees_that_the_file_is_newer(old_table):
    path = old_table(2)
    store = Store(SqliteDatabase(path))
    store.ids()
    store.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (int(HEAD),)
        assert db.execute("SELECT version_num FROM alembic_version").fetchall() == [(HEAD,)]


def test_a_file_of_a_newer_version_from_before_alembic_is_refused(tmp_path):
    from studio.core.errors import ConflictError

    with closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(ConflictError, match="newer version"):
        Store(SqliteDatabase(tmp_path / "jobs.sqlite3")).claim()
