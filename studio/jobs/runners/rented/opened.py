"""The rented machines of an installation, by its settings; everything that lacks is named at once."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from studio.core.errors import InputError, Problem, ResourceError
from studio.core.settings import LOOPBACK, Settings
from studio.jobs.queue import JobQueue
from studio.jobs.runners.desk import AgentDesk
from studio.jobs.runners.rented.base import Service, Wants
from studio.jobs.runners.rented.hf_jobs import HfJobs
from studio.jobs.runners.rented.launcher import Pace, RentLauncher
from studio.jobs.runners.rented.money import Bounds
from studio.jobs.runners.rented.runner import Patience, RentedRunner
from studio.jobs.runners.rented.sweeper import sweep
from studio.jobs.runners.rented.vast import Vast
from studio.jobs.storage.links import LinkSigner, key_of
from studio.jobs.storage.opened import open_storage

SERVICES: dict[str, Callable[..., Service]] = {"vast": Vast, "hf_jobs": HfJobs}
"""As ``STUDIO_RUNNER`` names them."""
_AWAY_S = 900.0
"""So long an agent works on without its server: the machine costs money meanwhile."""


def problems_of(settings: Settings) -> list[Problem]:
    """Return what lacks before a machine may be rented."""
    found = []
    address = urlsplit(settings.public_url)
    if not settings.public_url:
        words = f"is needed by STUDIO_RUNNER={settings.runner}: a rented machine must reach this server"
        cure = "set it to an address of this server that the internet reaches, https://..."
        found.append(Problem("STUDIO_PUBLIC_URL", words, cure, "public_url"))
    elif address.scheme != "https" and address.hostname not in LOOPBACK:
        cure = "put a gateway with a certificate in front, and set it to https://..."
        found.append(Problem("STUDIO_PUBLIC_URL", "would show photos and tokens to the whole way", cure, "public_url"))
    if settings.rent_key is None:
        what = {"vast": "an API key of Vast.ai", "hf_jobs": "a Hugging Face token that may run jobs"}[settings.runner]
        found.append(Problem("STUDIO_RENT_KEY", "is not set", f"set it to {what}", "rent_key"))
    if settings.rent_monthly_budget is None:
        cure = "set it to the US dollars that a month may cost at most"
        found.append(Problem("STUDIO_RENT_MONTHLY_BUDGET", "is not set", cure, "rent_budget"))
    return found


def open_rented(
    settings: Settings, home: Path, store: JobQueue, *, grace_s: float, pace: Pace | None = None
) -> tuple[AgentDesk, RentedRunner]:
    """Return the desk that answers agents on rented machines, and what rents them.

    Args:
        settings: with the service, its key, what may be spent, and the address of this server.
        home: folder of the installation.
        store: the queue.
        grace_s: how long a verb may take to stop by itself.
        pace: how long things are waited for.

    Raises:
        InputError, MissingExtraError: something lacks or cannot be used. ResourceError: the home cannot be written.
    """
    if (lacks := problems_of(settings)) or settings.rent_key is None or settings.rent_monthly_budget is None:
        raise InputError.of(lacks)
    try:
        key = key_of(home)
    except OSError as error:
        raise ResourceError(f"the folder {home} cannot hold a key ({error.strerror}).") from error
    address = settings.public_url.rstrip("/")
    signer = LinkSigner(key, address)
    desk = AgentDesk(store, open_storage(settings, home, signer), signer, {"patience_s": _AWAY_S})
    service = SERVICES[settings.runner](
        settings.rent_key.get_secret_value(), installation_of(key), url=settings.rent_url
    )
    bounds = Bounds(
        settings.rent_monthly_budget,
        settings.rent_max_per_job,
        settings.rent_max_price_per_hour,
        settings.rent_max_minutes * 60.0,
    )
    wants = Wants(settings.rent_gpu, settings.rent_memory_gb, settings.rent_disk_gb, settings.rent_max_price_per_hour)
    launcher = RentLauncher(service, desk, store, address, wants, bounds, settings.rent_image, pace)
    patience = Patience(
        settings.rent_boot_minutes * 60.0,
        settings.rent_first_step_minutes * 60.0,
        settings.rent_stall_minutes * 60.0,
    )
    desk.chores.append(lambda: sweep(launcher, store))
    return desk, RentedRunner(desk, launcher, patience, grace_s=grace_s)


def installation_of(key: bytes) -> str:
    """Return what labels call an installation; all servers on one home have the same."""
    return hashlib.sha256(b"installation" + key).hexdigest()[:12]
