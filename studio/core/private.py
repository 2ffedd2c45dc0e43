"""Folders that nobody else on this machine may look into: the studio's home holds photos of people.

Ground level: imports nothing of the studio.
"""

import contextlib
import hashlib
import os
import stat
from pathlib import Path

TABLE_NAME = "jobs.sqlite3"
"""The table of jobs, by which a home is known."""
UPLOADS_NAME = "uploads"
"""In the home: files that wait for a check, in a folder for each owner."""
SERVED_NAME = "web-cache"
"""In the home: what the page takes and shows. Where people log in, a folder for each owner."""

COMMAND_LOG, LAST_ERROR = "command.log", "last_error.txt"
"""In the home: what libraries printed during commands, and the trace of the last bug of one."""


def owner_digest(owner: str) -> str:
    """Return what an owner's folders are called by: a digest, which says nothing to who looks at them."""
    return name_digest(owner)


def name_digest(name: str) -> str:
    """Return what stands for a name where the name itself must not be kept."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def served_folder(root: Path, owner: str) -> Path:
    """Return the part of the page's folder that holds one owner's files where people log in."""
    return root / f"of-{owner_digest(owner)}"


def make_folder(folder: Path) -> None:
    """Make a folder, and every one above it that is missing, for this user alone; raises OSError.

    ``Path.mkdir(mode=..., parents=True)`` gives that mode to the last folder only. Whoever comes first, a base that is
    downloaded or a page that is served, would make the home above it readable for everybody.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        if folder.parent == folder:
            break
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def make_home(home: Path) -> None:
    """Make the studio's home; one that an earlier version left open to others is closed; raises OSError.

    A folder with other things in it keeps its mode, and so does the user's own home: what the studio makes in there is
    closed anyway.
    """
    make_folder(home)
    status = home.stat()
    is_ours = status.st_uid == os.getuid() and not status.st_mode & stat.S_ISVTX and not _is_users_home(home)
    if is_ours and status.st_mode & 0o077 and ((home / TABLE_NAME).exists() or not any(home.iterdir())):
        with contextlib.suppress(OSError):  # a file system without modes
            home.chmod(0o700)


def make_file(path: Path) -> None:
    """Make an empty file for this user alone, or close one that is there; what goes wrong shows when it is used."""
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _is_users_home(folder: Path) -> bool:
    with contextlib.suppress(OSError, RuntimeError):
        return folder.samefile(Path.home())
    return False
