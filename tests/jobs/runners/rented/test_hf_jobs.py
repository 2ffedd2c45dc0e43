"""What only Hugging Face's jobs do; the rest is in ``test_base``."""

import pytest

from studio.jobs.runners.rented.base import Label, Start, Wants

START = Start("python:3.12-slim", ("python3", "-c", "pass"), {"STUDIO_START_TOKEN": "t"}, 80, 5400.7)


@pytest.fixture
def hub(new_rented):
    parts = new_rented("hf_jobs")
    parts.service.starts = False
    yield parts
    for machine_id in list(parts.service.machines):
        parts.service.end(machine_id)


def test_the_price_of_an_hour_follows_from_that_of_a_minute(hub):
    (offer,) = hub.adapter.offers(Wants("L4", 24.0, 80, 0.8))
    assert (offer.id, offer.what, offer.price_per_hour) == ("l4x1", "L4, 24 GB", pytest.approx(0.40))
    assert hub.adapter.offers(Wants("l4x4", 24.0, 80, 9.0)) == []  # four GPUs cost four times as much
    hub.service.hardware = ({**hub.service.hardware[1], "unitLabel": "fortnight"},)
    assert hub.adapter.offers(Wants("", 24.0, 80, 0.8)) == []


def test_secrets_go_where_nobody_reads_them_and_the_time_is_always_given(hub):
    offer = hub.adapter.offers(Wants("", 24.0, 80, 0.8))[0]
    body = hub.service.machines[hub.adapter.create(offer, Label("a" * 12, "train-1", 2), START)].body
    assert (body["secrets"], body["environment"], body["timeoutSeconds"]) == ({"STUDIO_START_TOKEN": "t"}, {}, 5400)
    assert body["labels"] == {"app": "likeness-studio", "installation": "a" * 12, "job": "train-1", "attempt": "2"}
    assert body["attempts"] == 1


@pytest.mark.parametrize(("stage", "found"), [("starting", "starting"), ("running", "running"), ("over", None)])
def test_a_job_that_has_ended_costs_nothing_and_counts_as_gone(hub, stage, found):
    label = Label("0123456789ab", "check-0123456789abcdef", 1)
    machine_id = hub.adapter.create(hub.adapter.offers(Wants("", 24.0, 80, 0.8))[0], label, START)
    hub.service.machines[machine_id].stage = stage
    machine = hub.adapter.look(machine_id)
    assert (machine and machine.state) == found
    assert len(hub.adapter.machines()) == (found is not None)
