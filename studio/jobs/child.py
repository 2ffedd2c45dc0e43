"""One attempt of one job, in a process of its own: ``python -m studio.jobs.child JOB_DIR --verb PATH``.

Started by ``runners.local`` only. Reads ``JOB_DIR/request.json``, runs the verb from the job's input folder to
``JOB_DIR/out`` and tells events and the outcome as JSON lines on its standard output; whatever else is printed
goes to standard error, which is the job's log. SIGTERM makes ``should_stop()`` true. The process and everything
that it starts die with its server; until then they hold ``JOB_DIR/child.lock``.

With ``--orders`` it stays after an attempt that has completed and waits for the next one: the pipe brings one
``Order`` a line, and its end is the end of the process. Nothing of an attempt goes on to the next one but what the verb
keeps: its lock, its log and its variables are put away before its outcome is told.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import fcntl
import gc
import importlib
import json
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Self, TextIO

import psutil

from studio.core.config import CONFIGS
from studio.core.domain import Event, OnEvent, ShouldStop, plain
from studio.core.errors import JobCancelled, MissingExtraError, ResourceError, StudioError
from studio.core.files import DISK_IS_FULL, is_disk_full
from studio.core.logs import log_to_stderr
from studio.core.openmp import set_openmp_defaults
from studio.jobs.events import Outcome, ProgressThrottle, event_line, outcome_line

logger = logging.getLogger(__name__)

REQUEST_FILE = "request.json"
LOCK_FILE = "child.lock"
PHOTOS_FOLDER = "photos"
OUT_FOLDER = "out"
TOKEN_VARIABLE = "STUDIO_JOB_HUB_TOKEN"
"""The token for the Hub that came with this job; the worker sets it in the job's own process only."""

STAYS_LINE = b'{"stays": true}'
"""Told right before the outcome by a process that waits for the next attempt."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Order:
    """One more attempt for a process that stays."""

    job_dir: str
    verb: str
    log: str
    """File that takes what is printed."""

    def line(self) -> bytes:
        """Return it as one line, with its line end."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def read(cls, line: bytes) -> Self | None:
        """Read a line back; None if it is not whole, because the server is gone."""
        return cls(**json.loads(line)) if line.endswith(b"\n") else None


def resolve(path: str) -> Callable[..., Any]:
    """Import the verb named ``module:function``.

    Raises:
        MissingExtraError: a package that the verb needs is not installed.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the Python package {error.name!r} is not installed; install requirements.txt and try again."
        ) from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run one attempt, or several one after another; the exit status is 0 whenever an outcome was reported."""
    parser = argparse.ArgumentParser(prog="studio.jobs.child", description="Run one attempt of one job.")
    parser.add_argument("job_dir", type=Path)
    parser.add_argument("--verb", required=True, help="module:function")
    parser.add_argument("--parent", type=int, required=True, help="process id of the server")
    parser.add_argument("--orders", type=int, help="pipe that brings further attempts")
    arguments = parser.parse_args(argv)

    _die_with(arguments.parent)
    stop = _stop_on_sigterm()
    channel = _take_standard_output()
    faulthandler.enable()
    log_to_stderr()
    guard = _Guard(channel.fileno(), *filter(None, [arguments.orders]))
    variables, folder = dict(os.environ), os.getcwd()
    job_dir, verb = arguments.job_dir, arguments.verb

    def tell(event: Event) -> None:
        channel.write(event_line(event))
        channel.flush()

    while True:
        lock = _take_lock(job_dir)
        if lock is None:
            outcome = Outcome("stalled", cause="An earlier attempt of this job is still running; retry in a moment.")
        else:
            guard.hold(lock)
            outcome = _attempt(job_dir, verb, ProgressThrottle(tell), stop)
        stays = arguments.orders is not None and outcome.state == "completed" and not stop() and guard.is_alone()
        if stays and lock is not None:
            _put_away(variables, folder)
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)
            guard.hold(None)
            channel.write(STAYS_LINE.decode() + "\n")
        channel.write(outcome_line(outcome))
        channel.flush()
        if not stays:
            channel.close()
            return 0
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # nothing is lost by it now
        if stop():  # it came a moment before
            signal.raise_signal(signal.SIGTERM)
        order = Order.read(_read_line(arguments.orders))
        if order is None:
            return 0
        stop = _stop_on_sigterm()
        job_dir, verb = Path(order.job_dir), order.verb
        _print_to(os.open(order.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))


def _read_line(handle: int) -> bytes:
    line = b""
    while not line.endswith(b"\n") and (more := os.read(handle, 65536)):
        line += more
    return line


def _put_away(variables: dict[str, str], folder: str) -> None:
    """Leave nothing of an attempt to the next one, which may be somebody else's."""
    gc.collect()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(folder)
    _print_to(os.open(os.devnull, os.O_WRONLY))


def _print_to(handle: int) -> None:
    """Let what is printed from here on go to another file, and what was printed before to the one before."""
    sys.stdout.flush()
    sys.stderr.flush()
    ctypes.CDLL(None).fflush(None)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def _attempt(job_dir: Path, verb_path: str, on_event: OnEvent, should_stop: ShouldStop) -> Outcome:
    try:
        kind, config_data, source, own_token = _read_request(job_dir)
        if own_token:  # never the machine's: an empty token means none
            os.environ["STUDIO_HUB_TOKEN"] = os.environ.pop(TOKEN_VARIABLE, "")
        config = CONFIGS[kind].parse(config_data)
        source_dir = job_dir / PHOTOS_FOLDER if source is None else job_dir.parent / source / OUT_FOLDER
        logger.info("starting %s", verb_path)
        set_openmp_defaults()
        verb = resolve(verb_path)
        if should_stop():
            return Outcome("cancelled")
        result = verb(config, source_dir, job_dir / OUT_FOLDER, on_event=on_event, should_stop=should_stop)
        return Outcome("completed", result=plain(result))
    except JobCancelled:
        return Outcome("cancelled")
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a verb also need a cause in words
        logger.exception("the attempt failed")
        return explain(error)


def _read_request(job_dir: Path) -> tuple[str, Any, str | None, bool]:
    try:
        request = json.loads((job_dir / REQUEST_FILE).read_text(encoding="utf-8"))
        return request["kind"], request["config"], request["source"], bool(request.get("own_token"))
    except (OSError, ValueError, KeyError, TypeError):
        raise ResourceError(
            f"The job's folder is damaged ({REQUEST_FILE} cannot be read); submit the job again."
        ) from None


def explain(error: BaseException) -> Outcome:
    """Turn what ended an attempt into a cause that its owner can read."""
    if isinstance(error, StudioError):
        problems = tuple(asdict(problem) for problem in error.problems)
        return Outcome("stalled", cause=str(error) or type(error).__name__, problems=problems, status=error.status)
    name, status = type(error).__name__, ResourceError.status
    if isinstance(error, MemoryError) or "OutOfMemory" in name:  # torch.OutOfMemoryError, without importing torch
        cause = "Memory ran out. Choose a smaller batch size, resolution or base, then retry."
    elif is_disk_full(error):
        cause = DISK_IS_FULL
    else:
        cause, status = f"Something unexpected went wrong ({name}); details are in the job's log.", StudioError.status
    return Outcome("stalled", cause=cause, status=status)


def _die_with(parent: int) -> None:
    """Ask the system to kill this process when its server dies, and to prefer it when memory runs out."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError):  # the server must live; this process can be resumed
            Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    if os.getppid() != parent:  # it died before we could ask to be told
        os._exit(1)


class _Guard:
    """A process that kills our whole group when the server is gone.

    The death signal of ``_die_with`` is known to Linux only and reaches none of the processes that a verb starts,
    and a thread in here could not act while the verb holds the interpreter. The guard waits for the end of our
    standard input, whose other end the server holds and never writes to; its copy of the lock proves to the next
    server that the group is still there.

    Args:
        not_its: files of ours that it must not hold open.
    """

    def __init__(self, *not_its: int) -> None:
        self._ours, its = socket.socketpair()
        self._pid = os.fork()
        if self._pid:
            its.close()
            return
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        self._ours.close()
        for handle in not_its:
            os.close(handle)
        _print_to(os.open(os.devnull, os.O_WRONLY))  # a log is its job's alone
        _watch(its)

    def hold(self, lock: int | None) -> None:
        """Hold the lock of an attempt, too; None gives it back."""
        with contextlib.suppress(OSError):  # somebody has killed it
            socket.send_fds(self._ours, [b"."], [] if lock is None else [lock])

    def is_alone(self) -> bool:
        """Tell whether nothing that a verb has started is left of our group."""
        return not _members_of(os.getpgrp()) - {os.getpid(), self._pid}


def _watch(lines: socket.socket) -> None:
    """Be the guard."""
    held: list[int] = []
    watched: list[int] = [0, lines.fileno()]
    while True:
        ready = select.select(watched, [], [])[0]
        if 0 in ready and not os.read(0, 1024):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        if lines.fileno() in ready:
            said, handles, _, _ = socket.recv_fds(lines, 1, 1)
            if not said:  # the process is gone; what it held is held on
                watched.remove(lines.fileno())
                continue
            for handle in held:
                os.close(handle)
            held = handles


def _members_of(group: int) -> set[int]:
    found = set()
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == group:
                found.add(pid)
    return found


def _take_standard_output() -> TextIO:
    """Keep standard output for events; let everything else that is printed go to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _stop_on_sigterm() -> ShouldStop:
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGTERM, ask)
    return lambda: asked


def _take_lock(job_dir: Path) -> int | None:
    """Take the lock of this job; None if another attempt holds it."""
    # Closed only by a process that stays: elsewhere the lock ends with the last process that holds it.
    handle = os.open(job_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


if __name__ == "__main__":
    sys.exit(main())
