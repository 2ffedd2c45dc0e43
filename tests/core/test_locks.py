"""Locked files: one at a time, given back."""

import fcntl
from pathlib import Path

import pytest

from studio.core.locks import Lock


def test_a_lock_keeps_others_out_until_it_is_closed(tmp_path: Path) -> None:
    held = Lock(tmp_path / "lock", fcntl.LOCK_EX)
    with pytest.raises(BlockingIOError):
        Lock(tmp_path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
    held.close()
    held.close()
    Lock(tmp_path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB).close()


def test_readers_share_a_lock(tmp_path: Path) -> None:
    first = Lock(tmp_path / "lock", fcntl.LOCK_SH)
    Lock(tmp_path / "lock", fcntl.LOCK_SH | fcntl.LOCK_NB).close()
    with pytest.raises(BlockingIOError):
        Lock(tmp_path / "lock", fcntl.LOCK_EX | fcntl.LOCK_NB)
    first.close()


def test_a_lock_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Lock(tmp_path / "missing" / "lock", fcntl.LOCK_EX)
