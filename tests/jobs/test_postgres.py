"""What only Postgres does: it is reached over a line that may break, and one session of all servers dispatches."""

import time

import pytest

from studio import doctor
from studio.core.errors import ConflictError, InputError, ResourceError
from studio.core.settings import Settings, load_settings
from studio.jobs.environment import variables_of
from studio.jobs.postgres import AdvisoryLead, PostgresDatabase
from studio.jobs.queue import NewJob
from studio.jobs.store import Store


@pytest.fixture
def url(new_postgres_url):
    return new_postgres_url()


@pytest.fixture
def open_database(url):
    made = []

    def new():
        made.append(PostgresDatabase(url))
        return made[-1]

    yield new
    for database in made:
        database.close()


def end_sessions(database):
    """Break every other connection, as a restart of the server does."""
    with database.bare() as db:
        db.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND usename = 'studio'"
        )


def test_of_all_sessions_one_has_the_lead_until_it_leaves(open_database, tmp_path):
    first, second = (AdvisoryLead(open_database()) for _ in range(2))
    assert not second.is_taken()
    assert first.take() and first.take()
    assert second.is_taken() and first.is_taken()
    assert not second.take()
    first.leave()
    end_s = time.monotonic() + 10
    while not second.take():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    assert not first.take()
    second.leave()


def test_who_has_lost_the_session_has_lost_the_lead_and_another_server_may_have_it(open_database):
    database, other = open_database(), open_database()
    first, second = AdvisoryLead(database), AdvisoryLead(other)
    assert first.take()
    end_sessions(other)
    end_s = time.monotonic() + 10
    while not second.take():
        assert time.monotonic() < end_s
        time.sleep(0.05)
    first._looked_s = 0.0  # a second later
    assert not first.take()
    second.leave()


def test_studios_in_two_schemas_of_one_database_do_not_share_the_lead(open_database, new_postgres_url):
    here, there = AdvisoryLead(open_database()), AdvisoryLead(PostgresDatabase(new_postgres_url()))
    assert here.take() and there.take()
    here.leave()
    there.leave()
    there._database.close()


def test_connections_that_were_broken_are_made_anew(open_database):
    store = Store(open_database())
    store.insert(NewJob("a", "check", "ada", "t", "fp"))
    end_sessions(open_database())
    assert store.get("a", "ada").state == "pending"


def test_a_server_that_is_not_there_is_told_in_words_and_without_the_password():
    store = Store(PostgresDatabase("postgresql://ada:hunter2secret@127.0.0.1:9/studio?connect_timeout=2"))
    with pytest.raises(
        ResourceError, match=r"in Postgres\) cannot be reached .*STUDIO_DATABASE_URL is right"
    ) as raised:
        store.ids()
    assert "hunter2secret" not in str(raised.value)
    store.close()


def test_the_address_is_shown_and_handed_on_nowhere(tmp_path):
    settings = Settings(home=tmp_path, database_url="postgresql://ada:hunter2secret@host/studio")
    assert "hunter2secret" not in repr(settings) and "hunter2secret" not in settings.model_dump_json()
    assert "STUDIO_DATABASE_URL" not in variables_of(settings)


def test_an_address_of_another_kind_is_refused_and_not_repeated(monkeypatch):
    monkeypatch.setenv("STUDIO_DATABASE_URL", "mysql://ada:hunter2secret@host/studio")
    with pytest.raises(InputError, match="STUDIO_DATABASE_URL: must begin with postgresql://") as raised:
        load_settings()
    assert "hunter2secret" not in str(raised.value)


def test_the_doctor_asks_the_database(url, tmp_path):
    def finding(address):
        (found,) = doctor.PROBES["queue"](Settings(home=tmp_path, database_url=address))
        return found.status, found.message

    assert finding(None) == ("ok", f"the table of jobs is a file in {tmp_path} (STUDIO_DATABASE_URL)")
    assert finding(url) == ("ok", "the table of jobs is in Postgres and holds 0 jobs")
    status, message = finding("postgresql://ada:hunter2secret@127.0.0.1:9/studio")
    assert status == "fail" and "cannot be reached" in message and "hunter2secret" not in message
    assert list(tmp_path.glob("*.sqlite3")) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("SELECT * FROM nowhere", "give the user"),
        ("SELECT 1 / 0", "start the studio again"),
    ],
)
def test_an_error_of_the_server_is_told_with_its_cure(open_database, statement, words):
    with pytest.raises(ResourceError, match=words), open_database().read() as db:
        db.exec_driver_sql(statement)


def test_what_is_no_address_is_refused():
    with pytest.raises(InputError, match="STUDIO_DATABASE_URL: is no address"):
        PostgresDatabase("postgresql://host:port/studio")


def test_scrubbing_rewrites_the_tables(open_database):
    database = open_database()
    store = Store(database)
    place = "SELECT pg_relation_filepath('events')"
    with database.read() as db:
        before = db.exec_driver_sql(place).scalar_one()
    store.insert(NewJob("a", "check", "ada", "t", "fp"))
    store.tell("a", "info", "hunter2secret")
    store.erase(["a"])
    store.scrub()
    with database.read() as db:
        assert db.exec_driver_sql(place).scalar_one() != before


def test_a_key_that_two_servers_use_for_two_requests_is_refused_for_one(open_database):
    first, second = Store(open_database()), Store(open_database())
    first.insert(NewJob("a", "check", "ada", "t", "fp", None, "k"))
    with pytest.raises(ConflictError):
        second.insert(NewJob("b", "check", "ada", "t", "other", None, "k"))
