import errno
import os
import time

import pytest

from studio.core.errors import ResourceError
from studio.jobs.storage import folder as folder_module
from studio.jobs.storage.base import DamagedObjectError
from studio.jobs.storage.folder import FolderStorage


@pytest.fixture
def storage(tmp_path, signer):
    return FolderStorage(tmp_path / "objects", signer)


def test_an_upload_that_breaks_off_leaves_nothing(storage, tmp_path):
    with pytest.raises(RuntimeError), storage.incoming("a/file") as part:
        part.write_bytes(b"half")
        raise RuntimeError
    assert storage.size("a/file") is None
    assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []


def test_parts_of_a_killed_upload_are_no_objects_and_go_after_a_day(storage, tmp_path):
    storage.put("a/file", b"x")
    part = tmp_path / "objects" / "a" / ".part-dead"
    part.write_bytes(b"half")
    assert storage.names("a") == ["a/file"]
    assert part.exists()
    os.utime(part, (time.time() - 90000,) * 2)
    assert storage.names("a") == ["a/file"]
    assert not part.exists()


def test_a_disk_that_changes_what_was_written_is_noticed(storage, monkeypatch):
    monkeypatch.setattr(folder_module, "sha256_of", lambda path: "0" * 64)
    with pytest.raises(DamagedObjectError):
        storage.put("a/file", b"x")
    assert storage.size("a/file") is None


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "cannot be used")])
def test_a_disk_that_cannot_be_written_is_said_in_words(storage, monkeypatch, number, words):
    def refuse(path):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(folder_module, "sync_file", refuse)
    with pytest.raises(ResourceError, match=words):
        storage.put("a/file", b"x")


def test_objects_are_for_their_user_alone(storage, tmp_path):
    storage.put("a/file", b"x")
    assert (tmp_path / "objects" / "a").stat().st_mode & 0o077 == 0


def test_deleting_takes_empty_folders_along_and_no_others(storage, tmp_path):
    storage.put("a/b/file", b"x")
    storage.put("a/other", b"x")
    storage.delete("a/b/file")
    assert not (tmp_path / "objects" / "a" / "b").exists()
    assert storage.names("a") == ["a/other"]


def test_its_links_lead_to_the_server(storage):
    link = storage.link("GET", "a/file", expires_s=60, max_bytes=0)
    assert link.url.startswith("http://studio.test/objects/a/file?")
