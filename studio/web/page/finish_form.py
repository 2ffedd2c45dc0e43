"""The form of the Finish tab: which pictures, which chain, and what is to differ from it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from studio.core import language
from studio.core.errors import NotFoundError
from studio.core.finish_config import SIZES, STEPS, FinishConfig
from studio.core.presets import Chain, finish_config, parse_assignments
from studio.web.page import parts_pictures, widgets, words

_AS_IT_IS = ""
"""Stands for what the chain itself says."""
_OTHER_SIZES = ("fit.width_px", "fit.height_px", "fit.aspect")
_COLOUR = "#dfe7ea"


@dataclass(frozen=True)
class FinishForm:
    """The fields, in the order in which they stand."""

    what: gr.Radio
    made: gr.Dropdown
    hearts: gr.Checkbox
    own: gr.File
    chain: gr.Dropdown
    hint: gr.HTML
    size: gr.Dropdown
    background: gr.Dropdown
    colour: gr.ColorPicker
    changes: gr.Textbox

    @property
    def inputs(self) -> set[Any]:
        """The fields that decide what a press starts."""
        return {value for value in vars(self).values() if value is not self.hint}

    def config(self, given: Mapping[Any, Any], chains: Mapping[str, Chain]) -> FinishConfig:
        """Return the settings that the form asks for.

        Raises:
            NotFoundError: no chain is chosen. InputError: typed settings that do not exist or fit, all at once.
        """
        chain = chains.get(given[self.chain] or "")
        if chain is None:
            raise NotFoundError(words.NO_CHAIN)
        lines = (given[self.changes] or "").splitlines()
        typed = parse_assignments(line for line in lines if line.strip())
        return asked_of(chain, given[self.size], given[self.background], given[self.colour], typed)


def finish_form(chains: Mapping[str, Chain]) -> FinishForm:
    """Build the form inside the current layout."""
    first = next(iter(chains), None)
    sources = [words.FINISH_MADE, words.FINISH_OWN]
    what = gr.Radio(sources, value=sources[0], label=words.FINISH_WHAT)
    made = gr.Dropdown([], label=words.FINISH_PICTURES, info=words.FINISH_PICTURES_INFO, interactive=True)
    hearts = gr.Checkbox(label=words.FINISH_HEARTS, visible=False)
    own = gr.File(
        label=words.FINISH_DROP,
        file_count="multiple",
        height=190,
        interactive=True,
        visible=False,
        elem_id="ls-finish-drop",
    )
    titles = [(language.say(row.title), row.name) for row in chains.values()]
    chain = gr.Dropdown(titles, value=first, label=words.FINISH_CHAIN, interactive=True)
    hint = gr.HTML(parts_pictures.chain_hint(chains.get(first or "")))
    size = gr.Dropdown(size_choices(), value=_AS_IT_IS, label=words.FINISH_SIZE, interactive=True)
    fills = [(words.FINISH_AS_IT_IS, _AS_IT_IS), *((text, fill) for fill, text in words.FINISH_FILLS.items())]
    background = gr.Dropdown(fills, value=_AS_IT_IS, label=words.FINISH_BACKGROUND, interactive=True)
    colour = gr.ColorPicker(value=_COLOUR, label=words.FINISH_COLOUR, visible=False, interactive=True)
    with widgets.folded(words.ADVANCED):
        changes = gr.Textbox(
            label=words.FINISH_CHANGES,
            info=words.FINISH_CHANGES_INFO,
            placeholder=words.FINISH_CHANGES_EXAMPLE,
            lines=3,
        )
    return FinishForm(what, made, hearts, own, chain, hint, size, background, colour, changes)


def size_choices() -> list[tuple[str, str]]:
    """Return the named sizes as choices, with their pixels."""
    named = [(f"{words.FINISH_SIZES[name]} · {width} x {height}", name) for name, (width, height) in SIZES.items()]
    return [(words.FINISH_AS_IT_IS, _AS_IT_IS), *named]


def asked_of(
    chain: Chain, size: str | None, background: str | None, colour: str | None, typed: Mapping[str, Any]
) -> FinishConfig:
    """Return a chain's settings with what was chosen beside it; a step that the choice needs is put in.

    Args:
        chain: the chain.
        size: a named size; None or empty leaves the chain's.
        background: a fill of the background step; None or empty leaves the chain's.
        colour: of fill ``colour``, as the browser's picker gives it.
        typed: settings by name; they win.

    Raises:
        InputError: unknown settings, or values out of range, all at once.
    """
    changes: dict[str, Any] = {}
    needed: set[str] = set()
    if size:
        changes |= dict.fromkeys(_OTHER_SIZES) | {"fit.size": size}
        needed |= {"fit"}
    if background:
        changes |= {"background.fill": background, "background.picture": None}
        needed |= {"cutout", "background"}
    if background == "colour":
        changes["background.colour"] = hex_colour(colour or _COLOUR)
    if background == "transparent" and any(step.do == "fit" and step.format == "jpeg" for step in chain.steps):
        changes |= {"fit.format": "png", "fit.max_bytes": None}  # JPEG has no transparent parts, PNG no quality
    return finish_config(_with_steps(chain, needed), {**changes, **typed})


def _with_steps(chain: Chain, needed: set[str]) -> Chain:
    """Return the chain with the kinds of steps that it lacks: cut out and background first, the size last."""
    missing = needed - {step.do for step in chain.steps}
    front = [kind for kind in ("cutout", "background") if kind in missing]
    steps: list[Any] = list(chain.steps)
    if front == ["background"]:
        after = next(at for at, step in enumerate(steps, 1) if step.do == "cutout")
        steps.insert(after, STEPS["background"]())
    else:
        steps[:0] = [STEPS[kind]() for kind in front]
    steps += [STEPS[kind]() for kind in missing - {"cutout", "background"}]
    return chain.model_copy(update={"steps": tuple(steps)})


def hex_colour(text: str) -> str:
    """Return a colour as #rrggbb: the browser's picker gives rgba(…) once it has been moved, with fractions."""
    if text.startswith("rgb"):
        red, green, blue = (min(255, round(float(number))) for number in re.findall(r"\d+(?:\.\d+)?", text)[:3])
        return f"#{red:02x}{green:02x}{blue:02x}"
    return text
