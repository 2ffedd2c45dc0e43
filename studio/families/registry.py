"""Finds a family's adapter by its name in the catalog."""

from studio.catalog import FAMILIES
from studio.errors import NotFoundError
from studio.families.base import Family
from studio.families.sd import StableDiffusion

_FAMILIES: dict[str, type[StableDiffusion]] = {"sd": StableDiffusion}


def family(name: str) -> Family:
    """Return the adapter of a family.

    Raises:
        NotFoundError: no adapter is written for it.
    """
    try:
        return _FAMILIES[name](FAMILIES[name])
    except KeyError:
        raise NotFoundError(f"family {name!r} is unknown; use one of: {', '.join(_FAMILIES)}.") from None
