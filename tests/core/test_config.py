"""The configs: strict, frozen, and every field explains itself."""

import json
from collections.abc import Iterator

import pytest

from studio.core.config import CONFIGS, CheckConfig, GenerateConfig
from studio.core.errors import InputError
from studio.core.strict import StrictModel
from studio.core.train_config import GROUPS, Mark, TrainConfig, mark_of


def _models(model: type[StrictModel]) -> Iterator[type[StrictModel]]:
    yield model
    for field in model.model_fields.values():
        kinds = getattr(field.annotation, "__args__", (field.annotation,))
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, StrictModel):
                yield from _models(kind)


ALL_FIELDS = [
    (model, name) for root in CONFIGS.values() for model in dict.fromkeys(_models(root)) for name in model.model_fields
]


@pytest.mark.parametrize(("model", "name"), ALL_FIELDS, ids=lambda item: getattr(item, "__name__", item))
def test_every_field_has_a_sentence_that_is_its_help(model: type[StrictModel], name: str) -> None:
    sentence = model.model_fields[name].description
    assert sentence and sentence.endswith(".") and len(sentence) <= 160


@pytest.mark.parametrize("kind", CONFIGS)
def test_defaults_survive_the_way_through_json(kind: str) -> None:
    needed = {"generate": {"prompts": ["a {subject}"]}, "publish": {"repo": "ada/portrait"}}
    config = CONFIGS[kind].parse(needed.get(kind, {}))
    assert CONFIGS[kind].parse(json.loads(config.model_dump_json())) == config


@pytest.mark.parametrize("data", [{}, {"pack": "p", "prompts": ["a"]}])
def test_pictures_need_a_pack_or_prompts_and_not_both(data: dict[str, object]) -> None:
    with pytest.raises(InputError, match="exactly one"):
        GenerateConfig.parse(data)


@pytest.mark.parametrize("name", ["O'Neil", "J. R.", "Ben & Jo", "Zoë-Mae (2)", "Rex 🐶", "Günther, Jr.", "李雷", "5"])
def test_names_are_taken_as_people_write_them(name: str) -> None:
    assert CheckConfig.parse({"subject": name}).subject == name
    assert TrainConfig.parse({"subject": name}).subject == name


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("subject", "a/b {c}", "may not hold / { }"),
        ("subject", "Ada\u202egnp.exe", "may not hold invisible characters"),
        ("subject", "...", "must hold a letter or a digit"),
        ("class_noun", "queen's guard", "may not hold '; use letters, digits, spaces and hyphens"),
        ("class_noun", "-rf", "must begin with a letter or a digit"),
    ],
)
def test_a_refused_word_is_refused_in_words_and_not_with_a_regular_expression(
    setting: str, value: str, words: str
) -> None:
    with pytest.raises(InputError) as caught:
        CheckConfig.parse({setting: value})
    (problem,) = caught.value.problems
    assert words in problem.message and "pattern" not in problem.message


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "x" * 41, "a\x00b", "-rf"])
def test_names_that_could_be_paths_or_commands_are_refused(name: str) -> None:
    with pytest.raises(InputError):
        CheckConfig.parse({"subject": name})


def test_white_space_in_names_is_collapsed_and_accents_stay() -> None:
    assert CheckConfig.parse({"subject": "  Zoë   Müller "}).subject == "Zoë Müller"


def test_a_sequence_of_prompts_becomes_frozen() -> None:
    assert GenerateConfig.parse({"prompts": ["a", "b"]}).prompts == ("a", "b")


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_every_setting_of_a_run_says_once_where_it_is_shown_and_what_depends_on_it(name: str) -> None:
    (mark,) = [item for item in TrainConfig.model_fields[name].metadata if isinstance(item, Mark)]
    assert mark_of(name) == mark and (not mark.group or mark.group in GROUPS)
    assert mark.published or not mark.card, "a model card lists nothing that is not published"


def test_nested_settings_carry_the_mark_of_what_they_are_nested_in() -> None:
    assert mark_of("method.rank") == mark_of("method")


def test_every_group_of_settings_has_some() -> None:
    assert {mark_of(name).group for name in TrainConfig.model_fields} == {"", *GROUPS}


def test_what_names_the_subject_is_not_published() -> None:
    assert not mark_of("subject").published
