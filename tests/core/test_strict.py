import pytest
from pydantic import ValidationError

from studio.core.errors import InputError
from studio.core.train_config import TrainConfig


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
    assert len(failure.value.problems) == len(said) and "StepsRule" not in str(failure.value)
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
