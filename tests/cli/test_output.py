import json
from dataclasses import dataclass

import pytest

from studio.cli.output import TerminalOutput, open_output
from studio.core.domain import Event
from studio.core.errors import ConflictError


@dataclass
class Result:
    value: float


def test_a_program_gets_one_json_value_a_line_and_never_a_number_that_is_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = open_output(True)
    with output:
        output.event(Event("metrics", {"loss": float("nan"), "step": 1}))
    output.error(ConflictError("It is taken."))
    output.result(Result(0.5), lambda console: None)
    lines = capsys.readouterr().out.splitlines()
    assert "NaN" not in lines[0]
    event, error, result = (json.loads(line) for line in lines)
    assert event["kind"] == "metrics" and event["data"]["loss"] is None
    assert error["error"] == "It is taken." and result == {"value": 0.5}


def test_a_person_gets_the_result_on_one_stream_and_all_else_on_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = open_output(False)
    with output:
        output.event(Event("message", {"level": "warning", "text": "mind the [gap]"}))
    output.error(ConflictError("It is taken."))
    output.result(Result(0.5), lambda console: console.print("[done]"))
    shown = capsys.readouterr()
    assert shown.out == "[done]\n"
    assert "mind the [gap]" in shown.err and "It is taken." in shown.err


def test_a_reader_without_a_bar_is_told_now_and_then_how_long_it_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def lines(every_s: float) -> list[str]:
        output = TerminalOutput(line_every_s=every_s)
        with output:
            output.event(Event("stage", {"name": "training", "message": "Learning the subject"}))
            output.event(Event("progress", {"step": 1, "total": 400, "eta_s": None, "message": ""}))  # not known yet
            for step in (2, 3):
                output.event(Event("progress", {"step": step, "total": 400, "eta_s": 150.0, "message": ""}))
        return capsys.readouterr().err.splitlines()

    assert lines(60) == ["Learning the subject", "Learning the subject: 2 of 400, 2 min left"]
    assert lines(0)[2:] == ["Learning the subject: 3 of 400, 2 min left"]


def test_photos_that_are_gone_through_several_times_are_not_counted_beyond_their_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = TerminalOutput(line_every_s=0)
    with output:
        output.event(Event("stage", {"name": "preparing", "message": "Preparing 8 photos"}))
        data = {"step": 17, "total": 24, "eta_s": 5.0, "message": "", "counted": False}
        output.event(Event("progress", data))
    assert capsys.readouterr().err.splitlines()[1:] == ["Preparing 8 photos: 71 %, 5 s left"]
