import pytest
from sqlalchemy import inspect

from studio.core.webhooks import WebhookConfig
from studio.jobs.schema import DELIVERIES, WEBHOOKS
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.mark.parametrize("version", [1, 2])
def test_jobs_of_an_earlier_version_are_told_of(old_table, version):
    store = Store(SqliteDatabase(old_table(version)))
    webhook, _ = store.webhooks.create("ada", WebhookConfig(url="https://hooks.example/"))
    store.cancel("publish", "ada")
    assert [row.type for row in store.webhooks.deliveries("ada", webhook.id, 9)] == ["job.cancelled"]
    store.close()


def test_the_way_leads_to_the_tables_of_today(old_table, tmp_path):
    shapes = []
    for path in (old_table(2), tmp_path / "new.sqlite3"):
        database = SqliteDatabase(path)
        with database.read() as db:
            found = inspect(db)
            names = (WEBHOOKS.name, DELIVERIES.name)
            columns = {n: [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(n)] for n in names}
            shapes.append((columns, {n: sorted(i["name"] for i in found.get_indexes(n) if i["name"]) for n in names}))
        database.close()
    assert shapes[0] == shapes[1]
