from typing import Any

import pytest

from studio.core.errors import InputError
from studio.core.webhooks import WebhookChange, WebhookConfig


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"url": "https://x/", "evnts": []}, {"evnts"}),
        ({"events": ["job.done"], "progress_every_s": 0}, {"url", "events.0", "progress_every_s"}),
        ({"url": "", "description": "x" * 201}, {"url", "description"}),
    ],
)
def test_everything_wrong_with_a_webhook_is_named_at_once(given: dict[str, Any], where: set[str]) -> None:
    with pytest.raises(InputError) as caught:
        WebhookConfig.parse(given)
    assert {problem.where for problem in caught.value.problems} == where


def test_a_change_says_only_what_changes() -> None:
    assert WebhookChange.parse({"active": False, "events": []}).model_dump(exclude_none=True) == {
        "active": False,
        "events": (),
    }
