import json
from dataclasses import dataclass

import pytest

from studio.cli.output import open_output
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
