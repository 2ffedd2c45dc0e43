"""What every source of bases returns and raises: a folder on this machine, or an InputError in words."""

from dataclasses import dataclass
from pathlib import Path

from studio.bases.cache import Cache
from studio.core.errors import InputError, Problem
from studio.core.settings import Settings

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class LocalBase:
    """A base that lies on this machine."""

    folder: Path
    revision: str | None
    """The revision with which ``find`` returns exactly this base again; None for a local file."""
    pin: object | None
    """Protects the folder from eviction while referenced; None for folders outside the cache."""


def open_cache(settings: Settings) -> Cache:
    """Return the cache of bases of this installation."""
    return Cache(_folder(settings), settings.bases_max_bytes)


def commits_file(settings: Settings) -> Path:
    """Return the file that notes which commits branches meant."""
    return _folder(settings) / "commits.json"


def _folder(settings: Settings) -> Path:
    return (settings.bases_dir or settings.home / "bases").expanduser()


def fault_of(error: Exception) -> str:
    """Return what went wrong without the address, which may hold a signature."""
    response = getattr(error, "response", None)
    return f"status {response.status_code}" if response is not None else type(error).__name__


def base_problem(message: str, cure: str, code: str) -> InputError:
    """Return the error for a base that cannot be used."""
    return InputError.of([Problem("base", message, cure, code)])
