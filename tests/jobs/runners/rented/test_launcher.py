import threading
import time
from dataclasses import replace

import pytest

from studio.core.errors import InputError, ResourceError
from studio.jobs.runners.desk import GoneError

JOB = "check-0123456789abcdef"


@pytest.fixture
def idle(rented):
    """Machines do nothing."""
    rented.service.starts = False
    return rented


def test_the_answer_of_a_request_that_is_lost_is_looked_for_by_its_label(idle, ticket_of):
    idle.launcher._pace = replace(idle.launcher._pace, pauses_s=(0.02, 0.2, 0.4, 0.6, 1.0))
    for number, fault in enumerate(("lost", "late"), 1):
        idle.service.fail("create", fault)
        idle.service.fail("list", "", "500", "empty")  # a clear look before, and two unclear ones after
        place = idle.launcher.launch(ticket_of(idle, number))
        assert idle.service.created == number
        assert list(idle.service.machines) == [place]
        idle.launcher.kill(place)
        assert not idle.service.machines
    assert idle.rentals.open_ones(idle.service.name) == []


def test_while_nobody_knows_what_became_of_a_request_no_other_one_is_made(idle, ticket_of):
    idle.service.fail("create", "lost")
    idle.service.hidden = {"1000", "0a0"}  # the machine runs, and the list is empty
    with pytest.raises(ResourceError, match="no clear answer"):
        idle.launcher.launch(ticket_of(idle))
    (machine_id,) = idle.service.machines
    with pytest.raises(ResourceError, match="another one would cost twice"):
        idle.launcher.launch(ticket_of(idle, 2))
    assert idle.service.created == 1
    idle.service.hidden = set()
    place = idle.launcher.launch(ticket_of(idle, 3))  # now it is seen, and given back first
    assert machine_id in idle.service.gone and list(idle.service.machines) == [place]
    assert idle.rentals.money(JOB).spent_on_job > 0
    idle.launcher.kill(place)


def test_a_request_that_was_never_answered_nor_done_is_made_again_when_that_is_settled(idle, ticket_of):
    idle.service.fail("create", "500")
    with pytest.raises(ResourceError):
        idle.launcher.launch(ticket_of(idle))
    assert len(idle.rentals.open_ones(idle.service.name)) == 1
    idle.queue.ahead_s = 901.0
    place = idle.launcher.launch(ticket_of(idle, 2))
    assert idle.service.created == 1
    idle.launcher.kill(place)


@pytest.mark.parametrize("fault", ["500", "empty", "malformed", "nothing", "no list", "late", "part"])
def test_where_it_cannot_be_seen_what_runs_nothing_is_rented(idle, ticket_of, fault):
    idle.service.fail("list", *[fault] * 50)
    with pytest.raises(ResourceError):
        idle.launcher.launch(ticket_of(idle))
    assert idle.service.created == 0 and idle.service.asked["create"] == 0


def test_a_short_outage_is_waited_for(idle, ticket_of):
    idle.service.fail("list", "500", "empty")
    idle.launcher.kill(idle.launcher.launch(ticket_of(idle)))
    assert idle.service.created == 1


def test_an_offer_that_is_taken_leaves_no_trace(idle, ticket_of):
    idle.service.fail("create", "refused")
    if idle.service.name == "vast":
        place = idle.launcher.launch(ticket_of(idle))
        assert idle.launcher.terms(place).price_per_hour == 0.45  # the next one
        idle.launcher.kill(place)
    else:
        with pytest.raises(ResourceError, match="It is taken"):
            idle.launcher.launch(ticket_of(idle))
    assert idle.rentals.open_ones(idle.service.name) == []


def test_a_machine_that_costs_more_than_was_offered_is_given_back_at_once(new_rented, ticket_of):
    vast = new_rented("vast")
    vast.service.starts, vast.service.price = False, 2.5
    with pytest.raises(InputError, match=r"the machine costs \$2\.50"):
        vast.launcher.launch(ticket_of(vast))
    assert vast.service.created == 1 and not vast.service.machines


def test_nothing_on_offer_is_refused_with_what_was_wanted(new_rented, ticket_of):
    vast = new_rented("vast")
    vast.service.offers = ()
    with pytest.raises(InputError, match=r"24 GB for \$0\.80 or less; raise it"):
        vast.launcher.launch(ticket_of(vast))


def test_a_machine_is_gone_only_when_that_is_seen(idle, ticket_of):
    place = idle.launcher.launch(ticket_of(idle))
    idle.service.fail("destroy", "500", "ignored", "lost")  # the second says yes and does nothing
    idle.service.fail("look", "", "empty", "500")
    idle.launcher.kill(place)
    assert not idle.service.machines
    assert idle.service.asked["destroy"] >= 3
    assert any("has cost $0.0" in text for text in idle.queue.told)


def test_one_that_cannot_be_seen_to_be_gone_stays_in_the_books(idle, ticket_of):
    place = idle.launcher.launch(ticket_of(idle))
    idle.service.fail("destroy", *["ignored"] * 20)
    with pytest.raises(ResourceError, match="may still run and cost money"):
        idle.launcher.kill(place)
    (row,) = idle.rentals.open_ones(idle.service.name)
    assert row.machine == place
    idle.service.fail("destroy")
    idle.launcher.kill(place)
    assert idle.rentals.open_ones(idle.service.name) == []


def test_a_list_that_leaves_it_out_does_not_make_it_gone(idle, ticket_of):
    place = idle.launcher.launch(ticket_of(idle))
    idle.service.hidden = {place}
    assert not idle.launcher.is_gone(place)
    idle.launcher.kill(place)


def test_over_budget_a_job_is_refused_and_nothing_is_asked_for(new_rented, ticket_of):
    parts = new_rented("hf_jobs", monthly_budget=0.05)
    with pytest.raises(InputError, match="STUDIO_RENT_MONTHLY_BUDGET: is used up"):
        parts.launcher.launch(ticket_of(parts))
    assert parts.service.asked["create"] == 0


def test_a_job_waits_for_money_that_is_reserved_and_goes_on_when_some_comes_back(new_rented, ticket_of):
    parts = new_rented("vast", monthly_budget=0.65, max_s=3600.0)
    parts.service.starts = False
    first = parts.launcher.launch(ticket_of(parts))
    second = ticket_of(parts, job_id="check-fedcba9876543210")
    places = []
    thread = threading.Thread(target=lambda: places.append(parts.launcher.launch(second)))
    thread.start()
    give_up_s = time.monotonic() + 10
    while not any(text.startswith("Waits: ") for text in parts.queue.told) and time.monotonic() < give_up_s:
        time.sleep(0.02)
    assert parts.service.created == 1 and not places
    parts.launcher.kill(first)
    thread.join(10)
    assert parts.service.created == 2
    parts.launcher.kill(places[0])


def test_a_job_that_is_cancelled_while_it_waits_rents_nothing(new_rented, ticket_of):
    parts = new_rented("vast", monthly_budget=0.65)
    parts.service.starts = False
    first = parts.launcher.launch(ticket_of(parts))
    second = ticket_of(parts, job_id="check-fedcba9876543210")
    parts.desk.box("check-fedcba9876543210.1").stop = True
    with pytest.raises(GoneError):
        parts.launcher.launch(second)
    parts.launcher.kill(first)
    assert parts.service.created == 1
