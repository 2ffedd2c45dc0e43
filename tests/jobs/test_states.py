from typing import get_args

import pytest

from studio.core.config import CONFIGS
from studio.core.domain import TERMINAL_STATES, JobKind, JobState
from studio.jobs.states import RUNNING, SOURCE_KIND, TRANSITIONS, VERBS, WAITING, claimed_state, origins, waiting_state


def test_table_speaks_of_every_state_and_no_other():
    states = set(get_args(JobState))
    assert set(TRANSITIONS) == states == WAITING | RUNNING | TERMINAL_STATES
    assert set().union(*TRANSITIONS.values()) <= states


def test_every_open_state_can_be_stalled_and_cancelled():
    assert set(origins("stalled")) == set(origins("cancelled")) == WAITING | RUNNING


def test_completed_is_final_and_other_ends_allow_only_a_retry():
    assert TRANSITIONS["completed"] == frozenset()
    assert TRANSITIONS["stalled"] == TRANSITIONS["cancelled"] == {"pending"}
    assert set(origins("completed")) == RUNNING, "only what runs can complete"


def test_every_state_can_be_reached_from_pending():
    reached, frontier = set(), {"pending"}
    while frontier:
        reached |= frontier
        frontier = set().union(*(TRANSITIONS[state] for state in frontier)) - reached
    assert reached == set(TRANSITIONS)


def test_every_kind_of_job_has_a_verb_and_its_config():
    assert set(VERBS) == set(get_args(JobKind)) == set(CONFIGS)
    for kind, spec in VERBS.items():
        assert spec.config is CONFIGS[kind]
        assert spec.working in RUNNING
    assert set(SOURCE_KIND) == set(VERBS) - {"check"}


@pytest.mark.parametrize(
    ("kind", "source_state", "device_busy", "expected"),
    [
        ("check", None, False, "pending"),
        ("check", None, True, "pending"),
        ("train", "completed", False, "pending"),
        ("train", "completed", True, "pendingGpu"),
        ("train", "checking", False, "pendingImages"),
        ("train", "pending", True, "pendingImages"),
        ("generate", "stalled", False, "stalled"),
        ("generate", "cancelled", True, "stalled"),
    ],
)
def test_waiting_state_says_what_a_job_waits_for(kind, source_state, device_busy, expected):
    assert waiting_state(VERBS[kind], source_state, device_busy) == expected


def test_claimed_job_loads_its_model_first_where_it_has_one():
    assert [claimed_state(VERBS[kind]) for kind in ("check", "train", "generate")] == [
        "checking",
        "pendingModel",
        "pendingModel",
    ]
