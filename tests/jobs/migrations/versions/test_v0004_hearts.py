import pytest

from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.mark.parametrize("version", [1, 2])
def test_jobs_of_an_earlier_version_can_be_given_hearts(old_table, version):
    store = Store(SqliteDatabase(old_table(version)))
    assert store.get("generate", "ada").hearts == ()
    assert store.heart("generate", "ada", ["x.png"], on=True).hearts == ("x.png",)
    store.close()
