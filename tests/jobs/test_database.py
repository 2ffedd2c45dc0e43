import threading

import pytest
from sqlalchemy import insert, inspect, select

from studio.core.errors import ConflictError, ResourceError
from studio.jobs import migrations
from studio.jobs.database import HEAD, stamp
from studio.jobs.schema import JOBS, TURNS


def test_the_newest_version_is_that_of_the_newest_file():
    from pathlib import Path

    files = sorted(path.stem for path in (Path(migrations.__file__).parent / "versions").glob("v*.py"))
    assert files[-1].startswith(f"v{HEAD}_")


def test_tables_of_a_newer_version_are_left_alone(new_database):
    database = new_database()
    with database.write() as db:
        stamp(db, "9999")
    with pytest.raises(ConflictError, match="newer version"), new_database().read():
        pass


def test_a_place_that_many_open_at_once_gets_its_tables_once(new_database):
    databases, failures = [new_database() for _ in range(4)], []
    barrier = threading.Barrier(len(databases))

    def open_one(database):
        try:
            barrier.wait()
            with database.read() as db:
                db.execute(select(JOBS)).all()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=open_one, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_what_a_block_that_fails_has_written_is_gone(new_database):
    database = new_database()
    with pytest.raises(KeyError), database.write() as db:
        db.execute(insert(TURNS).values(owner="ada", turn=1))
        raise KeyError
    with database.read() as db:
        assert db.execute(select(TURNS)).all() == []


def test_a_statement_that_cannot_be_carried_out_is_told_as_the_machines_fault(new_database):
    database = new_database()
    with pytest.raises(ResourceError, match="the table of jobs"), database.read() as db:
        db.exec_driver_sql("SELECT * FROM nowhere")


def test_after_closing_the_next_call_opens_it_again(new_database):
    database = new_database()
    for _ in range(2):
        with database.read() as db:
            assert "jobs" in inspect(db).get_table_names()
        database.close()


def test_the_databases_clock_is_the_time_of_day(new_database):
    import time

    database = new_database()
    with database.read() as db:
        assert abs(db.scalar(select(database.now_s)) - time.time()) < 10
