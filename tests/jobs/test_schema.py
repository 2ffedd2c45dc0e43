import sqlite3

import pytest

from studio.jobs.schema import FACTS_FROM_TITLES, SCHEMA, words_for


def test_the_facts_of_version_1_are_read_out_of_its_titles():
    db = sqlite3.connect(":memory:")
    db.executescript(SCHEMA)
    titles = {"check": "Photos of Ada", "train": "Training of Ada on pocket", "export": "Export: kohya"}
    for kind, title in titles.items():
        db.execute(
            "INSERT INTO jobs (id, kind, state, owner, title, fingerprint, created_s) "
            "VALUES (?, ?, 's', 'o', ?, 'f', 0)",
            (kind, kind, title),
        )
    db.execute(FACTS_FROM_TITLES)
    found = dict(db.execute("SELECT id, facts FROM jobs"))
    db.close()
    assert found == {
        "check": '{"subject":"Ada"}',
        "train": '{"subject":"Ada","base":"pocket"}',
        "export": '{"format":"kohya"}',
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, "held by another program"),
        (sqlite3.SQLITE_CORRUPT, "move the file"),
        (sqlite3.SQLITE_FULL, "disk is full"),
        (sqlite3.SQLITE_CANTOPEN, "folder {folder} and its files are yours"),
        (None, "start the studio again"),
    ],
)
def test_an_error_of_the_table_is_told_with_its_cure(tmp_path, code, words):
    error = sqlite3.OperationalError("x")
    if code is not None:
        error.sqlite_errorcode = code
    assert words.format(folder=tmp_path) in words_for(error, tmp_path / "jobs.sqlite3")
