"""The cache of bases: a budget, the least recently used first, pins, and several users at once."""

import errno
import gc
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio.bases import cache as cache_module
from studio.bases.cache import Cache, disk_full
from studio.core.errors import ResourceError


def filled(content: bytes = b"x" * 100) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "file").write_bytes(content)

    return fill


def never(folder: Path) -> None:
    raise AssertionError("made again")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache", max_bytes=250)


def test_an_entry_is_made_once_and_found_again(cache: Cache) -> None:
    assert cache.get("a") is None
    made = cache.put("a", 100, filled())
    assert cache.put("a", 100, never).folder == made.folder
    found = cache.get("a")
    assert found is not None and (found.folder / "file").read_bytes() == b"x" * 100


def test_the_least_recently_used_goes_first(cache: Cache, tmp_path: Path) -> None:
    for number, key in enumerate("ab"):
        cache.put(key, 100, filled())
        gc.collect()  # lets it go
        os.utime(tmp_path / "cache" / f"{key}.lock", (number, number))
    assert cache.get("a") is not None  # used again: now b is the older one
    gc.collect()
    cache.put("c", 100, filled())
    assert names(tmp_path / "cache") == {"a", "c"}


def test_what_is_in_use_stays_and_then_there_is_no_room(cache: Cache, tmp_path: Path) -> None:
    pinned = [cache.put(key, 100, filled()) for key in "ab"]
    with pytest.raises(ResourceError, match="the others are in use"):
        cache.put("c", 100, never)
    assert names(tmp_path / "cache") == {"a", "b"}
    pinned.pop(0)
    gc.collect()
    cache.put("c", 100, filled())
    assert names(tmp_path / "cache") == {"b", "c"}


def test_what_is_larger_than_the_budget_is_refused_before_anything_goes(cache: Cache, tmp_path: Path) -> None:
    cache.put("a", 100, filled())
    with pytest.raises(ResourceError, match="STUDIO_BASES_MAX_BYTES"):
        cache.put("b", 251, never)
    assert names(tmp_path / "cache") == {"a"}


def test_a_full_disk_is_said_before_the_download(cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda _: usage._replace(free=50))
    with pytest.raises(ResourceError, match="50 bytes are free"):
        cache.put("a", 100, never)
    assert cache.get("a") is None


@pytest.mark.parametrize(("number", "words"), [(errno.ENOSPC, "is full"), (errno.EROFS, "cannot be written to")])
def test_a_disk_that_gives_out_while_filling_leaves_nothing_that_looks_whole(
    cache: Cache, tmp_path: Path, number: int, words: str
) -> None:
    def fill(folder: Path) -> None:
        (folder / "begun").touch()
        raise OSError(number, os.strerror(number))

    with pytest.raises(ResourceError, match=words):
        cache.put("a", 100, fill)
    assert cache.get("a") is None

    def go_on(folder: Path) -> None:
        assert (folder / "begun").exists(), "what is there comes again"

    cache.put("a", 100, go_on)


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_full(tmp_path):
        raise FileNotFoundError


def test_many_who_want_the_same_make_it_once(cache: Cache) -> None:
    made: list[str] = []

    def fill(folder: Path) -> None:
        time.sleep(0.05)
        made.append(folder.name)

    threads = [threading.Thread(target=cache.put, args=("a", 100, fill)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def user(folder: Path, seed: int, faults: "multiprocessing.Queue[str]") -> None:
    """Want entries in an order of one's own; each must be whole for as long as it is held."""
    cache = Cache(folder, max_bytes=350)
    for turn in range(12):
        key = "abcdef"[(seed * 5 + turn * (seed + 1)) % 6]
        try:
            entry = cache.put(key, 100, filled(key.encode() * 100))
        except ResourceError:
            continue  # three others hold theirs: an honest answer
        time.sleep(0.002)
        if (entry.folder / "file").read_bytes() != key.encode() * 100:
            faults.put(key)
        del entry


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_loading_and_eviction_at_once_never_show_half_an_entry(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    faults = context.Queue()
    users = [context.Process(target=user, args=(tmp_path / "cache", seed, faults)) for seed in range(4)]
    for process in users:
        process.start()
    for process in users:
        process.join(60)
    assert [process.exitcode for process in users] == [0, 0, 0, 0]
    assert faults.empty()
    assert len(names(tmp_path / "cache")) <= 3


def test_what_a_dead_process_has_begun_makes_room(cache: Cache, tmp_path: Path) -> None:
    part = tmp_path / "cache" / ".dead.part"
    part.mkdir(parents=True)
    (part / "file").write_bytes(b"x" * 200)
    cache.put("a", 100, filled())
    assert not part.exists() and names(tmp_path / "cache") == {"a"}
