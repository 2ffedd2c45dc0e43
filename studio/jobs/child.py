"""One attempt of one job, in a process of its own: ``python -m studio.jobs.child JOB_DIR --verb PATH``.

Started by ``worker`` only. Reads ``JOB_DIR/request.json``, runs the verb from the job's input folder to
``JOB_DIR/out`` and tells events and the outcome as JSON lines on its standard output; whatever else is printed
goes to standard error, which is the job's log. SIGTERM makes ``should_stop()`` true. The process and everything
that it starts die with its server; until then they hold ``JOB_DIR/child.lock``.
"""

import argparse
import contextlib
import ctypes
import faulthandler
import fcntl
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

from studio.core.config import CONFIGS
from studio.core.domain import Event, OnEvent, ShouldStop, plain
from studio.core.errors import JobCancelled, MissingExtraError, ResourceError, StudioError
from studio.core.files import DISK_IS_FULL, is_disk_full
from studio.core.openmp import set_openmp_defaults
from studio.jobs.events import Outcome, ProgressThrottle, event_line, outcome_line

logger = logging.getLogger(__name__)

REQUEST_FILE = "request.json"
LOCK_FILE = "child.lock"
PHOTOS_FOLDER = "photos"
OUT_FOLDER = "out"
TOKEN_VARIABLE = "STUDIO_JOB_HUB_TOKEN"
"""The token for the Hub that came with this job; the worker sets it in the job's own process only."""

_PR_SET_PDEATHSIG = 1


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
    """Run one attempt; the exit status is 0 whenever an outcome was reported."""
    parser = argparse.ArgumentParser(prog="studio.jobs.child", description="Run one attempt of one job.")
    parser.add_argument("job_dir", type=Path)
    parser.add_argument("--verb", required=True, help="module:function")
    parser.add_argument("--parent", type=int, required=True, help="process id of the server")
    arguments = parser.parse_args(argv)

    _die_with(arguments.parent)
    stop = _stop_on_sigterm()
    channel = _take_standard_output()
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    def tell(event: Event) -> None:
        channel.write(event_line(event))
        channel.flush()

    if _take_lock(arguments.job_dir):
        _fork_guard(channel)
        outcome = _attempt(arguments.job_dir, arguments.verb, ProgressThrottle(tell), stop)
    else:
        outcome = Outcome("stalled", cause="An earlier attempt of this job is still running; retry in a moment.")
    channel.write(outcome_line(outcome))
    channel.close()
    return 0


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


def _fork_guard(channel: TextIO) -> None:
    """Start a process that kills our whole group when the server is gone.

    The death signal of ``_die_with`` is known to Linux only and reaches none of the processes that a verb starts,
    and a thread in here could not act while the verb holds the interpreter. The guard waits for the end of our
    standard input, whose other end the server holds and never writes to; its copy of the lock proves to the next
    server that the group is still there.
    """
    if os.fork():
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.close(channel.fileno())
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


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


def _take_lock(job_dir: Path) -> bool:
    """Take the lock of this job; False if another attempt holds it."""
    # Never closed on purpose: the lock ends with the last process that holds it.
    handle = os.open(job_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return True


if __name__ == "__main__":
    sys.exit(main())
