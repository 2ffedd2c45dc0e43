import pytest

from studio.core.errors import InputError
from studio.jobs.rentals import Money
from studio.jobs.runners.rented.money import Bounds, NotYetError, most_for, seconds_for

BOUNDS = Bounds(monthly_budget=20.0, max_per_job=5.0, max_price_per_hour=0.8, max_s=8 * 3600.0)


def left(spent=0.0, reserved=0.0, on_job=0.0):
    return Money("2026-11", spent, reserved, on_job)


def test_a_machine_is_rented_for_the_longest_time_unless_money_ends_before():
    assert seconds_for(BOUNDS, 0.1, 0.0, left()) == 8 * 3600
    seconds = seconds_for(BOUNDS, 0.8, 0.2, left(on_job=1.0))
    assert seconds < 8 * 3600
    assert most_for(0.8, 0.2, seconds) == pytest.approx(4.0)  # what the job has left, to the cent
    assert most_for(0.8, 0.0, seconds_for(BOUNDS, 0.8, 0.0, left(spent=10.0, reserved=7.0))) == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("money", "price", "words"),
    [
        (left(on_job=4.95), 0.8, r"STUDIO_RENT_MAX_PER_JOB: .* has cost \$4\.95 of \$5\.00; raise it"),
        (left(spent=19.9), 0.8, r"STUDIO_RENT_MONTHLY_BUDGET: is used up: \$19\.90 of \$20\.00 in 2026-11"),
        (left(), 0.9, r"STUDIO_RENT_MAX_PRICE_PER_HOUR: allows \$0\.80 an hour, and the machine costs \$0\.90"),
        (left(), 0.0, "STUDIO_RENT_MAX_PRICE_PER_HOUR"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_numbers_and_the_cure(money, price, words):
    with pytest.raises(InputError, match=words):
        seconds_for(BOUNDS, price, 0.0, money)


def test_money_that_is_only_reserved_is_waited_for():
    with pytest.raises(NotYetError):
        seconds_for(BOUNDS, 0.8, 0.0, left(spent=1.0, reserved=18.9))
