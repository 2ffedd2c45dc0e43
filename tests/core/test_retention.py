import pytest

from studio.core.errors import InputError
from studio.core.retention import SERVICE_DAYS, Retention, most_days, require_within, retention
from studio.core.settings import Settings


@pytest.mark.parametrize(
    ("given", "days"),
    [
        ({}, None),
        ({"login": False}, None),
        ({"login": True}, SERVICE_DAYS),
        ({"auth": "keys"}, SERVICE_DAYS),
        ({"auth": "keys", "keep_days": 0}, None),
        ({"login": True, "keep_days": 365}, 365.0),
        ({"keep_days": 7}, 7.0),
    ],
)
def test_on_a_service_jobs_are_kept_for_thirty_days_and_on_a_laptop_for_ever(given, days):
    assert most_days(Settings(**given)) == days


def test_an_owner_may_choose_less_and_never_more_than_the_operator():
    assert retention(None, None) == Retention(None, None, None)
    assert retention(30.0, None).days == 30.0
    assert retention(30.0, 7.0) == Retention(7.0, 7.0, 30.0)
    assert retention(None, 7.0).days == 7.0
    assert retention(5.0, 7.0).days == 5.0, "the operator has lowered it since"
    require_within(None, 9000.0)
    require_within(30.0, None)
    with pytest.raises(InputError, match="at most 30"):
        require_within(30.0, 30.5)
