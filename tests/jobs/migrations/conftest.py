"""Tables as studios of earlier versions have made them, word for word."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

VERSION_1 = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    title TEXT NOT NULL,
    source TEXT,
    key TEXT,
    fingerprint TEXT NOT NULL,
    created_s REAL NOT NULL,
    started_s REAL,
    finished_s REAL,
    attempt INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0,
    cause TEXT,
    problems TEXT NOT NULL DEFAULT '[]',
    progress TEXT NOT NULL DEFAULT '{}',
    result TEXT
) STRICT;
CREATE UNIQUE INDEX jobs_by_key ON jobs (owner, key) WHERE key IS NOT NULL;
CREATE INDEX jobs_by_state ON jobs (state);
CREATE TABLE events (
    job TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, seq)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
"""

VERSION_2 = f"""
{VERSION_1}
ALTER TABLE jobs ADD COLUMN stage TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN reached TEXT NOT NULL DEFAULT '{{}}';
CREATE INDEX jobs_by_owner ON jobs (owner, kind, number);
CREATE TABLE turns (owner TEXT PRIMARY KEY, turn INTEGER NOT NULL) STRICT, WITHOUT ROWID;
ALTER TABLE jobs ADD COLUMN facts TEXT NOT NULL DEFAULT '';
PRAGMA user_version = 2;
"""

JOBS = """
INSERT INTO jobs (id, kind, state, owner, title, fingerprint, created_s, attempt, last_seq) VALUES
    ('check', 'check', 'completed', 'ada', 'Photos of Ada', 'fp', 1.5, 1, 1),
    ('train', 'train', 'training', 'ada', 'Training of Ada on pocket', 'fp', 2.5, 3, 0),
    ('generate', 'generate', 'pending', 'ada', 'Pictures: places', 'fp', 3.5, 0, 0),
    ('export', 'export', 'cancelled', 'ada', 'Export: kohya', 'fp', 4.5, 0, 0),
    ('finish', 'finish', 'stalled', 'ada', 'Finishing: avatar', 'fp', 5.5, 1, 0),
    ('publish', 'publish', 'pending', 'ada', 'Publishing: ada/x', 'fp', 6.5, 0, 0);
UPDATE jobs SET cause = 'No room.' WHERE id = 'finish';
INSERT INTO events (job, seq, kind, data) VALUES ('check', 1, 'message', '{"level": "info", "text": "hello"}');
"""


@pytest.fixture
def old_table(tmp_path: Path) -> Callable[[int], Path]:
    """Return a function that writes a table of an earlier version with a few jobs."""

    def write(version: int) -> Path:
        path = tmp_path / f"old{version}.sqlite3"
        with closing(sqlite3.connect(path)) as db:
            db.executescript({1: VERSION_1, 2: VERSION_2}[version] + JOBS)
            if version == 2:
                db.execute("""UPDATE jobs SET facts = '{"subject": "Ada"}' WHERE id = 'check'""")
                db.execute("UPDATE jobs SET facts = '{}' WHERE facts = ''")
                db.execute("INSERT INTO turns VALUES ('ada', 7)")
            db.commit()
        return path

    return write
