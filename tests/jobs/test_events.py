import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.core.domain import Event, GenerateResult, Image, plain
from studio.jobs.events import KINDS, Outcome, ProgressThrottle, event_line, outcome_line, parse_line

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(KINDS)), st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_event_survives_its_line(kind, data):
    line = event_line(Event(kind, data))
    assert line.count("\n") == 1
    assert parse_line(line.encode()) == Event(kind, data)


def test_outcome_survives_its_line():
    outcome = Outcome("stalled", cause="a\nb", problems=({"where": "x", "message": "y"},))
    assert parse_line(outcome_line(outcome)) == outcome


@pytest.mark.parametrize(
    "line",
    [
        "",
        "Loading ...",
        "3",
        "null",
        "[]",
        '"event"',
        "{}",
        '{"event": 3}',
        '{"event": ["nonsense", {}]}',
        '{"event": ["metrics", 5]}',
        '{"outcome": {"state": "completed"}}',
        '{"outcome": {"problems": [], "x": 1}}',
        b"\xff\xfe",
    ],
)
def test_foreign_line_is_left_out(line):
    assert parse_line(line) is None


def test_plain_opens_records_and_has_no_nan():
    image = Image("a/000.png", "a", "p", "", 7, math.nan, 1)
    result = GenerateResult((image,), "sheet.png", "p.zip", math.inf, None, None)
    data = plain({"result": result, "path": Path("x/y"), 3: {1}})
    json.dumps(data, allow_nan=False)
    assert data["result"]["images"][0]["likeness"] is None
    assert data["result"]["seconds"] is None
    assert (data["path"], data["3"]) == ("x/y", [1])


def test_thinner_passes_four_progress_events_a_second_and_everything_else():
    clock_s = 0.0
    heard = []
    thinner = ProgressThrottle(heard.append, interval_s=0.25, clock=lambda: clock_s)
    for step in range(1, 101):
        clock_s += 0.01
        thinner(Event("progress", {"step": step, "total": 100}))
        thinner(Event("metrics", {"step": step}))
    steps = [event.data["step"] for event in heard if event.kind == "progress"]
    assert steps == [1, 26, 51, 76, 100], "the last one passes always"
    assert sum(event.kind == "metrics" for event in heard) == 100
