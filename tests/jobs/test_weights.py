"""Weights of completed jobs within a size: what goes, what stays, and how it comes back."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from studio.core.adapters import adapter_folder, adapter_sha256
from studio.core.config import CheckConfig, GenerateConfig
from studio.core.errors import InputError, NotFoundError, ResourceError, UnavailableError
from studio.core.evicted import evicted, evicted_below
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.jobs import weights as weights_module
from studio.jobs.backup import Backup
from studio.jobs.events import Outcome
from studio.jobs.forget import _adapters, _copies
from studio.jobs.queue import NewJob
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store
from studio.jobs.weights import Weights
from studio.service import Studio

ADAPTER = "adapter/pytorch_lora_weights.safetensors"
CHECKPOINT = "checkpoints/000400/pytorch_lora_weights.safetensors"
SIZE = 1000


def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.01)


class Home:
    """One installation with completed trainings, each used ``age`` hours ago."""

    def __init__(self, folder: Path, vault: Path, limit: int | None) -> None:
        self.settings = Settings(
            home=folder,
            backup_url=f"file://{vault}",  # type: ignore[arg-type]
            weights_max_bytes=limit,
        )
        self.vault, self.jobs = vault, folder / "jobs"
        self.jobs.mkdir(parents=True, exist_ok=True)
        self.store = Store(SqliteDatabase(folder / "jobs.sqlite3"))
        self.weights = Weights(self.settings, self.store, self.jobs, waits_s=(0.01,))
        self.backup = Backup(self.settings, self.store, self.jobs, waits_s=(0.01,))

    def train(self, number: int, age_h: float) -> str:
        job_id = f"train-{number:016x}"
        out = self.jobs / job_id / "out"
        for name in (ADAPTER, CHECKPOINT):
            (out / name).parent.mkdir(parents=True)
            (out / name).write_bytes(bytes([number]) * (SIZE if name == ADAPTER else 2 * SIZE))
            os.utime(out / name, (time.time() - age_h * 3600,) * 2)
        (out / "adapter" / "adapter.json").write_text("{}")
        (out / "report.json").write_text("{}")
        self.store.insert(NewJob(job_id, "train", "ada", f"Run {number}", "print"))
        claim = self.store.claim()
        assert claim is not None
        self.store.finish(claim, Outcome("completed", result={}))
        return job_id

    def save(self) -> None:
        self.backup.start()
        until(lambda: {path.parent.name for path in self.vault.glob("jobs/*/DONE")} >= set(self.store.completed()))
        self.backup.close()

    def out(self, job_id: str) -> Path:
        return self.jobs / job_id / "out"

    def away(self, job_id: str) -> list[str]:
        return [path.relative_to(self.out(job_id)).as_posix() for path, _ in evicted_below(self.out(job_id))]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    made: list[Home] = []

    def home(limit: int | None = 0, name: str = "home") -> Home:
        made.append(Home(tmp_path / name, tmp_path / "vault", limit))
        return made[-1]

    yield home
    for one in made:
        one.backup.close()
        one.store.close()


def emptied(make: Callable[..., Home]) -> tuple[Home, str]:
    """Return a home with one run, whose weights lie in the backup alone."""
    home = make()
    job = home.train(1, age_h=2)
    home.save()
    home.weights.evict()
    assert home.away(job) == [ADAPTER, CHECKPOINT]
    return home, job


def test_the_least_recently_used_weights_go_first_and_no_more_than_needed(make: Callable[..., Home]) -> None:
    home = make(limit=5 * SIZE)
    old, older = home.train(1, age_h=2), home.train(2, age_h=3)
    home.save()
    assert home.weights.sizes() == (6 * SIZE, 0)
    digest = adapter_sha256(home.out(older) / "adapter")
    home.weights.bring(older, [ADAPTER])  # used now, so that its checkpoint is the oldest
    assert home.weights.evict() == 2 * SIZE
    assert home.away(older) == [CHECKPOINT] and not home.away(old)
    assert home.weights.evict() == 0, "it is small enough now"
    assert home.weights.evict(room_bytes=4 * SIZE) == 3 * SIZE, "the other one makes room; what was just used stays"
    assert home.away(old) == [ADAPTER, CHECKPOINT] and home.away(older) == [CHECKPOINT]
    assert home.weights.sizes() == (SIZE, 5 * SIZE)
    assert (home.out(old) / "report.json").is_file() and (home.out(old) / "adapter" / "adapter.json").is_file()

    assert home.weights.bring(old, ["adapter"]) == 1
    assert (home.out(old) / ADAPTER).read_bytes() == bytes([1]) * SIZE and home.away(old) == [CHECKPOINT]
    assert home.weights.bring(old) == 1 and home.weights.bring(old) == 0
    assert adapter_sha256(home.out(older) / "adapter") == digest
    assert not list(home.jobs.rglob("*.part"))


def test_a_run_is_still_known_by_its_weights_and_verbs_say_where_they_are(make: Callable[..., Home]) -> None:
    home = make()
    job = home.train(1, age_h=2)
    before = adapter_sha256(home.out(job) / "adapter")
    home.save()
    home.weights.evict()
    assert not (home.out(job) / ADAPTER).exists() and adapter_sha256(home.out(job) / "adapter") == before
    for checkpoint in (None, 400):
        with pytest.raises(NotFoundError, match=f"in the backup alone; `python -m studio jobs fetch {job}`"):
            adapter_folder(home.out(job), checkpoint)
    home.weights.bring(job)
    assert adapter_folder(home.out(job), 400) == home.out(job) / "checkpoints" / "000400"


def test_what_the_backup_does_not_have_whole_stays(make: Callable[..., Home]) -> None:
    home = make()
    changed, missing, cut, unsealed, new = (home.train(number, age_h=2) for number in range(1, 6))
    home.save()
    (home.out(changed) / ADAPTER).write_bytes(b"X" * SIZE)
    os.utime(home.out(changed) / ADAPTER, (time.time() - 7200,) * 2)
    files = home.vault / "jobs"
    (files / missing / "files" / "out" / ADAPTER).unlink()
    (files / cut / "files" / "out" / ADAPTER).write_bytes(b"")
    (files / unsealed / "DONE").unlink()
    shutil.rmtree(files / new)
    home.weights.evict()
    for job in (changed, missing, cut):
        assert home.away(job) == [CHECKPOINT], "only what is there goes"
    assert not home.away(unsealed) and not home.away(new)


def test_what_an_open_job_reads_stays_and_so_does_what_is_being_fetched(make: Callable[..., Home]) -> None:
    home = make()
    job = home.train(1, age_h=2)
    home.save()
    home.store.insert(NewJob("generate-0000000000000001", "generate", "ada", "Pictures", "other", job))
    assert home.weights.evict() == 0
    claim = home.store.claim()
    assert claim is not None and home.weights.evict() == 0, "nor when it runs"
    home.store.finish(claim, Outcome("completed", result={}))
    lock = weights_module.Lock(home.jobs / job / ".weights.lock", weights_module.fcntl.LOCK_EX)
    assert home.weights.evict() == 0
    lock.close()
    assert home.weights.evict() == 3 * SIZE


def test_without_a_limit_or_a_backup_nothing_goes(make: Callable[..., Home], tmp_path: Path) -> None:
    home = make(limit=None)
    home.train(1, age_h=2)
    home.save()
    assert home.weights.evict() == 0
    with pytest.raises(ValueError, match="needs STUDIO_BACKUP_URL"):
        Settings(home=tmp_path, weights_max_bytes=10)


def test_what_took_long_to_fetch_is_kept_as_long_as_what_came_at_once(
    make: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, job = emptied(make)
    fetch = LocalFileSystem.get_file

    def slow(self: Any, path1: str, path2: str, **options: Any) -> None:
        for used in (home.jobs / job).glob(".used-*"):
            os.utime(used, (time.time() - 3600,) * 2)  # so long it takes
        fetch(self, path1, path2, **options)
        os.utime(path2, (time.time() - 3600,) * 2)

    monkeypatch.setattr(LocalFileSystem, "get_file", slow)
    home.weights.bring(job, ["adapter"])
    assert home.weights.evict() == 0 and home.away(job) == [CHECKPOINT]


def test_what_cannot_be_fetched_says_why_and_nothing_half_is_left(
    make: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home, job = emptied(make)
    tries: list[str] = []

    def unreachable(self: Any, path1: str, path2: str, **options: Any) -> None:
        tries.append(path1)
        Path(path2).write_bytes(b"half")
        raise TimeoutError(110, "Connection timed out: https://key@host")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "get_file", unreachable)
        with pytest.raises(
            UnavailableError, match=r"cannot be reached \(TimeoutError: Connection timed out\); try again"
        ):
            home.weights.bring(job, ["adapter"])
    assert len(tries) == 2, "it was tried again"
    there = home.vault / "jobs" / job / "files" / "out" / ADAPTER
    there.write_bytes(b"X" * SIZE)
    with pytest.raises(ResourceError, match="damaged in the backup"):
        home.weights.bring(job, ["adapter"])
    there.write_bytes(bytes([1]) * SIZE)

    def full(self: Any, path1: str, path2: str, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFileSystem, "get_file", full)
        with pytest.raises(ResourceError, match="disk is full"):
            home.weights.bring(job, ["adapter"])
    home.settings.__dict__["backup_url"], url = None, home.settings.backup_url
    with pytest.raises(ResourceError, match="no longer set"):
        home.weights.bring(job)
    home.settings.__dict__["backup_url"] = url
    assert not list(home.jobs.rglob("*.part")) and home.away(job) == [ADAPTER, CHECKPOINT]
    assert home.weights.bring(job) == 2


def test_a_kill_on_the_way_leaves_what_counts_as_here_or_as_there(
    make: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make()
    job = home.train(1, age_h=2)
    home.save()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # marked, and not deleted yet
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            home.weights.evict()
    assert not home.away(job) and home.weights.sizes()[0] == 3 * SIZE
    assert home.weights.evict() == 3 * SIZE
    with monkeypatch.context() as patch:  # in place, and still marked
        patch.setattr(weights_module, "unmark", killed)
        with pytest.raises(KeyboardInterrupt):
            home.weights.bring(job, ["adapter"])
    assert (home.out(job) / ADAPTER).is_file() and evicted(home.out(job) / ADAPTER) is None
    assert home.away(job) == [CHECKPOINT]


def test_what_is_written_on_a_job_later_keeps_its_weights_in_the_backup(make: Callable[..., Home]) -> None:
    home, job = emptied(make)
    record = home.vault / "jobs" / job / "record.json"
    before = record.read_bytes()
    (home.out(job) / "report.json").write_text('{"renamed": 1}')
    home.backup = Backup(home.settings, home.store, home.jobs, waits_s=(0.01,))
    home.backup.renew([job])
    home.backup.start()
    until(lambda: (home.vault / "jobs" / job / "DONE").is_file() and record.read_bytes() != before)
    home.backup.close()

    again = make(name="again")  # another disk: what is small comes back, weights when they are needed
    again.backup.start()
    until(lambda: again.store.completed() == [job])
    again.backup.close()
    assert again.away(job) == [ADAPTER, CHECKPOINT] and (again.out(job) / "report.json").read_text() != "{}"
    assert again.weights.bring(job) == 2
    assert (again.out(job) / ADAPTER).read_bytes() == bytes([1]) * SIZE

    (home.vault / "jobs" / job / "files" / "out" / ADAPTER).unlink()
    broken = make(name="broken")
    broken.backup.start()
    time.sleep(0.3)
    broken.backup.close()
    assert not broken.store.completed(), "what is not whole is not taken for finished"


def test_a_backup_that_has_lost_weights_is_not_sealed_as_if_it_had_them(make: Callable[..., Home]) -> None:
    home, job = emptied(make)
    shutil.rmtree(home.vault / "jobs" / job)
    home.backup = Backup(home.settings, home.store, home.jobs, waits_s=(0.01,))
    home.backup.start()
    until(
        lambda: any("not in the backup" in event.data.get("text", "") for _, event in home.store.events(job, "ada", 0))
    )
    home.backup.close()
    assert not (home.vault / "jobs" / job / "DONE").exists()


def test_what_is_forgotten_is_found_by_weights_that_are_not_here(make: Callable[..., Home]) -> None:
    from studio.core.private import UPLOADS_NAME, owner_digest
    from studio.jobs.forget import Desk
    from studio.jobs.forgotten import Forgetting

    home = make()
    job = home.train(1, age_h=2)
    copy = home.settings.home / UPLOADS_NAME / owner_digest("ada") / "upload"
    copy.parent.mkdir(parents=True)
    shutil.copy(home.out(job) / ADAPTER, copy)
    desk = Desk(home.settings.home, home.jobs, home.store, None, home.settings)
    forgetting = Forgetting("x", (job,), (), 0.0, owner=owner_digest("ada"))
    before = _adapters(desk, [job])
    home.save()
    home.weights.evict()
    assert _adapters(desk, [job]) == before != set()
    assert _copies(desk, forgetting) == [copy]


# ------------------------------------------------------------------------------------------------ in a whole studio


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Studio]:
    fakes = PROJECT_ROOT / "tests" / "jobs"
    monkeypatch.setenv("PYTHONPATH", str(fakes))
    monkeypatch.syspath_prepend(str(fakes))
    from fake_verbs import VERBS  # type: ignore[import-not-found]

    settings = Settings(
        home=tmp_path / "home",
        device="cpu",
        backup_url=f"file://{tmp_path / 'vault'}",  # type: ignore[arg-type]
        weights_max_bytes=0,
        share_gpu=False,
    )
    studio = Studio(settings, verbs=VERBS)
    monkeypatch.setattr(studio._weights, "_waits_s", (0.01,))
    studio.start()
    yield studio
    studio.close()


def run_without_weights(studio: Studio, tmp_path: Path) -> str:
    """Train, add weights, bring all to the backup, evict them."""
    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"one")
    check = studio.submit_check(CheckConfig(subject="quick"), [photo], owner="ada")
    run = studio.submit_train(TrainConfig(instance_token="quick"), check.id, owner="ada")
    assert studio.wait(run.id, owner="ada", timeout_s=60).state == "completed"
    path = studio.out_dir(run.id, owner="ada") / ADAPTER
    path.parent.mkdir()
    path.write_bytes(b"w" * SIZE)
    os.utime(path, (time.time() - 7200,) * 2)
    assert studio._backup is not None
    vault = tmp_path / "vault" / "jobs" / run.id
    until((vault / "DONE").is_file)
    studio._backup.renew([run.id])
    until(lambda: (vault / "files" / "out" / ADAPTER).is_file() and (vault / "DONE").is_file())
    until(lambda: studio._weights.evict() == SIZE)
    return run.id


def told(studio: Studio, job_id: str) -> str:
    return " ".join(str(event.data.get("text", "")) for _, event in studio.events(job_id, owner="ada"))


def test_a_job_fetches_the_weights_that_it_reads_and_says_so(studio: Studio, tmp_path: Path) -> None:
    run = run_without_weights(studio, tmp_path)
    path = studio.out_dir(run, owner="ada") / ADAPTER
    there = tmp_path / "vault" / "jobs" / run / "files" / "out" / ADAPTER
    shutil.move(there, tmp_path / "lost")
    config = GenerateConfig(prompts=("quick",), count=1)
    lost = studio.wait(studio.submit_generate(config, run, owner="ada").id, owner="ada", timeout_s=60)
    assert lost.state == "stalled" and "damaged in the backup" in str(lost.cause) and not path.exists()
    shutil.move(tmp_path / "lost", there)
    studio.retry(lost.id, owner="ada")
    done = studio.wait(lost.id, owner="ada", timeout_s=60)
    assert done.state == "completed" and path.read_bytes() == b"w" * SIZE
    assert "Fetching the weights of its run from the backup (1 kB)" in told(studio, done.id)
    with pytest.raises(NotFoundError):
        studio.bring_weights(run, owner="bob")


def test_a_cancel_does_not_wait_for_a_transfer_that_hangs(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_without_weights(studio, tmp_path)
    hangs, goes_on = threading.Event(), threading.Event()
    fetch = LocalFileSystem.get_file

    def slow(self: Any, path1: str, path2: str, **options: Any) -> None:
        hangs.set()
        goes_on.wait(60)
        fetch(self, path1, path2, **options)

    monkeypatch.setattr(LocalFileSystem, "get_file", slow)
    job = studio.submit_generate(GenerateConfig(prompts=("quick",), count=1), run, owner="ada")
    assert hangs.wait(60)
    assert studio.get(job.id, owner="ada").state != "pending"
    studio.cancel(job.id, owner="ada")
    assert studio.wait(job.id, owner="ada", timeout_s=20).state == "cancelled"
    goes_on.set()
    until((studio.out_dir(run, owner="ada") / ADAPTER).is_file)


def test_a_limit_without_a_backup_is_refused_when_the_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.core.settings import load_settings

    monkeypatch.setenv("STUDIO_WEIGHTS_MAX_BYTES", "10")
    with pytest.raises(InputError, match=r"STUDIO_WEIGHTS_MAX_BYTES.*needs STUDIO_BACKUP_URL"):
        load_settings()
