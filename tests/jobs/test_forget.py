"""The verb forget: a planted marker is nowhere afterwards, also after a kill at each step; nobody else's is touched."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image

from studio.core.adapters import WEIGHTS_NAME, adapter_sha256
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import Event, JobView
from studio.core.errors import InputError, NotFoundError
from studio.core.files import read_json, sha256_of, write_json
from studio.core.finish_config import FinishConfig
from studio.core.private import owner_digest, served_folder
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.jobs import forget, forgotten
from studio.jobs.backup import Backup, BackupFolder
from studio.jobs.events import Outcome
from studio.jobs.runners.ticket import object_name
from studio.jobs.storage.links import LinkSigner
from studio.jobs.storage.opened import open_storage
from studio.pictures.picture_cache import DiskCache
from studio.service import Studio

MARK, OTHER, THIRD = "Markaq7", "Otherzx3", "Thirdvv9"
"""Names of subjects; each stands in every photo, file name, caption and prompt of its subject."""
ADA, BOB = "local", "hf:bob"


class Planted:
    """A home, its backup and what fills them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home, self.vault = folder / "home", folder / "vault"
        self.settings = Settings(home=self.home, backup_url=self.vault.as_uri())  # type: ignore[arg-type]
        self.studio = Studio(self.settings)

    def everything_of(self, mark: str, owner: str) -> dict[str, str]:
        """Go the whole way from photos to a publishing, without a model; return the ids by kind."""
        photo = self.folder / f"{mark}.jpg"
        photo.write_bytes(b"Exif GPS " + mark.encode())
        caption = self.folder / f"{mark}.txt"
        caption.write_text(f"{mark} smiles")
        studio, ids = self.studio, {}
        check = studio.submit_check(CheckConfig(subject=mark), [photo, caption], owner=owner)
        ids["check"] = self.done(check, mark, {"photos/001.png": mark, "dataset.json": json.dumps({"subject": mark})})
        train = studio.submit_train(TrainConfig(subject=mark), check.id, owner=owner)
        ids["train"] = self.done(train, mark, {f"adapter/{WEIGHTS_NAME}": mark, "checkpoints/5/state.json": mark})
        drawn_by = adapter_sha256(studio.out_dir(train.id, owner=owner) / "adapter")
        made = studio.submit_generate(GenerateConfig(prompts=(f"{mark} at the beach",)), train.id, owner=owner)
        request = json.dumps({"verb": "generate", "adapter_sha256": drawn_by})
        ids["generate"] = self.done(made, mark, {"request.json": request, "a/001.png": f"picture of {mark}"})
        DiskCache(self.home / "cache" / "pictures", 10**6).put(f"{drawn_by}/{'c' * 64}", f"picture of {mark}".encode())
        finish = studio.submit_finish(FinishConfig(chain="avatar"), made.id, owner=owner)
        ids["finish"] = self.done(finish, mark, {"pictures/a.png": mark})
        export = studio.submit_export(ExportConfig(format="kohya"), train.id, owner=owner)
        ids["export"] = self.done(export, mark, {f"{mark}.safetensors": mark})
        config = PublishConfig(repo=f"you/{mark}", dry_run=True)
        publish = studio.submit_publish(config, train.id, pictures=made.id, owner=owner)
        ids["publish"] = self.done(publish, mark, {"repo/README.md": mark}, commit="c" * 40)
        config = GenerateConfig(adapter=f"you/{mark}", prompts=("x",))
        ids["drawn"] = self.done(studio.submit_generate(config, owner=owner), mark, {"b/001.png": mark})
        self._beside(photo, studio.out_dir(made.id, owner=owner) / "a" / "001.png", mark, owner)
        self._elsewhere(made.id, mark, owner)
        photo.unlink()
        caption.unlink()
        return ids

    def _beside(self, photo: Path, picture: Path, mark: str, owner: str) -> None:
        """Leave what kills, the page and commands leave of photos and pictures."""
        uploads = self.home / "uploads" / owner_digest(owner)
        uploads.mkdir(parents=True)
        shutil.copyfile(photo, uploads / sha256_of(photo))
        served = served_folder(self.home / "web-cache", owner) if owner == BOB else self.home / "web-cache"
        for number in range(2):
            (served / f"{mark}{number}").mkdir(parents=True)
        os.link(picture, served / f"{mark}0" / "001.png")
        shutil.copyfile(photo, served / f"{mark}1" / photo.name)
        pulled = self.home / "bases" / f"adapter--you--{mark}--{'c' * 40}"
        (pulled / "adapter").mkdir(parents=True)
        (pulled / "adapter" / "adapter.json").write_text(mark)
        pulled.with_name(f"{pulled.name}.lock").touch()
        notes = self.home / "bases" / "commits.json"
        write_json(notes, {**(read_json(notes) or {}), f"you/{mark}@main": "c" * 40})
        if owner == ADA:
            for name in ("command.log", "last_error.txt"):
                with (self.home / name).open("a") as file:
                    file.write(f"{mark} failed\n")

    def _elsewhere(self, job_id: str, mark: str, owner: str) -> None:
        """Leave what an attempt on another machine leaves in the storage, and what is to be told of a job."""
        signer = LinkSigner(bytes(32), "")
        stored = open_storage(self.settings, self.home, signer)
        for name in ("photo", "picture"):
            data = f"{name} of {mark}".encode()
            stored.put(object_name(job_id, hashlib.sha256(data).hexdigest()), data)
        self.studio._store.webhooks.follow(
            owner,
            job_id,
            url=f"https://example.org/{mark}",
            events=["job.completed"],
            form="studio.web.api.replicate_runs:prediction_told",
            context={"base_url": f"https://example.org/{mark}/"},
        )

    def done(self, job: JobView, mark: str, files: dict[str, str], *, commit: str | None = None) -> str:
        """Run a job by hand."""
        store, out = self.studio._store, self.home / "jobs" / job.id / "out"
        claim = store.claim()
        assert claim is not None and claim.id == job.id
        for name, text in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text)
        left = out.parent / ".out.partial"
        left.mkdir()
        (left / "001.png").write_text(mark)
        (out.parent / "log.txt").write_text(f"reading {mark}.jpg\n")
        for step in range(3):  # of which two are deleted again
            store.append(claim, [Event("progress", {"step": step, "total": 3, "message": f"Read {mark}{step}.jpg"})])
        store.append(claim, [Event("verdict", {"name": f"{mark}.jpg", "status": "good"})])
        store.finish(claim, Outcome("completed", result={"subject": mark, "commit": commit}))
        return job.id

    def back_up(self) -> None:
        """Bring all that is completed into the backup."""
        store, vault = self.studio._store, BackupFolder(self.settings)
        backup = Backup(self.settings, store, self.home / "jobs")
        for job_id in store.completed():
            assert backup._save(vault, job_id)

    def traces(self, mark: str, *, where: tuple[str, ...] = ("home", "vault")) -> list[str]:
        """Return every file whose name or bytes hold the marker; the table of jobs is a file, too."""
        paths = [path for name in where for path in (self.folder / name).rglob("*")]
        return sorted(
            str(path.relative_to(self.folder))
            for path in paths
            if mark in str(path.relative_to(self.folder)) or (path.is_file() and mark.encode() in path.read_bytes())
        )

    def start_again(self) -> Studio:
        """Start as after a kill: what was in memory is gone."""
        self.studio = Studio(self.settings)
        self.studio.start()
        return self.studio


@pytest.fixture(scope="module")
def planted_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    planted = Planted(tmp_path_factory.mktemp("planted"))
    ids = {mark: planted.everything_of(mark, owner) for mark, owner in ((MARK, ADA), (OTHER, BOB))}
    ids[THIRD] = {}
    third = planted.folder / "third.jpg"
    third.write_text(THIRD)
    ids[THIRD]["check"] = planted.done(
        planted.studio.submit_check(CheckConfig(subject=THIRD), [third], owner=ADA), THIRD, {"dataset.json": THIRD}
    )
    planted.back_up()
    planted.studio.close()
    return planted.folder, ids


@pytest.fixture
def ids(planted_once: tuple[Path, dict[str, dict[str, str]]]) -> dict[str, dict[str, str]]:
    return planted_once[1]


@pytest.fixture
def planted(planted_once: Any, tmp_path: Path) -> Iterator[Planted]:
    """A copy of the home and the backup, hard links kept."""
    for name in ("home", "vault"):
        shutil.copytree(planted_once[0] / name, tmp_path / name)
    for link in (tmp_path / "home" / "web-cache").rglob("001.png"):
        held, same = link.read_bytes(), (tmp_path / "home" / "jobs").rglob("a/001.png")
        link.unlink()
        os.link(next(path for path in same if path.read_bytes() == held), link)
    yield (planted := Planted(tmp_path))
    planted.studio.close()


WAYS: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
    "the photo set": lambda ids: {"job": ids["check"]},
    "the subject": lambda ids: {"subject": MARK},
    "the owner": lambda ids: {"everything": True},
}


@pytest.mark.parametrize("way", sorted(WAYS))
def test_a_planted_marker_is_nowhere_in_home_cache_and_backup(planted: Planted, ids: Any, way: str) -> None:
    assert {path.split("/")[0] for path in planted.traces(MARK)} == {"home", "vault"}, "it was planted"
    others = planted.traces(OTHER)
    third = planted.traces(THIRD)
    receipt = planted.studio.forget(owner=ADA, **WAYS[way](ids[MARK]))
    assert planted.traces(MARK) == []
    assert planted.traces(OTHER) == others, "nothing of anybody else"
    assert planted.traces(THIRD) == ([] if way == "the owner" else third)
    assert set(receipt.jobs) >= set(ids[MARK].values()) and receipt.forgotten_s is not None
    places = {"adapters", "backup", "cache", "copies", "folders", "logs", "storage"}
    assert {share.place for share in receipt.shares} == places
    (kept,) = planted.studio.receipts(owner=ADA)
    assert (kept.jobs, kept.shares, kept.files) == (receipt.jobs, receipt.shares, receipt.files)
    assert planted.studio.receipts(owner=BOB) == ()
    assert receipt.files == sum(share.files for share in receipt.shares) > 40 and receipt.bytes > 1000
    assert [job.facts.subject for job in planted.studio.list(owner=ADA)] == [THIRD] * (way != "the owner")


def test_a_part_goes_with_what_was_made_from_it_and_the_rest_stays(planted: Planted, ids: Any) -> None:
    """Pictures take along what was finished and laid out for publishing from them; the run and its photos stay."""
    receipt = planted.studio.forget(owner=ADA, job=ids[MARK]["generate"])
    assert set(receipt.jobs) == {ids[MARK][kind] for kind in ("generate", "finish", "publish")}
    left = {job.id for job in planted.studio.list(owner=ADA)}
    assert left == {ids[MARK][kind] for kind in ("check", "train", "export", "drawn")} | {ids[THIRD]["check"]}
    drawn_by = adapter_sha256(planted.studio.out_dir(ids[MARK]["train"], owner=ADA) / "adapter")
    assert not (planted.home / "cache" / "pictures" / drawn_by).exists()


def test_a_dry_run_counts_the_same_and_changes_nothing(planted: Planted, ids: Any) -> None:
    before = planted.traces(MARK)
    told = planted.studio.forget(owner=ADA, subject=MARK, dry_run=True)
    assert planted.traces(MARK) == before and not (planted.home / "forget").exists()
    assert (told.dry_run, told.id, told.forgotten_s) == (True, "", None)
    done = planted.studio.forget(owner=ADA, subject=MARK)
    assert (done.jobs, done.shares) == (told.jobs, told.shares)


def test_nobody_forgets_what_is_another_owners(planted: Planted, ids: Any) -> None:
    before = planted.traces(MARK)
    for what in ({"job": ids[MARK]["check"]}, {"subject": MARK}):
        with pytest.raises(NotFoundError) as caught:
            planted.studio.forget(owner=BOB, **what)  # type: ignore[arg-type]
        assert THIRD not in str(caught.value)
    planted.studio.forget(owner=BOB, everything=True)
    assert planted.traces(MARK) == before
    assert planted.traces(OTHER) == []


@pytest.mark.parametrize("what", [{}, {"job": "a", "subject": "b"}, {"job": "a", "everything": True}])
def test_what_is_not_said_or_said_twice_is_refused(planted: Planted, what: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="exactly one"):
        planted.studio.forget(owner=ADA, **what)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the studio catches it."""


MOMENTS = [(place, when) for place in forget.BELONGINGS for when in ("before", "after")]


@pytest.mark.whole
@pytest.mark.parametrize(("place", "when"), [*MOMENTS, ("set aside", "after"), ("the marker", "after")])
def test_killed_at_any_moment_the_next_start_finishes_it(
    planted: Planted, ids: Any, monkeypatch: pytest.MonkeyPatch, place: str, when: str
) -> None:
    others = planted.traces(OTHER)
    with monkeypatch.context() as fault:
        kill_at(fault, place, when)
        with pytest.raises(Killed):
            planted.studio.forget(owner=ADA, subject=MARK)
    planted.studio.close()
    (intent,) = forgotten.open_ones(planted.home)
    assert MARK not in (planted.home / "forget" / f"{intent.id}.json").read_text()
    studio = planted.start_again()
    until(lambda: not forgotten.open_ones(planted.home))
    studio.close()
    planted.start_again().close()  # and what the backup held is not brought back
    assert planted.traces(MARK) == []
    assert kept(planted.traces(OTHER)) == kept(others)
    (receipt,) = forgotten.all_of(planted.home)
    assert set(receipt.jobs) == set(ids[MARK].values()) and receipt.shares == intent.shares
    assert (receipt.owner, receipt.adapters) == ("", ())


def test_killed_by_the_system_in_the_middle_of_it_the_next_start_finishes_it(planted: Planted) -> None:
    """Not only as if: a process of its own that is gone between two places."""
    code = f"""
import os, signal
from dataclasses import replace
from studio.core.settings import PROJECT_ROOT, Settings
from studio.jobs import forget
from studio.service import Studio
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
forget.BELONGINGS = {{**forget.BELONGINGS, "folders": replace(forget.BELONGINGS["folders"], drop=kill)}}
Studio(Settings(home={str(planted.home)!r}, backup_url={planted.vault.as_uri()!r})).forget(
    owner={ADA!r}, subject={MARK!r}
)
"""
    ended = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, timeout=100)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert planted.traces(MARK)
    planted.start_again()
    until(lambda: not forgotten.open_ones(planted.home))
    assert planted.traces(MARK) == []


def kept(paths: list[str]) -> list[str]:
    """Return the paths without what the clock sweeps of completed jobs."""
    return [path for path in paths if path.split("/")[3:4] not in (["photos"], [".out.partial"])]


def kill_at(fault: pytest.MonkeyPatch, place: str, when: str) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    if place == "set aside":  # one folder of several
        real, calls = os.replace, []

        def second(source: Any, target: Any) -> None:
            if ".forget-" in str(target) and len(calls) == 1:
                raise Killed
            calls.extend([1] if ".forget-" in str(target) else [])
            real(source, target)

        fault.setattr(os, "replace", second)
    elif place == "the marker":  # of the first job in the backup, before its record and its files

        def only_marker(self: LocalFileSystem, path: str) -> None:
            Path(self._strip_protocol(path)).unlink()
            raise Killed

        fault.setattr(LocalFileSystem, "rm_file", only_marker)
    else:
        row = forget.BELONGINGS[place]

        def drop(desk: Any, forgetting: Any) -> None:
            if when == "after":
                row.drop(desk, forgetting)
            raise Killed

        fault.setattr(forget, "BELONGINGS", {**forget.BELONGINGS, place: replace(row, drop=drop)})


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.02)


def test_a_backup_that_cannot_be_reached_is_told_and_emptied_later(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise OSError("no route to host")

    with monkeypatch.context() as fault:
        fault.setattr(BackupFolder, "sizes", away)
        receipt = planted.studio.forget(owner=ADA, subject=MARK)
    assert receipt.waits_for == ("backup",) and receipt.forgotten_s is None
    assert "could not be reached yet" in receipt.words()
    assert planted.traces(MARK, where=("home",)) == [] != planted.traces(MARK, where=("vault",))
    planted.studio._forgetter.finish_open()
    assert planted.traces(MARK) == [] and not forgotten.open_ones(planted.home)


def test_what_was_forgotten_without_the_backup_does_not_come_back_from_it(planted: Planted, ids: Any) -> None:
    alone = Studio(Settings(home=planted.home))
    alone.forget(owner=ADA, subject=MARK)
    alone.close()
    assert planted.traces(MARK, where=("home",)) == [] != planted.traces(MARK, where=("vault",))
    studio = planted.start_again()
    until(lambda: not any((planted.vault / "jobs" / job_id).exists() for job_id in ids[MARK].values()))
    assert planted.traces(MARK) == []
    assert [job.facts.subject for job in studio.list(owner=ADA)] == [THIRD]


def test_what_is_only_in_the_backup_yet_goes_with_its_owner(planted: Planted) -> None:
    """A home that lost its disk: the jobs are on their way back when their owner has had enough."""
    planted.studio.close()
    shutil.rmtree(planted.home)
    planted.studio = Studio(planted.settings)
    receipt = planted.studio.forget(owner=ADA, everything=True)
    assert len(receipt.jobs) == 8 and planted.traces(MARK) == [] == planted.traces(THIRD)
    assert planted.traces(OTHER, where=("vault",))


def test_the_backup_lets_go_of_a_job_that_is_forgotten_while_it_is_saved(
    planted: Planted, ids: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(planted.vault)
    backup = Backup(planted.settings, planted.studio._store, planted.home / "jobs")
    real, put = BackupFolder.put, []

    def forget_on_the_way(self: BackupFolder, job_id: str, relative: str, path: Path) -> None:
        real(self, job_id, relative, path)
        put.append(relative)
        if len(put) == 2:
            planted.studio.forget(owner=ADA, subject=MARK)
            real(self, job_id, "late.txt", Path(__file__))  # was on the line when the backup was emptied

    monkeypatch.setattr(BackupFolder, "put", forget_on_the_way)
    assert backup._save(BackupFolder(planted.settings), ids[MARK]["train"]) is False
    assert planted.traces(ids[MARK]["train"], where=("vault",)) == []


def test_a_receipt_says_what_went_and_names_what_stays_on_the_hub(planted: Planted, ids: Any) -> None:
    store = planted.studio._store
    config = PublishConfig(repo="you/ada", dry_run=True)
    job = planted.studio.submit_publish(config, ids[MARK]["train"], owner=ADA)
    claim = store.claim()
    assert claim is not None
    store.finish(claim, Outcome("completed", result={"commit": "c" * 40}))
    receipt = planted.studio.forget(owner=ADA, job=job.id)
    assert receipt.published == ("you/ada",)
    assert "Not touched: you/ada on the Hugging Face Hub; the command unpublish deletes it there." in receipt.words()
    assert planted.traces("you/ada") == [], "what is kept names no repository"


def test_a_job_that_is_queued_behind_a_forgotten_one_goes_too_and_none_can_be_queued_later(
    planted: Planted, ids: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    late: list[str] = []
    row = forget.BELONGINGS["folders"]

    def drop(desk: Any, forgetting: Any) -> None:
        late.append(planted.studio.submit_export(ExportConfig(format="kohya"), ids[MARK]["train"], owner=ADA).id)
        row.drop(desk, forgetting)

    monkeypatch.setattr(forget, "BELONGINGS", {**forget.BELONGINGS, "folders": replace(row, drop=drop)})
    planted.studio.forget(owner=ADA, subject=MARK)
    assert late[0] not in planted.studio._store.ids() and not (planted.home / "jobs" / late[0]).exists()
    with pytest.raises(NotFoundError):
        planted.studio.submit_export(ExportConfig(format="kohya"), ids[MARK]["train"], owner=ADA)
    assert planted.traces(MARK) == []


def test_the_original_goes_with_the_end_of_a_real_check_and_its_crop_is_enough(tmp_path: Path) -> None:
    """Place and camera of a photo are on the disk while it is checked, and nowhere afterwards."""
    noise = Image.effect_noise((600, 600), 90).convert("RGB")
    exif = Image.Exif()
    exif[0x010E], exif.get_ifd(0x8825)[29] = f"taken at {MARK}", "2026:11:30"
    photo = tmp_path / "dog.jpg"
    noise.save(photo, exif=exif)
    settings = Settings(home=tmp_path / "home", device="cpu")
    studio = Studio(settings)
    config = CheckConfig(subject="Rex", class_noun="dog", likeness="none", keep_rejected=True)
    job = studio.submit_check(config, [photo], owner=ADA)
    held = tmp_path / "home" / "jobs" / job.id / "photos" / "dog.jpg"
    assert MARK.encode() in held.read_bytes()
    studio.start()
    ended = studio.wait(job.id, owner=ADA, timeout_s=100)
    until(lambda: not held.exists())
    studio.close()
    assert ended.state == "completed" and ended.result is not None, ended.cause
    crop = studio.out_dir(job.id, owner=ADA) / ended.result["photos"][0]["file"]
    with Image.open(crop) as prepared:
        assert prepared.size == (600, 600)
    files = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert [path for path in files if MARK.encode() in path.read_bytes()] == []
    studio.forget(owner=ADA, job=job.id)
    studio.close()
    left = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and b"dog.jpg" in path.read_bytes()]
    assert left == [] and not held.parent.parent.exists()
