import pytest

from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.mark.parametrize("version", [1, 2])
def test_jobs_of_an_earlier_version_cost_nothing_until_a_machine_is_rented_for_them(old_table, version):
    store = Store(SqliteDatabase(old_table(version)))
    assert store.get("generate", "ada").cost_usd is None
    rental = {
        "label": "l", "service": "vast", "job": "generate", "attempt": 1, "what": "a GPU", "price_per_hour": 0.0,
        "extra": 0.5,
    }  # fmt: skip
    store.rentals.reserve(rental, lambda money: 1.0)
    store.rentals.rented("l", "7")
    store.rentals.gone("vast", "7")
    assert store.get("generate", "ada").cost_usd == 0.5
    store.close()
