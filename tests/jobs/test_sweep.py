"""The clock: for owners who never return, and after kills."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import JobView
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs import sweep
from studio.jobs.events import Outcome
from studio.jobs.schema import JOBS
from studio.service import Studio

ADA, GONE = "hf:ada", "hf:gone"
DAY_S = 24 * 3600.0


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(Settings(home=tmp_path / "home", keep_days=30))
    yield studio
    studio.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "me.jpg"
    path.write_bytes(b"with GPS")
    return path


def end(studio: Studio, job: JobView, state: str = "completed", *, days_ago: float = 0.0) -> str:
    """Run a job by hand."""
    claim = studio._store.claim()
    assert claim is not None and claim.id == job.id
    out = studio.out_dir(job.id, owner=job.owner)
    out.mkdir()
    (out / "made.png").write_text("made")
    studio._store.finish(claim, Outcome(state, result={}))  # type: ignore[arg-type]
    with studio._store._database.write() as db:
        db.execute(update(JOBS).where(JOBS.c.id == job.id).values(finished_s=time.time() - days_ago * DAY_S))
    return job.id


def test_jobs_of_owners_who_never_return_are_forgotten_by_the_clock(studio: Studio, photo: Path) -> None:
    old = studio.submit_check(CheckConfig(subject="Old"), [photo], owner=GONE)
    end(studio, old, days_ago=31)
    run = studio.submit_train(TrainConfig(), old.id, owner=GONE)
    end(studio, run, "stalled", days_ago=30.5)
    fresh = studio.submit_check(CheckConfig(subject="Fresh"), [photo], owner=ADA)
    end(studio, fresh, days_ago=29)
    studio._clock.sweep()
    assert studio._store.owners() == [ADA]
    assert sorted(path.name for path in studio._jobs_dir.iterdir()) == [fresh.id]
    assert b"Old" not in (studio._home / "jobs.sqlite3").read_bytes()


def test_photos_stay_as_long_as_somebody_works_with_what_was_made_of_them(studio: Studio, photo: Path) -> None:
    check = studio.submit_check(CheckConfig(subject="Ada"), [photo], owner=ADA)
    end(studio, check, days_ago=90)
    run = studio.submit_train(TrainConfig(), check.id, owner=ADA)
    end(studio, run, days_ago=60)
    made = studio.submit_generate(GenerateConfig(prompts=("x",)), run.id, owner=ADA)
    end(studio, made, days_ago=1)
    unused = studio.submit_train(TrainConfig(seed=2), check.id, owner=ADA)
    end(studio, unused, days_ago=59)
    waiting = studio.submit_check(CheckConfig(subject="Waits"), [photo], owner=ADA)
    studio._clock.sweep()
    assert studio._store.ids() == {check.id, run.id, made.id, waiting.id}


def test_without_the_setting_jobs_are_kept(tmp_path: Path, photo: Path) -> None:
    studio = Studio(Settings(home=tmp_path / "home"))
    end(studio, studio.submit_check(CheckConfig(), [photo], owner=ADA), days_ago=10000)
    studio._clock.sweep()
    assert len(studio._store.ids()) == 1
    studio.close()


@pytest.mark.parametrize(("state", "stay"), [("completed", False), ("stalled", True), ("cancelled", True)])
def test_originals_go_when_the_crops_are_there_and_stay_for_a_retry(
    studio: Studio, photo: Path, state: str, stay: bool
) -> None:
    job = end(studio, studio.submit_check(CheckConfig(), [photo], owner=ADA), state)
    originals = studio._jobs_dir / job / "photos"
    assert originals.is_dir()
    studio._clock.has_ended(job)
    assert originals.exists() is stay
    studio._clock.sweep()
    assert originals.exists() is stay and (studio._jobs_dir / job / "out" / "made.png").is_file()


def test_a_kill_between_the_end_of_a_check_and_its_originals_is_made_up_for(studio: Studio, photo: Path) -> None:
    job = end(studio, studio.submit_check(CheckConfig(), [photo], owner=ADA))
    assert (studio._jobs_dir / job / "photos" / "me.jpg").is_file()
    studio._clock.sweep()
    assert not (studio._jobs_dir / job / "photos").exists()


def test_uploads_and_what_requests_lay_out_go_by_the_clock_for_all_owners(studio: Studio) -> None:
    studio._make_home()
    ages_s = {"f" * 64: 25 * 3600, "e" * 64: 23 * 3600, ".check-aa": 2 * 3600, ".check-bb": 600, ".f.01.part": 7200}
    for owner in ("a" * 32, "b" * 32):
        for name, age_s in ages_s.items():
            path = studio._home / "uploads" / owner / name
            path.mkdir(parents=True) if "check" in name else path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                (path / "me.jpg").write_text("x")
            else:
                path.write_text("x")
            os.utime(path, (time.time() - age_s,) * 2)
    studio._clock.sweep()
    left = sorted(path.name for path in (studio._home / "uploads").glob("*/*"))
    assert left == sorted(["e" * 64, ".check-bb"] * 2)


def test_what_killed_attempts_left_goes_once_the_job_has_ended(studio: Studio, photo: Path) -> None:
    ended = end(studio, studio.submit_check(CheckConfig(), [photo], owner=ADA), "cancelled")
    waits = studio.submit_check(CheckConfig(), [photo], owner=ADA).id
    for job in (ended, waits):
        (studio._jobs_dir / job / ".out.partial").mkdir()
        (studio._jobs_dir / job / ".out.partial" / "001.png").write_text("crop")
        (studio._jobs_dir / job / ".request.json.part").write_text("{")
    studio._clock.sweep()
    assert not list((studio._jobs_dir / ended).glob(".*"))
    assert len(list((studio._jobs_dir / waits).glob(".*"))) == 2, "it may be written right now"


def test_what_fails_keeps_nothing_else_from_being_swept(
    studio: Studio, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = end(studio, studio.submit_check(CheckConfig(), [photo], owner=ADA))
    monkeypatch.setattr(studio._store, "owners", lambda: 1 / 0)
    studio._clock.sweep()
    assert not (studio._jobs_dir / job / "photos").exists()


def test_orphaned_upload_is_removed_only_when_old_and_unknown(tmp_path: Path) -> None:
    for name in ("check-known", "check-fresh", "check-old"):
        (tmp_path / name / "photos").mkdir(parents=True)
    long_ago = time.time() - 7200
    for name in ("check-known", "check-old"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    sweep.remove_orphans(tmp_path, frozenset({"check-known"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["check-fresh", "check-known"]


def test_what_jobs_have_made_stays_when_the_table_is_lost_or_another_one(studio: Studio, photo: Path) -> None:
    job = end(studio, studio.submit_check(CheckConfig(), [photo], owner=ADA))
    studio.close()
    for path in studio._home.glob("jobs.sqlite3*"):
        path.unlink()
    os.utime(studio._jobs_dir / job, (time.time() - 7200,) * 2)
    again = Studio(Settings(home=studio._home))
    again._clock.sweep()
    assert again._store.ids() == set()
    assert (studio._jobs_dir / job / "out" / "made.png").is_file()
    again.close()
