"""Finds a family's adapter by its name in the catalog."""

from collections.abc import Callable
from typing import Any

from studio.core.catalog import FAMILIES, FamilySpec
from studio.core.errors import NotFoundError
from studio.families.base import Family, Parts
from studio.families.flux import Flux
from studio.families.flux2 import Flux2Klein
from studio.families.loading import parts_of
from studio.families.qwen_image import QwenImage
from studio.families.sd import StableDiffusion
from studio.families.sd3 import StableDiffusion3
from studio.families.sdxl import StableDiffusionXL
from studio.families.zimage import ZImage

_FAMILIES: dict[str, Callable[[FamilySpec], Family]] = {
    "sd": StableDiffusion,
    "sdxl": StableDiffusionXL,
    "sd3": StableDiffusion3,
    "flux": Flux,
    "flux2": Flux2Klein,
    "zimage": ZImage,
    "qwen_image": QwenImage,
}


def family(name: str) -> Family:
    """Return the adapter of a family.

    Raises:
        NotFoundError: no adapter is written for it.
    """
    try:
        return _FAMILIES[name](FAMILIES[name])
    except KeyError:
        raise NotFoundError(f"family {name!r} is unknown; use one of: {', '.join(_FAMILIES)}.") from None


def opened(pipeline: Any) -> tuple[Family, Parts]:
    """Return the family of a diffusers pipeline, and its parts.

    Raises:
        NotFoundError: no family has a pipeline of this class.
    """
    kind = type(pipeline).__name__
    name = next((row.name for row in FAMILIES.values() if row.pipeline == kind), kind)
    found = family(name)
    return found, parts_of(pipeline, found.spec)
