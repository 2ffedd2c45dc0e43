"""Whether the queue is paused: a file in the home, so that it holds for all servers on it and after a restart."""

import time
from pathlib import Path

from studio.core.private import make_file
from studio.jobs.intake import disk_errors

PAUSE_FILE = "queue.paused"


def is_paused(home: Path) -> bool:
    """Tell whether nothing new may begin; what runs goes on."""
    return (home / PAUSE_FILE).exists()


def paused_for_s(home: Path) -> float:
    """Return for how long the queue has been paused, seconds; 0 if it is not."""
    try:
        return max(0.0, time.time() - (home / PAUSE_FILE).stat().st_mtime)
    except OSError:
        return 0.0


def pause(home: Path, *, on: bool) -> None:
    """Pause the queue, or let it go on.

    Raises:
        ResourceError: the home cannot be written to.
    """
    path = home / PAUSE_FILE
    with disk_errors():
        if on:
            if not path.exists():  # its time says since when the queue is paused
                make_file(path)
                path.touch()
        else:
            path.unlink(missing_ok=True)
