"""What an answer says beside its status; how it travels is seen in ``test_sender``."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from studio.jobs.webhooks.transport import _seconds, signed


@pytest.mark.parametrize(("text", "seconds"), [(None, None), ("120", 120.0), ("soon", None), ("-5", None)])
def test_a_pause_in_seconds_is_read(text: str | None, seconds: float | None) -> None:
    assert _seconds(text) == seconds


def test_a_pause_until_a_moment_is_read() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < (_seconds(moment) or 0) < 110
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_every_secret_signs() -> None:
    headers = signed(
        "msg_1", "{}", ["whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz", "whsec_eHl6eHl6eHl6eHl6eHl6eHl6eHl6eHl6"]
    )
    assert [row.partition(",")[0] for row in headers["webhook-signature"].split()] == ["v1", "v1"]
