"""What carries out each job of an installation: this machine, unless the settings name another one."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from studio.core.domain import JobKind
from studio.core.settings import Settings
from studio.jobs.environment import variables_of
from studio.jobs.queue import JobQueue
from studio.jobs.runners.base import Runner
from studio.jobs.runners.local import LocalRunner

if TYPE_CHECKING:
    from studio.jobs.runners.desk import AgentDesk


def runners_of(
    settings: Settings, home: Path, store: JobQueue, *, grace_s: float
) -> tuple["AgentDesk | None", Callable[[JobKind, Path], Runner]]:
    """Return the desk of agents on another machine, None where all jobs run here, and what gives each job its runner.

    Raises: what ``open_runner`` raises.
    """
    more_variables = [name.strip() for name in settings.job_environment.split(",")]
    here = LocalRunner(variables_of(settings), more_variables, warm_s=settings.warm_s)
    if settings.runner == here.name:
        return None, lambda kind, job_dir: here
    from studio.jobs.runners.opened import open_runner  # a laptop needs nothing of that

    return open_runner(settings, home, store, here, grace_s=grace_s)
