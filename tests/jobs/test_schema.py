import json

import pytest
from sqlalchemy import insert, select

from studio.jobs.schema import JOBS, facts_from_title


@pytest.mark.parametrize(
    ("kind", "title", "facts"),
    [
        ("check", "Photos of Ada", '{"subject":"Ada"}'),
        ("train", "Training of Ada on pocket", '{"subject":"Ada","base":"pocket"}'),
        ("generate", "Pictures: places", '{"pack":"places"}'),
        ("export", "Export: kohya", '{"format":"kohya"}'),
        ("finish", "Finishing: avatar", '{"chain":"avatar"}'),
        ("publish", "Publishing: ada/x", '{"repo":"ada/x"}'),
    ],
)
def test_the_facts_of_version_1_are_read_out_of_its_titles(kind, title, facts):
    assert facts_from_title(kind, title) == facts


def test_a_new_row_says_nothing_that_nobody_has_said(new_database):
    database = new_database()
    with database.write() as db:
        db.execute(
            insert(JOBS).values(
                id="a", kind="check", state="pending", owner="o", title="t", fingerprint="f", created_s=database.now_s
            )
        )
        row = db.execute(select(JOBS)).mappings().one()
    told = {"number", "id", "kind", "state", "owner", "title", "fingerprint", "created_s"}
    assert {name: value for name, value in row.items() if name not in told and value is not None} == {
        "facts": "", "attempt": 0, "losses": 0, "stage": "", "reached": "{}", "cancel_requested": 0, "last_seq": 0,
        "problems": "[]", "progress": "{}", "hearts": "[]",
    }  # fmt: skip
    assert row["number"] == 1 and json.loads(row["reached"]) == {}
