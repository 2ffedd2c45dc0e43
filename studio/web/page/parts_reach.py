"""HTML of what this machine can do with somebody's photos: on the first page, after the check and before training."""

import base64
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from studio.core import language, reach
from studio.core.catalog import BaseSpec
from studio.core.machine import DEMO_TIME, Machine
from studio.core.units import gigabytes_text
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


def base_choice(base: BaseSpec, here: Machine) -> str:
    """Return a base's line in the list: its title, and what this machine lacks for it."""
    missing = reach.lacks(base, here)
    return words.BASE_LACKS.format(title=base.title, lacks=missing) if missing else base.title


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
