import pytest
from sqlalchemy import inspect

from studio.jobs import migrations
from studio.jobs.database import HEAD, Database
from studio.jobs.schema import REVISION


def look(db):
    """Return all that can be seen of the tables, whatever the order of their columns."""
    seen = inspect(db)
    found = {}
    for table in seen.get_table_names():
        columns = {
            row["name"]: (str(row["type"]), row["nullable"], row["default"], bool(row.get("primary_key")))
            for row in seen.get_columns(table)
        }
        indexes = {
            row["name"]: (
                row["column_names"],
                bool(row["unique"]),
                {name: str(value) for name, value in row["dialect_options"].items()},
            )
            for row in seen.get_indexes(table)
            if "autoindex" not in str(row["name"])
        }
        unique = [row["column_names"] for row in seen.get_unique_constraints(table)]
        options = seen.get_table_options(table)
        found[table] = columns, indexes, seen.get_pk_constraint(table)["constrained_columns"], unique, options
    return found


def test_all_steps_one_after_the_other_lead_to_the_tables_of_today(new_place, monkeypatch):
    fresh = new_place()()
    with fresh.read() as db:
        wanted = look(db)
    stepped = new_place()()
    monkeypatch.setattr(Database, "_bring_up_to_date", lambda self, db, found: migrations.upgrade(db))
    with stepped.read() as db:
        found = look(db)
        assert db.scalar(REVISION.select()) == HEAD
    for table, looks in wanted.items():
        if table != REVISION.name:
            assert found[table] == looks, table
    assert found.keys() == wanted.keys()


@pytest.mark.parametrize("to", ["0001", "0002"])
def test_a_step_that_fails_leaves_the_tables_as_they_were(new_database, monkeypatch, to):
    database = new_database()

    def half_way(self, db, found):
        migrations.upgrade(db, to)
        raise KeyError

    monkeypatch.setattr(Database, "_bring_up_to_date", half_way)
    with pytest.raises(KeyError), database.read():
        pass
    monkeypatch.undo()
    with database.read() as db:
        assert db.scalar(REVISION.select()) == HEAD, "it was empty, and so the tables of today were made"
