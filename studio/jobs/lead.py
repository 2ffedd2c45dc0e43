"""The right to dispatch where the queue is a file: the lock of the home folder. ``postgres`` has its own."""

import fcntl
from pathlib import Path
from typing import BinaryIO

from studio.core.private import make_file
from studio.jobs.intake import disk_errors


class FileLead:
    """The lock of one home folder: of all servers on it one has it."""

    is_proof = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: BinaryIO | None = None

    def take(self) -> bool:
        """Take it if nobody has it, or see that it is still ours; raises ResourceError."""
        if self._lock is not None:
            return True
        with disk_errors():
            make_file(self._path)
            lock = self._path.open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def leave(self) -> None:
        """Give it back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def is_taken(self) -> bool:
        """Tell whether anybody has it."""
        try:
            with self._path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False
