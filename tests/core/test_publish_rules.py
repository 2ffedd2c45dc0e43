import pytest

from studio.core.config import PublishConfig
from studio.core.publish_rules import publishing_problems
from studio.core.train_config import TrainConfig

TRAIN = TrainConfig(base="pocket")


def codes(train=TRAIN, token=None, **publish):
    return [problem.code for problem in publishing_problems(train, PublishConfig(repo="ada/x", **publish), token)]


def test_a_lora_on_a_base_of_the_catalog_can_be_published():
    assert codes() == []


@pytest.mark.parametrize(
    ("publish", "code"),
    [
        ({"choose": ("a.png",)}, "no_pictures"),
        ({"choose": ("a.png",), "pictures": "best"}, "path"),
        ({"title": "my hf_secret"}, "secret"),
        ({"about": "it is hf_secret"}, "secret"),
    ],
)
def test_what_cannot_be_published_is_known_before_the_training(publish, code):
    assert code in codes(token="hf_secret", **publish)


def test_a_method_without_an_adapter_is_published_merged_only():
    full = TrainConfig.parse({"base": "pocket", "method": {"name": "full"}})
    assert codes(full) == ["no_format"]
    assert codes(full, form="merged") == []


def test_a_base_whose_licence_is_not_known_needs_one_to_be_named():
    foreign = TrainConfig(base="someone/a-model")
    assert codes(foreign) != []
    assert codes(foreign, licence="apache-2.0") == []
