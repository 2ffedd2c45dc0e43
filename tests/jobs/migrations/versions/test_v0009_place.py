import pytest

from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.mark.parametrize("version", [1, 2])
def test_what_ran_under_an_earlier_version_is_begun_anew(old_table, version):
    store = Store(SqliteDatabase(old_table(version)))
    assert store.adopt(True, lambda claim, place: True) == []
    assert store.recover("It was updated.", alone=True) == ["train"]
    store.close()
