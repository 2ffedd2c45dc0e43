"""`python -m studio keys`, as a person types it."""

import json
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main
from studio.core.errors import LoginError
from studio.core.settings import load_settings
from studio.service import open_keys


def typed(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    assert main.run(["keys", *words, "--json"]) == code
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_a_key_is_made_listed_and_revoked(studio_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = typed(capsys, "create", "--owner", "ada", "--name", "laptop", "--days", "30", "--limit", "jobs=2")
    keys = open_keys(load_settings())
    try:
        found = keys.by_text(made["key"])
        assert (found.owner, found.scopes, found.quota) == ("ada", ("jobs",), {"jobs": 2})
        (row,) = typed(capsys, "list")["keys"]
        assert row["id"] == made["id"] and made["key"] not in json.dumps(row)
        typed(capsys, "revoke", made["key"])
        with pytest.raises(LoginError, match="revoked"):
            keys.by_text(made["key"])
    finally:
        keys.close()
    assert typed(capsys, "accesses") == {"accesses": []}


def test_a_person_is_shown_the_key_once(studio_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["keys", "list"]) == 0 and "There are no keys yet" in capsys.readouterr().out
    assert main.run(["keys", "create", "--owner", "ada", "--scopes", "read,publish"]) == 0
    said = capsys.readouterr().out
    text = said.split()[0]
    assert text.startswith("lsk_") and "shown this once" in said and "read and publish" in said
    assert main.run(["keys", "list"]) == 0
    said = capsys.readouterr().out
    assert text[:16] in said and text not in said


def test_wrong_words_are_told(studio_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "unknown_scope" in json.dumps(typed(capsys, "create", "--owner", "a", "--scopes", "root", code=2))
    assert "pounds" in json.dumps(typed(capsys, "create", "--owner", "a", "--limit", "pounds=1", code=2))
    typed(capsys, "revoke", "lsk_000000000000", code=2)
