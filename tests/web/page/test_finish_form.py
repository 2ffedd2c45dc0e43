from typing import Any

import pytest

from studio.core.errors import InputError
from studio.core.finish_config import SIZES, BackgroundStep
from studio.core.presets import Chain
from studio.web.page.finish_form import asked_of, hex_colour, size_choices


def chain(*steps: dict[str, Any]) -> Chain:
    return Chain.parse({"name": "own", "title": "Own", "description": "For a test.", "steps": list(steps)})


WHITE = chain({"do": "cutout"}, {"do": "background"}, {"do": "fit", "aspect": "4:5", "format": "jpeg"})


def kinds(config: Any) -> list[str]:
    return [step.do for step in config.steps]


def test_nothing_chosen_is_the_chain_itself() -> None:
    assert asked_of(WHITE, "", "", "#112233", {}).steps == WHITE.steps
    assert asked_of(WHITE, None, None, None, {}).steps == WHITE.steps


def test_a_named_size_takes_the_place_of_the_chains_own() -> None:
    fit = asked_of(WHITE, "avatar", "", None, {}).steps[-1]
    assert (fit.do, fit.size, fit.aspect) == ("fit", "avatar", None)


def test_a_step_that_a_choice_needs_is_put_where_it_belongs() -> None:
    larger = chain({"do": "upscale"})
    assert kinds(asked_of(larger, "banner", "white", None, {})) == ["cutout", "background", "upscale", "fit"]
    cut = chain({"do": "cutout"}, {"do": "fit"})
    assert kinds(asked_of(cut, "", "blur", None, {})) == ["cutout", "background", "fit"]


def test_a_picked_colour_is_the_backgrounds_and_what_is_typed_wins() -> None:
    def background(**typed: Any) -> BackgroundStep:
        step = asked_of(
            WHITE, "", "colour", "rgba(155.3, 20.7, 300, 1)", {f"background.{k}": v for k, v in typed.items()}
        )
        assert isinstance(step.steps[1], BackgroundStep)
        return step.steps[1]

    assert (background().fill, background().colour) == ("colour", "#9b15ff")
    assert background(colour="#010203").colour == "#010203"
    assert hex_colour("#a1b2c3") == "#a1b2c3"
    with pytest.raises(InputError, match=r"background\.colour"):
        asked_of(WHITE, "", "colour", "red", {})


def test_a_transparent_background_is_no_jpeg() -> None:
    assert asked_of(WHITE, "", "transparent", None, {"fit.max_bytes": None}).steps[-1].format == "png"
    assert asked_of(WHITE, "", "white", None, {}).steps[-1].format == "jpeg"


def test_every_size_has_a_name_and_says_its_pixels() -> None:
    choices = {value: text for text, value in size_choices()}
    assert set(choices) == {"", *SIZES} and choices["avatar"] == "Avatar · 512 x 512"
