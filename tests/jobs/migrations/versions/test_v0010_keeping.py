import pytest

from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.mark.parametrize("version", [1, 2])
def test_owners_of_an_earlier_version_can_choose_how_long_their_jobs_are_kept(old_table, version):
    store = Store(SqliteDatabase(old_table(version)))
    assert store.all_kept_days() == {}
    store.keep_for("ada", 7.0)
    assert store.kept_days("ada") == 7.0
    store.close()
