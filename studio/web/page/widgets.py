"""Form fields from config classes: a setting's sentence is its help text, its constraints are its range.

``describe`` turns a config class into data, ``build`` turns the data into Gradio components, ``collect`` reads a form
back as dotted settings. A set of components travels as one dict, so there are no positional lists to keep in order.
"""

import re
import types
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import gradio as gr
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from studio.core import language
from studio.web.page import parts, words

Kind = Literal["integer", "number", "flag", "choice", "text"]

_ACRONYMS = {"lr": "learning rate", "px": "(px)", "snr": "SNR"}


@dataclass(frozen=True, slots=True)
class Field:
    """One setting in a form."""

    path: str
    """Dotted name, for example ``method.rank``."""
    sentence: str
    """What it does, in English."""
    kind: Kind
    optional: bool
    """True if the setting may be left empty."""
    choices: tuple[Any, ...] = ()
    limits: tuple[tuple[str, Any], ...] = ()
    """Pydantic's limits, by name: ge, gt, le, lt, multiple_of."""

    @property
    def label(self) -> str:
        """The name that people read."""
        return language.say(_label(self.path))

    @property
    def info(self) -> str:
        """The help text."""
        return re.sub(r"\bNone\b", words.AUTOMATIC, language.say(self.sentence))

    @property
    def range(self) -> str:
        """Allowed values in words, for example ``1 to 64``; empty if all are."""
        limits = dict(self.limits)
        low = f"{limits['ge']:,}" if "ge" in limits else ""
        low = words.ABOVE.format(limit=limits["gt"]) if "gt" in limits and not low else low
        high = f"{limits['le']:,}" if "le" in limits else ""
        high = words.BELOW.format(limit=limits["lt"]) if "lt" in limits and not high else high
        if not (low and high):
            return ""
        text = words.RANGE.format(low=low, high=high)
        step = limits.get("multiple_of")
        return words.RANGE_MULTIPLE.format(range=text, step=step) if step else text


def describe(model: type[BaseModel], *, without: Collection[str] = ()) -> tuple[Field, ...]:
    """Return the fields of a config class in order, nested configs flattened.

    Args:
        model: the config class.
        without: dotted names of settings that the form has elsewhere.
    """
    return tuple(field for field in _walk(model, "") if field.path not in without)


def _walk(model: type[BaseModel], prefix: str) -> list[Field]:
    found: list[Field] = []
    for name, info in model.model_fields.items():
        path = prefix + name
        kinds = [kind for kind in _alternatives(info.annotation) if kind is not type(None)]
        optional = len(kinds) < len(_alternatives(info.annotation))
        nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if nested and len(kinds) == 1:
            found += _walk(nested[0], path + ".")
            continue
        # Where a setting is a number or a rule (TrainConfig.steps), the form offers the number; empty keeps the rule.
        scalar = next(kind for kind in kinds if kind not in nested)
        field = _field(path, info, scalar, optional or bool(nested))
        if field is not None:
            found.append(field)
    return found


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (annotation,)


def _field(path: str, info: FieldInfo, scalar: Any, optional: bool) -> Field | None:
    choices: tuple[Any, ...] = ()
    kind: Kind
    if get_origin(scalar) is Literal:
        kind, choices = "choice", get_args(scalar)
        if len(choices) == 1:
            return None
    elif scalar is bool:
        kind = "flag"
    elif scalar is int:
        kind = "integer"
    elif scalar is float:
        kind = "number"
    elif get_origin(scalar) in (tuple, dict):
        return None
    else:
        kind = "text"
    return Field(path, info.description or "", kind, optional, choices, _limits(info))


def _label(path: str) -> str:
    parts = " ".join(_ACRONYMS.get(word, word) for word in path.replace(".", "_").removeprefix("method_").split("_"))
    return parts[:1].upper() + parts[1:]


def _limits(info: FieldInfo) -> tuple[tuple[str, Any], ...]:
    """Return a field's limits by name; pydantic keeps each limit as an object of its own."""
    return tuple(
        (name, getattr(rule, name))
        for rule in info.metadata
        for name in ("ge", "gt", "le", "lt", "multiple_of")
        if getattr(rule, name, None) is not None
    )


@contextmanager
def folded(title: str) -> Iterator[None]:
    """Fold the components that are built inside away under a button with this title.

    Not ``gr.Accordion``: the browser makes the content of a closed one when it is opened, and one frame later sets
    every value to what it was when the page was loaded, over what has been filled in by then.
    """
    gr.HTML(parts.fold(title), elem_classes="ls-fold")
    with gr.Column(elem_classes="ls-folded"):
        yield


def token_box(info: str, elem_id: str, *, login: bool) -> gr.Textbox:
    """Return the field for a token of the Hub; ``login`` tells whether visitors log in here."""
    return gr.Textbox(
        label=words.TOKEN,
        info=info,
        placeholder=words.TOKEN_OF_LOGIN if login else words.TOKEN_OF_MACHINE,
        type="password",
        max_lines=1,
        elem_id=elem_id,
    )


def build(fields: Collection[Field], values: Mapping[str, Any]) -> dict[str, gr.components.Component]:
    """Make one component per field inside the current layout; returns them by dotted name.

    Ranges are shown, but not enforced by the component: the config class checks all settings at once and names each
    that is wrong.
    """
    return {field.path: _component(field, values.get(field.path)) for field in fields}


def _component(field: Field, value: Any) -> gr.components.Component:
    hint = f" ({field.range}.)" if field.range else ""
    info = field.info + hint
    if _typed(field):
        return gr.Textbox(value=value, label=field.label, info=info, placeholder=words.AUTOMATIC, max_lines=1)
    match field.kind:
        case "flag":
            return gr.Checkbox(value=bool(value), label=field.label, info=info)
        case "choice":
            return gr.Dropdown(list(field.choices), value=value, label=field.label, info=info)
        case "integer":
            return gr.Number(value=value, label=field.label, info=info, precision=0)
        case _:
            return gr.Number(value=value, label=field.label, info=info)


def values_of(config: BaseModel, fields: Collection[Field]) -> dict[str, Any]:
    """Return what a form shows for ``config``: scalars by dotted name, empty text for automatic settings."""
    data = config.model_dump(mode="json")
    shown = {}
    for field in fields:
        value: Any = data
        for part in field.path.split("."):
            value = value[part]
        if value is None or isinstance(value, dict):
            value = ""
        shown[field.path] = str(value) if _typed(field) else value
    return shown


def collect(fields: Collection[Field], given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted settings that the form changes.

    Args:
        fields: what the form shows.
        given: the form's values by dotted name.
        defaults: the values that the form started from, as ``values_of`` gives them.

    Returns:
        Only the settings that differ, so that an untouched form means the preset itself; empty text as None.
        Text that is not a number stays text: the config class reports it.
    """
    changed = {}
    for field in fields:
        value = given.get(field.path)
        if isinstance(value, str):
            value = value.strip()
        if value != defaults.get(field.path):
            changed[field.path] = None if value == "" else value
    return changed


def given_values(form: Mapping[str, Any], given: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a form's values by dotted name from a handler's values by component."""
    return {path: given[component] for path, component in form.items()}


def labels(fields: Collection[Field]) -> dict[str, str]:
    """Return the label of every field by dotted name, for messages."""
    return {field.path: field.label for field in fields}


def _typed(field: Field) -> bool:
    """Tell whether the form shows the field as text; Gradio's number field shows 0 for None."""
    return field.kind == "text" or (field.optional and field.kind in ("integer", "number"))
