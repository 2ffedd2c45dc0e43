import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from studio.cli import dev_postgres
from studio.core.errors import ConflictError, ResourceError


@pytest.fixture
def place() -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder for a database, and who serves it: pytest's own folders are closed to others, and root may not."""
    if dev_postgres.lacks() in ("program", "psycopg"):
        assert "STUDIO_REQUIRE_POSTGRES" not in os.environ
        pytest.skip("needs Debian's package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="studio-dev-"))
    started = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if started:
        shutil.chown(folder, "postgres", "postgres")
    yield folder, started
    shutil.rmtree(folder)


def ask(url: str, words: str) -> Any:
    engine = sqlalchemy.create_engine(url.replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        found = db.exec_driver_sql(words)
        answer = found.scalar() if found.returns_rows else None
    engine.dispose()
    return answer


@pytest.mark.slow
def test_the_database_of_a_folder_is_made_once_kept_and_served_by_one_at_a_time(
    place: tuple[Path, dict[str, Any]],
) -> None:
    folder, started = place
    with dev_postgres.serving(folder, **started) as url:
        ask(url, "CREATE TABLE kept (number int)")
        ask(url, "INSERT INTO kept VALUES (7)")
        with pytest.raises(ConflictError, match="runs already"), dev_postgres.serving(folder, **started):
            raise AssertionError
        assert ask(url, "SHOW listen_addresses") == ""
        left = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(left, 0)
    with dev_postgres.serving(folder, **started) as url:
        assert ask(url, "SELECT number FROM kept") == 7


@pytest.mark.slow
def test_one_that_does_not_start_says_why(place: tuple[Path, dict[str, Any]]) -> None:
    folder, started = place
    with dev_postgres.serving(folder, **started):
        pass
    (folder / "data" / "PG_VERSION").write_text("9.1\n")
    with (
        pytest.raises(ResourceError, match=r"Postgres did not start \(.*9\.1.*postgres\.log"),
        dev_postgres.serving(folder, **started),
    ):
        raise AssertionError
