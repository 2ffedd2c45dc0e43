"""The table of jobs as SQL: its schema, how it is opened, the step from an earlier version, its errors in words."""

import sqlite3
from pathlib import Path
from typing import TypeVar

from studio.core.errors import ConflictError
from studio.core.private import make_file

VERSION = 3
SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    title TEXT NOT NULL,
    facts TEXT NOT NULL DEFAULT '',
    source TEXT,
    key TEXT,
    fingerprint TEXT NOT NULL,
    created_s REAL NOT NULL,
    started_s REAL,
    finished_s REAL,
    attempt INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    stage TEXT NOT NULL DEFAULT '',
    reached TEXT NOT NULL DEFAULT '{}',
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0,
    cause TEXT,
    problems TEXT NOT NULL DEFAULT '[]',
    progress TEXT NOT NULL DEFAULT '{}',
    result TEXT,
    hearts TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_key ON jobs (owner, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state);
CREATE INDEX IF NOT EXISTS jobs_by_owner ON jobs (owner, kind, number);
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS turns (
    owner TEXT PRIMARY KEY,
    turn INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

FACTS_FROM_TITLES = """
UPDATE jobs SET facts = CASE kind
    WHEN 'check' THEN json_object('subject', substr(title, 11))
    WHEN 'train' THEN json_object('subject', substr(title, 13, instr(title, ' on ') - 13),
                                  'base', substr(title, instr(title, ' on ') + 4))
    WHEN 'generate' THEN json_object('pack', substr(title, 11))
    WHEN 'export' THEN json_object('format', substr(title, 9))
    WHEN 'finish' THEN json_object('chain', substr(title, 12))
    ELSE json_object('repo', substr(title, 13))
END WHERE facts = ''
"""
"""Version 1 kept no facts; only its titles ("Photos of Ada", "Training of Ada on pocket") tell what a job was about."""

SINCE_1 = f"""
ALTER TABLE jobs ADD COLUMN stage TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN reached TEXT NOT NULL DEFAULT '{{}}';
CREATE INDEX jobs_by_owner ON jobs (owner, kind, number);
CREATE TABLE turns (owner TEXT PRIMARY KEY, turn INTEGER NOT NULL) STRICT, WITHOUT ROWID;
ALTER TABLE jobs ADD COLUMN facts TEXT NOT NULL DEFAULT '';
{FACTS_FROM_TITLES};
"""
"""What a table of version 1 lacks that one of version 2 has."""

SINCE_2 = "ALTER TABLE jobs ADD COLUMN hearts TEXT NOT NULL DEFAULT '[]'"
"""What a table of version 2 lacks."""

_STEPS = {0: SCHEMA, 1: f"{SINCE_1};{SINCE_2}", 2: SINCE_2}
"""Version of a table -> what brings it up to date."""

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


_Connection = TypeVar("_Connection", bound=sqlite3.Connection)


def open_table(path: Path, kind: type[_Connection], *, busy_timeout_s: float) -> _Connection:
    """Open the file, making it or bringing it up to date where that is needed.

    Args:
        path: the file.
        kind: class of the connection.
        busy_timeout_s: how long a call waits for another process's transaction.

    Raises:
        ConflictError: a newer version of the studio made the file. sqlite3.DatabaseError: it cannot be used.
    """
    for ending in ("", "-wal", "-shm"):  # SQLite makes the other two like the first one
        if not ending or (path.parent / f"{path.name}{ending}").exists():
            make_file(path.parent / f"{path.name}{ending}")
    connection = sqlite3.connect(
        path,
        timeout=busy_timeout_s,
        isolation_level=None,  # the store says BEGIN itself
        check_same_thread=False,  # its close() comes from another thread
        factory=kind,
    )
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten, and not only let go
    version = _version(connection)
    if version > VERSION:
        connection.close()
        raise ConflictError("a newer version of the studio made the table of jobs; update the studio.")
    if version < VERSION:
        connection.execute("BEGIN IMMEDIATE")
        version = _version(connection)  # another server may have been faster
        for statement in _STEPS.get(version, "").split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def words_for(error: sqlite3.Error, path: Path) -> str:
    """Return what an error of the table at ``path`` means and its cure: the end of a sentence about the table."""
    code = getattr(error, "sqlite_errorcode", None)  # None: the error is Python's own
    words = _WORDS.get(0 if code is None else code & 0xFF, _OTHER_WORDS)  # without the bits of the extended code
    return words.format(error=error, folder=path.parent)
