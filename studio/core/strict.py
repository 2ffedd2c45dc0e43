"""Frozen models whose field docstrings are help texts, and pydantic's findings translated into problems with a cure."""

import re
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from studio.core.errors import InputError, Problem

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def _clean_text(value: Any) -> Any:
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise ValueError("contains control characters; use plain text")
        return " ".join(value.split())
    return value


Text = Annotated[str, BeforeValidator(_clean_text)]
"""One line of plain text, white space collapsed."""


Word = Annotated[str, BeforeValidator(_clean_text), Field(min_length=1, max_length=40, pattern=r"^[\w][\w \-]*$")]
"""A noun or a token: letters, digits, spaces, hyphens."""


LikenessName = Literal["auto", "pocket", "face", "subject", "none"]


Dtype = Literal["auto", "float32", "bfloat16", "float16"]


class StrictModel(BaseModel):
    """Frozen, no unknown keys, attribute docstrings as descriptions."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, protected_namespaces=()
    )

    @classmethod
    def parse(cls, data: Any) -> Self:
        """Validate ``data``; raises InputError that lists every wrong setting with its cure."""
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise InputError.of(problems_of(error, cls)) from None


def _variant(union: Any, name: str) -> Any:
    """Return the member of a discriminated union that a literal field calls ``name``; None if there is none."""
    for kind in get_args(next(iter(get_args(union)), None)):
        if any(name in get_args(field.annotation) for field in getattr(kind, "model_fields", {}).values()):
            return kind
    return None


def _fields_below(model: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            current = next(iter(get_args(current)), current)  # an item; where kinds differ, its kind comes next
            continue
        field = getattr(current, "model_fields", {}).get(part)
        current = getattr(field, "annotation", None) if field else _variant(current, str(part))
        current = next((kind for kind in get_args(current) if hasattr(kind, "model_fields")), current)
    return sorted(getattr(current, "model_fields", {}))


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Translate pydantic's findings into problems that name the setting and the cure."""
    found = []
    items = error.errors(include_url=False)
    for item in items:
        if item["loc"][-1:] == ("int",) and isinstance(item.get("input"), dict):
            continue  # a mapping was meant as the other kind of value, which tells its own problems
        # Pydantic names the tried kinds of a union in between; nobody wrote these.
        location = tuple(p for p in item["loc"] if p != "int" and not str(p).startswith("function-"))
        # Where items are wrong, pydantic also misses them.
        below = [other for other in items if other["loc"][: len(location)] == location and other["loc"] != location]
        if item["type"] == "too_short" and below:
            continue
        where = ".".join(str(part) for part in location) or "settings"
        message = str(item["msg"])
        if item["type"] == "extra_forbidden":
            names = _fields_below(model, location[:-1])
            cure = f"remove it or use one of: {', '.join(names)}" if names else "remove it"
            found.append(Problem(where, "there is no such setting", cure, "unknown_setting"))
            continue
        given = item.get("input")
        shown = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
        message = message[:1].lower() + message[1:].removeprefix("value error, ")
        message = message.removeprefix("value error, ")
        found.append(Problem(where, message + shown, _cure(item), "invalid_setting"))
    return found


_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than", "multiple_of": "a multiple of"}


def _cure(item: Any) -> str:
    """Return what to do about one of pydantic's findings, from the limit that it broke."""
    context = item.get("ctx") or {}
    for name, words in _LIMITS.items():
        if name in context:
            return f"use {words} {context[name]}"
    if item["type"] == "literal_error":
        return f"use one of: {str(context.get('expected', '')).replace(' or ', ', ')}"
    return (
        "change one of these settings" if item["type"] == "value_error" and not item["loc"] else "change this setting"
    )


_REPO = re.compile(r"[A-Za-z0-9]([\w.-]{0,94}\w)?/[A-Za-z0-9_]([\w.-]{0,94}\w)?", re.ASCII)


def hub_id(text: str) -> str:
    """Return a repository name unchanged; raises ValueError if the Hub would refuse it.

    Source: the Hub's rules, as in huggingface_hub.utils.validate_repo_id; unlike there, the owner is required.
    """
    if not _REPO.fullmatch(text) or "--" in text or ".." in text or text.endswith(".git"):
        raise ValueError(
            "is not a valid repository name (owner/name); use letters, digits, '-', '_' and '.', "
            "at most 96 characters in each part"
        )
    return text
