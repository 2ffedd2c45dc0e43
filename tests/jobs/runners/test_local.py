import fcntl
import os
import subprocess
import sys

from studio.jobs.runners import local


def test_leftover_process_that_holds_the_lock_is_killed_and_no_stranger(tmp_path):
    path = tmp_path / "child.lock"
    path.write_text(str(os.getpid()))
    local.end_leftovers(tmp_path)  # nobody holds the lock: the number in it means nothing, and we live on

    code = (
        f"import fcntl, os, time; f = open({str(path)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
        "; f.write(str(os.getpid())); f.flush(); print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as leftover:
        leftover.stdout.readline()
        local.end_leftovers(tmp_path)
        assert leftover.wait(timeout=10) == -9
    with path.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_every_way_to_end_without_a_result_has_words():
    assert "probably out of memory" in local.words_of(-9)
    assert "crashed (SIGABRT)" in local.words_of(-6)
    assert "status 3" in local.words_of(3)
