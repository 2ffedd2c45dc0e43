"""The runner of this machine: one child process for each attempt, which dies with its server.

The child's lines come through a pipe. It and everything that it starts are one process group, which is gone when the
attempt has ended; the lock in the job's folder proves that to whoever comes after a crash.
"""

import contextlib
import fcntl
import logging
import math
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from studio.core.domain import Event
from studio.core.settings import PROJECT_ROOT
from studio.jobs.child import LOCK_FILE
from studio.jobs.events import Outcome, parse_line
from studio.jobs.inherited import inherited
from studio.jobs.runners.base import TOLD_TO_STOP, Attempt, Report, Runner, log_lines

logger = logging.getLogger(__name__)

LOG_FILE = "log.txt"
_LEAVE_S = 10.0
"""How long a child that has told its outcome may take to leave."""
_FLOOD_BYTES = 2**20


@dataclass
class _Child:
    """One attempt's process."""

    process: "subprocess.Popen[bytes]"
    log: Path
    rest: bytes = b""
    kill_s: float = math.inf
    """When it is killed, on the monotonic clock."""
    is_over: bool = False
    """From here on its process group may be a stranger's."""
    end: Report | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def kill(self) -> None:
        """Kill its whole group, unless it has been seen off."""
        with self.lock:
            if not self.is_over:
                _kill_group(self.process.pid)


class LocalRunner(Runner):
    """Runs attempts as children of this process.

    Args:
        environment: variables that each child gets beside what it inherits of ours.
        more_variables: names of variables that it inherits beside those of ``inherited``.
    """

    name = "local"

    def __init__(self, environment: Mapping[str, str], more_variables: Collection[str] = ()) -> None:
        self._environment = environment
        self._more_variables = frozenset(more_variables)
        self._children: dict[str, _Child] = {}

    def start(self, attempt: Attempt) -> str:
        """Start the attempt's child; what is left of an earlier attempt of the job is ended first."""
        handle = f"{attempt.claim.id}.{attempt.claim.attempt}"
        if handle not in self._children:
            end_leftovers(attempt.job_dir)
            self._children[handle] = _Child(self._spawn(attempt), attempt.job_dir / LOG_FILE)
        return handle

    def poll(self, handle: str, wait_s: float) -> Report:
        """Read the child's lines; see it off when it has told its outcome or is gone."""
        child = self._children[handle]
        if child.end is not None:
            return child.end
        assert child.process.stdout is not None
        pipe = child.process.stdout.fileno()
        exited = child.process.poll() is not None  # asked before reading, so that its last words are read below
        select.select([pipe], [], [], 0 if exited else max(0.0, min(wait_s, child.kill_s - time.monotonic())))
        data, more = _read_all(pipe)
        *lines, child.rest = (child.rest + data).split(b"\n")
        events: list[Event] = []
        outcome: Outcome | None = None
        for parsed in map(parse_line, lines):
            if isinstance(parsed, Outcome):
                outcome = outcome or parsed
            elif parsed is not None:
                events.append(parsed)
        if time.monotonic() >= child.kill_s:
            child.kill()
            more = False
        if more and not exited and outcome is None:
            return Report("running", tuple(events))
        status = self._end(child)
        told_to_stop = status == -signal.SIGTERM
        child.end = Report("ended", (), outcome, words_of(status), told_to_stop)
        return Report("ended", tuple(events), outcome, child.end.reason, told_to_stop)

    def cancel(self, handle: str, grace_s: float) -> None:
        """Send SIGTERM, and SIGKILL to the whole group after the grace."""
        child = self._children.get(handle)
        if child is None or child.end is not None:
            return
        if grace_s <= 0:
            child.kill()
        elif child.kill_s == math.inf:
            child.process.terminate()
        child.kill_s = min(child.kill_s, time.monotonic() + grace_s)

    def logs(self, handle: str, cursor: int) -> tuple[list[str], int]:
        """Return lines of the job's log, which holds those of earlier attempts, too."""
        return log_lines(self._children[handle].log, cursor)

    def leave(self, handle: str) -> None:
        """End the child's process group and forget the attempt."""
        child = self._children.pop(handle, None)
        if child is not None and child.end is None:
            child.kill()
            self._end(child)

    def _spawn(self, attempt: Attempt) -> "subprocess.Popen[bytes]":
        search_path = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        kept = inherited(os.environ, self._more_variables)
        environment = {**kept, **self._environment, **attempt.slot, "PYTHONPATH": os.pathsep.join(search_path)}
        own = {**environment, **attempt.secrets}
        environment = {name: value for name, value in own.items() if value is not None}
        # -P: the working folder, which is the server's, must not be searched for modules.
        command = [sys.executable, "-P", "-m", "studio.jobs.child", str(attempt.job_dir)]
        command += ["--verb", attempt.verb, "--parent", str(os.getpid())]
        with (attempt.job_dir / LOG_FILE).open("ab") as log:
            log.write(f"--- attempt {attempt.claim.attempt}\n".encode())
            log.flush()
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,  # held open: its end tells the child that we are gone
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,
                umask=0o077,  # what it writes is its owner's alone
                bufsize=0,
            )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return process

    @staticmethod
    def _end(child: _Child) -> int:
        """See the child off, and everything that it started; return its status, negative for a signal."""
        with child.process as process:
            try:
                process.wait(_LEAVE_S)
            except subprocess.TimeoutExpired:
                logger.warning("process %d does not leave and is killed", process.pid)
            child.kill()
            child.is_over = True
            return process.wait()


def _read_all(handle: int) -> tuple[bytes, bool]:
    """Return what can be read now, and whether more may come."""
    data = b""
    while True:
        try:
            chunk = os.read(handle, 65536)
        except BlockingIOError:
            return data, True
        if not chunk:
            return data, False
        data += chunk
        if len(data) > _FLOOD_BYTES:  # a flood must not keep us from looking at the owner's wishes
            return data, True


def _kill_group(group: int) -> None:
    # PermissionError: macOS says so of a group that holds only zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def end_leftovers(job_dir: Path, patience_s: float = 5.0) -> None:
    """Kill what is left of an earlier attempt of this job.

    The lock is the proof: while it is held, the process group in the file exists and is ours, so its number
    cannot have been given to a stranger.
    """
    path = job_dir / LOCK_FILE
    if not path.exists():
        return
    give_up_s = time.monotonic() + patience_s
    with path.open("r+b") as lock:
        while time.monotonic() < give_up_s:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                lock.seek(0)
                pid = lock.read()
                if pid.isdigit():
                    _kill_group(int(pid))
                time.sleep(0.05)


def process_of(job_dir: Path) -> int | None:
    """Return the process that holds a job's lock or held it last; None if it never ran on this machine."""
    try:
        said = (job_dir / LOCK_FILE).read_bytes()
    except OSError:
        return None
    return int(said) if said.isdigit() else None


def words_of(returncode: int) -> str:
    """Say how a child ended that told no outcome."""
    if returncode == -signal.SIGTERM:
        return TOLD_TO_STOP
    if returncode == -signal.SIGKILL:
        return (
            "The job's process was killed, probably out of memory; close other programs, or choose a smaller"
            " batch size, resolution or base."
        )
    if returncode < 0:
        return f"The job's process crashed ({signal.Signals(-returncode).name}); details are in the job's log."
    return f"The job's process ended without a result (status {returncode}); details are in the job's log."
