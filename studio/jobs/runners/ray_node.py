"""What runs on a node of a Ray cluster: the actor of one attempt, which brings its agent up and holds its GPU.

It is sent there by value, because a node need not have the studio, and so it uses nothing but Python. The agent is no
child of its own, for Ray kills those at once; ``ray_guard`` sees to it that the agent and its files go with the actor.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from pathlib import Path
from typing import Any

_ROOT = Path(".likeness-studio") / "agents"
"""Below the home of whoever runs the node."""
_READ_S = 60.0
"""So long it can be asked for how its agent ended."""
_LEAVE_S = 15.0


class AgentActor:
    """The actor of one attempt.

    Args:
        name: of the attempt.
        version: stands for the content of the code.
        code: returns the code's archive; called where this node does not have this version.
        ticket: for the agent, as JSON.
        python: that has what the studio needs; empty takes the one that runs this.
    """

    def __init__(self, name: str, version: str, code: Any, ticket: str, python: str) -> None:
        root = Path.home() / _ROOT
        found = root / f"code-{version}"
        if not found.is_dir():
            _unpack(code(), found)
        place = root / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(mode=0o700, parents=True)
        with open(os.open(place / "ticket.json", os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(ticket)
        variables = dict(os.environ)
        if b"\0OMP_NUM_THREADS=" not in b"\0" + Path("/proc/self/environ").read_bytes():
            variables.pop("OMP_NUM_THREADS", None)  # Ray sets it to the number of CPUs that it has counted for us
        before = os.environ.get("PYTHONPATH")
        variables["PYTHONPATH"] = os.pathsep.join([str(found), *([before] if before else [])])
        variables["STUDIO_HOME"] = str(root.parent)
        command = [python or sys.executable, "-P", "-m", "studio.jobs.runners.ray_guard", str(place)]
        self._guard = subprocess.Popen(
            command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, start_new_session=True
        )
        self._end: dict[str, Any] | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def look(self) -> dict[str, Any] | None:
        """Return how the agent has ended; None while it runs."""
        return self._end

    def end(self) -> None:
        """End the agent and everything that it started, and wait until its files are gone."""
        assert self._guard.stdin is not None
        self._guard.stdin.close()
        self._reader.join(_LEAVE_S)

    def _read(self) -> None:
        """Wait for the end of the guard; then give the GPU back, whether or not anybody asks."""
        assert self._guard.stdout is not None
        said = self._guard.stdout.read()
        try:
            self._end = json.loads(said)
        except ValueError:
            self._end = {"status": None, "said": ""}
        timer = threading.Timer(_READ_S, os._exit, (0,))
        timer.daemon = True
        timer.start()


def _unpack(archive: bytes, folder: Path) -> None:
    """Unpack the code, whole or not at all, however many do so at the same time."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = folder.with_name(f"{folder.name}.{os.getpid()}")
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as packed:
        packed.extractall(part, filter="data")
    try:
        part.rename(folder)
    except OSError:
        shutil.rmtree(part, ignore_errors=True)
        if not folder.is_dir():
            raise
