"""Frozen dataclasses to JSON files and back: one way for all of them, checked when they are read.

What is written keeps the order of the fields, so that equal records make equal bytes. What is read may lack fields that
have a default, as files of earlier versions do; unknown fields, as of later versions, are refused, because what they
mean would be lost.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from studio.core.errors import InputError, NotFoundError, Problem
from studio.core.files import write_json

_T = TypeVar("_T")


_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)  # building one takes milliseconds


def to_dict(record: Any) -> dict[str, Any]:
    """Return a record as plain JSON data, its fields in order and tuples as lists."""
    data: dict[str, Any] = _adapter(type(record)).dump_python(record, mode="json", warnings=False)
    return data


def from_dict(kind: type[_T], data: Any) -> _T:
    """Rebuild a record from what ``to_dict`` returned; raises ValueError where ``data`` is not such a record."""
    record: _T = _adapter(kind).validate_python(data, extra="forbid")
    return record


def write(path: Path, record: Any, *, durable: bool = True) -> None:
    """Write a record as JSON; ``durable`` is that of ``files.replacing``."""
    write_json(path, to_dict(record), durable=durable)


def read(
    kind: type[_T],
    path: Path,
    *,
    cure: str = "delete its folder and start again",
    code: str = "damaged",
    ignore_others: bool = False,
) -> _T:
    """Read a record that ``write`` wrote.

    Args:
        kind: class of the record.
        path: the file.
        cure: what to do about a damaged file, as an imperative.
        code: the problem's word for programs.
        ignore_others: whether the file may hold more than the record, as report.json does.

    Raises:
        NotFoundError: there is no such file.
        InputError: it is damaged, or cannot be read.
    """
    try:
        record: _T = _adapter(kind).validate_json(path.read_bytes(), extra="ignore" if ignore_others else "forbid")
    except FileNotFoundError:
        raise NotFoundError(f"{path.parent.name}: there is no {path.name}.") from None
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        detail = ": ".join([".".join(map(str, found["loc"])), found["msg"].lower()]).lstrip(": ")
        raise InputError.of([Problem(path.name, f"is damaged ({detail})", cure, code)]) from None
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise InputError.of([Problem(path.name, f"cannot be read ({reason})", "check its rights", code)]) from None
    return record
