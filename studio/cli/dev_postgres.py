"""A Postgres server of one's own in a folder, for ``dev up``: nobody but this user reaches it."""

import contextlib
import fcntl
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from studio.core.errors import ConflictError, ResourceError
from studio.core.private import make_folder

_START_S = 60.0
_STOP_S = 60.0
_DEBIAN = Path("/usr/lib/postgresql")

Lack = Literal["psycopg", "program", "root"]


def lacks() -> Lack | None:
    """Return why no server can be started here: the package psycopg, Postgres itself, or a user that may run it."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg"
    if program("initdb") is None or program("postgres") is None:
        return "program"
    return "root" if os.geteuid() == 0 else None


def program(name: str) -> str | None:
    """Return where a program of Postgres is, of Debian's newest version or on the path; None if there is none."""
    found = [path for path in _DEBIAN.glob(f"*/bin/{name}") if path.parts[-3].isdecimal()]
    return str(max(found, key=lambda path: int(path.parts[-3]))) if found else shutil.which(name)


@contextlib.contextmanager
def serving(folder: Path, **started: Any) -> Iterator[str]:
    """Serve the database of a folder, which is made at the first time, while the body runs; give its address.

    A server that was left behind by a kill is ended first.

    Args:
        folder: for the data and the server's log.
        started: how its programs are started, as ``subprocess.Popen`` takes it.

    Raises:
        ConflictError: somebody serves it already. ResourceError: it cannot be served.
    """
    data, log = folder / "data", folder / "postgres.log"
    options: dict[str, Any] = {"cwd": folder, **started}
    make_folder(folder)
    with _only_one(folder), _short_folder(started) as sockets:
        if not (data / "PG_VERSION").exists():
            shutil.rmtree(data, ignore_errors=True)  # of a start that was cut off
            command = ["initdb", "-D", str(data), "-U", "studio", "-A", "trust", "-E", "UTF8", "--locale=C"]
            _run(command, "made", options)
        if _status(data, options):
            _run(["pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop"], "ended", options)
        settings = ("listen_addresses=", f"unix_socket_directories={sockets}", "unix_socket_permissions=0700")
        command = [str(program("postgres")), "-D", str(data), *(word for row in settings for word in ("-c", row))]
        with log.open("ab") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True, **options
            )
        with process:
            try:
                _await(process, sockets, log)
                yield f"postgresql://studio@/postgres?host={quote(str(sockets))}"
            finally:
                process.send_signal(signal.SIGINT)  # Postgres calls that fast: what is open is cut off, nothing is lost
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STOP_S)
                process.kill()


def _await(process: "subprocess.Popen[bytes]", sockets: Path, log: Path) -> None:
    end_s = time.monotonic() + _START_S
    while subprocess.run([str(program("pg_isready")), "-q", "-h", str(sockets)], check=False).returncode:
        if process.poll() is not None or time.monotonic() > end_s:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise ResourceError(f"Postgres did not start ({lines[-1] if lines else 'no reason given'}); see {log}.")
        time.sleep(0.1)


def _status(data: Path, options: dict[str, Any]) -> bool:
    command = [str(program("pg_ctl")), "-D", str(data), "status"]
    return subprocess.run(command, capture_output=True, check=False, **options).returncode == 0


def _run(command: list[str], what: str, options: dict[str, Any]) -> None:
    words = [str(program(command[0])), *command[1:]]
    done = subprocess.run(words, capture_output=True, check=False, **options)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ResourceError(f"the database could not be {what} ({said[-1] if said else 'no reason given'}).")


@contextlib.contextmanager
def _short_folder(started: dict[str, Any]) -> Iterator[Path]:
    """Give a folder for the socket: its path may have 107 bytes, and that of the data may be longer."""
    with tempfile.TemporaryDirectory(prefix="studio-pg-", ignore_cleanup_errors=True) as name:
        if "user" in started:
            shutil.chown(name, started["user"])
        yield Path(name)


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / "up.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"`dev up` runs already with the database in {folder}.") from None
        yield
