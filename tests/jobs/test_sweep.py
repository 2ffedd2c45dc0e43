"""The clock: for owners who never return, and after kills."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from studio.core.config import CheckConfig, GenerateConfig
from studio.core.domain import JobView
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs import forget, moves, sweep
from studio.jobs.events import Outcome
from studio.jobs.pause import PAUSE_FILE, pause
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


def test_where_people_log_in_thirty_days_are_kept_unless_the_operator_says_otherwise(
    tmp_path: Path, photo: Path
) -> None:
    for number, (given, is_kept) in enumerate([({}, False), ({"keep_days": 0}, True)]):
        studio = Studio(Settings(home=tmp_path / f"home{number}", login=True, **given))
        end(studio, studio.submit_check(CheckConfig(), [photo], owner=ADA), days_ago=31)
        kept = studio.submit_check(CheckConfig(), [photo], owner=ADA)
        end(studio, kept, days_ago=29)
        studio._clock.sweep()
        assert (len(studio._store.ids()) == 2) is is_kept and kept.id in studio._store.ids()
        studio.close()


def test_an_owner_who_wants_less_gets_it_and_nobody_else_does(studio: Studio, photo: Path) -> None:
    studio.keep_for(7, owner=ADA)
    for owner in (ADA, GONE):
        end(studio, studio.submit_check(CheckConfig(), [photo], owner=owner), days_ago=8)
    studio._clock.sweep()
    assert studio._store.owners() == [GONE]
    (receipt,) = studio.receipts(owner=ADA)
    assert receipt.kept_days == 7 and receipt.forgotten_s is not None and receipt.files > 0
    assert studio.receipts(owner=GONE) == ()


def test_an_owner_may_want_it_on_a_machine_that_keeps_everything(tmp_path: Path, photo: Path) -> None:
    studio = Studio(Settings(home=tmp_path / "home"))
    studio.keep_for(0.5, owner=ADA)
    end(studio, studio.submit_check(CheckConfig(), [photo], owner=ADA), days_ago=1)
    studio._clock.sweep()
    assert studio._store.ids() == frozenset()
    studio.close()


def test_a_kill_while_the_clock_deletes_is_made_up_for(
    studio: Studio, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo.write_bytes(b"Markaq7 with GPS")
    job = studio.submit_check(CheckConfig(subject="Markaq7"), [photo], owner=ADA)
    end(studio, job, "stalled", days_ago=31)

    class Killed(BaseException):
        """Stands for SIGKILL."""

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as fault:
        row = forget.BELONGINGS["rows"]
        fault.setattr(forget, "BELONGINGS", {**forget.BELONGINGS, "rows": replace(row, drop=killed)})
        with pytest.raises(Killed):
            studio._clock.sweep()
    assert job.id in studio._store.ids()
    studio.close()
    again = Studio(studio._settings)
    again.start()
    again.close()
    held = [path for path in (studio._home).rglob("*") if path.is_file() and b"Markaq7" in path.read_bytes()]
    assert held == [] and again._store.ids() == frozenset()
    (receipt,) = again.receipts(owner=ADA)
    assert receipt.jobs == (job.id,) and receipt.kept_days == 30 and receipt.forgotten_s is not None
    again.close()


def test_what_the_page_took_in_or_showed_a_day_ago_is_deleted(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that broke off, and a tab that stays open: Gradio deletes neither."""
    cut = studio._home / "web-cache" / "of-1" / "tmpabc"
    shown = studio._home / "web-cache" / "of-1" / "digest" / "me.jpg"
    shown.parent.mkdir(parents=True)
    for path in (cut, shown):
        path.write_bytes(b"half a photo")
        os.utime(path, (0, 0))  # as a link to a picture of last year is
    studio._clock.sweep()
    assert cut.exists() and shown.exists()
    real = time.time
    monkeypatch.setattr(sweep.time, "time", lambda: real() + DAY_S + 60)
    studio._clock.sweep()
    assert not cut.exists() and not shown.parent.exists() and cut.parent.parent.is_dir()


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
        for path in (studio._jobs_dir / job).glob(".*"):
            os.utime(path, (time.time() - 7200,) * 2)
    coming = studio._jobs_dir / ended / ".weights-aabb.part"
    coming.write_text("on its way from the backup")
    studio._clock.sweep()
    assert list((studio._jobs_dir / ended).glob(".*")) == [coming]
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


def waited(studio: Studio, job: JobView, days: float) -> None:
    """Let a job have waited for so long."""
    with studio._store._database.write() as db:
        since = {"created_s": time.time() - days * DAY_S}
        db.execute(update(JOBS).where(JOBS.c.id == job.id).values(since))


def test_a_job_that_waits_too_long_for_its_turn_ends_with_a_cause_and_may_be_retried(
    tmp_path: Path, photo: Path
) -> None:
    studio = Studio(Settings(home=tmp_path / "home", wait_days=7))
    old = studio.submit_check(CheckConfig(subject="Old"), [photo], owner=GONE)
    then = studio.submit_train(TrainConfig(), old.id, owner=GONE)
    fresh = studio.submit_check(CheckConfig(subject="Fresh"), [photo], owner=ADA)
    waited(studio, old, 7.5)
    waited(studio, then, 7.5)
    waited(studio, fresh, 6.5)
    studio._clock.sweep()
    view = studio.get(old.id, owner=GONE)
    assert (view.state, view.cause) == ("stalled", moves.EXPIRED) and view.finished_s is not None
    assert studio.get(fresh.id, owner=ADA).state == "pending"
    studio._store.survey(device_busy=False)
    assert studio.get(then.id, owner=GONE).state == "stalled", "what waits for another job goes with that one"
    studio.retry(old.id, owner=GONE)
    studio._clock.sweep()
    assert studio.get(old.id, owner=GONE).state == "pending", "from its retry on it waits anew"
    studio.cancel(fresh.id, owner=ADA)
    claim = studio._store.claim()
    assert claim is not None and claim.id == old.id
    assert studio._store.release(claim)
    studio._clock.sweep()
    assert studio.get(old.id, owner=GONE).state == "pending", "and so it does after an attempt"
    studio.close()


def test_no_job_ends_because_of_its_waiting_while_the_queue_is_paused(tmp_path: Path, photo: Path) -> None:
    studio = Studio(Settings(home=tmp_path / "home", wait_days=7))
    job = studio.submit_check(CheckConfig(subject="Old"), [photo], owner=ADA)
    waited(studio, job, 7.5)
    pause(studio._home, on=True)
    studio._clock.sweep()
    assert studio.get(job.id, owner=ADA).state == "pending"
    pause(studio._home, on=False)
    studio._clock.sweep()
    assert studio.get(job.id, owner=ADA).state == "stalled"
    studio.close()


def test_the_time_of_a_pause_does_not_count_as_waiting_once_it_is_over(tmp_path: Path, photo: Path) -> None:
    studio = Studio(Settings(home=tmp_path / "home", wait_days=7))
    jobs = [studio.submit_check(CheckConfig(subject=name), [photo], owner=ADA) for name in ("Six", "Eight", "Ten")]
    for job, days in zip(jobs, (6.0, 8.0, 12.0), strict=True):
        waited(studio, job, days)
    studio.operation.pause(on=True)
    began_s = time.time() - 4 * DAY_S
    os.utime(studio._home / PAUSE_FILE, (began_s, began_s))
    studio.operation.pause(on=True)  # twice is once
    studio.close()
    again = Studio(Settings(home=tmp_path / "home", wait_days=7))
    again.operation.pause(on=False)
    with again._store._database.write() as db:
        rows = db.execute(select(JOBS.c.waits_since_s).order_by(JOBS.c.number)).scalars()
        assert [(time.time() - since_s) / DAY_S for since_s in rows] == pytest.approx([2.0, 4.0, 8.0], abs=0.01)
    again._clock.sweep()
    states = [again.get(job.id, owner=ADA).state for job in jobs]
    assert states == ["pending", "pending", "stalled"]
    late = again.submit_check(CheckConfig(subject="Late"), [photo], owner=ADA)
    again.operation.pause(on=True)
    os.utime(again._home / PAUSE_FILE, (began_s, began_s))
    again.operation.pause(on=False)  # the job came in the middle of it
    again.operation.pause(on=False)
    with again._store._database.write() as db:
        since_s = db.scalar(select(JOBS.c.waits_since_s).where(JOBS.c.id == late.id))
        assert since_s == pytest.approx(time.time(), abs=60), "and not in the future"
    again.close()


@pytest.mark.parametrize(
    ("given", "days"), [({}, None), ({"auth": "keys"}, 7.0), ({"auth": "keys", "wait_days": 0}, None)]
)
def test_a_laptop_lets_jobs_wait_for_ever_and_a_service_a_week(given: Any, days: float | None, tmp_path: Path) -> None:
    studio = Studio(Settings(home=tmp_path / "home", **given))
    assert studio._clock.wait_days == days
    studio.close()
