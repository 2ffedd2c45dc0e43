"""Finds a training method by its name in the configuration."""

from studio.errors import NotFoundError
from studio.methods.base import Method
from studio.methods.lora import Lora

_METHODS: dict[str, type[Lora]] = {"lora": Lora}


def method(name: str) -> Method:
    """Return a training method.

    Raises:
        NotFoundError: there is no such method.
    """
    try:
        return _METHODS[name]()
    except KeyError:
        raise NotFoundError(f"method {name!r} is unknown; use one of: {', '.join(_METHODS)}.") from None
