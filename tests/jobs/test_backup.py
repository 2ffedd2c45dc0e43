"""The backup of finished jobs: to a folder, over a faulty file system, killed on the way, back into an empty home."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import httpx2
import pytest
from fsspec.implementations.local import LocalFileSystem

from studio import doctor
from studio.core.config import CheckConfig
from studio.core.domain import Event
from studio.core.errors import InputError, MissingExtraError
from studio.core.settings import PROJECT_ROOT, Settings
from studio.jobs import backup
from studio.jobs.backup import Backup, BackupFolder
from studio.jobs.environment import variables_of
from studio.jobs.events import Outcome
from studio.jobs.queue import NewJob
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store
from studio.service import Studio

SECRET = "hunter2secret"


class FaultyFileSystem(LocalFileSystem):
    """A local folder that fails when told: ``faults`` are called before each write with the path, and may raise."""

    protocol = "faulty"
    cachable = False
    faults: list[Callable[[str], Any]] = []  # noqa: RUF012  one for all instances on purpose

    lists = True

    def __init__(self) -> None:
        super().__init__(auto_mkdir=True)

    def find(self, path: str, **options: Any) -> Any:
        if not type(self).lists:
            raise TimeoutError(110, "Connection timed out")
        return super().find(path, **options)

    def _fault(self, path: str) -> Any:
        return type(self).faults.pop(0)(path) if type(self).faults else None

    def put_file(self, path1: str, path2: str, **options: Any) -> None:
        cut = self._fault(path2)
        super().put_file(path1, path2, **options)
        if cut:
            data = Path(self._strip_protocol(path2)).read_bytes()
            Path(self._strip_protocol(path2)).write_bytes(data[:cut])

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self._fault(path)
        super().pipe_file(path, value, mode=mode, **options)

    def get_file(self, path1: str, path2: str, **options: Any) -> None:
        self._fault(path1)
        super().get_file(path1, path2, **options)


fsspec.register_implementation("faulty", FaultyFileSystem, clobber=True)


@pytest.fixture(autouse=True)
def no_faults() -> Iterator[None]:
    FaultyFileSystem.faults, FaultyFileSystem.lists = [], True
    yield
    FaultyFileSystem.faults, FaultyFileSystem.lists = [], True


def raiser(error: Exception) -> Callable[[str], None]:
    def fault(path: str) -> None:
        raise error

    return fault


class Home:
    """One installation's folder with its table of jobs."""

    def __init__(self, folder: Path, url: str) -> None:
        self.settings = Settings(home=folder, backup_url=url)  # type: ignore[arg-type]
        self.jobs = folder / "jobs"
        self.jobs.mkdir(parents=True, exist_ok=True)
        self.store = Store(SqliteDatabase(folder / "jobs.sqlite3"))
        self.backup = Backup(self.settings, self.store, self.jobs, waits_s=(0.01,))

    def finish(self, number: int, *, key: str | None = None, owner: str = "ada") -> str:
        """Make a completed job with its folder."""
        job_id = f"check-{number:016x}"
        out = self.jobs / job_id / "out"
        (out / "photos").mkdir(parents=True)
        (out.parent / "photos").mkdir()
        (out.parent / "photos" / "me.jpg").write_text("an upload")
        (out.parent / "child.lock").write_text("1")
        (out.parent / "request.json").write_text(json.dumps({"kind": "check", "config": {}, "source": None}))
        (out.parent / "log.txt").write_text("--- attempt 1\n")
        (out / "photos" / "000.png").write_bytes(bytes([number % 256]) * 1000)
        (out / ".dataset.json.part").write_text("{")
        (out / "DONE").touch()
        self.store.insert(NewJob(job_id, "check", owner, f"Photos {number}", "print", key=key))
        claim = self.store.claim()
        assert claim is not None
        self.store.append(claim, [Event("verdict", {"name": "one.jpg", "status": "good"})])
        self.store.append(claim, [Event("progress", {"step": 1, "total": 1})])
        self.store.finish(claim, Outcome("completed", result={"photos": [number]}))
        return job_id

    def texts(self, job_id: str) -> list[tuple[str, str]]:
        found = (event for _, event in self.store.events(job_id, "ada", 0) if event.kind == "message")
        return [(event.data["level"], event.data["text"]) for event in found]

    def files(self) -> dict[str, bytes]:
        return {
            path.relative_to(self.jobs).as_posix(): path.read_bytes() for path in self.jobs.rglob("*") if path.is_file()
        }


def until(condition: Callable[[], Any], timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.01)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def make(tmp_path: Path, vault: Path) -> Iterator[Callable[..., Home]]:
    made: list[Home] = []

    def home(name: str = "home", kind: str = "file") -> Home:
        made.append(Home(tmp_path / name, f"{kind}://{vault}"))
        return made[-1]

    yield home
    for one in made:
        one.backup.close()
        one.store.close()


def held(vault: Path) -> set[str]:
    return {path.parent.name for path in vault.glob("jobs/*/DONE") if path.stat().st_size == 64}


def saved(home: Home) -> None:
    home.backup.start()
    vault = Path(home.settings.backup_url.get_secret_value().split("://")[1])  # type: ignore[union-attr]
    until(lambda: held(vault) >= set(home.store.completed()))
    home.backup.close()


def test_finished_jobs_come_back_into_an_empty_home_as_they_were(make: Callable[..., Home], vault: Path) -> None:
    home = make()
    ids = [home.finish(number, key=f"key-{number}") for number in range(3)]
    other = home.finish(9, owner="bob")
    home.store.insert(NewJob("check-00000000000000ff", "check", "ada", "waits", "print"))
    saved(home)
    assert held(vault) == {*ids, other}, "a job that waits is no finished work"
    before = {job.id: job for job in home.store.newest("ada", 10)}

    empty = make("empty")
    new = "check-00000000000000aa"
    empty.store.insert(NewJob(new, "check", "ada", "submitted before they are back", "print"))
    empty.backup.start()
    until(lambda: empty.store.completed() == [*ids, other])
    assert [job.id for job in empty.store.newest("ada", 10)] == [new, *reversed(ids)]
    assert [job.id for job in empty.store.newest("bob", 10)] == [other]
    for job_id in ids:
        assert empty.store.get(job_id, "ada") == before[job_id]
        assert empty.store.events(job_id, "ada", 0) == home.store.events(job_id, "ada", 0)
    assert empty.store.find("ada", "key-1", {"print"}) == before[ids[1]], "the same request finds it again"
    unsaved = ("/photos/me.jpg", "child.lock", ".part")
    kept = {
        name: data
        for name, data in home.files().items()
        if not name.endswith(unsaved[1:]) and name.count("/") and f"/{name.partition('/')[2]}" != unsaved[0]
    }
    assert empty.files() == kept and len(kept) == 4 * len([*ids, other])


def test_what_is_written_on_a_job_afterwards_is_brought_there_too_and_nothing_else_again(
    make: Callable[..., Home], vault: Path
) -> None:
    home = make(kind="faulty")
    job_id = home.finish(1)
    home.backup.start()
    until(lambda: held(vault) == {job_id})
    written: list[str] = []
    FaultyFileSystem.faults = [lambda path: written.append(Path(path).name)] * 20
    home.store.heart(job_id, "ada", ["000.png"], on=True)
    (home.jobs / job_id / "request.json").write_text(json.dumps({"kind": "check", "config": {"subject": "Grace"}}))
    home.backup.renew([job_id])
    until(lambda: "DONE" in written)
    assert written == ["request.json", "record.json", "DONE"], "the picture is there already"
    home.backup.close()

    FaultyFileSystem.faults = []
    empty = make("empty", kind="faulty")
    empty.backup.start()
    until(lambda: job_id in empty.store.completed())
    assert empty.store.get(job_id, "ada").hearts == ("000.png",)
    assert "Grace" in (empty.jobs / job_id / "request.json").read_text()


def test_a_kill_while_a_changed_job_is_brought_there_leaves_none_that_looks_whole(
    make: Callable[..., Home], vault: Path
) -> None:
    home = make(kind="faulty")
    job_id = home.finish(1)
    home.backup.start()
    until(lambda: held(vault) == {job_id})
    (home.jobs / job_id / "request.json").write_text("{}")
    seen: list[set[str]] = []
    FaultyFileSystem.faults = [lambda path: seen.append(held(vault)), raiser(OSError(28, "No space left on device"))]
    home.backup.renew([job_id])
    until(lambda: FaultyFileSystem.faults == [])
    assert seen == [set()]
    until(lambda: held(vault) == {job_id})  # tried again


def test_a_key_that_was_used_again_in_the_meantime_stays_with_the_new_job(make: Callable[..., Home]) -> None:
    home = make()
    old = home.finish(1, key="same")
    saved(home)
    empty = make("empty")
    new = "check-00000000000000aa"
    empty.store.insert(NewJob(new, "check", "ada", "again", "print", key="same"))
    empty.backup.start()
    until(lambda: old in empty.store.completed())
    found = empty.store.find("ada", "same", {"print"})
    assert found is not None and found.id == new


def test_a_backup_that_fails_is_told_once_tried_again_and_harms_no_job(
    make: Callable[..., Home], vault: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = make(kind="faulty")
    FaultyFileSystem.lists = False
    home.backup.start()
    until(lambda: "the backup does not work" in caplog.text)
    job_id = home.finish(1)
    until(lambda: home.texts(job_id))
    assert home.texts(job_id)[0][1].startswith("This job is not in the backup yet (")
    home.backup.close()
    FaultyFileSystem.lists = True
    caplog.clear()
    url = f"s3://{SECRET}@host/bucket"
    FaultyFileSystem.faults = [
        raiser(OSError(28, "No space left on device", url)),
        lambda path: 3,  # arrives cut off
        raiser(RuntimeError(f"GET {url} failed")),
        lambda path: None,
        raiser(ConnectionError(url)),
    ]
    with caplog.at_level(logging.INFO):
        home.backup.start()
        until(lambda: held(vault) == {job_id})
        until(lambda: home.texts(job_id) == [("info", "This job is in the backup now.")])
    assert FaultyFileSystem.faults == [] and home.store.get(job_id, "ada").state == "completed"
    said = caplog.text + json.dumps([event.data for _, event in home.store.events(job_id, "ada", 0)], default=str)
    assert "No space left on device" in said and "arrived cut off" not in said
    assert SECRET not in said
    assert caplog.text.count("the backup does not work") == 4

    second = home.finish(2)
    FaultyFileSystem.faults = [raiser(PermissionError(13, "Permission denied"))] * 5
    home.backup.wake()
    until(lambda: home.texts(second))
    level, text = home.texts(second)[0]
    assert level == "warning" and "PermissionError: Permission denied" in text and "keeps trying" in text


def test_what_ended_right_before_the_studio_closes_is_there(make: Callable[..., Home], vault: Path) -> None:
    home = make()
    home.backup.start()
    until(lambda: home.backup._restored)
    job_id = home.finish(1)
    home.backup.close()
    assert held(vault) == {job_id}


def test_a_store_that_hangs_holds_up_neither_the_jobs_nor_the_end(
    make: Callable[..., Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backup, "_LEAVE_S", 0.1)
    home = make(kind="faulty")
    home.finish(1)
    go_on = threading.Event()
    FaultyFileSystem.faults = [lambda path: go_on.wait(30) and None]
    home.backup.start()
    until(lambda: FaultyFileSystem.faults == [])
    home.finish(2)
    started_s = time.monotonic()
    home.backup.close()
    assert time.monotonic() - started_s < 5
    go_on.set()


@pytest.mark.parametrize("damage", ["record", "marker", "file", "missing", "outside", "other", "unfinished"])
def test_what_is_not_whole_is_never_taken_for_finished_and_keeps_back_no_other(
    make: Callable[..., Home], vault: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    home = make()
    bad, good = home.finish(1), home.finish(2)
    saved(home)
    place = vault / "jobs" / bad

    def seal(change: Callable[[dict[str, Any]], None]) -> None:
        record = BackupFolder(home.settings).record(bad)
        change(record)
        BackupFolder(home.settings).seal(bad, record)

    def outside(record: dict[str, Any]) -> None:
        record["files"]["../../../escaped.txt"] = record["files"].pop("log.txt")

    if damage == "record":
        (place / "record.json").write_text("{}")
    elif damage == "marker":
        (place / "DONE").write_bytes((place / "DONE").read_bytes()[:10])
    elif damage == "file":
        (place / "files" / "out" / "photos" / "000.png").write_bytes(b"other")
    elif damage == "missing":
        (place / "files" / "out" / "photos" / "000.png").unlink()
    elif damage == "outside":
        seal(outside)
    elif damage == "other":
        seal(lambda record: record["job"].update(id=good))
    else:
        seal(lambda record: record["job"].update(state="training"))
    empty = make("empty")
    empty.backup.start()
    until(lambda: empty.store.completed() == [good])
    empty.backup.close()
    assert not list(empty.jobs.glob(".restore-*")) and empty.store.ids() == {good}
    assert not list(vault.parent.rglob("escaped.txt"))
    if damage != "marker":
        assert f"job {bad} of the backup cannot be used" in caplog.text
        assert not (empty.jobs / bad).exists() or damage in ("other", "unfinished")
    again = Backup(home.settings, home.store, home.jobs)
    again.start()
    until(lambda: bad in held(vault))
    again.close()


CHILD = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import fsspec
import httpx2
from fsspec.implementations.local import LocalFileSystem
from studio.jobs.backup import Backup
from studio.jobs.sqlite import SqliteDatabase
from studio.jobs.store import Store
from studio.core.settings import Settings

calls, last = 0, int(sys.argv[4])

class Deadly(LocalFileSystem):
    protocol = "deadly"
    def __init__(self):
        super().__init__(auto_mkdir=True)
    def count(self):
        global calls
        calls += 1
        if calls == last:
            os.kill(os.getpid(), signal.SIGKILL)
    def put_file(self, one, two, **options):
        self.count()
        super().put_file(one, two, **options)
    def pipe_file(self, path, value, mode="overwrite", **options):
        self.count()
        super().pipe_file(path, value, mode=mode, **options)
    def get_file(self, one, two, **options):
        self.count()
        super().get_file(one, two, **options)

fsspec.register_implementation("deadly", Deadly)
home = Path(sys.argv[2])
(home / "jobs").mkdir(parents=True, exist_ok=True)
settings = Settings(home=home, backup_url="deadly://" + sys.argv[3])
Backup(settings, Store(SqliteDatabase(home / "jobs.sqlite3")), home / "jobs", waits_s=(0.01,)).start()
time.sleep(60)
"""


def killed(home: Path, vault: Path, at: int) -> None:
    """Run the backup of a home in a process that is killed with its ``at``-th file."""
    command = [sys.executable, "-c", CHILD, str(PROJECT_ROOT), str(home), str(vault), str(at)]
    assert subprocess.run(command, timeout=60).returncode == -signal.SIGKILL


def test_killed_on_the_way_there_and_back_nothing_half_is_taken_and_all_comes_back(
    make: Callable[..., Home], vault: Path, tmp_path: Path
) -> None:
    home = make()
    ids = [home.finish(number) for number in (1, 2)]
    home.store.close()
    for at in (4, 6):  # among the files; at the marker
        killed(home.settings.home, vault, at)
        assert held(vault) == set() and list(vault.rglob("*.png")), "files are there, and count for nothing"
    saved(make())

    away = tmp_path / "away"
    killed(away, vault, 7)  # four files of the first, two of the second
    back = make("away")
    assert back.store.completed() == ids[:1] and list(back.jobs.glob(".restore-*"))
    (back.jobs / ids[1]).mkdir()  # as if the kill had come right before its row was written
    back.backup.start()
    until(lambda: back.store.completed() == ids)
    back.backup.close()
    assert {name: data for name, data in back.files().items() if name.endswith("000.png")} == {
        f"{job_id}/out/photos/000.png": bytes([number]) * 1000 for number, job_id in enumerate(ids, start=1)
    }
    assert not list(back.jobs.glob(".restore-*"))


def test_a_studio_that_lost_its_disk_lists_what_was_finished_and_goes_on_from_it(
    tmp_path: Path, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = PROJECT_ROOT / "tests" / "jobs"
    monkeypatch.setenv("PYTHONPATH", str(fakes))
    monkeypatch.syspath_prepend(str(fakes))
    from fake_verbs import VERBS  # type: ignore[import-not-found]

    from studio.core.train_config import TrainConfig

    photo = tmp_path / "one.jpg"
    photo.write_bytes(b"one")
    settings = Settings(home=tmp_path / "home", device="cpu", backup_url=f"file://{vault}")  # type: ignore[arg-type]
    studio = Studio(settings, verbs=VERBS)
    studio.start()
    check = studio.submit_check(CheckConfig(subject="quick"), [photo], owner="ada")
    train = studio.submit_train(TrainConfig(instance_token="count 2 1"), check.id, owner="ada")
    done = studio.wait(train.id, owner="ada", timeout_s=60)
    until(lambda: held(vault) == {check.id, train.id})
    studio.close()
    shutil.rmtree(settings.home)

    studio = Studio(settings, verbs=VERBS)
    studio.start()
    until(lambda: len(studio.list(owner="ada")) == 2)
    assert studio.get(train.id, owner="ada") == done
    assert (studio.out_dir(train.id, owner="ada") / "steps.txt").is_file()
    more = studio.submit_train(TrainConfig(instance_token="quick"), check.id, owner="ada")
    assert studio.wait(more.id, owner="ada", timeout_s=60).state == "completed"
    until(lambda: more.id in held(vault))
    studio.close()


def test_an_address_that_can_never_work_is_refused_at_the_start(tmp_path: Path) -> None:
    for url, kind, words in (
        ("hf://datasets/ada/backup", InputError, "hf://buckets/"),
        (f"nonsense://{SECRET}@x", InputError, "begin it with one of"),
    ):
        studio = Studio(Settings(home=tmp_path / "home", backup_url=url))  # type: ignore[arg-type]
        with pytest.raises(kind, match=words) as caught:
            studio.start()
        assert SECRET not in str(caught.value)


def test_a_kind_whose_package_is_not_here_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str, **_: Any) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(MissingExtraError, match=r"s3://, which needs the Python package s3fs"):
        BackupFolder(Settings(backup_url=f"s3://{SECRET}@bucket"))  # type: ignore[arg-type]


def test_a_second_server_on_the_same_home_leaves_the_backup_to_the_first(
    make: Callable[..., Home], vault: Path
) -> None:
    home, first = make(), [True]
    home.backup._leads = lambda: not first
    job_id = home.finish(1)
    home.backup.start()
    time.sleep(0.3)
    assert held(vault) == set()
    first.clear()
    until(lambda: held(vault) == {job_id})


def test_the_address_is_shown_and_handed_on_nowhere(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, backup_url=f"s3://key:{SECRET}@bucket")  # type: ignore[arg-type]
    assert SECRET not in repr(settings) and SECRET not in settings.model_dump_json()
    assert "STUDIO_BACKUP_URL" not in variables_of(settings)


def test_the_doctor_tries_the_backup_out(vault: Path, tmp_path: Path) -> None:
    def finding(url: str | None) -> doctor.Finding:
        (found,) = doctor.PROBES["backup"](Settings(home=tmp_path, backup_url=url))  # type: ignore[arg-type]
        return found

    assert finding(None).status == "ok" and "this disk only" in finding(None).message
    assert finding(f"file://{vault}").message == "can be written and read; it holds 0 finished jobs"
    assert not list(vault.rglob(".probe*"))
    FaultyFileSystem.faults = [raiser(OSError(13, "Permission denied", f"s3://{SECRET}@x"))]
    broken = finding(f"faulty://{vault}")
    assert broken.status == "fail" and "Permission denied" in broken.message and SECRET not in broken.message


def test_the_doctor_warns_of_a_home_on_a_mounted_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import psutil

    def mounted(kind: str) -> list[doctor.Finding]:
        rows = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(tmp_path), fstype=kind)]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: rows)
        return list(doctor.PROBES["disk"](Settings(home=tmp_path / "home")))

    assert mounted("fuse.hf-mount")[0].status == "fail" and "STUDIO_BACKUP_URL" in mounted("fuse.hf-mount")[0].cure
    assert all("bucket" not in found.message for found in mounted("ext4") + mounted("fuseblk"))


class FakeBucket:
    """A bucket of the Hub in memory, behind the client's own file system: what that asks the Hub's API is answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.blobs: dict[str, bytes] = {}
        self.requests = 0
        monkeypatch.setattr("huggingface_hub.HfApi.bucket_info", lambda api, bucket_id: {"id": bucket_id})
        for name, answer in (("batch_bucket_files", self._batch), ("list_bucket_tree", self._list)):
            monkeypatch.setattr(f"huggingface_hub.HfApi.{name}", staticmethod(answer))
        monkeypatch.setattr("huggingface_hub.hf_file_system.http_stream_backoff", self._stream)
        monkeypatch.setattr("huggingface_hub.hf_file_system.http_get", self._get)
        monkeypatch.setattr("huggingface_hub.hf_file_system.is_xet_available", lambda: False)

    def _batch(self, bucket_id: str, *, add: Any = (), delete: Any = ()) -> None:
        assert bucket_id == "ada/backup"
        self.requests += 1
        self.blobs |= {name: Path(path).read_bytes() for path, name in add}
        for name in delete:
            del self.blobs[name]

    def _list(self, bucket_id: str, prefix: str = "", *, recursive: bool = False) -> list[Any]:
        from huggingface_hub._buckets import BucketFile, BucketFolder

        found: dict[str, Any] = {}
        for name, data in self.blobs.items():
            if name.startswith(f"{prefix}/" if prefix else ""):
                rest = name[len(prefix) :].lstrip("/")
                if recursive or "/" not in rest:
                    found[name] = BucketFile(type="file", path=name, size=len(data), xetHash="0")
                else:
                    folder = f"{prefix}/{rest.partition('/')[0]}".lstrip("/")
                    found[folder] = BucketFolder(type="directory", path=folder)
        return list(found.values())

    @contextmanager
    def _stream(self, method: str, url: str, **_: Any) -> Iterator[Any]:
        content = self.blobs[url.partition("/resolve/")[2]]
        yield httpx2.Response(200, content=content, request=httpx2.Request(method, url))

    def _get(self, *, url: str, temp_file: Any, **_: Any) -> None:
        temp_file.write(self.blobs[url.partition("/resolve/")[2]])


def test_a_bucket_of_the_hub_keeps_jobs_through_the_clients_own_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = FakeBucket(monkeypatch)
    home = Home(tmp_path / "home", "")
    home.backup = Backup(
        Settings(home=tmp_path / "home", backup_url="hf://buckets/ada/backup/studio"),  # type: ignore[arg-type]
        home.store, home.jobs, waits_s=(0.01,),
    )  # fmt: skip
    job_id = home.finish(1)
    home.backup.start()
    until(lambda: f"studio/jobs/{job_id}/DONE" in bucket.blobs)
    home.backup.close()
    assert bucket.requests == 6 and f"studio/jobs/{job_id}/files/out/DONE" in bucket.blobs
    found = list(doctor.PROBES["backup"](home.backup._settings))
    assert found[0].message == "can be written and read; it holds 1 finished jobs", found

    empty = Home(tmp_path / "empty", "")
    empty.backup = Backup(home.backup._settings, empty.store, empty.jobs, waits_s=(0.01,))
    empty.backup.start()
    until(lambda: empty.store.completed() == [job_id])
    empty.backup.close()
    assert (empty.jobs / job_id / "out" / "photos" / "000.png").read_bytes() == b"\1" * 1000
    remote = BackupFolder(home.backup._settings)
    size_bytes = sum(len(data) for name, data in bucket.blobs.items() if job_id in name)
    assert remote.sizes() == {job_id: (6, size_bytes)}
    bucket.blobs["studio/jobs/check-00000000000000ff/DONE"] = b"of another job"
    remote.delete(job_id)
    assert set(bucket.blobs) == {"studio/jobs/check-00000000000000ff/DONE"}
    remote.delete(job_id)  # again, as after a kill
    home.store.close()
    empty.store.close()
