"""The command forget, as a person types it; `jobs list` and `jobs retry` are in web/page/test_retry.py."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.cli import main
from studio.core.config import CheckConfig
from studio.core.settings import Settings
from studio.service import Studio


@pytest.fixture
def studio(studio_home: Path, tmp_path: Path) -> Iterator[Studio]:
    """A studio with the photos of two owners in it."""
    studio = Studio(Settings(home=studio_home))
    photo = tmp_path / "me.jpg"
    photo.write_text("me")
    for subject, owner in (("Ada", "local"), ("Rex", "local"), ("Ada", "hf:bob")):
        studio.submit_check(CheckConfig(subject=subject), [photo], owner=owner)
    yield studio
    studio.close()


def left(studio: Studio) -> list[tuple[str, str | None]]:
    return [(owner, job.facts.subject) for owner in ("local", "hf:bob") for job in studio.list(owner=owner)]


def test_forgetting_wants_to_be_told_twice(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    before = left(studio)
    assert main.run(["forget", "--subject", "Ada"]) == 0
    said = capsys.readouterr().out
    assert "This would be deleted for good: 1 photo set; " in said and "add --yes" in said
    assert left(studio) == before
    assert main.run(["forget", "--subject", "Ada", "--yes"]) == 0
    said = capsys.readouterr().out
    assert "Deleted for good on " in said and "--yes" not in said
    assert left(studio) == [("local", "Rex"), ("hf:bob", "Ada")]


def test_a_job_or_everything_of_an_owner_is_forgotten(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    job = studio.list(owner="local")[0]
    assert main.run(["forget", job.id, "--yes", "--json"]) == 0
    receipt = json.loads(capsys.readouterr().out)
    assert receipt["jobs"] == [job.id] and receipt["files"] > 0 and receipt["forgotten_s"] > 0
    assert main.run(["forget", "--everything", "--owner", "hf:bob", "--yes"]) == 0
    assert left(studio) == [("local", "Ada")]
    assert main.run(["forget", "--everything", "--yes"]) == 0
    capsys.readouterr()
    assert main.run(["forget", "--everything"]) == 0 and capsys.readouterr().out == "There is nothing to delete.\n"


def test_what_is_not_there_or_not_said_is_refused(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    before = left(studio)
    foreign = studio.list(owner="hf:bob")[0].id
    for arguments, words in (
        ([], "--everything"),
        (["check-1", "--everything"], "told it twice"),
        ([foreign], foreign),
        (["--subject", "Adda"], "there are jobs of: Ada, Rex"),
    ):
        assert main.run(["forget", *arguments, "--yes"]) == 2
        assert words in capsys.readouterr().err
    assert left(studio) == before
