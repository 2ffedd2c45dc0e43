import pytest

from studio.jobs.events import Outcome
from studio.jobs.keys import Keys
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.mark.parametrize("version", [1, 2])
def test_an_earlier_table_gets_keys_and_its_running_job_is_not_booked(old_table, version):
    database = SqliteDatabase(old_table(version))
    store = Store(database)
    assert store.recover("It was updated.", alone=True) == ["train"]
    assert store.use("ada")[0].gpu_s == 0, "nobody knows when it began"
    claim = store.claim()
    assert store.finish(claim, Outcome("completed", result={}))
    _, text = Keys(database, "secret").create(owner="ada", scopes=("read",))
    assert Keys(database, "secret").by_text(text).owner == "ada"
    store.close()
