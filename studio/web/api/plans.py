"""What pictures would take, known before they are made: time from what earlier ones took here, memory from the catalog.

The plan of a training is ``studio.core.fit``'s.
"""

from dataclasses import dataclass
from statistics import median
from typing import Any

from studio.core import machine
from studio.core.catalog import BASES
from studio.core.config import GenerateConfig
from studio.core.domain import JobView
from studio.core.presets import load_pack
from studio.core.units import bytes_text, duration_text
from studio.web.session import DONE, StudioSession

_NEWEST = 20
"""So many earlier jobs tell how long a picture takes."""


@dataclass(frozen=True, slots=True)
class PicturesPlan:
    """What to expect; None where nothing is known."""

    pictures: int
    seconds: float | None
    """The median of what such pictures took here before, loading the base included."""
    peak_bytes: int | None
    """Weights of the base in half precision, all on the device at once; rough, pictures at work are not counted."""
    room_bytes: int | None
    """Memory of the device, where it is known."""
    fits: bool | None
    """None where one of both is unknown."""
    measured: bool
    """Whether ``seconds`` come from pictures that were made here."""
    words: str


def plan_pictures(session: StudioSession, config: GenerateConfig, run: JobView | None) -> PicturesPlan:
    """Return what a valid order of pictures would take.

    Args:
        session: of the owner.
        config: what to make.
        run: with what; None for a published adapter, of whose base nothing is known before it is here.
    """
    shots = load_pack(config.pack, session.settings.presets_dir).shots if config.pack else config.prompts
    count = len(shots) * config.count
    base = None if run is None else run.facts.base
    rates = [] if base is None else _seconds_each(session, base)
    seconds = round(median(rates) * count, 1) if rates else None
    memory = BASES[base].memory if base in BASES else None
    peak = None if memory is None else round((memory.denoiser_gb + memory.text_encoders_gb) * 10**9)
    room = machine.look(session.settings.device).memory_bytes
    fits = None if peak is None or room is None else peak <= room
    said = [f"{count} picture{'' if count == 1 else 's'}"]
    if seconds is not None:
        said.append(f"about {duration_text(seconds)} (from {len(rates)} earlier job{'s' if len(rates) > 1 else ''})")
    if peak is not None:
        said.append(f"about {bytes_text(peak)} for the weights (rough, from the catalogue)")
    words = f"{', '.join(said)}."
    if seconds is None:
        words += " The time is known once pictures of this base were made here."
    return PicturesPlan(count, seconds, peak, room, fits, bool(rates), words)


def _seconds_each(session: StudioSession, base: str) -> list[float]:
    """Return how long a picture took in each of the newest jobs of a base that made any."""
    found: list[float] = []
    for job in session.jobs("generate", states=DONE, limit=10 * _NEWEST):
        result: dict[str, Any] = dict(job.result or {})
        made = len(result.get("images", ())) + len(result.get("left_out", ())) - result.get("from_cache", 0)
        if job.facts.base == base and made > 0:
            found.append(result["seconds"] / made)
    return found[:_NEWEST]
