"""What there is to choose from, as plain JSON data: presets, packs, chains and base models."""

import dataclasses
from pathlib import Path
from typing import Any

from studio.core import machine, reach
from studio.core.catalog import BASES
from studio.core.presets import list_chains, list_packs, list_presets
from studio.core.settings import Settings

Rows = list[dict[str, Any]]


def presets(settings: Settings) -> Rows:
    """Return all training presets by name."""
    return [preset.model_dump(mode="json") for preset in list_presets(settings.presets_dir)]


def packs(settings: Settings) -> Rows:
    """Return all prompt packs by name."""
    return [pack.model_dump(mode="json") for pack in list_packs(settings.presets_dir)]


def chains(settings: Settings) -> Rows:
    """Return all finish chains by name."""
    return [chain.model_dump(mode="json") for chain in list_chains(settings.presets_dir)]


def bases(settings: Settings) -> Rows:
    """Return the catalog of base models, with the defaults of this machine.

    ``default`` is true for the base that is offered first; ``default_preset`` is None for a base without presets;
    ``lacks`` says what this machine lacks for it, empty if nothing.
    """
    here, known_presets = machine.look(settings.device), list_presets(settings.presets_dir)
    default = machine.default_base(here)
    rows = []
    for base in BASES.values():
        embedded = Path(base.source).is_absolute()
        source = "embedded" if embedded else base.source  # never tell a client a path of the server
        preset = machine.default_preset(base.name, here, known_presets)
        chosen = {"default": base.name == default, "default_preset": preset.name if preset else None}
        chosen["lacks"] = reach.lacks(base, here)
        rows.append({**dataclasses.asdict(base), "source": source, **chosen})
    return rows
