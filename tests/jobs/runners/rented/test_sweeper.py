import pytest

from studio.core.errors import ResourceError
from studio.jobs.runners.rented.sweeper import sweep

JOB = "check-0123456789abcdef"


@pytest.fixture
def idle(rented):
    rented.service.starts = False
    return rented


def test_what_belongs_to_no_attempt_that_counts_is_given_back_and_nothing_else(idle, ticket_of):
    foreign = idle.service.foreign()
    late = idle.launcher.launch(ticket_of(idle))
    counts = idle.launcher.launch(ticket_of(idle, 1, "check-fedcba9876543210"))
    idle.queue.attempts[JOB] = 2  # its server was killed, and the next attempt has begun
    swept = sweep(idle.launcher, idle.queue)
    assert (swept.given_back, swept.kept, swept.left) == ([late], [counts], {})
    assert sorted(idle.service.machines) == sorted([foreign, counts])
    idle.queue.state = "completed"
    assert sweep(idle.launcher, idle.queue).given_back == [counts]
    assert list(idle.service.machines) == [foreign]
    assert idle.rentals.open_ones(idle.service.name) == []
    assert idle.rentals.money(JOB).spent_on_job > 0
    idle.service.end(foreign)


@pytest.mark.parametrize("fault", ["500", "429", "empty", "html", "malformed", "nothing", "no list", "late", "part"])
def test_a_list_that_is_not_clear_is_reported_and_concludes_nothing(idle, ticket_of, fault):
    place = idle.launcher.launch(ticket_of(idle))
    idle.queue.attempts.clear()
    idle.service.fail("list", fault)
    swept = sweep(idle.launcher, idle.queue)
    assert list(swept.left) == ["*"] and not swept.given_back
    assert len(idle.rentals.open_ones(idle.service.name)) == 1
    assert sweep(idle.launcher, idle.queue).given_back == [place]


def test_a_machine_that_does_not_go_is_reported_and_tried_again(idle, ticket_of):
    place = idle.launcher.launch(ticket_of(idle))
    idle.queue.attempts.clear()
    idle.service.fail("destroy", *["ignored"] * 20)
    swept = sweep(idle.launcher, idle.queue)
    assert "may still run" in swept.left[place]
    idle.service.fail("destroy")
    assert sweep(idle.launcher, idle.queue).given_back == [place]


def test_a_machine_that_nobody_here_knows_of_is_found_by_its_label(idle, ticket_of):
    place = idle.launcher.launch(ticket_of(idle))
    idle.rentals.gone(idle.service.name, place)  # another table
    idle.queue.attempts.clear()
    assert sweep(idle.launcher, idle.queue).given_back == [place]


def test_where_the_table_cannot_be_asked_nothing_is_given_back(idle, ticket_of, monkeypatch):
    place = idle.launcher.launch(ticket_of(idle))

    def fails(*_):
        raise ResourceError("the disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr(idle.queue, "is_attempt", fails)
        assert sweep(idle.launcher, idle.queue).left == {"*": "the disk is full."}
    assert list(idle.service.machines) == [place]
    idle.launcher.kill(place)


def test_the_books_follow_machines_that_went_by_themselves_and_requests_that_came_to_nothing(idle, ticket_of):
    place = idle.launcher.launch(ticket_of(idle))
    idle.service.end(place)
    sweep(idle.launcher, idle.queue)
    assert idle.rentals.open_ones(idle.service.name) == []
    idle.service.fail("create", "500")
    with pytest.raises(ResourceError):
        idle.launcher.launch(ticket_of(idle, 2))
    idle.queue.attempts.clear()
    sweep(idle.launcher, idle.queue)
    assert len(idle.rentals.open_ones(idle.service.name)) == 1  # not settled yet
    idle.queue.ahead_s = 901.0
    sweep(idle.launcher, idle.queue)
    assert idle.rentals.open_ones(idle.service.name) == []
    assert idle.rentals.money().reserved == 0
