import json
import sqlite3

import pytest

from studio.jobs.rows import KEPT, cause_of_source, view_of
from studio.jobs.schema import SCHEMA


@pytest.fixture
def db():
    with sqlite3.connect(":memory:") as made:
        made.row_factory = sqlite3.Row
        made.executescript(SCHEMA)
        yield made
    made.close()


def put(db, name, state, source=None, kind="train"):
    db.execute(
        "INSERT INTO jobs (id, kind, state, owner, title, facts, source, fingerprint, created_s) "
        "VALUES (?, ?, ?, 'ada', 'T', ?, ?, 'f', 1.0)",
        (name, kind, state, json.dumps({"subject": "Ada"}), source),
    )
    return db.execute("SELECT * FROM jobs WHERE id = ?", (name,)).fetchone()


def test_a_row_becomes_what_its_owner_sees(db):
    view = view_of(db, put(db, "t", "training"))
    assert (view.id, view.kind, view.state, view.owner, view.facts.subject) == ("t", "train", "training", "ada", "Ada")
    assert (view.problems, view.progress, view.result, view.waits_for) == ((), {}, None, None)


def test_a_waiting_job_names_its_source_until_that_is_done(db):
    put(db, "c", "checking", kind="check")
    waiting = put(db, "t", "pendingImages", source="c")
    found = view_of(db, waiting).waits_for
    assert found is not None and (found.id, found.kind) == ("c", "check")
    db.execute("UPDATE jobs SET state = 'completed' WHERE id = 'c'")
    assert view_of(db, waiting).waits_for is None


def test_a_backup_keeps_only_columns_that_there_are(db):
    assert set(KEPT) <= set(put(db, "t", "pending").keys())


@pytest.mark.parametrize(
    ("state", "cause", "words"),
    [
        ("cancelled", None, "The training of Ada was cancelled.\nRetry that job first, then this one."),
        ("stalled", "No room.", "The training of Ada stopped early: No room.\nRetry that job first, then this one."),
        (
            "stalled",
            "No room.\nRetry that job first, then this one.",
            "The training of Ada stopped early: No room.\nRetry that job first, then this one.",
        ),
    ],
)
def test_a_job_that_can_never_begin_says_once_what_to_retry(db, state, cause, words):
    facts = json.dumps({"subject": "Ada"})
    query = "SELECT 'train' AS source_kind, ? AS source_state, ? AS source_facts, ? AS source_cause"
    assert cause_of_source(db.execute(query, (state, facts, cause)).fetchone()) == words
