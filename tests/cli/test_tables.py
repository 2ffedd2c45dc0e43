import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from studio.cli.tables import (
    Entry,
    job_words,
    jobs_table,
    show_dataset,
    show_entries,
    show_pictures,
    show_run,
)
from studio.core.domain import Dataset, GenerateResult, TrainResult

VIEW: dict[str, Any] = {"id": "train-1", "title": "Ada", "state": "training", "progress": {}, "cause": "", "facts": {}}


def test_names_to_type_again_are_never_broken() -> None:
    console = Console(width=44, record=True, file=io.StringIO())
    name = "train-2026-01-01-0123456789"
    console.print(jobs_table([{"id": name, "state": "training", "title": "[bold]Ada[/bold]"}]))
    assert name in console.export_text()


def test_a_line_on_a_job_says_how_far_it_is_and_what_it_waits_for() -> None:
    assert job_words(VIEW) == "train-1 (Ada) is training"
    assert job_words({**VIEW, "progress": {"step": 3, "total": 9}}).endswith("is training, 3 of 9")
    assert job_words({**VIEW, "state": "stalled", "cause": "No room."}).endswith("is stalled: No room.")
    waiting = {**VIEW, "state": "pendingImages", "waits_for": {"kind": "check"}, "facts": {"subject": "Ada"}}
    assert job_words(waiting).endswith("waits for the photo check of Ada")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_list_of_names_is_readable_at_any_width(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    name = "editorial_black_and_white"
    sentence = "Twelve black and white portraits in the manner of magazines, from film grain to hard noir light."
    show_entries([Entry(name, "12 shots, for a person", sentence)])(console)
    first, *rest = console.export_text().splitlines()
    assert first == name
    assert all(line.startswith("    ") and len(line) <= width for line in rest)
    assert " ".join(" ".join(rest).split()) == f"{sentence} 12 shots, for a person"  # no word is broken
    assert len(rest) <= 2 + len(sentence) // (width - 12)


def test_an_empty_list_of_jobs_says_so() -> None:
    assert jobs_table([]) == "There are no jobs yet."


def test_a_waiting_jobs_place_stands_beside_its_title():
    console = Console(width=120, file=io.StringIO())
    console.print(jobs_table([{"id": "t", "state": "pending", "title": "Training of Ada", "place": 2}]))
    assert "Training of Ada (number 2 in the queue)" in console.file.getvalue()


SUMMARY = {"mean": 1.04, "spread": 0.1, "word": None, "measured": 2, "pictures": 2, "caveat": "Mind the gap."}
RESULTS: dict[str, Callable[[Console], None]] = {
    "check": show_dataset(Dataset("Ada", "woman", (), (), (), "sface", likeness_summary=SUMMARY), Path("out")),
    "train": show_run(
        TrainResult("adapter", 2, "likeness", 4, 1.0, 0.1, 1.04, 0.0, "sface", (), likeness_summary=SUMMARY),
        Path("out"),
    ),
    "generate": show_pictures(GenerateResult((), "s", "z", 1.0, 1.04, "sface", likeness_summary=SUMMARY), Path("out")),
}


@pytest.mark.parametrize("verb", list(RESULTS))
def test_whatever_a_score_decides_says_for_whom_it_is_worse(verb: str) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    RESULTS[verb](console)
    shown = console.export_text()
    assert "Mind the gap." in shown and "ikeness 1.00 ± 0.10, 2 of 2" in shown
