"""A locked file: what several processes on one disk do one after another.

Own code, since it is no more than fcntl's lock with an owner: the system gives it back when a process dies.
"""

import fcntl
import os
from pathlib import Path


class Lock:
    """A locked file; closing it, or losing the last reference to it, unlocks it, and so does the end of the process.

    Args:
        path: created when missing.
        how: a combination of fcntl.LOCK_SH, LOCK_EX and LOCK_NB.

    Raises:
        BlockingIOError: LOCK_NB was given and somebody else holds it. OSError: the file cannot be made.
    """

    def __init__(self, path: Path, how: int) -> None:
        self._handle: int | None = None
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._handle, how)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Unlock; a second time does nothing."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __del__(self) -> None:
        self.close()
