"""What only Vast.ai does; the rest is in ``test_base``."""

import json

import pytest

from studio.jobs.runners.rented.base import Label, Start, Wants


@pytest.fixture
def vast(new_rented):
    parts = new_rented("vast")
    parts.service.starts = False
    yield parts
    for machine_id in list(parts.service.machines):
        parts.service.end(machine_id)


def test_traffic_is_counted_as_what_fills_the_disk(vast):
    first, second = vast.adapter.offers(Wants("", 24.0, 80, 0.8))
    assert (first.what, first.price_per_hour, first.extra) == ("RTX 4090, 24 GB", 0.40, pytest.approx(0.08))
    assert second.extra == 0.0


def test_a_machine_starts_the_command_itself_and_says_what_it_costs(vast):
    start = Start("python:3.12-slim", ("python3", "-c", "pass"), {"STUDIO_START_TOKEN": "t"}, 80, 3600.0)
    machine_id = vast.adapter.create(vast.adapter.offers(Wants("", 24.0, 80, 0.8))[0], Label("a" * 12, "j", 1), start)
    body = vast.service.machines[machine_id].body
    assert (body["runtype"], body["args"], body["env"]) == ("args", list(start.command), dict(start.secrets))
    assert body["label"] == f"likeness-studio/{'a' * 12}/j/1"
    assert "secret" not in json.dumps(body)


@pytest.mark.parametrize(("status", "state"), [("starting", "starting"), ("over", "over"), ("unknown", "running")])
def test_states_that_nobody_knows_are_left_to_the_watchdogs(vast, status, state):
    start = Start("python:3.12-slim", ("true",), {}, 80, 3600.0)
    label = Label("0123456789ab", "check-0123456789abcdef", 1)
    machine_id = vast.adapter.create(vast.adapter.offers(Wants("", 24.0, 80, 0.8))[0], label, start)
    vast.service.machines[machine_id].stage = status
    assert vast.adapter.look(machine_id).state == state
