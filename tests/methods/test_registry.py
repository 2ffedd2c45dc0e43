import pytest

from studio.core.errors import NotFoundError
from studio.methods.registry import method


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(NotFoundError, match="'nope'"):
        method("nope")
