"""Settings in words: complete, and as they can be written."""

from typing import Any

import pytest

from studio.core.config import CONFIGS
from studio.core.described import Setting, settings_of, variables
from studio.core.finish_config import FinishConfig
from studio.core.presets import finish_config, load_chain, override, parse_assignments
from studio.core.settings import Settings
from studio.core.train_config import TrainConfig


def by_name(verb: str) -> dict[str, Setting]:
    return {row.name: row for row in settings_of(verb)}


def test_limits_choices_and_defaults_are_told_in_words() -> None:
    found = by_name("train")
    assert (found["method.rank"].values, found["method.rank"].default) == ("integer, 1 to 512", "16")
    assert found["method.name"].choices == ("lora", "lokr", "full")
    assert found["resolution_px"].values == "integer, 32 to 2,048, a multiple of 8"
    assert found["max_grad_norm"].values == "number, above 0 to 1,000"
    assert found["flip"].values == "true or false" and found["flip"].default == "false"
    assert found["steps.per_photo"].default == "100", "the default of the rule, not of its class"
    assert by_name("generate")["prompts"].values == "list of texts, as [a, b]"


@pytest.mark.parametrize("verb", CONFIGS)
def test_every_setting_has_a_name_of_its_own_and_a_sentence(verb: str) -> None:
    found = settings_of(verb)
    assert len({row.name for row in found}) == len(found)
    assert all(row.values and row.about.endswith(".") for row in found)


def test_what_is_an_option_of_its_own_is_not_listed() -> None:
    assert not {"subject", "class_noun", "base"} & set(by_name("train"))
    assert "repo" not in by_name("publish")


@pytest.mark.parametrize("row", settings_of("train"), ids=lambda row: row.name)
def test_every_listed_setting_of_a_run_can_be_set_to_its_default(row: Setting) -> None:
    if row.name != "steps":  # its default is a rule, whose parts follow
        assert override(TrainConfig(), parse_assignments([f"{row.name}={row.default}"])) == TrainConfig()


def test_every_listed_setting_of_a_chain_can_be_set_to_its_default() -> None:
    chain = load_chain("avatar")
    kinds = {step.do for step in chain.steps}
    for row in settings_of("finish"):
        kind, dot, _ = row.name.partition(".")
        if not dot or kind in kinds:
            finish_config(chain, parse_assignments([f"{row.name}={row.default}"]))


@pytest.mark.parametrize("field", sorted(set(FinishConfig.model_fields) - {"chain", "steps"}))
def test_settings_of_a_finish_run_as_a_whole_are_listed(field: str) -> None:
    assert field in by_name("finish")


def test_every_variable_is_listed_and_none_names_this_machine() -> None:
    found: dict[str, Any] = {row.name: row for row in variables()}
    assert list(found) == [f"STUDIO_{name.upper()}" for name in Settings.model_fields]
    assert found["STUDIO_HOME"].default == "~/.likeness-studio"
    assert found["STUDIO_HUB_TOKEN"].default == "None"
