"""The configs: strict, frozen, and every field explains itself."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from studio.core.config import CONFIGS, CheckConfig, GenerateConfig
from studio.core.errors import InputError
from studio.core.strict import StrictModel
from studio.core.train_config import GROUPS, Mark, StepsRule, TrainConfig, mark_of


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


def test_a_typo_is_named_with_what_exists_instead_of_becoming_a_default() -> None:
    with pytest.raises(InputError) as caught:
        TrainConfig.parse({"method": {"rnak": 8}, "sedd": 3})
    assert [problem.where for problem in caught.value.problems] == ["method.rnak", "sedd"]
    assert "rank" in caught.value.problems[0].cure
    assert all(problem.code == "unknown_setting" for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"count": 2}, {"steps.count", "steps.per_photo", "steps.minimum", "steps.maximum"}),
        ("many", {"steps"}),
    ],
)
def test_a_setting_of_two_kinds_is_named_as_people_write_it(steps: object, said: set[str]) -> None:
    with pytest.raises(InputError) as failure:
        TrainConfig.parse({"subject": "Ada", "class_noun": "woman", "steps": steps})
    assert {problem.where for problem in failure.value.problems} == said
    if isinstance(steps, dict):
        assert "use one of: maximum, minimum, per_photo" in str(failure.value)


def test_all_wrong_settings_are_reported_at_once_and_show_what_was_given() -> None:
    with pytest.raises(InputError) as caught:
        TrainConfig.parse({"learning_rate": -1, "batch_size": 0, "seed": "x"})
    assert {problem.where for problem in caught.value.problems} == {"learning_rate", "batch_size", "seed"}
    assert "(got -1)" in str(caught.value)


def test_configs_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        TrainConfig().seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("batch", "micro", "fits"), [(4, 2, True), (4, 4, True), (4, 3, False), (2, 4, False), (4, None, True)]
)
def test_micro_batches_must_divide_the_batch(batch: int, micro: int | None, fits: bool) -> None:
    data = {"batch_size": batch, "micro_batch_size": micro}
    if fits:
        assert TrainConfig.parse(data).micro_batch_size == micro
    else:
        with pytest.raises(InputError, match="must divide"):
            TrainConfig.parse(data)


@given(per_photo=st.integers(1, 2000), low=st.integers(1, 1000), span=st.integers(0, 1000), photos=st.integers(1, 1000))
def test_steps_grow_with_the_photos_between_their_bounds(per_photo: int, low: int, span: int, photos: int) -> None:
    rule = StepsRule(per_photo=per_photo, minimum=low, maximum=low + span)
    steps = rule.steps(photos)
    assert low <= steps <= low + span
    assert rule.steps(photos + 1) >= steps


def test_a_rule_with_its_bounds_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(InputError, match="swap them"):
        TrainConfig.parse({"steps": {"per_photo": 1, "minimum": 9, "maximum": 3}})


def test_a_plain_number_of_steps_ignores_the_photos() -> None:
    assert TrainConfig.parse({"steps": 250}).total_steps(8) == 250


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


def test_a_training_takes_subject_and_class_noun_from_the_dataset_and_refuses_others() -> None:
    filled = TrainConfig(steps=7).for_subject("Ada", "woman")
    assert (filled.subject, filled.class_noun, filled.steps) == ("Ada", "woman", 7)
    assert TrainConfig(subject="Ada", class_noun="woman").for_subject("Ada", "woman").subject == "Ada"
    unsaid = CheckConfig()
    named = TrainConfig(subject="Ada", class_noun="woman").for_subject(unsaid.subject, unsaid.class_noun)
    assert (named.subject, named.class_noun) == ("Ada", "woman")
    with pytest.raises(
        InputError, match="class_noun: is 'dog' here and 'woman' in the checked photos; leave"
    ) as caught:
        TrainConfig(class_noun="dog").for_subject("Ada", "woman")
    assert [problem.code for problem in caught.value.problems] == ["other_subject"]


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
