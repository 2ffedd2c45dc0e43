"""A database that holds the queue: transactions, its own clock, its tables brought up to date, its errors in words.

``sqlite`` and ``postgres`` say what differs; ``store`` asks nothing but what is here.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from sqlalchemy import ColumnElement, Connection, Engine, delete, insert, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from studio.core.errors import ConflictError, ResourceError
from studio.jobs.queue import Lead
from studio.jobs.schema import METADATA, REVISION

HEAD = "0011"
"""The newest file in ``migrations/versions``; a test holds it to that, so that alembic need not be imported to ask."""


class Database:
    """One database of either kind, opened when it is first used and again after ``close``.

    Args:
        engine: makes its connections. ``READ`` and ``WRITE`` are set on one before it is used.
    """

    READ: ClassVar[dict[str, object]] = {}
    """Execution options of a connection that only reads."""
    WRITE: ClassVar[dict[str, object]] = {}
    """Execution options of one that writes: what it has read still holds when it writes."""
    BARE: ClassVar[dict[str, object]] = {}
    """Execution options of one that begins no transaction."""

    now_s: ColumnElement[float]
    """The time on the database's clock, seconds since 1970: one clock for all servers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._opening = threading.Lock()
        self._is_open = False

    # What differs

    def serialize(self, db: Connection, name: str) -> None:
        """Keep other writers that name the same thing waiting until this transaction ends."""
        raise NotImplementedError

    def scrub(self) -> None:
        """Rewrite the tables without a byte of what was deleted; raises ResourceError."""
        raise NotImplementedError

    def lead(self, home: Path) -> Lead:
        """Return the right to dispatch, not taken yet."""
        raise NotImplementedError

    def words_for(self, error: Exception) -> str:
        """Return what an error of the driver means and its cure, as a whole sentence without its capital letter."""
        raise NotImplementedError

    def _prepare(self) -> None:
        """Do what is to be done before the first connection."""

    def _begin_upgrade(self, db: Connection) -> None:
        """Keep other servers from doing the same."""

    def _older_revision(self, db: Connection) -> str | None:
        """Return the version of tables that were made before alembic."""
        return None

    def _upgraded(self, db: Connection) -> None:
        """Note that the tables are of version ``HEAD`` now."""

    # What does not

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Begin a transaction that writes; on the disk when the block ends. Raises ResourceError."""
        with self._connected(self.WRITE) as db, db.begin():
            yield db

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Lend a connection to read with; raises ResourceError."""
        with self._connected(self.READ) as db:
            yield db

    @contextmanager
    def bare(self) -> Iterator[Connection]:
        """Lend a connection whose statements are in no transaction; raises ResourceError."""
        with self._connected(self.BARE) as db:
            yield db

    def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        with self._opening:
            self._engine.dispose()
            self._is_open = False

    @contextmanager
    def _connected(self, options: dict[str, object]) -> Iterator[Connection]:
        with self.errors_in_words():
            self._open()
            with self._engine.connect().execution_options(**options) as db:
                yield db

    @contextmanager
    def errors_in_words(self) -> Iterator[None]:
        """Turn what the driver raises into a ResourceError with a cure."""
        try:
            yield
        except DBAPIError as error:
            found = error.orig if isinstance(error.orig, Exception) else error
            raise ResourceError(self.words_for(found)) from error
        except PoolTimeoutError as error:
            raise ResourceError("the table of jobs is asked by too many at once; try again in a moment.") from error

    def _open(self) -> None:
        if self._is_open:
            return
        with self._opening:
            if self._is_open:
                return
            self._prepare()
            with self._engine.connect().execution_options(**self.READ) as db:
                found = self._revision(db)
            if found != HEAD:
                with self._engine.connect().execution_options(**self.WRITE) as db, db.begin():
                    self._begin_upgrade(db)
                    self._bring_up_to_date(db, self._revision(db))  # another server may have been faster
            self._is_open = True

    def _revision(self, db: Connection) -> str | None:
        """Return the version of the tables; None if there are none."""
        if inspect(db).has_table(REVISION.name):
            return db.scalar(select(REVISION.c.version_num))
        return self._older_revision(db)

    def _bring_up_to_date(self, db: Connection, found: str | None) -> None:
        if found is not None and found > HEAD:
            raise ConflictError("a newer version of the studio made the table of jobs; update the studio.")
        if found == HEAD:
            return
        if found is None:
            METADATA.create_all(db)
            stamp(db, HEAD)
        else:
            from studio.jobs import migrations  # with alembic, which a start that finds nothing to do does without

            stamp(db, found)
            migrations.upgrade(db)
        self._upgraded(db)


def stamp(db: Connection, revision: str) -> None:
    """Write down which version of the tables is there."""
    REVISION.create(db, checkfirst=True)
    db.execute(delete(REVISION))
    db.execute(insert(REVISION).values(version_num=revision))
