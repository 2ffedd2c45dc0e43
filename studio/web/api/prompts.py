"""Prompts of people who do not know how a subject is named in one: clients of other services."""

import re

from studio.core.domain import JobView
from studio.web.session import StudioSession

MOST_CHARACTERS = 950
"""Longest prompt, so that there is room for what is put before it."""

_PLACEHOLDER = re.compile(r"{(?:subject|instance_token)}")


def with_subject(session: StudioSession, run: JobView, prompt: str) -> str:
    """Return a prompt that names the subject of a completed run; one that does already stays as it is."""
    token = session.adapter_facts(run.id).get("instance_token")
    if _PLACEHOLDER.search(prompt):
        return prompt
    if token and re.search(rf"(?<!\w){re.escape(token)}(?!\w)", prompt, re.IGNORECASE):
        return prompt
    return f"photo of {{subject}}, {prompt}"
