"""What a Python on another machine must have beside the studio's code.

Imports nothing else, because it may lack all of it.
"""

from importlib.util import find_spec

NEEDS = ("torch", "diffusers", "transformers", "peft", "safetensors", "httpx2", "pydantic_settings", "PIL")
"""By the names that are imported; whoever has these has been given requirements.txt."""


def missing() -> list[str]:
    """Return what this Python lacks, by the names that are imported."""
    return [name for name in NEEDS if find_spec(name) is None]
