"""Config classes as lists of settings in words: name, values, default, and the sentence under the field."""

import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from studio.core.config import CONFIGS
from studio.core.finish_config import STEPS
from studio.core.settings import PROJECT_ROOT, Settings

_OPTIONS: dict[str, frozenset[str]] = {
    "train": frozenset({"subject", "class_noun", "base"}),
    "publish": frozenset({"repo", "public", "update", "dry_run"}),
}
"""Verb -> settings that are given as options of their own, which ``--set`` cannot change."""

_KINDS = {int: "integer", float: "number", Path: "path"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting."""

    name: str
    """Dotted, for example ``method.rank``; of an installation, the variable."""
    values: str
    """What it may be, for example ``integer, 1 to 512``."""
    choices: tuple[str, ...]
    """The words that it may be; empty if it is no choice."""
    default: str
    """As it is written after ``--set NAME=``; empty if the setting must be given."""
    about: str
    """The sentence of the config class."""


def settings_of(verb: str) -> list[Setting]:
    """Return what ``--set`` takes for a verb, in the order of its config class; ``verb`` is a key of CONFIGS."""
    if verb != "finish":
        return _walk(CONFIGS[verb], without=_OPTIONS.get(verb, ()))
    found = _walk(CONFIGS[verb], without={"chain", "steps"})
    for kind, model in STEPS.items():
        found += _walk(model, f"{kind}.", without={"do"})
    return found


def variables() -> list[Setting]:
    """Return the ``STUDIO_*`` variables."""
    fields = Settings.model_fields.items()
    return [_setting(f"STUDIO_{name.upper()}", field, field.annotation) for name, field in fields]


def _walk(model: type[BaseModel], prefix: str = "", *, without: Collection[str] = ()) -> list[Setting]:
    found: list[Setting] = []
    for name, field in model.model_fields.items():
        if name in without:
            continue
        nested = [kind for kind in _kinds(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if len(nested) < len(_kinds(field.annotation)):
            found.append(_setting(prefix + name, field, field.annotation))
        for kind in nested:
            defaults = field.default.model_dump() if isinstance(field.default, kind) else {}
            found += [_with_default(row, prefix + name, defaults) for row in _walk(kind, f"{prefix}{name}.")]
    return found


def _with_default(row: Setting, parent: str, defaults: Mapping[str, Any]) -> Setting:
    name = row.name.removeprefix(f"{parent}.")
    default = _default_text(defaults[name]) if name in defaults else row.default
    return Setting(row.name, row.values, row.choices, default, row.about)


def _setting(name: str, field: FieldInfo, annotation: Any) -> Setting:
    kinds = [kind for kind in _kinds(annotation) if not (isinstance(kind, type) and issubclass(kind, BaseModel))]
    choices = tuple(str(word) for kind in kinds if get_origin(kind) is Literal for word in get_args(kind))
    words = ", ".join(choices) or _kind_text(kinds[0])
    default = "" if field.is_required() else _default_text(field.default)
    return Setting(name, words + _range_text(field), choices, default, " ".join((field.description or "").split()))


def _kinds(annotation: Any) -> list[Any]:
    """Return the kinds of value that an annotation allows, without None."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [kind for part in get_args(annotation) if part is not type(None) for kind in _kinds(part)]
    return [annotation]


def _kind_text(kind: Any) -> str:
    if kind is bool:
        return "true or false"
    containers = {tuple: "list of texts, as [a, b]", dict: "values by name, as {a: value}"}
    return containers.get(get_origin(kind)) or _KINDS.get(kind, "text")


def _range_text(field: FieldInfo) -> str:
    """Return a field's limits in words; pydantic keeps each limit as an object of its own."""
    limits = {
        name: getattr(rule, name)
        for rule in field.metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if getattr(rule, name, None) is not None
    }
    text = {name: f"{value:,g}" if isinstance(value, float) else f"{value:,}" for name, value in limits.items()}
    low = text["ge"] if "ge" in text else f"above {text['gt']}" if "gt" in text else ""
    high = text["le"] if "le" in text else f"below {text['lt']}" if "lt" in text else ""
    parts = [f"{low} to {high}" if low and high else f"at least {low}" if low else ""]
    parts += [f"a multiple of {text['multiple_of']}"] if "multiple_of" in text else []
    return "".join(f", {part}" for part in parts if part)


def _default_text(value: Any) -> str:
    if isinstance(value, BaseModel):  # its own settings follow, with their defaults
        return "computed as below"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Path):  # the same on every machine
        return str(value).replace(str(PROJECT_ROOT), "PROJECT").replace(str(Path.home()), "~")
    if isinstance(value, tuple | dict):
        return "[]" if isinstance(value, tuple) else "{}"
    return str(value) if str(value) else '""'
