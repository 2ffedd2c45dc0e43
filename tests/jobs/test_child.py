import contextlib
import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from studio.core.errors import InputError, MissingExtraError, Problem, ResourceError
from studio.core.files import DISK_IS_FULL
from studio.jobs import child, worker
from studio.jobs.events import Outcome, parse_line

NO_MEMORY = "Memory ran out. Choose a smaller batch size, resolution or base, then retry."
UNEXPECTED = "Something unexpected went wrong ({}); details are in the job's log."


class OutOfMemoryError(RuntimeError):
    """Named as torch names it."""


@pytest.mark.parametrize(
    ("error", "cause", "status"),
    [
        (ResourceError("the disk is full; free some."), "the disk is full; free some.", 507),
        (InputError(""), "InputError", 422),
        (MissingExtraError("x is not installed."), "x is not installed.", 501),
        (MemoryError(), NO_MEMORY, 507),
        (OutOfMemoryError("CUDA: tried to allocate"), NO_MEMORY, 507),
        (OSError(errno.ENOSPC, "x"), DISK_IS_FULL, 507),
        (OSError(errno.EACCES, "/secret/path"), UNEXPECTED.format("PermissionError"), 500),
        (SystemExit(3), UNEXPECTED.format("SystemExit"), 500),
    ],
)
def test_every_error_is_explained_in_words_and_keeps_its_status(error, cause, status):
    assert child.explain(error) == Outcome("stalled", cause=cause, status=status)


def test_problems_are_carried_over():
    outcome = child.explain(InputError.of([Problem("a.jpg", "is dark", "use light", "dark")]))
    assert outcome.problems == ({"where": "a.jpg", "message": "is dark", "cure": "use light", "code": "dark"},)


def test_missing_package_is_named(tmp_path, monkeypatch):
    (tmp_path / "needs_much.py").write_text("import no_such_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtraError, match="'no_such_package' is not installed"):
        child.resolve("needs_much:run")


@contextlib.contextmanager
def start(job_dir, parent, fake_verbs):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), fake_verbs.FOLDER])}
    command = [sys.executable, "-m", "studio.jobs.child", str(job_dir), "--verb", "fake_verbs:run"]
    with subprocess.Popen(
        [*command, "--parent", str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # so that a failing test does not wait for ever


@pytest.fixture
def job_dir(tmp_path):
    (tmp_path / "photos").mkdir()
    request = {"kind": "check", "config": {"subject": "load"}, "source": None}
    (tmp_path / "request.json").write_text(json.dumps(request))
    return tmp_path


def test_child_of_a_dead_server_leaves_without_a_word(job_dir, fake_verbs):
    with start(job_dir, os.getpid() + 1, fake_verbs) as process:
        output, _ = process.communicate(timeout=30)
    assert (process.returncode, output) == (1, b"")


def test_child_stops_on_sigterm_refuses_company_and_dies_with_its_servers_pipe(job_dir, fake_verbs):
    with start(job_dir, os.getpid(), fake_verbs) as first:
        assert parse_line(first.stdout.readline()).kind == "stage"
        with start(job_dir, os.getpid(), fake_verbs) as second:
            refused = parse_line(second.stdout.readline())
        assert refused.state == "stalled" and "still running" in refused.cause
        first.terminate()
        assert parse_line(first.stdout.readline()) == Outcome("cancelled")
        assert first.wait(timeout=30) == 0
        first.stdin.close()
    worker.end_leftovers(job_dir)  # its guard
    with start(job_dir, os.getpid(), fake_verbs) as third:
        assert parse_line(third.stdout.readline()).kind == "stage"
        third.stdin.close()
        assert third.wait(timeout=30) == -signal.SIGKILL
