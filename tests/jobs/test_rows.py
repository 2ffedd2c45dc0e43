import json

import pytest
from sqlalchemy import insert, update

from studio.jobs.rows import KEPT, SEEN, cause_of_source, views_of
from studio.jobs.schema import JOBS


@pytest.fixture
def db(new_database):
    database = new_database()
    with database.write() as made:
        yield made


def put(db, name, state, source=None, kind="train"):
    facts = json.dumps({"subject": "Ada"})
    row = {"id": name, "kind": kind, "state": state, "owner": "ada", "title": "T", "facts": facts, "source": source}
    db.execute(insert(JOBS).values(fingerprint="f", created_s=1.0, **row))


def view(db, name):
    (found,) = views_of(db, SEEN.where(JOBS.c.id == name))
    return found


def test_a_row_becomes_what_its_owner_sees(db):
    put(db, "t", "training")
    seen = view(db, "t")
    assert (seen.id, seen.kind, seen.state, seen.owner, seen.facts.subject) == ("t", "train", "training", "ada", "Ada")
    assert (seen.problems, seen.progress, seen.result, seen.waits_for) == ((), {}, None, None)
    assert (seen.created_s, seen.started_s) == (1.0, None)


def test_a_waiting_job_names_its_source_until_that_is_done(db):
    put(db, "c", "checking", kind="check")
    put(db, "t", "pendingImages", source="c")
    found = view(db, "t").waits_for
    assert found is not None and (found.id, found.kind, found.title) == ("c", "check", "T")
    db.execute(update(JOBS).where(JOBS.c.id == "c").values(state="completed"))
    assert view(db, "t").waits_for is None


def test_a_backup_keeps_only_columns_that_there_are():
    assert set(KEPT) <= set(JOBS.c.keys())


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
def test_a_job_that_can_never_begin_says_once_what_to_retry(state, cause, words):
    facts = json.dumps({"subject": "Ada"})
    row = {"source_kind": "train", "source_state": state, "source_facts": facts, "source_cause": cause}
    assert cause_of_source(row) == words
