"""What every storage must do, whichever it is."""

import hashlib
import urllib.error
import urllib.request

import pytest

from studio.core.errors import ConflictError, NotFoundError
from studio.jobs.storage.base import DamagedObjectError, require_name

TEXT = b"a checkpoint" * 1000


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_what_is_put_comes_back_whole(storage, tmp_path):
    (tmp_path / "in").write_bytes(TEXT)
    stored = storage.put("jobs/a/file", tmp_path / "in")
    assert (stored.bytes, stored.sha256) == (len(TEXT), sha256(TEXT))
    assert storage.size("jobs/a/file") == len(TEXT)
    assert storage.read("jobs/a/file") == TEXT
    assert storage.digest("jobs/a/file") == sha256(TEXT)
    storage.get("jobs/a/file", tmp_path / "out", sha256=sha256(TEXT))
    assert (tmp_path / "out").read_bytes() == TEXT


def test_a_file_of_many_megabytes_comes_back_whole(storage, tmp_path):
    data = bytes(range(256)) * 4096 * 12
    (tmp_path / "in").write_bytes(data)
    assert storage.put("large", tmp_path / "in").sha256 == sha256(data)
    storage.get("large", tmp_path / "out", sha256=sha256(data))


def test_putting_again_replaces_and_create_does_not(storage):
    storage.put("jobs/a/state.json", b"1")
    storage.put("jobs/a/state.json", b"22")
    assert storage.read("jobs/a/state.json") == b"22"
    with pytest.raises(ConflictError):
        storage.put("jobs/a/state.json", b"333", create=True)
    assert storage.read("jobs/a/state.json") == b"22"


def test_of_many_that_create_exactly_one_wins(storage, together):
    results = together(8, lambda number: storage.put("jobs/a/result.json", str(number).encode(), create=True))
    winners = [number for number, result in enumerate(results) if not isinstance(result, Exception)]
    assert len(winners) == 1
    assert all(isinstance(result, ConflictError) for result in results if isinstance(result, Exception))
    assert storage.read("jobs/a/result.json") == str(winners[0]).encode()


def test_what_is_not_there_is_said_and_deleting_it_is_no_error(storage, tmp_path):
    assert storage.size("jobs/none") is None
    for ask in (storage.read, storage.digest, lambda name: storage.get(name, tmp_path / "out")):
        with pytest.raises(NotFoundError):
            ask("jobs/none")
    storage.delete("jobs/none")
    assert not (tmp_path / "out").exists()


def test_names_are_those_below_a_prefix_and_of_no_sibling(storage):
    for name in ("jobs/a/1", "jobs/a/b/2", "jobs/ab/3", "other/4"):
        storage.put(name, b"x")
    assert storage.names("jobs/a") == ["jobs/a/1", "jobs/a/b/2"]
    storage.delete("jobs/a/1")
    assert storage.names("jobs/a") == ["jobs/a/b/2"]
    assert storage.names("nothing") == []


def test_another_content_than_expected_is_refused_and_leaves_no_file(storage, tmp_path):
    storage.put("jobs/a/file", b"something else")
    with pytest.raises(DamagedObjectError):
        storage.get("jobs/a/file", tmp_path / "out", sha256=sha256(TEXT))
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a/.b", "a b", "a\\b", "ä", "a\0"]
)
def test_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(ValueError, match="no name"):
        require_name(name)


def test_links_of_a_bucket_bring_and_fetch_one_object_without_a_key(request):
    pytest.importorskip("obstore")
    from studio.jobs.storage.cloud import CloudStorage

    storage = CloudStorage(request.getfixturevalue("bucket"))
    put = storage.link("PUT", "jobs/a/file", expires_s=60, max_bytes=10**6)
    assert "testing-secret" not in put.url
    headers = {"Content-Type": "application/octet-stream", **put.headers}  # moto takes anything else for a form
    urllib.request.urlopen(urllib.request.Request(put.url, TEXT, headers, method="PUT"), timeout=30).close()
    assert storage.digest("jobs/a/file") == sha256(TEXT)
    get = storage.link("GET", "jobs/a/file", expires_s=60, max_bytes=0)
    with urllib.request.urlopen(get.url, timeout=30) as answer:
        assert answer.read() == TEXT
