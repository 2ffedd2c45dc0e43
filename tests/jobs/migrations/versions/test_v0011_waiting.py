import pytest

from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.mark.parametrize("version", [1, 2])
def test_a_job_of_an_earlier_version_has_waited_since_it_was_submitted(old_table, version):
    store = Store(SqliteDatabase(old_table(version)))
    assert store.expire(1000.0) == ["generate", "publish"]
    assert store.expire(1000.0) == []
    store.close()
