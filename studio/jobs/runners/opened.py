"""The runner of an installation, by ``STUDIO_RUNNER``, and which jobs go to it."""

from collections.abc import Callable
from pathlib import Path

from studio.core.domain import JobKind
from studio.core.errors import ResourceError, StudioError
from studio.core.files import read_json
from studio.core.path_rules import paths_in_training
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig
from studio.jobs.child import REQUEST_FILE
from studio.jobs.queue import JobQueue
from studio.jobs.runners.agents import AgentRunner, Launcher
from studio.jobs.runners.base import Runner
from studio.jobs.runners.desk import AgentDesk
from studio.jobs.runners.ray import RayLauncher, environment_of
from studio.jobs.runners.rented.opened import SERVICES, open_rented
from studio.jobs.runners.ssh import SshLauncher
from studio.jobs.storage.links import LinkSigner, key_of
from studio.jobs.storage.opened import open_storage

_BEHIND_SOCKET = "http://studio"
_AWAY: frozenset[JobKind] = frozenset({"train", "generate", "export"})
"""What needs a GPU. Publishing needs this machine's logins and folders, and no GPU worth the way."""


def open_runner(
    settings: Settings, home: Path, store: JobQueue, here: Runner, *, grace_s: float
) -> tuple[AgentDesk, Callable[[JobKind, Path], Runner]]:
    """Return the desk that answers agents on the machine that the settings name, and what gives each job its runner.

    Args:
        settings: with the runner, the storage, and where this server listens.
        home: folder of the installation.
        store: the queue.
        here: the runner of the jobs that stay.
        grace_s: how long a verb may take to stop by itself.

    Raises:
        InputError, MissingExtraError: the storage cannot be used. ResourceError: the home cannot be written.
    """
    if settings.runner in SERVICES:
        desk, rented = open_rented(settings, home, store, grace_s=grace_s)
        return desk, lambda kind, job_dir: rented if goes_away(kind, job_dir) else here
    launcher = launcher_of(settings)
    try:
        signer = LinkSigner(key_of(home), launcher.address if "://" in launcher.address else _BEHIND_SOCKET)
    except OSError as error:
        raise ResourceError(f"the folder {home} cannot hold a key ({error.strerror}).") from error
    desk = AgentDesk(store, open_storage(settings, home, signer), signer)
    there = AgentRunner(desk, launcher, grace_s=grace_s)
    return desk, lambda kind, job_dir: there if goes_away(kind, job_dir) else here


def launcher_of(settings: Settings) -> Launcher:
    """Return what brings agents to the machine that the settings name."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "", "localhost") else settings.host
    server = f"[{host}]:{settings.port}" if ":" in host else f"{host}:{settings.port}"
    if settings.runner == RayLauncher.name:
        address = settings.public_url.rstrip("/") or f"http://{server}"
        return RayLauncher(address, python=settings.runner_python, environment=environment_of())
    return SshLauncher(settings.runner.removeprefix("ssh:"), server, python=settings.runner_python)


def goes_away(kind: JobKind, job_dir: Path) -> bool:
    """Tell whether a job goes to the runner on another machine; one that names paths of this machine stays."""
    if kind not in _AWAY:
        return False
    request = read_json(job_dir / REQUEST_FILE)
    if kind != "train" or not isinstance(request, dict):
        return True
    try:
        return not paths_in_training(TrainConfig.parse(request.get("config")))
    except StudioError:  # the attempt says what is wrong
        return True
