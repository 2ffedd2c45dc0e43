import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from studio.cli import main
from studio.cli import remote as remote_commands
from studio.cli.shown import RAW, before_and_after, likeness_sentence, likeness_text, mean_text


def test_at_most_one_is_shown_unless_somebody_asks_for_raw_values() -> None:
    summary = {"mean": 1.04, "spread": 0.1, "word": "very alike"}
    assert (likeness_text(1.04), mean_text(1.04, 0.1)) == ("1.00", "1.00 ± 0.10")
    assert likeness_sentence(summary) == "likeness 1.00 ± 0.10 (very alike)"
    asked = RAW.set(True)
    try:
        assert (likeness_text(1.04), mean_text(1.04, 0.1), likeness_text(None)) == ("1.04", "1.04 ± 0.10", "-")
        assert likeness_sentence(summary) == "likeness 1.04 ± 0.10 (very alike)"
    finally:
        RAW.reset(asked)


def test_before_and_after_are_two_lines_with_spread_word_and_caveat() -> None:
    summary = {"mean": 0.82, "spread": 0.07, "word": "alike", "measured": 3, "pictures": 4}
    assert before_and_after({"likeness_before": None, "likeness_after": 0.82, "likeness_summary": summary}) == (
        "Before training: likeness not measured\nAfter training: likeness 0.82 ± 0.07 (alike), 3 of 4 pictures measured"
    )
    assert before_and_after({"likeness_before": 0.1, "likeness_after": 0.8}).endswith("training: likeness 0.80")
    assert before_and_after({"likeness_summary": {**summary, "caveat": "Mind the gap."}}).endswith("\nMind the gap.")


@pytest.mark.parametrize(
    "command", [["demo"], ["check"], ["train"], ["generate"], ["remote", "train"], ["remote", "generate"]]
)
def test_every_command_that_shows_likeness_can_show_it_raw(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([*command, "--help"]) == 0
    assert re.search(r"--raw", capsys.readouterr().out)


def test_work_of_another_machine_ends_with_spread_word_and_caveat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = {"mean": 0.8, "spread": 0.1, "word": "alike", "measured": 3, "pictures": 4, "caveat": "Mind the gap."}
    run = {"best_step": 2, "steps": 4, "adapter": "adapter", "likeness_before": 0.1, "likeness_summary": summary}
    trained = SimpleNamespace(train=run, server="http://there", sent_bytes=1000, original_bytes=9000, exports=())

    @contextlib.contextmanager
    def nobody(*_: object) -> Iterator[None]:
        yield None

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(remote_commands, "open_server", nobody)
    monkeypatch.setattr("studio.remote.run.train", lambda *_, **__: trained)
    monkeypatch.setattr("studio.remote.run.generate", lambda *_, **__: {"images": [1], "likeness_summary": summary})
    said = "ikeness 0.80 ± 0.10 (alike), 3 of 4 pictures measured"
    assert main.run(["remote", "train", str(tmp_path), "--class-noun", "woman", "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "Before training: likeness 0.10" in shown and said in shown and "Mind the gap." in shown
    assert main.run(["remote", "generate", "job", "--prompt", "a {subject}", "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "1 pictures in" in shown and f"L{said}. Mind the gap." in shown
