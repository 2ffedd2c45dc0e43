"""How sizes, lengths of time and likeness are written for people; the only module that formats them.

Ground level: standard library only, and the language that is spoken.
"""

import math
from collections.abc import Mapping
from typing import Any

from studio.core.language import say

_SIZES = ("kB", "MB", "GB", "TB")


def bytes_text(count: int) -> str:
    """Return a number of bytes in decimal units and three digits, for example "57.1 MB".

    Decimal, as disks, hubs and the catalog count: the same download must not be 9.3 GB in one place and 10 GB in
    another. Graphics cards are sold in binary units, so that a card "of 24 GB" reads 25.8 GB here.
    """
    if count < 1000:
        return say("{count} byte" if count == 1 else "{count} bytes").format(count=count)
    value, name = count / 1000, 0
    while value >= 999.5 and name < len(_SIZES) - 1:  # three digits would round it to 1000
        value, name = value / 1000, name + 1
    return f"{value:.3g} {_SIZES[name]}" if value < 999.5 else f"{value:,.0f} {_SIZES[name]}"


def gigabytes_text(gb: float) -> str:
    """Return a figure of the catalog, which is in 10**9 bytes, as ``bytes_text`` does."""
    return bytes_text(round(gb * 10**9))


def duration_text(seconds: float) -> str:
    """Return a length of time, for example "45 s", "12 min" or "1 h 05 min"; never "0 s"."""
    if seconds < 89.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def shown(value: float) -> float:
    """Return a likeness as people see it: at most 1.00, as no picture is more like somebody than a photo."""
    return round(min(value, 1.0), 2)


def mean_text(mean: float | None, spread: float | None, *, raw: bool = False) -> str:
    """Return a mean likeness with its standard deviation: "0.82 ± 0.07"; without it where that is None."""
    return likeness_text(mean, raw=raw) + ("" if spread is None else f" ± {spread:.2f}")


def mean_words(summary: Mapping[str, Any], *, raw: bool = False) -> str:
    """Return the mean of a summary that has one, its spread and its word: "0.82 ± 0.07 (alike)"."""
    word = f" ({say(summary['word'])})" if summary.get("word") else ""
    return mean_text(summary["mean"], summary.get("spread"), raw=raw) + word


def likeness_sentence(summary: Mapping[str, Any] | None, things: str = "pictures", *, raw: bool = False) -> str:
    """Return a mean likeness in words: "likeness 0.82 ± 0.07 (alike), 11 of 12 pictures measured".

    Args:
        summary: what ``studio.likeness.base.summarise`` returned; None or empty where there is no engine.
        things: what was measured, in the plural.
        raw: also above 1.00, as measured.
    """
    if not summary or summary.get("mean") is None:
        return say("likeness not measured")
    text = say("likeness {mean}").format(mean=mean_words(summary, raw=raw))
    if summary.get("pictures"):
        told = say("{text}, {measured} of {count} {things} measured")
        return told.format(text=text, measured=summary["measured"], count=summary["pictures"], things=say(things))
    return text


def caveat_after(summary: Mapping[str, Any] | None) -> str:
    """Return for whom the scores are known to be worse, as a sentence to go on with; empty where nothing is known."""
    caveat = (summary or {}).get("caveat")
    return f" {say(caveat)}" if caveat else ""


def likeness_text(value: float | None, missing: str = "-", *, raw: bool = False) -> str:
    """Return a likeness, or a bleed, with two decimals, at most 1.00.

    Args:
        value: 0 is a random other subject of the class, 1 a held-out photo; files hold it as measured.
        missing: what to say where it was not measured (None or NaN).
        raw: also above 1.00, as measured.
    """
    if value is None or math.isnan(value):
        return missing
    return f"{round(value if raw else shown(value), 2) + 0.0:.2f}"  # + 0.0: a value just below zero would read "-0.00"


def dollars(amount: float) -> str:
    """Return US dollars with their cents."""
    return f"${amount:.2f}"
