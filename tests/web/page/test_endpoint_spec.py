import inspect
from typing import Any, Literal

import pytest
from pydantic import Field

from studio.core.config import ExportConfig, GenerateConfig, PublishConfig
from studio.core.finish_config import BackgroundStep
from studio.core.strict import StrictModel, Text
from studio.web.page.endpoint_spec import REQUIRED, Endpoint, Parameter, setting


class Colours(StrictModel):
    """Settings of a test."""

    name: Text
    """Name of the picture."""
    size: int | None = Field(default=None, ge=1)
    """Its size; None keeps it."""
    title: Text | None = None
    """None takes the name."""
    tone: Literal["warm", "cold"] = "warm"
    """Tone of the light."""
    words: tuple[Text, ...] = ()
    """Words under it."""


def test_sentence_type_choices_and_default_come_from_the_config_class() -> None:
    assert setting(Colours, "name") == Parameter("name", str, "Name of the picture.", REQUIRED, "name")
    tone = setting(Colours, "tone", name="light")
    assert (tone.name, tone.setting, tone.default) == ("light", "tone", "warm")
    assert tone.sentence == "Tone of the light. One of warm or cold."
    assert setting(ExportConfig, "format").sentence == ExportConfig.model_fields["format"].description
    assert setting(PublishConfig, "public").default is False


def test_what_stands_for_none_is_said_and_empty_arguments_leave_the_setting_alone() -> None:
    size, title = setting(Colours, "size"), setting(Colours, "title")
    assert (size.default, size.sentence) == (0, "Its size; 0 keeps it.")
    assert (title.default, title.sentence) == ("", "Empty takes the name.")
    seen: list[Any] = []
    endpoint = Endpoint(
        "draw",
        "Draw.",
        lambda session, form, given: seen.append(form),
        (size, title, setting(Colours, "words"), Parameter("settings", dict | None, "More.", None)),
    )
    endpoint.call(None)  # type: ignore[arg-type]
    endpoint.call(None, 3, words=["a"], settings={"title": "kept", "size": 1})  # type: ignore[arg-type]
    assert seen == [{}, {"title": "kept", "size": 3, "words": ["a"]}]


def test_choices_that_make_no_sense_are_left_out() -> None:
    sentence = setting(BackgroundStep, "fill", without={"picture"}).sentence
    assert sentence.endswith("One of transparent, white, colour, gradient or blur.")


def test_callers_see_names_order_defaults_and_sentences() -> None:
    pack = setting(GenerateConfig, "pack")
    endpoint = Endpoint("make", "Make it.", lambda *_: None, (Parameter("run", str, "Id of a run."), pack))
    assert str(inspect.Signature(endpoint.signature.parameters.values())) == "(run: str, pack: str = '')"  # type: ignore[arg-type]
    assert "Make it." in endpoint.docstring and "    run: Id of a run." in endpoint.docstring
    with pytest.raises(TypeError):
        endpoint.call(None)  # type: ignore[arg-type]
