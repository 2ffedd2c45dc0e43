"""Sizes, lengths of time and likeness read the same everywhere, because one module writes them."""

import ast
import math
import re
from pathlib import Path

import pytest

from studio.core.units import bytes_text, caveat_after, duration_text, gigabytes_text, likeness_sentence, likeness_text

STUDIO = Path(__file__).resolve().parents[2] / "studio"
_UNIT = re.compile(r"\s?[kKMGT]i?B\b")  # not bytes: against a limit in bytes the exact number counts


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (57_123_456, "57.1 MB"),
        (64 * 10**6, "64 MB"),
        (10**10, "10 GB"),
        (24 * 2**30, "25.8 GB"),
        (3 * 10**12, "3 TB"),
        (12_345 * 10**12, "12,345 TB"),
    ],
)
def test_sizes_are_decimal_and_have_three_digits(count: int, words: str) -> None:
    assert bytes_text(count) == words


def test_figures_of_the_catalog_read_like_sizes() -> None:
    assert gigabytes_text(5.26) == bytes_text(5_260_000_000) == "5.26 GB"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "1 s"),
        (0.2, "1 s"),
        (89.4, "89 s"),
        (89.6, "1 min"),
        (150, "2 min"),
        (5369, "89 min"),
        (5400, "1 h 30 min"),
        (7200, "2 h 00 min"),
    ],
)
def test_lengths_of_time_are_rough(seconds: float, words: str) -> None:
    assert duration_text(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.934, "0.93"), (1, "1.00"), (-0.001, "0.00"), (-0.2, "-0.20"), (None, "-"), (math.nan, "-")],
)
def test_likeness_has_two_decimals(value: float | None, words: str) -> None:
    assert likeness_text(value) == words


def test_whoever_shows_a_likeness_says_what_stands_for_none() -> None:
    assert likeness_text(None, "not measured") == "not measured"


@pytest.mark.parametrize(
    "line",
    ['f"{count / 1e6:.1f} MB"', 'f"{free:.1f} GiB free"', 'f"{gb:g}GB"', 'f"{likeness:.2f}"'],
)
def test_a_unit_that_is_written_by_hand_is_found(line: str) -> None:
    assert _by_hand(ast.parse(line))


def test_no_other_module_writes_units_by_hand() -> None:
    found = []
    for path in STUDIO.rglob("*.py"):
        if path.name != "units.py":
            lines = _by_hand(ast.parse(path.read_text(encoding="utf-8")))
            found += [f"{path.relative_to(STUDIO)}:{line}" for line in lines]
    assert not found, "use studio.core.units"


def _by_hand(tree: ast.AST) -> list[int]:
    """Return the lines where an f-string puts a unit after a value that it formats itself, or writes a likeness."""
    lines = []
    for text in ast.walk(tree):
        if not isinstance(text, ast.JoinedStr):
            continue
        for value, after in zip(text.values, [*text.values[1:], ast.Constant("")], strict=True):
            if not isinstance(value, ast.FormattedValue):
                continue
            spec = ast.unparse(value.format_spec) if value.format_spec else ""
            unit = isinstance(after, ast.Constant) and _UNIT.match(str(after.value))
            if unit or ".2f" in spec:  # two decimals are how a likeness is written
                lines.append(text.lineno)
    return lines


def test_no_likeness_above_a_photo_is_shown() -> None:
    assert likeness_text(1.31) == "1.00"
    assert likeness_text(1.31, raw=True) == "1.31"
    assert likeness_sentence({"mean": 1.04, "spread": 0.1}, raw=True) == "likeness 1.04 ± 0.10"


def test_a_mean_is_said_with_its_spread_its_word_and_how_many_were_measured() -> None:
    summary = {"mean": 0.82, "spread": 0.07, "word": "alike", "measured": 11, "pictures": 12}
    assert likeness_sentence(summary) == "likeness 0.82 ± 0.07 (alike), 11 of 12 pictures measured"
    assert likeness_sentence({**summary, "spread": None, "word": None}) == "likeness 0.82, 11 of 12 pictures measured"


@pytest.mark.parametrize("summary", [None, {}, {"mean": None, "measured": 0, "pictures": 3}])
def test_what_was_not_measured_is_said_in_words_and_never_as_a_number(summary: dict | None) -> None:
    assert likeness_sentence(summary) == "likeness not measured"


def test_a_caveat_goes_on_as_a_sentence_of_its_own() -> None:
    assert caveat_after({"caveat": "Mind the gap."}) == " Mind the gap."
    assert [caveat_after(summary) for summary in (None, {}, {"caveat": None})] == ["", "", ""]
