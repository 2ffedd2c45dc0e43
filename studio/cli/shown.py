"""Likeness as commands show it: at most 1.00, or with ``--raw`` as it was measured. Files and JSON are always raw."""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Annotated, Any

import typer

from studio.core import units
from studio.core.language import say

RAW: ContextVar[bool] = ContextVar("raw", default=False)
"""Whether --raw was given."""


def _set_raw(asked: bool) -> bool:
    RAW.set(asked)
    return asked


Raw = Annotated[
    bool,
    typer.Option("--raw", help="Show likeness as measured, also above 1.00; JSON always does.", callback=_set_raw),
]


def likeness_text(value: float | None, missing: str = "-") -> str:
    """Return a likeness, as ``units.likeness_text``."""
    return units.likeness_text(value, missing, raw=RAW.get())


def mean_text(mean: float | None, spread: float | None) -> str:
    """Return a mean with its spread, as ``units.mean_text``."""
    return units.mean_text(mean, spread, raw=RAW.get())


def likeness_sentence(summary: Mapping[str, Any] | None, things: str = "pictures") -> str:
    """Return a mean in words, as ``units.likeness_sentence``."""
    return units.likeness_sentence(summary, things, raw=RAW.get())


def before_and_after(result: Mapping[str, Any]) -> str:
    """Return two lines on what training changed.

    Args:
        result: likeness_before, likeness_after and, where known, likeness_summary_before and likeness_summary.
    """
    before = result.get("likeness_summary_before") or {"mean": result.get("likeness_before")}
    after = result.get("likeness_summary") or {"mean": result.get("likeness_after")}
    told = [say("Before training: {likeness}"), say("After training: {likeness}")]
    lines = "\n".join(
        line.format(likeness=likeness_sentence(summary)) for line, summary in zip(told, (before, after), strict=True)
    )
    caveat = units.caveat_after(after).strip()
    return f"{lines}\n{caveat}" if caveat else lines
