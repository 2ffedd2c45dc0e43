import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from studio.jobs.database import Database
from studio.jobs.postgres import PostgresDatabase
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store


@pytest.fixture(scope="session")
def fake_verbs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_verbs", Path(__file__).with_name("fake_verbs.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["sqlite", "postgres"])
def new_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Callable[[], Database]]]:
    """Return a function that makes a new, empty place; that returns a function that opens it, as often as one likes."""
    new_url = request.getfixturevalue("new_postgres_url") if request.param == "postgres" else None
    numbers = itertools.count()
    opened: list[Database] = []

    def new() -> Callable[[], Database]:
        url, path = new_url and new_url(), tmp_path / f"jobs{next(numbers)}.sqlite3"

        def open_it() -> Database:
            opened.append(PostgresDatabase(url) if url else SqliteDatabase(path))
            return opened[-1]

        return open_it

    yield new
    for database in opened:
        database.close()


@pytest.fixture
def new_database(new_place: Callable[[], Callable[[], Database]]) -> Callable[[], Database]:
    """Return a function that opens one and the same place, empty at first."""
    return new_place()


@pytest.fixture
def new_store(new_database: Callable[[], Database]) -> Callable[..., Store]:
    """Return a function that opens one and the same queue, as another server does."""

    def new(**options: Any) -> Store:
        return Store(new_database(), **options)

    return new


@pytest.fixture
def store(new_store: Callable[..., Store]) -> Store:
    return new_store()
