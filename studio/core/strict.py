"""Frozen models whose field docstrings are help texts, and pydantic's findings translated into problems with a cure."""

import re
import unicodedata
from difflib import get_close_matches
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


def _clean_lines(value: Any) -> Any:
    if isinstance(value, str):
        lines = [_clean_text(line.replace("\t", " ")) for line in re.split(r"\r\n|\r|\n", value)]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return value


Lines = Annotated[str, BeforeValidator(_clean_lines)]
"""Plain text in lines, paragraphs apart by an empty one; other white space collapsed."""


def _plain_word(value: Any) -> Any:
    value = _clean_text(value)
    if isinstance(value, str) and value:
        if others := sorted(set(re.findall(r"[^\w \-]", value))):
            raise ValueError(f"may not hold {' '.join(others)}; use letters, digits, spaces and hyphens")
        if not re.match(r"\w", value):
            raise ValueError("must begin with a letter or a digit")
    return value


Word = Annotated[str, BeforeValidator(_plain_word), Field(min_length=1, max_length=40, pattern=r"^[\w][\w \-]*$")]
"""A noun or a token: letters, digits, spaces, hyphens."""


_NOT_IN_NAMES = frozenset("/\\<>{}[]|`")


def _name_of_somebody(value: Any) -> Any:
    value = _clean_text(value)
    if isinstance(value, str) and value:
        value = unicodedata.normalize("NFC", value)
        invisible = any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn") and c not in _JOINERS for c in value)
        others = sorted(_NOT_IN_NAMES.intersection(value))
        if others or invisible:
            what = " ".join(others) or "invisible characters"
            raise ValueError(f"may not hold {what}; a name has letters, digits, spaces and signs such as . ' & -")
        if not any(unicodedata.category(c)[0] in "LN" or unicodedata.category(c) == "So" for c in value):
            raise ValueError("must hold a letter or a digit")
        if value.startswith("-"):
            raise ValueError("may not begin with a hyphen")
    return value


_JOINERS = "\u200c\u200d"
"""Emoji and some scripts need these two invisible characters."""


Name = Annotated[str, BeforeValidator(_name_of_somebody), Field(min_length=1, max_length=40)]
"""What somebody or something is called, for people only: file names and tokens are never it, but derived from it."""


NameOrEmpty = Annotated[str, BeforeValidator(_name_of_somebody), Field(max_length=40)]
"""A Name, or empty for what follows from something else."""


WordOrEmpty = Annotated[str, BeforeValidator(_plain_word), Field(max_length=40)]
"""A Word, or empty for what follows from something else."""


LikenessName = Literal["auto", "pocket", "face", "sface", "subject", "none"]


Dtype = Literal["auto", "float32", "bfloat16", "float16"]


DEFAULT_SUBJECT = "subject"
"""What a photo check calls a subject whose name nobody told."""


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
        if item["type"] == "model_type" and any(o["loc"] == (*item["loc"][:-1], "int") for o in items):
            continue  # and what is no mapping was meant as the number
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
            near = get_close_matches(str(location[-1]), names, 1)
            hint = f"did you mean {near[0]}? Otherwise " if near else ""
            cure = f"{hint}remove it or use one of: {', '.join(names)}" if names else "remove it"
            found.append(Problem(where, "there is no such setting", cure, "unknown_setting"))
            continue
        given = item.get("input")
        shown = f" (got {given!r})" if isinstance(given, str | int | float | bool | None) else ""
        message = _KINDS.get(item["type"], message)
        message = message[:1].lower() + message[1:].removeprefix("value error, ")
        message = message.removeprefix("value error, ")
        found.append(Problem(where, message + shown, _cure(item), "invalid_setting"))
    return found


_KINDS = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "is not a whole number"),
    **dict.fromkeys(("float_type", "float_parsing", "finite_number"), "is not a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "is neither true nor false"),
    **dict.fromkeys(("model_type", "dict_type"), "is not a group of settings"),
    "string_type": "is not text",
}
"""Pydantic's findings about kinds of values, in words of people who fill in a form."""

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
