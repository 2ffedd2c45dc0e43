"""A prompt of somebody who knows nothing of tokens still names the subject, and is not touched where it does."""

from typing import Any

import pytest

from studio.core.domain import JobView
from studio.web.api.prompts import with_subject

RUN = JobView("train-1", "train", "completed", "ada", "", 0.0)


class Session:
    def adapter_facts(self, run: str) -> dict[str, str]:
        return {"instance_token": "sks"}


@pytest.mark.parametrize(
    ("prompt", "drawn"),
    [
        ("at the beach", "photo of {subject}, at the beach"),
        ("{subject} at the beach", "{subject} at the beach"),
        ("a {instance_token} in oil", "a {instance_token} in oil"),
        ("Sks woman at the beach", "Sks woman at the beach"),
        ("tsksa at the beach", "photo of {subject}, tsksa at the beach"),
    ],
)
def test_the_subject_is_put_before_a_prompt_that_does_not_name_it(prompt: str, drawn: str) -> None:
    session: Any = Session()
    assert with_subject(session, RUN, prompt) == drawn
