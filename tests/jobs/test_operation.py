"""What the operator sees and does, on the real queue and worker with verbs that need no model."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.core import machine
from studio.core.config import CheckConfig
from studio.core.errors import ConflictError, NotFoundError, ResourceError
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs import operation
from studio.jobs.operation import bytes_below
from studio.service import Studio


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_verbs: Any) -> Iterator[Studio]:
    monkeypatch.setenv("PYTHONPATH", str(Path(fake_verbs.__file__).parent))
    monkeypatch.setattr(operation, "_MEASURED_S", 0.0)
    made = Studio(Settings(home=tmp_path / "home", device="cpu"), verbs=fake_verbs.VERBS, grace_s=1.0)
    yield made
    made.close()


@pytest.fixture
def check(studio: Studio, tmp_path: Path) -> Callable[[str], str]:
    """Submit a check of an owner; return its id."""
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"a photo")

    def submit(owner: str) -> str:
        return studio.submit_check(CheckConfig(subject="quick", class_noun="person"), [photo], owner=owner).id

    return submit


def until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.02)


def test_the_queue_of_all_owners_is_seen_and_nothing_of_what_jobs_are_about(
    studio: Studio, check: Callable[[str], str]
) -> None:
    jobs = [check("ada"), check("eve")]
    look = studio.operation.look()
    assert [(job.id, job.owner, job.state, job.place) for job in look.jobs] == [
        (jobs[1], "eve", "pending", 2), (jobs[0], "ada", "pending", 1)
    ]  # fmt: skip
    assert (look.leads, look.led, look.slots, look.running, look.paused) == (False, False, 1, 0, False)
    assert 0 < look.memory_free_bytes <= look.memory_bytes and look.cores > 0
    assert all(0 <= job.waited_s <= job.age_s < 60 and job.memory_bytes is None for job in look.jobs)
    assert "quick" not in repr(look) and "one.jpg" not in repr(look)


def test_nothing_new_begins_while_the_queue_is_paused_and_a_restart_changes_that_not(
    studio: Studio, check: Callable[[str], str], tmp_path: Path, fake_verbs: Any
) -> None:
    studio.start()
    studio.operation.pause(on=True)
    job = check("ada")
    time.sleep(1.5)
    assert studio.get(job, owner="ada").state == "pending" and studio.operation.look().paused
    studio.close()
    again = Studio(Settings(home=tmp_path / "home", device="cpu"), verbs=fake_verbs.VERBS, grace_s=1.0)
    try:
        again.start()
        assert again.operation.is_paused() and again.operation.look().leads
        time.sleep(0.5)
        assert again.get(job, owner="ada").state == "pending"
        again.operation.pause(on=False)
        assert again.wait(job, owner="ada", timeout_s=30).state == "completed"
    finally:
        again.close()


def test_what_runs_is_seen_with_its_memory_goes_on_in_a_pause_and_can_be_cancelled_and_put_back(
    studio: Studio, check: Callable[[str], str]
) -> None:
    studio.start()
    source = check("ada")
    run = studio.submit_train(TrainConfig(instance_token="count 1000 1000"), source, owner="ada").id
    until(lambda: any(job.id == run and job.memory_bytes for job in studio.operation.look().jobs))
    studio.operation.pause(on=True)
    (seen,) = studio.operation.look().jobs
    assert (seen.id, seen.attempt, studio.operation.look().running) == (run, 1, 1)
    with pytest.raises(ConflictError):
        studio.operation.retry(run)
    studio.operation.cancel(run, by="operator")
    until(lambda: studio.get(run, owner="ada").state == "cancelled")
    told = [event.data["text"] for _, event in studio.events(run, owner="ada") if event.kind == "message"]
    assert "The operator of this studio cancelled it." in told
    studio.operation.retry(run)
    assert studio.operation.look().jobs[0].state in ("pending", "pendingGpu")
    studio.operation.cancel(run, by="ada")
    again = [event.data["text"] for _, event in studio.events(run, owner="ada") if event.kind == "message"]
    assert again.count("The operator of this studio cancelled it.") == 1, "of one's own it is not said"
    for act in (studio.operation.retry, lambda job: studio.operation.cancel(job, by="ada")):
        with pytest.raises(NotFoundError, match="no job 'train-x'"):
            act("train-x")


def test_the_disk_is_told_by_place_and_by_owner(
    studio: Studio, check: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "gpus", lambda: (machine.Gpu("H200", 1, 2),))
    job = check("ada")
    home = tmp_path / "home"
    (home / "cache" / "pictures" / ("ad" * 32)).mkdir(parents=True)
    (home / "cache" / "pictures" / ("ad" * 32) / "one.png").write_bytes(b"x" * 300)
    (home / "bases").mkdir()
    (home / "bases" / "base.bin").write_bytes(b"x" * 5000)
    (home / "notes.txt").write_bytes(b"x" * 40)
    held = studio.operation.measure()
    assert (held.places["results"], held.results, held.results_bytes) == (300, 1, 300)
    assert (held.places["bases"], held.places["jobs"]) == (5000, bytes_below(home / "jobs"))
    assert sum(held.places.values()) == bytes_below(home)
    assert [(share.owner, share.jobs, share.bytes) for share in held.owners] == [
        ("ada", 1, bytes_below(home / "jobs" / job))
    ]
    assert held.owners[0].bytes > 7 and held.gpus[0].name == "H200" and held.disk_free_bytes <= held.disk_bytes
    assert studio.operation.clear_results() == (1, 300)
    assert studio.operation.measure().places["results"] == 0
    assert bytes_below(home / "jobs") == held.places["jobs"], "what jobs have made stays"


def test_what_the_disk_holds_is_not_read_anew_for_every_look(
    studio: Studio, check: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation, "_MEASURED_S", 30.0)
    check("ada")
    first = studio.operation.measure()
    check("eve")
    assert studio.operation.measure() is first
    studio.operation.clear_results()
    assert [share.owner for share in studio.operation.measure().owners] != ["ada"]


def test_a_result_cache_out_of_reach_is_told_and_hides_nothing_else(
    studio: Studio, check: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(settings: Settings, *, dry_run: bool = False) -> tuple[int, int]:
        raise OSError("ConnectionError")

    check("ada")
    monkeypatch.setattr("studio.pictures.picture_cache.clear", unreachable)
    assert studio.operation.measure().results is None and studio.operation.measure().places["jobs"] > 0
    with pytest.raises(ResourceError, match="cannot be reached"):
        studio.operation.clear_results()


def test_what_goes_on_is_seen_with_its_device_and_its_owners_use(studio: Studio, check: Callable[[str], str]) -> None:
    studio.start()
    quiet = studio.operation.activity()
    assert quiet.running == () and [device.name for device in quiet.devices] == ["cpu"] and quiet.money is None
    source = check("ada")
    run = studio.submit_train(TrainConfig(instance_token="count 1000 1000"), source, owner="ada").id
    until(lambda: any(run in device.jobs for device in studio.operation.activity().devices))
    seen = studio.operation.activity()
    (job,) = seen.running
    assert (job.id, job.owner, job.server, job.is_ours, job.place) == (run, "ada", seen.server, True, None)
    (ada,) = studio.operation.measure().owners
    assert ada.used is not None and ada.used.use.jobs == 1 and ada.used.use.photos == 0 and ada.jobs == 2
    studio.cancel(run, owner="ada")
    studio.wait(run, owner="ada", timeout_s=30)
    until(lambda: not any(device.jobs for device in studio.operation.activity().devices))
    assert "quick" not in repr(studio.operation.activity()) + repr(studio.operation.measure())


def test_every_cache_is_seen_with_its_limit(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for name in ("cache/class_images/abc/1.png", "cache/pictures/ab/1.png", "bases/one/model.bin", "bases/one.lock"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(b"12345")
    settings = Settings(home=home, device="cpu", backup_url=f"file://{tmp_path}/vault", weights_max_bytes=7)  # type: ignore[arg-type]
    studio = Studio(settings)
    caches = {cache.name: cache for cache in studio.operation.measure().caches}
    studio.close()
    assert set(caches) == {"results", "bases", "weights", "class_images"}
    assert (caches["results"].entries, caches["results"].bytes) == (1, 5)
    assert (caches["bases"].entries, caches["bases"].limit_bytes) == (1, settings.bases_max_bytes)
    assert (caches["weights"].bytes, caches["weights"].limit_bytes) == (0, 7)
    assert (caches["class_images"].entries, caches["class_images"].bytes) == (1, 5)
