"""A Postgres server for the tests, from Debian's package: in a temporary folder, on a socket that nobody else sees."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FAST = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
"""What a test server may do without: it is thrown away."""
_SMALL = ("shared_buffers=16MB", "max_connections=80", "autovacuum=off", "listen_addresses=", "max_wal_senders=0")


def program(name: str) -> str | None:
    """Return the place of a program of the newest installed server; None if there is none."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(places[-1]) if places else shutil.which(name)


class Server:
    """A running server: ``url`` leads to its database ``postgres``."""

    def __init__(self, folder: Path, *, safe: bool) -> None:
        self.folder = folder
        self._safe = safe
        self.url = f"postgresql://studio@/postgres?host={folder}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = [*_SMALL, *(() if self._safe else _FAST)]
        options = [word for setting in settings for word in ("-c", setting)]
        command = [program("postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **_as_nobody_special(self.folder))
        asked = [program("pg_isready"), "-q", "-h", str(self.folder)]
        end_s = time.monotonic() + 30
        while subprocess.run(asked, check=False).returncode:
            assert self._process.poll() is None and time.monotonic() < end_s, (self.folder / "log").read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
            self._process = None


def _as_nobody_special(folder: Path) -> dict[str, Any]:
    """Return how its programs are started: they refuse to run as root."""
    plain: dict[str, Any] = {"cwd": folder, "env": {"PATH": os.environ["PATH"], "LC_ALL": "C"}}
    return plain | ({"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {})


@contextmanager
def serve(*, safe: bool = False) -> Iterator[Server]:
    """Make a server, start it, and throw it away at the end.

    Args:
        safe: it writes as safely as one in earnest does.
    """
    # pytest's own folders are closed to the user that the server runs as.
    folder = Path(tempfile.mkdtemp(prefix="studio-pg-"))
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        command = [program("initdb"), "-D", str(folder / "data"), "-U", "studio", "-A", "trust", "-E", "UTF8"]
        command += ["--locale=C", "--no-sync"]
        subprocess.run(command, check=True, capture_output=True, **_as_nobody_special(folder))
        server = Server(folder, safe=safe)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def schemas(server: Server) -> Callable[[], str]:
    """Return a function that makes a new, empty schema and returns the address that leads into it."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(server.url.replace("://", "+psycopg://"), isolation_level="AUTOCOMMIT")
    made = 0

    def new() -> str:
        nonlocal made
        made += 1
        with engine.connect() as db:
            db.exec_driver_sql(f"CREATE SCHEMA s{made}")
        engine.dispose()
        return f"{server.url}&options=-csearch_path%3Ds{made}"

    return new
