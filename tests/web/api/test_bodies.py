"""The bodies of requests are the config classes of the verbs: nothing of a setting is written twice."""

import pytest

from studio.core.config import CONFIGS
from studio.core.strict import StrictModel
from studio.web.api import bodies

BODIES: dict[str, type[StrictModel]] = {
    "check": bodies.CheckBody,
    "train": bodies.TrainBody,
    "generate": bodies.GenerateBody,
    "export": bodies.ExportBody,
    "publish": bodies.PublishBody,
    "finish": bodies.FinishBody,
}


@pytest.mark.parametrize("verb", sorted(CONFIGS))
def test_a_body_has_every_setting_of_its_verb_as_it_is_there(verb: str) -> None:
    config, body = CONFIGS[verb].model_fields, BODIES[verb].model_fields
    for name, field in config.items():
        assert body[name].description == field.description and body[name].annotation == field.annotation, name
    own = {name: field for name, field in body.items() if name not in config}
    assert own and all(field.description for field in own.values())


def test_there_is_a_body_and_an_example_for_every_verb() -> None:
    assert set(BODIES) == set(CONFIGS) == set(bodies.EXAMPLES)
