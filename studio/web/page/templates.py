"""Renders the page's HTML from ``templates/``: whatever is put into a template is escaped."""

import functools
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_FOLDER = Path(__file__).with_name("templates")


class _JoinedLines(FileSystemLoader):
    """Joins a template's lines without blanks, so that its layout on disk adds none to the page.

    A blank between two inline elements is visible. The price: a sentence must not be broken over two lines.
    """

    def get_source(self, environment: Environment, template: str) -> Any:
        source, path, is_fresh = super().get_source(environment, template)
        return "".join(line.strip() for line in source.splitlines()), path, is_fresh


@functools.cache
def _environment() -> Environment:
    return Environment(loader=_JoinedLines(_FOLDER), autoescape=True, undefined=StrictUndefined)


def render(name: str, **values: Any) -> Markup:
    """Return the HTML of one macro.

    Args:
        name: template and macro, for example ``page.notice``.
        values: the macro's arguments; text is escaped, Markup is taken as it is.
    """
    template, _, macro = name.partition(".")
    module = _environment().get_template(f"{template}.html").module
    return Markup(getattr(module, macro)(**values))
