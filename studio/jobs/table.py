"""The table of jobs as a file: connections, transactions, rows of an owner. ``store`` builds on it."""

import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studio.core.domain import JobView
from studio.core.errors import NotFoundError, ResourceError
from studio.jobs.rows import placed, view_of
from studio.jobs.schema import open_table, words_for


class Connection(sqlite3.Connection):
    """A connection that can be referred to weakly."""


class Table:
    """The file and its connections.

    Args:
        path: the database file; made on first use.
        busy_timeout_s: how long a call waits for another process's transaction.
    """

    def __init__(self, path: Path, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._local = threading.local()
        self._open_lock = threading.Lock()
        self._connections: weakref.WeakSet[Connection] = weakref.WeakSet()

    def close(self) -> None:
        """Close all connections; a later call opens a new one."""
        with self._open_lock:
            for connection in list(self._connections):
                connection.close()
            self._connections.clear()
            self._local = threading.local()

    def _view(self, db: Connection, job_id: str) -> JobView:
        return placed(db, [view_of(db, self._row(db, job_id))])[0]

    def _owned(self, db: Connection, job_id: str, owner: str) -> sqlite3.Row:
        row = db.execute("SELECT * FROM jobs WHERE id = ? AND owner = ?", (job_id, owner)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no job {job_id!r}.")
        return row

    def _row(self, db: Connection, job_id: str) -> Any:  # a row, or None
        return db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._read() as db:
            # IMMEDIATE: take the write lock before reading, so that what was read still holds when it is written.
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        try:
            yield self._connection()
        except sqlite3.DatabaseError as error:
            raise ResourceError(f"the table of jobs ({self._path.name}) {words_for(error, self._path)}") from error

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            with (
                self._open_lock
            ):  # two threads that switch to WAL at once get "database is locked" in spite of the timeout
                connection = open_table(self._path, Connection, busy_timeout_s=self._busy_timeout_s)
                self._connections.add(connection)
            self._local.connection = connection
        return connection
