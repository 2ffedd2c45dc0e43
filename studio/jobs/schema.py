"""The table of jobs as SQL: what it looks like, and how one of an earlier version becomes one of this version."""

VERSION = 2
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
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0,
    cause TEXT,
    problems TEXT NOT NULL DEFAULT '[]',
    progress TEXT NOT NULL DEFAULT '{}',
    result TEXT
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_key ON jobs (owner, key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state);
CREATE TABLE IF NOT EXISTS events (
    job TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, seq)
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
ALTER TABLE jobs ADD COLUMN facts TEXT NOT NULL DEFAULT '';
{FACTS_FROM_TITLES};
"""
"""What a table of version 1 lacks."""
