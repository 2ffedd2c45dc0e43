"""Finds a training method by its name in the configuration, or by the files it wrote."""

from collections.abc import Callable
from pathlib import Path

from studio.core.adapters import FULL_NAME
from studio.core.errors import NotFoundError
from studio.methods.base import Method
from studio.methods.full import Full
from studio.methods.lora import Lora

_METHODS: dict[str, Callable[[], Method]] = {"lora": Lora, "lokr": Lora, "full": Full}


def method(name: str) -> Method:
    """Return a training method.

    Raises:
        NotFoundError: there is no such method.
    """
    try:
        return _METHODS[name]()
    except KeyError:
        raise NotFoundError(f"method {name!r} is unknown; use one of: {', '.join(_METHODS)}.") from None


def method_of(folder: Path) -> Method:
    """Return the method that wrote the adapter in ``folder``."""
    return method("full" if (folder / FULL_NAME).is_file() else "lora")
