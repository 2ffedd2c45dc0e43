import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.core.config import CheckConfig
from studio.core.errors import InputError
from studio.core.train_config import StepsRule, TrainConfig


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


def test_a_training_takes_subject_and_class_noun_from_the_dataset_and_refuses_others() -> None:
    filled = TrainConfig(steps=7).for_subject("Ada", "woman")
    assert (filled.subject, filled.class_noun, filled.steps) == ("Ada", "woman", 7)
    assert TrainConfig(subject="Ada", class_noun="woman").for_subject("Ada", "woman").subject == "Ada"
    unsaid = CheckConfig()
    named = TrainConfig(subject="Ada", class_noun="woman").for_subject(unsaid.subject, "person", is_guessed=True)
    assert (named.subject, named.class_noun) == ("Ada", "woman")
    assert TrainConfig().for_subject("Ada", "thing", is_guessed=True).class_noun == "thing"
    with pytest.raises(
        InputError, match="class_noun: is 'dog' here and 'woman' in the checked photos; leave"
    ) as caught:
        TrainConfig(class_noun="dog").for_subject("Ada", "woman")
    assert [problem.code for problem in caught.value.problems] == ["other_subject"]
