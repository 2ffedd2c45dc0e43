import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from studio.core import files
from studio.core.errors import InputError, ResourceError


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order: "fsync file", "fsync folder", "replace"."""
    seen: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        seen.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "fsync file")
        fsync(handle)

    def noted_replace(part: Path, path: Path) -> None:
        assert part.parent == path.parent, "a rename between file systems is a copy"
        seen.append("replace")
        replace(part, path)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    return seen


def with_replacing(path: Path) -> None:
    with files.replacing(path) as part:
        part.write_bytes(b"new")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "bytes": lambda path: files.write_bytes(path, b"new"),
    "text": lambda path: files.write_text(path, "new"),
    "json": lambda path: files.write_json(path, {"new": 1}),
    "zip": lambda path: files.write_zip(path, [("new", b"new")]),
    "replacing": with_replacing,
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_power_cut_finds_the_old_file_or_the_new_one(
    tmp_path: Path, calls: list[str], write: Callable[[Path], Any]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write(path)
    assert calls == ["fsync file", "replace", "fsync folder"]
    assert path.read_bytes() != b"old" and [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_files_that_are_verified_when_read_may_go_without_a_flush(tmp_path: Path, calls: list[str]) -> None:
    files.write_bytes(tmp_path / "picture.png", b"new", durable=False)
    assert calls == ["replace"]
    files.sync_tree(tmp_path)
    assert calls == ["replace", "fsync file", "fsync folder"]


@pytest.mark.parametrize("shared", [False, True])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, shared: bool) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ValueError), files.replacing(path, shared=shared) as part:
        part.write_text("half")
        raise ValueError
    assert path.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_several_writers_of_one_file_do_not_share_a_temporary_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with files.replacing(path, shared=True) as one, files.replacing(path, shared=True) as other:
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one", "the last one that finishes stays"


def test_json_comes_back_and_what_is_missing_or_damaged_is_none(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    assert files.read_json(path) is None
    files.write_json(path, {"b": [1, None], "a": "Zoë"})
    assert files.read_json(path) == {"b": [1, None], "a": "Zoë"}
    assert path.read_text(encoding="utf-8") == json.dumps({"b": [1, None], "a": "Zoë"}, indent=1) + "\n"
    path.write_text("{")
    assert files.read_json(path) is None


def test_the_digest_is_the_one_of_hashlib(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    assert files.sha256_of(tmp_path / "file") == hashlib.sha256(b"x" * 300_000).hexdigest()


def test_the_same_members_give_the_same_zip_whatever_the_clock_and_the_rights_say(tmp_path: Path) -> None:
    made = []
    for number, mode in enumerate((0o600, 0o755)):
        picture = tmp_path / f"{number}.png"
        picture.write_bytes(b"pixels")
        picture.chmod(mode)
        os.utime(picture, (1e9 + number * 1e6,) * 2)
        files.write_zip(tmp_path / f"{number}.zip", [("b.png", picture), ("a.json", b"{}")])
        made.append((tmp_path / f"{number}.zip").read_bytes())
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "0.zip") as archive:
        assert archive.namelist() == ["b.png", "a.json"] and archive.read("b.png") == b"pixels"
        assert archive.infolist()[0].external_attr >> 16 == 0o644


FULL = [OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)]
FULL.append(SafetensorError(f'I/O error: Os {{ code: 28, message: "{os.strerror(errno.ENOSPC)}" }}'))


@pytest.mark.parametrize("error", FULL, ids=repr)
def test_a_full_disk_has_one_wording(error: Exception) -> None:
    with pytest.raises(ResourceError) as caught, files.full_disk_in_words():
        raise error
    assert str(caught.value) == files.DISK_IS_FULL
    assert files.is_disk_full(error)


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "denied"), InputError("no"), ValueError()], ids=repr)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, files.full_disk_in_words():
        raise error
    assert caught.value is error and not files.is_disk_full(error)


def test_the_inner_cure_wins(tmp_path: Path) -> None:
    in_words = files.full_disk_in_words
    with pytest.raises(ResourceError, match=r"use another one"), in_words(), in_words("use another one"):
        raise FULL[0]
