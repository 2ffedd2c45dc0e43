import pytest

from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.mark.parametrize("version", [1, 2])
def test_jobs_of_an_earlier_version_can_be_given_a_token(old_table, version):
    store = Store(SqliteDatabase(old_table(version)))
    assert store.sealed_of("generate") is None
    store.keep_sealed("generate", "x")
    assert store.sealed_of("generate") == "x"
    store.close()
