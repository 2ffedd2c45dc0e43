"""The queue in one file: SQLite in WAL, safe for many threads and the few processes of one machine."""

import sqlite3
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, create_engine, event, literal_column
from sqlalchemy.types import Double

from studio.core.errors import ResourceError
from studio.core.private import make_file
from studio.jobs.database import HEAD, Database
from studio.jobs.lead import FileLead
from studio.jobs.queue import Lead

SERVER_LOCK_FILE = "worker.lock"
"""In the home: held by the server that works on it."""

_NOT_OURS = (
    "may not be opened or written ({error}); see that the folder {folder} and its files are yours, or set STUDIO_HOME "
    "to another one."
)
_IN_USE = "is held by another program ({error}); try again in a moment, and close what else has it open."
_DAMAGED = (
    "is damaged ({error}); stop the studio, move the file and those beside it that begin with its name to another "
    "place, and start again. Photos, runs and pictures lie in the folder jobs and are not touched."
)
_WORDS = {
    sqlite3.SQLITE_BUSY: _IN_USE,
    sqlite3.SQLITE_LOCKED: _IN_USE,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_FULL: "cannot grow because the disk is full; free some disk space and try again.",
    sqlite3.SQLITE_IOERR: "cannot be read or written ({error}); see whether the disk is full or broken.",
    sqlite3.SQLITE_READONLY: _NOT_OURS,
    sqlite3.SQLITE_PERM: _NOT_OURS,
    sqlite3.SQLITE_CANTOPEN: _NOT_OURS,
}
"""SQLite's primary result code -> what it means for a person, and the cure. Source: sqlite.org/rescode.html."""
_OTHER_WORDS = "cannot be used ({error}); start the studio again, and report it if that does not help."

_BEGIN = "studio_begin"
_POOLED, _MORE = 16, 200
"""Connections that are kept, and that are opened beside them where many threads ask at once; files are cheap."""


class SqliteDatabase(Database):
    """The file ``path``, made on first use, together with nothing else.

    Args:
        path: the file.
        busy_timeout_s: how long a call waits for another process's transaction.
    """

    READ = {_BEGIN: "BEGIN"}  # noqa: RUF012  as the class above
    # Take the write lock before reading, so that what was read still holds when it is written.
    WRITE = {_BEGIN: "BEGIN IMMEDIATE"}  # noqa: RUF012
    BARE = {_BEGIN: ""}  # noqa: RUF012

    now_s = literal_column("((julianday('now') - 2440587.5) * 86400.0)", Double)

    def __init__(self, path: Path, *, busy_timeout_s: float = 30.0) -> None:
        self._path = path
        engine = create_engine(
            URL.create("sqlite", database=str(path)),
            connect_args={
                "timeout": busy_timeout_s,
                "isolation_level": None,  # we say BEGIN ourselves
                "check_same_thread": False,
            },
            pool_size=_POOLED,
            max_overflow=_MORE,
        )
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "begin", _begin)
        super().__init__(engine)

    def serialize(self, db: Connection, name: str) -> None:
        """Do nothing: one transaction writes at a time."""

    def scrub(self) -> None:
        """Rewrite the file without a byte of what was deleted, and empty the log beside it; raises ResourceError."""
        with self.bare() as db:
            db.exec_driver_sql("VACUUM")
            if db.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()[0]:
                raise ResourceError(f"the table of jobs ({self._path.name}) is being read; try again in a moment.")

    def lead(self, home: Path) -> Lead:
        """Return the lock of the home: whoever has it knows that the server before it is dead."""
        return FileLead(home / SERVER_LOCK_FILE)

    def words_for(self, error: Exception) -> str:
        """Return what an error of the file means and its cure."""
        code = getattr(error, "sqlite_errorcode", None)  # None: the error is Python's own
        words = _WORDS.get(0 if code is None else code & 0xFF, _OTHER_WORDS)  # without the bits of the extended code
        return f"the table of jobs ({self._path.name}) {words.format(error=error, folder=self._path.parent)}"

    def _prepare(self) -> None:
        for ending in ("", "-wal", "-shm"):  # SQLite makes the other two like the first one
            if not ending or (self._path.parent / f"{self._path.name}{ending}").exists():
                make_file(self._path.parent / f"{self._path.name}{ending}")
        with self._engine.connect().execution_options(**self.BARE) as db:
            db.exec_driver_sql("PRAGMA journal_mode = WAL")  # the file keeps that

    def _older_revision(self, db: Connection) -> str | None:
        version = int(db.exec_driver_sql("PRAGMA user_version").one()[0])
        return f"{version:04}" if version else None

    def _upgraded(self, db: Connection) -> None:
        # Studios from before alembic ask this one, and refuse a file of a newer version in words.
        db.exec_driver_sql(f"PRAGMA user_version = {int(HEAD)}")


def _set_up(connection: Any, record: object) -> None:
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, and not only let go


def _begin(db: Connection) -> None:
    if statement := db.get_execution_options().get(_BEGIN):
        db.exec_driver_sql(statement)
