"""The launcher for a machine of one's own that OpenSSH reaches without a password, with nothing but Python and a GPU.

The studio's own code is sent there once for each version, packages are installed once, and each attempt gets a folder
with its ticket, in which its agent runs on by itself. The agent reaches the server through a socket in that folder,
which one ``ssh -R`` holds open from here: neither machine opens a port, and a broken line is mended by the next look.
"""

import hashlib
import json
import shlex
import subprocess
import threading
from collections.abc import Sequence

from studio.core.errors import InputError, MissingExtraError, Problem, ResourceError
from studio.core.settings import SHIPPED_ROOT
from studio.jobs.runners.agents import Launcher
from studio.jobs.runners.code import code_archive
from studio.jobs.runners.needs import NEEDS
from studio.jobs.runners.ticket import Ticket

_ROOT = ".likeness-studio/agents"
"""Below the home of the other machine."""
_SOCKET = "server.sock"
_OPTIONS = (
    "BatchMode=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ExitOnForwardFailure=yes",
    "StreamLocalBindUnlink=yes",
    "ForwardAgent=no",
)
_SHORT_S = 60.0
_INSTALL_S = 3600.0
_SSH_FAILED = 255


class SshLauncher(Launcher):
    """Brings agents to one machine.

    Args:
        host: HOST or USER@HOST, as for ``ssh``.
        server: address of this server here, ``127.0.0.1:7860``.
        python: Python there that has what the studio needs; empty installs it once.
        options: more options of ``ssh``.
    """

    def __init__(self, host: str, server: str, *, python: str = "", options: Sequence[str] = ()) -> None:
        self.name = f"ssh:{host}"
        self.address = f"unix:{_SOCKET}"
        self._host = host
        self._server = server
        self._python = python
        self._options = [word for option in _OPTIONS for word in ("-o", option)] + list(options)
        self._installing = threading.Lock()
        self._ready: tuple[str, str] | None = None
        """Folder of the code there and its Python, once that is known."""
        self._lines: dict[str, subprocess.Popen[bytes]] = {}

    def launch(self, ticket: Ticket) -> str:
        """Send the ticket, hold the line open and start the agent on its own."""
        code, python = self.install()
        place = f"{_ROOT}/{ticket.job}-{ticket.attempt}"
        data = json.dumps(ticket.model_dump(mode="json")).encode()
        self._there(f"umask 077; mkdir -p {place} && cat > {place}/ticket.json", data)
        self._open_line(place)
        # setsid: a group of its own that outlives this connection, of which nothing keeps hold; exec: its number is
        # the agent's.
        start = (
            f"cd {place} || exit 1; export PYTHONPATH=$HOME/{code}${{PYTHONPATH:+:$PYTHONPATH}}"
            " STUDIO_HOME=$HOME/.likeness-studio;"
            f" setsid sh -c 'echo $$ > pid; exec {python} -P -m studio attempt ticket.json'"
            " > agent.log 2>&1 < /dev/null &"
            " for _ in $(seq 100); do [ -s pid ] && exit 0; sleep 0.1; done; exit 1"
        )
        self._there(f"umask 077; {start}")
        return place

    def install(self) -> tuple[str, str]:
        """Make sure that the studio of this version is there; return its folder and its Python.

        Raises:
            InputError: the machine cannot be reached like this. MissingExtraError: what it lacks cannot be installed.
            ResourceError: it cannot be reached now.
        """
        with self._installing:
            if self._ready is None:
                archive, version = code_archive()
                code = f"{_ROOT}/code-{version}"
                put = (
                    f"umask 077; mkdir -p {code}.part && tar -xzf - -C {code}.part"
                    f" && {{ mv -T {code}.part {code} 2>/dev/null || rm -rf {code}.part; }}"
                )
                if self._asked(f"test -d {code}") != 0:
                    self._there(put, archive)
                self._ready = code, self._python or self._packages(code)
                needs = f"import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, {NEEDS})))"
                if self._asked(f"{self._ready[1]} -c {shlex.quote(needs)}") != 0:
                    python, self._ready = self._ready[1], None
                    raise MissingExtraError(
                        f"{python} on {self._host} lacks what the studio needs; install requirements.txt there, or"
                        " leave STUDIO_RUNNER_PYTHON empty."
                    )
            return self._ready

    def reach(self) -> None:
        """See that the machine lets us in; raises InputError, MissingExtraError or ResourceError."""
        self._there("true")

    def is_alive(self, place: str) -> bool:
        """Tell whether the agent runs, and open its line again if that is broken."""
        status = self._asked(f"kill -0 $(cat {place}/pid)")
        if status == 0:
            self._open_line(place)
        return status == 0

    def kill(self, place: str) -> None:
        """End the agent with its whole group and delete its folder; the child dies with it."""
        line = self._lines.pop(place, None)
        try:
            # The child's own guard ends its group when the agent is gone; its lock says when that is done.
            self._there(
                f"cd {place} 2>/dev/null || exit 0; pid=$(cat pid 2>/dev/null);"
                ' if [ -n "$pid" ] && tr "\\0" " " < /proc/$pid/cmdline 2>/dev/null | grep -q "studio attempt"; then'
                ' kill -KILL -- "-$pid"; fi;'
                " for lock in jobs/*/child.lock; do"
                ' [ -f "$lock" ] && { flock -w 5 "$lock" true || kill -KILL -- "-$(cat "$lock")"; }; done;'
                f" cd && rm -rf {place}"
            )
        finally:
            if line is not None:
                _end(line)

    def _packages(self, code: str) -> str:
        """Return the Python with the packages of this version, which are installed once; a kill begins it anew."""
        wanted = hashlib.sha256((SHIPPED_ROOT / "requirements.txt").read_bytes()).hexdigest()[:16]
        folder = f"$HOME/{_ROOT}/packages-{wanted}"
        status = self._asked(
            f"test -f {folder}/DONE || {{ rm -rf {folder} && python3 -m venv {folder}"
            f" && {folder}/bin/pip install --quiet -r $HOME/{code}/requirements.txt && touch {folder}/DONE; }}",
            patience_s=_INSTALL_S,
        )
        if status != 0:
            raise MissingExtraError(
                f"the packages could not be installed on {self._host}; run `pip install -r requirements.txt` there"
                " and set STUDIO_RUNNER_PYTHON to its Python."
            )
        return f"{folder}/bin/python"

    def _open_line(self, place: str) -> None:
        line = self._lines.get(place)
        if line is not None and line.poll() is None:
            return
        home = self._said("pwd")
        socket = f"{home}/{place}/{_SOCKET}"
        self._there(f"rm -f {place}/{_SOCKET}")
        self._lines[place] = subprocess.Popen(
            # It lives as long as its standard input: a server that is killed leaves no line behind.
            ["ssh", "-T", *self._options, "-R", f"{socket}:{self._server}", "--", self._host, "exec cat > /dev/null"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if line is not None:
            _end(line)

    def _there(self, command: str, data: bytes = b"") -> None:
        """Run a command there that must succeed."""
        if status := self._asked(command, data):
            raise ResourceError(f"{self._host} answers a command with status {status}.")

    def _said(self, command: str) -> str:
        return self._run(command, b"", _SHORT_S).stdout.decode("utf-8", "replace").strip()

    def _asked(self, command: str, data: bytes = b"", patience_s: float = _SHORT_S) -> int:
        """Run a command there; return its status.

        Raises:
            InputError: the machine does not let us in. ResourceError: it does not answer.
        """
        return self._run(command, data, patience_s).returncode

    def _run(self, command: str, data: bytes, patience_s: float) -> "subprocess.CompletedProcess[bytes]":
        # -T and a shell of POSIX: whatever the login shell there is.
        words = ["ssh", "-T", *self._options, "--", self._host, f"exec sh -c {shlex.quote(command)}"]
        try:
            done = subprocess.run(words, input=data, capture_output=True, timeout=patience_s, check=False)
        except FileNotFoundError:
            raise MissingExtraError("STUDIO_RUNNER needs the program ssh; install OpenSSH's client.") from None
        except subprocess.TimeoutExpired:
            raise ResourceError(f"{self._host} did not answer in time.") from None
        if done.returncode == _SSH_FAILED:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            why = said[-1] if said else "no reason given"
            if any(word in why for word in ("Permission denied", "Host key verification", "resolve hostname")):
                cure = f"make `ssh {self._host} true` work without a question"
                raise InputError.of([Problem("STUDIO_RUNNER", f"cannot be used ({why})", cure, "ssh")])
            raise ResourceError(f"{self._host} cannot be reached ({why}).")
        return done


def _end(process: "subprocess.Popen[bytes]") -> None:
    with process:
        process.kill()
