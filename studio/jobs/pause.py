"""Whether the queue is paused: a file in the home, so that it holds for all servers on it and after a restart."""

from pathlib import Path

from studio.core.private import make_file
from studio.jobs.intake import disk_errors

PAUSE_FILE = "queue.paused"


def is_paused(home: Path) -> bool:
    """Tell whether nothing new may begin; what runs goes on."""
    return (home / PAUSE_FILE).exists()


def pause(home: Path, *, on: bool) -> None:
    """Pause the queue, or let it go on.

    Raises:
        ResourceError: the home cannot be written to.
    """
    path = home / PAUSE_FILE
    with disk_errors():
        if on:
            make_file(path)
            path.touch()
        else:
            path.unlink(missing_ok=True)
