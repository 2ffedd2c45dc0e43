"""What an endpoint is: a name, typed parameters in order, and a handler. Parameters can come from config classes.

Nothing that a config class says about a setting (sentence, type, choices, default) is written again here.
"""

import inspect
import re
import types
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from studio.web.session import StudioSession

REQUIRED = inspect.Parameter.empty

Handler = Callable[[StudioSession, dict[str, Any], Mapping[str, Any]], Any]
"""Takes the session, the settings for the verb's config, and every argument by name."""

_EMPTY = {str: "", int: 0, float: 0, bool: False}
"""What stands for None in a setting that may be None: programs that fill in a form cannot send None."""


@dataclass(frozen=True)
class Parameter:
    """One parameter of an endpoint."""

    name: str
    type: Any
    """Annotation, from which Gradio makes the schema of the endpoint."""
    sentence: str
    default: Any = REQUIRED
    setting: str = ""
    """The setting that it fills; empty if the handler reads it by name."""
    empty_is_none: bool = False
    """Whether an empty argument leaves the setting as it is."""


@dataclass(frozen=True)
class Endpoint:
    """One endpoint."""

    name: str
    summary: str
    handler: Handler
    parameters: tuple[Parameter, ...] = ()
    returns: str = "the job; follow it with `/job`"
    """What comes back, as Markdown."""
    answer_type: Any = dict

    @property
    def signature(self) -> inspect.Signature:
        """The signature that callers see."""
        return inspect.Signature(
            [
                inspect.Parameter(
                    row.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=row.default, annotation=row.type
                )
                for row in self.parameters
            ],
            return_annotation=self.answer_type,
        )

    @property
    def docstring(self) -> str:
        """The description that Gradio shows to programs."""
        lines = [self.summary]
        if self.parameters:
            lines += ["", "Args:", *(f"    {row.name}: {row.sentence}" for row in self.parameters)]
        return "\n".join([*lines, "", "Returns:", f"    {self.returns_sentence}"])

    @property
    def returns_sentence(self) -> str:
        """What comes back, as plain text."""
        returns = self.returns.replace("`", "")
        return f"{returns[:1].upper()}{returns[1:]}."

    def call(self, session: StudioSession, *args: Any, **kwargs: Any) -> Any:
        """Call the handler as a client would."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        form = dict(given.get("settings") or {})
        for row in self.parameters:
            if row.setting and (given[row.name] or not row.empty_is_none):
                form[row.setting] = given[row.name]
        return self.handler(session, form, given)


def setting(
    model: type[BaseModel], field: str, *, name: str = "", default: Any = None, without: Collection[str] = ()
) -> Parameter:
    """Return the parameter that fills one setting of a config class.

    Args:
        model: the config class.
        field: name of the setting there.
        name: name of the parameter; empty takes the setting's.
        default: default of the parameter; None takes the setting's, or what stands for None.
        without: choices that make no sense for this endpoint.
    """
    info = model.model_fields[field]
    kinds = get_args(info.annotation) if get_origin(info.annotation) in (Union, types.UnionType) else (info.annotation,)
    scalar = next(kind for kind in kinds if kind is not type(None))
    choices = [str(choice) for choice in get_args(scalar) if choice not in without] if _is(scalar, Literal) else []
    sentence = info.description or ""
    if choices and not all(choice in sentence for choice in choices):
        sentence += f" One of {', '.join(choices[:-1])} or {choices[-1]}."
    if _is(scalar, tuple):
        return Parameter(name or field, list[str] | None, sentence, None, field, empty_is_none=True)
    kind = scalar if scalar in (bool, int, float) else str
    optional = len(kinds) > 1
    if optional:
        sentence = re.sub(r"\bNone\b", "0" if kind in (int, float) else "Empty", sentence)
        sentence = re.sub(r"(?<=[a-z,;] )Empty", "empty", sentence)
    if default is None:
        default = _EMPTY[kind] if optional else REQUIRED if info.is_required() else info.default
    return Parameter(name or field, kind, sentence, default, field, empty_is_none=optional)


def _is(kind: Any, origin: Any) -> bool:
    return get_origin(kind) is origin
