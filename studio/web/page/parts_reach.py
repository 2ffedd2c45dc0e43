"""HTML of what this machine can do with somebody's photos: on the first page, after the check and before training."""

import base64
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from studio.core import language, reach
from studio.core.catalog import BaseSpec
from studio.core.fit import FitPlan
from studio.core.machine import DEMO_TIME, Machine, has_room
from studio.core.presets import TrainPreset
from studio.core.units import bytes_text, duration_text, gigabytes_text
from studio.web.page import words
from studio.web.page.parts import hint, notice
from studio.web.page.templates import render

_STRIP = Path(__file__).parent / "templates" / "strip.jpg"
"""Photos of the sample person, pictures before and after training; ``python -m benchmarks.screenshots`` makes it."""


def intro(here: Machine) -> Markup:
    """Return what a new visitor reads first: before and after, the three steps, how long, and what to expect here."""
    limits = words.INTRO_GPU if reach.has_photo_base(here) else words.INTRO_CPU
    steps = [(title, text.format(time=language.say(DEMO_TIME))) for title, text in words.INTRO_STEPS]
    texts = {"about": words.INTRO_STRIP, "captions": words.INTRO_CAPTIONS, "steps": steps, "limits": limits}
    return render("start.intro", strip=_strip(), **texts)


@functools.cache
def _strip() -> str:
    return "data:image/jpeg;base64," + base64.b64encode(_STRIP.read_bytes()).decode()


def real_photos(dataset: Mapping[str, Any] | None, here: Machine) -> Markup:
    """Return what to do with photographs where there is no GPU; nothing for drawings or where there is one."""
    if not dataset or dataset.get("drawn") is not False or reach.has_photo_base(here):
        return Markup()
    ways = [_coded(way[:1].upper() + way[1:] + ".") for way in reach.ways()]
    return notice(words.REAL_PHOTOS, [language.say(reach.CARTOONS), *ways, words.REAL_PHOTOS_POCKET])


def _coded(text: str) -> Markup:
    """Return a sentence with what stands between backticks as code."""
    parts = text.split("`")
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def base_card(base: BaseSpec, here: Machine, plan: FitPlan | None) -> str:
    """Return a base's card as lines: its title, time and memory of a run on this machine, its licence and price.

    Args:
        base: the base.
        here: this machine.
        plan: of a run with the preset that the base takes here; None while there are no photos, or no preset.
    """
    missing = reach.lacks(base, here)
    price = words.CARD_ELSEWHERE if missing else words.CARD_HERE
    return "\n".join([language.say(base.title), *_costs(plan, missing), f"{base.licence} · {price}"])


def preset_card(preset: TrainPreset, here: Machine, plan: FitPlan | None) -> str:
    """Return a preset's card as lines: its title, time and memory of a run here; arguments as of ``base_card``."""
    gpu = preset.memory_gb and (here.kind == "cpu" or not _has_room(here, preset.memory_gb))
    missing = words.CARD_NEEDS.format(memory=gigabytes_text(preset.memory_gb)) if gpu else ""
    return "\n".join([language.say(preset.title), *_costs(plan, missing)])


def _has_room(here: Machine, memory_gb: int) -> bool:
    return here.memory_bytes is None or has_room(here.memory_bytes, memory_gb)


def _costs(plan: FitPlan | None, missing: str) -> tuple[str, str]:
    """Return time and memory in words; what is not known is called that."""
    time = words.CARD_NO_TIME if plan is None or plan.seconds is None else duration_text(plan.seconds)
    if plan is None or plan.peak_bytes is None:
        memory = words.CARD_NO_MEMORY
    else:
        told = words.CARD_MEASURED if plan.measured else words.CARD_ROUGH
        memory = told.format(memory=bytes_text(plan.peak_bytes))
    return words.CARD_TIME.format(time=time), missing or memory


def base_hint(base: BaseSpec | None, here: Machine) -> Markup:
    """Return what a base is and what it needs; framed where this machine lacks that."""
    if base is None:
        return hint(words.BASE_NONE)
    sentence = words.BASE_HINT_GPU if base.vram_gb else words.BASE_HINT_CPU
    memory = gigabytes_text(base.vram_gb or 0)
    text = sentence.format(description=language.say(base.description), memory=memory, licence=base.licence)
    missing = reach.lacks(base, here)
    if not missing:
        return hint(text)
    patient = [_coded(words.BASE_CPU.format(way=reach.ways()[-1]))] if base.name == reach.CPU_BASE else []
    return notice(words.BASE_NOT_HERE.format(lacks=missing), [text, *patient])
