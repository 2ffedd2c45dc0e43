import fcntl
import os
import subprocess
import sys
import time

from studio.jobs import worker


def test_orphaned_upload_is_removed_only_when_old_and_unknown(tmp_path):
    for name in ("check-known", "check-fresh", "check-old"):
        (tmp_path / name / "photos").mkdir(parents=True)
    long_ago = time.time() - 7200
    for name in ("check-known", "check-old"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    worker._remove_orphans(tmp_path, frozenset({"check-known"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["check-fresh", "check-known"]


def test_leftover_process_that_holds_the_lock_is_killed_and_no_stranger(tmp_path):
    path = tmp_path / "child.lock"
    path.write_text(str(os.getpid()))
    worker._end_leftovers(tmp_path)  # nobody holds the lock: the number in it means nothing, and we live on

    code = (
        f"import fcntl, os, time; f = open({str(path)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
        "; f.write(str(os.getpid())); f.flush(); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as leftover:
        leftover.stdout.readline()
        worker._end_leftovers(tmp_path)
        assert leftover.wait(timeout=10) == -9
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_every_way_to_end_without_a_result_has_words():
    assert "probably out of memory" in worker._words(-9)
    assert "crashed (SIGABRT)" in worker._words(-6)
    assert "status 3" in worker._words(3)
