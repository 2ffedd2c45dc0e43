"""The commands on jobs, as a person types them; `jobs list` and `jobs retry` are in web/page/test_retry.py, too."""

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.cli import main
from studio.core.config import CheckConfig
from studio.core.domain import Event
from studio.core.evicted import Evicted, mark
from studio.core.settings import Settings
from studio.jobs.events import Outcome
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store
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


def ran(studio_home: Path, outcome: Outcome | None, *events: Event) -> Store:
    """Let the first job of the queue run as a server would, and end it; it runs on without an outcome."""
    store = Store(SqliteDatabase(studio_home / "jobs.sqlite3"))
    claim = store.claim()
    assert claim is not None
    store.append(claim, events)
    folder = studio_home / "jobs" / claim.id
    (folder / "out").mkdir()
    with (folder / "log.txt").open("a") as log:
        log.write("--- attempt 1\nloading, öfter\n")
    if outcome is not None:
        store.finish(claim, outcome)
    return store


def said_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main.run(["jobs", *arguments]) == 0
    return capsys.readouterr().out


def test_jobs_are_listed(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    ids = [job.id for job in studio.list(owner="local")]
    assert [row["id"] for row in json.loads(said_of(capsys, "list", "--json"))["jobs"]] == ids
    assert all(job_id in said_of(capsys, "list") for job_id in ids)


def test_a_job_is_shown_with_its_problems_and_its_folder(
    studio: Studio, studio_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = studio.list(owner="local")[-1].id
    assert json.loads(said_of(capsys, "show", job, "--json"))["folder"] is None
    problem = {"where": "a.jpg", "message": "is dark", "cure": "take another one", "code": "dark"}
    ran(studio_home, Outcome("stalled", cause="One photo cannot be used.", problems=(problem,))).close()
    said = said_of(capsys, "show", job)
    assert f"{job} (" in said and "is stalled: One photo cannot be used." in said
    assert "a.jpg: is dark; take another one" in said
    assert f"Its files are in {studio_home / 'jobs' / job / 'out'}" in said
    assert "Attempts so far: 1" in said and "ended 20" in said
    told = json.loads(said_of(capsys, "show", job, "--json"))
    assert (told["state"], told["problems"]) == ("stalled", [problem])
    assert said_of(capsys, "retry", job).startswith(f"{job} (")
    assert studio.get(job, owner="local").state == "pending"


def test_a_job_is_cancelled_at_once_or_asked_to_stop(
    studio: Studio, studio_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second, first = (job.id for job in studio.list(owner="local"))
    store = ran(studio_home, None)
    assert "it was asked to stop" in said_of(capsys, "cancel", first)
    assert studio.get(first, owner="local").state == "checking"
    assert json.loads(said_of(capsys, "cancel", second, "--json"))["state"] == "cancelled"
    assert "is cancelled" in said_of(capsys, "cancel", second)
    store.close()


def test_its_log_and_its_events_are_printed(
    studio: Studio, studio_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = studio.list(owner="local")[-1].id
    assert said_of(capsys, "logs", job) == ""
    stage = Event("stage", {"name": "loading", "message": "Loading"})
    progress = Event("progress", {"step": 3, "total": 9, "eta_s": None, "message": "photos"})
    warning = Event("message", {"level": "warning", "text": "It is öde."})
    ran(studio_home, Outcome("completed", result={}), stage, progress, warning).close()
    assert said_of(capsys, "logs", job) == "--- attempt 1\nloading, öfter\n"
    lines = said_of(capsys, "logs", job, "--json").splitlines()
    assert [json.loads(line) for line in lines] == [{"line": "--- attempt 1"}, {"line": "loading, öfter"}]
    assert said_of(capsys, "events", job).splitlines() == [
        "    1 stage     Loading",
        "    2 progress  3 of 9 photos",
        "    3 message   warning: It is öde.",
    ]
    (row,) = map(json.loads, said_of(capsys, "events", job, "--after", "2", "--json").splitlines())
    assert row == {"seq": 3, "kind": "message", "data": {"level": "warning", "text": "It is öde."}}


def test_they_are_followed_until_the_job_has_ended(
    studio: Studio, studio_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = studio.list(owner="local")[-1].id

    def run() -> None:
        time.sleep(0.3)
        ran(studio_home, Outcome("completed", result={}), Event("stage", {"name": "loading"})).close()

    thread = threading.Thread(target=run)
    thread.start()
    (row,) = map(json.loads, said_of(capsys, "events", job, "--follow", "--json").splitlines())
    thread.join()
    assert row["data"] == {"name": "loading"}
    assert "loading, öfter" in said_of(capsys, "logs", job, "--follow")


def test_weights_that_lie_in_the_backup_alone_are_fetched(
    studio: Studio,
    studio_home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    job = studio.list(owner="local")[-1].id
    assert said_of(capsys, "fetch", job) == "All of its weights are here.\n"
    weights = studio_home / "jobs" / job / "out" / "adapter" / "weights.safetensors"
    weights.parent.mkdir(parents=True)
    mark(weights, Evicted(2, hashlib.sha256(b"ww").hexdigest()))
    assert main.run(["jobs", "fetch", job]) == 1
    assert "STUDIO_BACKUP_URL" in capsys.readouterr().err
    there = tmp_path / "vault" / "jobs" / job / "files" / "out" / "adapter" / weights.name
    there.parent.mkdir(parents=True)
    there.write_bytes(b"ww")
    monkeypatch.setenv("STUDIO_BACKUP_URL", f"file://{tmp_path / 'vault'}")
    assert json.loads(said_of(capsys, "fetch", job, "--json")) == {"job": job, "fetched": 1}
    assert weights.read_bytes() == b"ww"


@pytest.mark.parametrize("command", ["show", "cancel", "retry", "logs", "events", "fetch"])
def test_no_command_knows_the_jobs_of_others(studio: Studio, capsys: pytest.CaptureFixture[str], command: str) -> None:
    foreign = studio.list(owner="hf:bob")[0].id
    assert main.run(["jobs", command, foreign]) == 2
    assert f"there is no job '{foreign}'" in capsys.readouterr().err
