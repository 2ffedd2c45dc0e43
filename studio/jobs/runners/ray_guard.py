"""Starts the agent on a node of a Ray cluster and ends it when the actor is gone: ``python -m ...ray_guard FOLDER``.

Ray kills an actor's process, and its children with it, without a warning. This process is none of them: it sees the end
of its standard input, ends the agent with all that it started, and deletes the folder with the photos. What it prints
is how the agent ended.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from studio.jobs.runners.needs import missing

_REACH_S = 60.0
"""A server that restarts is waited for so long."""
_LOOK_S = 0.2
_MOST_SAID = 500


def main(argv: list[str]) -> int:
    """Guard the agent of the ticket in the folder ``argv[1]``; the status is always 0."""
    if os.fork():
        os._exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folder = Path(argv[1])
    try:
        end = _guard(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(end))
        sys.stdout.flush()
    return 0


def _guard(folder: Path) -> dict[str, Any]:
    if lacking := missing():
        return {"missing": lacking, "python": sys.executable}
    address = json.loads((folder / "ticket.json").read_bytes())["address"]
    if not _is_reached(address):
        return {"unreachable": address} if not _is_over(0.0) else {"status": None, "said": ""}
    with (folder / "agent.log").open("wb") as log:
        command = [sys.executable, "-P", "-m", "studio", "attempt", "ticket.json"]
        agent = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    while agent.poll() is None and not _is_over(_LOOK_S):
        pass
    status = agent.poll()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(agent.pid, signal.SIGKILL)
    agent.wait()
    from studio.jobs.runners.local import end_leftovers  # needs packages, which are there by now

    for lock in folder.glob("jobs/*/child.lock"):  # the child's own guard ends it when the agent is gone
        end_leftovers(lock.parent)
    lines = (folder / "agent.log").read_text("utf-8", "replace").strip().splitlines()
    return {"status": status, "said": lines[-1][-_MOST_SAID:] if lines else ""}


def _is_reached(address: str) -> bool:
    """Tell whether the server can be connected to from here, as the agent will."""
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    give_up_s = time.monotonic() + _REACH_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection((parts.hostname or "", port), timeout=10.0):
            return True
        if time.monotonic() > give_up_s or _is_over(1.0):
            return False


def _is_over(wait_s: float) -> bool:
    """Tell whether the actor has gone, or wants the agent to end."""
    ready, _, _ = select.select([0], [], [], wait_s)
    return bool(ready) and not os.read(0, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
