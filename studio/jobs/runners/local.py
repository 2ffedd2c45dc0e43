"""The runner of this machine: a child process for each attempt, which dies with its server.

The child's lines come through a pipe. It and everything that it starts are one process group, which is gone when the
attempt has ended; the lock in the job's folder proves that to whoever comes after a crash.

A process whose attempt has completed may stay warm: with its base loaded it waits for the next attempt on its device.
It takes one only that would have got exactly the variables that it was started with, those of its owner's rights
among them, and it is gone after any other end, after ``warm_s``, and where another kind of attempt takes the device.
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
from studio.jobs.child import LOCK_FILE, STAYS_LINE, TOKEN_VARIABLE, Order
from studio.jobs.events import Outcome, parse_line
from studio.jobs.inherited import inherited
from studio.jobs.runners.base import TOLD_TO_STOP, Attempt, Report, Runner, log_lines
from studio.jobs.slots import device_of

logger = logging.getLogger(__name__)

LOG_FILE = "log.txt"
_LEAVE_S = 10.0
"""How long a child that has told its outcome may take to leave."""
_FLOOD_BYTES = 2**20


@dataclass
class _Process:
    """A child, for one attempt or for several."""

    popen: "subprocess.Popen[bytes]"
    variables: Mapping[str, str]
    """All that it was started with."""
    orders: int | None
    """Where further attempts go; None for a child that leaves after its first."""
    unread: bytes = b""
    """What it has told of a line so far."""
    is_over: bool = False
    """From here on its process group may be a stranger's."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def kill(self) -> None:
        """Kill its whole group, unless it has been seen off."""
        with self.lock:
            if not self.is_over:
                _kill_group(self.popen.pid)

    def end(self, within_s: float = _LEAVE_S) -> int:
        """See it off, and everything that it started; return its status, negative for a signal."""
        if self.orders is not None:
            os.close(self.orders)  # waits for one, it leaves
            self.orders = None
        with self.popen as popen:
            try:
                popen.wait(within_s)
            except subprocess.TimeoutExpired:
                logger.warning("process %d does not leave and is killed", popen.pid)
            self.kill()
            self.is_over = True
            return popen.wait()

    def take(self, order: Order) -> bool:
        """Begin one more attempt; False if the process is gone."""
        if self.orders is None or self.popen.poll() is not None:
            return False
        try:
            os.write(self.orders, order.line())
            return True
        except OSError:
            return False


@dataclass
class _Child:
    """One attempt, and the process that carries it out."""

    process: _Process
    device: str
    log: Path
    kill_s: float = math.inf
    """When it is killed, on the monotonic clock."""
    stays: bool = False
    """Its process has said that it waits for another one."""
    end: Report | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while it is decided that the attempt is over, and while it is asked to stop."""


class LocalRunner(Runner):
    """Runs attempts as children of this process.

    Args:
        environment: variables that each child gets beside what it inherits of ours.
        more_variables: names of variables that it inherits beside those of ``inherited``.
        warm_s: how long a process waits for another attempt that suits it, seconds; 0 keeps none.
    """

    name = "local"

    def __init__(
        self, environment: Mapping[str, str], more_variables: Collection[str] = (), *, warm_s: float = 0.0
    ) -> None:
        self._environment = environment
        self._more_variables = frozenset(more_variables)
        self._warm_s = warm_s
        self._children: dict[str, _Child] = {}
        self._warm: dict[str, tuple[_Process, threading.Timer]] = {}
        """By device."""
        self._keeping = threading.Lock()

    def start(self, attempt: Attempt) -> str:
        """Start the attempt's child, or give it to one that waits; what is left of an earlier attempt is ended."""
        handle = f"{attempt.claim.id}.{attempt.claim.attempt}"
        if handle not in self._children:
            end_leftovers(attempt.job_dir)
            device = device_of(attempt.slot)
            log = attempt.job_dir / LOG_FILE
            with log.open("ab") as file:
                file.write(f"--- attempt {attempt.claim.attempt}\n".encode())
            variables = self._variables_of(attempt)
            process = self._warm_for(attempt, device, variables, log) or self._spawn(attempt, variables, log)
            self._children[handle] = _Child(process, device, log)
        return handle

    def poll(self, handle: str, wait_s: float) -> Report:
        """Read the child's lines; see it off when it has told its outcome or is gone."""
        child = self._children[handle]
        if child.end is not None:
            return child.end
        process = child.process
        assert process.popen.stdout is not None
        pipe = process.popen.stdout.fileno()
        exited = process.popen.poll() is not None  # asked before reading, so that its last words are read below
        select.select([pipe], [], [], 0 if exited else max(0.0, min(wait_s, child.kill_s - time.monotonic())))
        data, more = _read_all(pipe)
        *lines, process.unread = (process.unread + data).split(b"\n")
        events: list[Event] = []
        outcome: Outcome | None = None
        for line in lines:
            parsed = parse_line(line)
            if isinstance(parsed, Outcome):
                outcome = outcome or parsed
            elif parsed is not None:
                events.append(parsed)
            child.stays |= line == STAYS_LINE
        if time.monotonic() >= child.kill_s:
            process.kill()
            more = False
        if more and not exited and outcome is None:
            return Report("running", tuple(events))
        if outcome is not None and not exited and self._keep(child, outcome):
            return Report("ended", tuple(events), outcome)
        status = process.end()
        told_to_stop = status == -signal.SIGTERM
        child.end = Report("ended", (), outcome, words_of(status), told_to_stop)
        return Report("ended", tuple(events), outcome, child.end.reason, told_to_stop)

    def cancel(self, handle: str, grace_s: float) -> None:
        """Send SIGTERM, and SIGKILL to the whole group after the grace."""
        child = self._children.get(handle)
        if child is None:
            return
        with child.lock:
            if child.end is not None:  # its process may have another attempt by now
                return
            if grace_s <= 0:
                child.process.kill()
            elif child.kill_s == math.inf:
                child.process.popen.terminate()
            child.kill_s = min(child.kill_s, time.monotonic() + grace_s)

    def logs(self, handle: str, cursor: int) -> tuple[list[str], int]:
        """Return lines of the job's log, which holds those of earlier attempts, too."""
        return log_lines(self._children[handle].log, cursor)

    def leave(self, handle: str) -> None:
        """End the child's process group, unless it stays for others, and forget the attempt."""
        child = self._children.pop(handle, None)
        if child is not None and child.end is None:
            child.process.kill()
            child.process.end()

    def resting(self) -> dict[str, int]:
        """Return device -> process that waits there for an attempt with its base loaded."""
        with self._keeping:
            return {device: process.popen.pid for device, (process, _) in self._warm.items()}

    def rest(self) -> None:
        """End the processes that wait for attempts."""
        with self._keeping:
            devices = list(self._warm)
        for device in devices:
            if (process := self._taken(device)) is not None:
                process.end()

    def _variables_of(self, attempt: Attempt) -> dict[str, str]:
        search_path = [str(PROJECT_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        kept = inherited(os.environ, self._more_variables)
        environment = {**kept, **self._environment, **attempt.slot, "PYTHONPATH": os.pathsep.join(search_path)}
        own = {**environment, **attempt.secrets}
        return {name: value for name, value in own.items() if value is not None}

    def _spawn(self, attempt: Attempt, variables: Mapping[str, str], log: Path) -> _Process:
        # With somebody's token of the Hub it goes with its job, as that must: a process keeps its first variables.
        may_stay = attempt.warm_verb is not None and self._warm_s > 0 and not attempt.secrets.get(TOKEN_VARIABLE)
        # -P: the working folder, which is the server's, must not be searched for modules.
        command = [sys.executable, "-P", "-m", "studio.jobs.child", str(attempt.job_dir)]
        command += ["--verb", (attempt.warm_verb if may_stay else None) or attempt.verb, "--parent", str(os.getpid())]
        its, orders = os.pipe() if may_stay else (None, None)
        try:
            with log.open("ab") as file:
                popen = subprocess.Popen(
                    [*command, *(() if its is None else ("--orders", str(its)))],
                    stdin=subprocess.PIPE,  # held open: its end tells the child that we are gone
                    stdout=subprocess.PIPE,
                    stderr=file,
                    env=variables,
                    pass_fds=() if its is None else (its,),
                    start_new_session=True,
                    umask=0o077,  # what it writes is its owner's alone
                    bufsize=0,
                )
        except OSError:
            if orders is not None:
                os.close(orders)
            raise
        finally:
            if its is not None:
                os.close(its)
        assert popen.stdout is not None
        os.set_blocking(popen.stdout.fileno(), False)
        return _Process(popen, variables, orders)

    # The processes that stay

    def _warm_for(self, attempt: Attempt, device: str, variables: Mapping[str, str], log: Path) -> _Process | None:
        """Give the attempt to the process that waits on its device; end that where it suits not, and has to go."""
        if not attempt.takes_device:
            return None
        process = self._taken(device)
        if process is None:
            return None
        verb = attempt.warm_verb
        if verb and process.variables == variables and process.take(Order(str(attempt.job_dir), verb, str(log))):
            return process
        process.end()  # it has given its memory back when this returns
        return None

    def _keep(self, child: _Child, outcome: Outcome) -> bool:
        """Let the process of an attempt that has completed wait for another one; False where it has to go."""
        with child.lock:
            if not child.stays or outcome.state != "completed" or child.kill_s != math.inf:
                return False
            child.end = Report("ended", (), outcome)
        other = self._taken(child.device)  # there is none, unless two slots are of one device
        timer = threading.Timer(self._warm_s, self._expire, [child.device, child.process])
        timer.daemon = True
        with self._keeping:
            self._warm[child.device] = child.process, timer
            timer.start()
        if other is not None:
            other.end()
        return True

    def _taken(self, device: str, only: _Process | None = None) -> _Process | None:
        """Take the process that waits on a device: nobody else has it from here on."""
        with self._keeping:
            process, timer = self._warm.get(device, (None, None))
            if process is None or timer is None or (only is not None and process is not only):
                return None
            del self._warm[device]
        timer.cancel()
        return process

    def _expire(self, device: str, process: _Process) -> None:
        if self._taken(device, process) is not None:
            process.end()


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
