"""What every service must do, whichever it is; on stand-ins that fail in every way that was seen."""

import pytest

from studio.core.errors import InputError, ResourceError
from studio.jobs.runners.rented.base import Label, RefusedError, Start, Wants
from studio.jobs.runners.rented.opened import SERVICES

WANTS = Wants("", 24.0, 80, 0.8)
START = Start("python:3.12-slim", ("true",), {"STUDIO_START_URL": "http://x"}, 80, 3600.0)


def label(number=1):
    return Label("0123456789ab", "check-0123456789abcdef", number)


@pytest.fixture
def idle(rented):
    """A service whose machines do nothing, which is asked directly; what it rents is ended with the test."""
    rented.service.starts = False
    yield rented
    for machine_id in list(rented.service.machines):
        rented.service.end(machine_id)


def create(rented, number=1):
    return rented.adapter.create(rented.adapter.offers(WANTS)[0], label(number), START)


def test_a_label_is_read_as_it_was_written_and_of_this_installation_only():
    assert Label.read(str(label(3)), "0123456789ab") == label(3)
    assert Label.read("likeness-studio/0123456789ab/odd", "0123456789ab") == Label("0123456789ab", "", 0)
    for text in (None, "", "my training", str(Label("ffffffffffff", "check-1", 1)), "likeness-studio"):
        assert Label.read(text, "0123456789ab") is None


def test_offers_have_a_price_that_is_known_and_allowed_the_cheapest_first(idle):
    offers = idle.adapter.offers(WANTS)
    assert [round(offer.price_per_hour, 2) for offer in offers] in ([0.40, 0.45], [0.40])
    assert idle.adapter.offers(Wants("", 80.0, 80, 9.0))[0].price_per_hour > 2
    assert idle.adapter.offers(Wants("", 24.0, 80, 0.1)) == []


def test_what_is_rented_is_listed_by_its_label_found_by_its_id_and_gone_when_it_is_destroyed(idle):
    foreign = idle.service.foreign()
    machine_id = create(idle)
    (machine,) = idle.adapter.machines()
    assert (machine.id, machine.label, machine.state) == (machine_id, label(), "running")
    assert idle.adapter.look(machine_id) == machine
    idle.adapter.destroy(machine_id)
    assert idle.adapter.look(machine_id) is None
    assert idle.adapter.machines() == []
    idle.adapter.destroy(machine_id)  # once more is no error
    assert list(idle.service.machines) == [foreign]


def test_a_list_is_read_to_its_last_page(idle):
    made = [create(idle, number) for number in range(1, 6)]
    assert sorted(machine.id for machine in idle.adapter.machines()) == sorted(made)
    assert idle.service.asked["list"] >= 3


UNCLEAR = ["500", "429", "empty", "html", "malformed", "nothing", "no list", "late"]


@pytest.mark.parametrize("fault", [*UNCLEAR, "part", "other", "lost"])
def test_a_list_that_is_not_clear_is_an_error_and_never_empty(idle, fault):
    create(idle)
    idle.service.fail("list", fault)
    with pytest.raises(ResourceError, match="no clear answer"):
        idle.adapter.machines()
    assert len(idle.adapter.machines()) == 1


@pytest.mark.parametrize("fault", [*UNCLEAR, "lost"])
def test_a_look_that_is_not_clear_does_not_say_that_a_machine_is_gone(idle, fault):
    machine_id = create(idle)
    idle.service.fail("look", fault)
    with pytest.raises(ResourceError, match="no clear answer"):
        idle.adapter.look(machine_id)


@pytest.mark.parametrize("fault", ["500", "empty", "html", "malformed", "nothing", "late", "lost"])
def test_a_request_whose_answer_is_not_clear_may_have_rented_a_machine(idle, fault):
    idle.service.fail("create", fault)
    with pytest.raises(ResourceError):
        create(idle)


def test_a_clear_no_is_told_apart_from_that(idle):
    idle.service.fail("create", "refused")
    with pytest.raises(RefusedError, match="It is taken"):
        create(idle)
    assert idle.service.created == 0


@pytest.mark.parametrize("fault", UNCLEAR)
def test_offers_that_are_not_clear_are_an_error(idle, fault):
    idle.service.fail("offers", fault)
    with pytest.raises(ResourceError):
        idle.adapter.offers(WANTS)


def test_a_key_that_is_not_accepted_has_words_and_no_machine_is_taken_for_gone(idle):
    machine_id = create(idle)
    other = SERVICES[idle.service.name]("wrong", "0123456789ab", url=idle.service.url)
    for ask in (other.machines, lambda: other.look(machine_id), lambda: other.destroy(machine_id)):
        with pytest.raises(InputError, match="STUDIO_RENT_KEY: is not accepted"):
            ask()
