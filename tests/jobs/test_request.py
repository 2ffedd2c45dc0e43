import hashlib
import json

import pytest

from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import JobFacts
from studio.core.errors import InputError
from studio.core.finish_config import FinishConfig
from studio.core.train_config import TrainConfig
from studio.jobs.request import facts_of, fingerprint, fingerprints, require_names

CHECKED = JobFacts(subject="Ada", class_noun="woman")
TRAINED = JobFacts(subject="Ada", class_noun="woman", base="pocket", preset="pocket_lora_cpu")


def test_the_subject_goes_from_job_to_job_and_the_rest_comes_from_the_settings():
    assert facts_of(CheckConfig(subject="Ada", class_noun="woman")) == CHECKED
    assert facts_of(TrainConfig(), CHECKED, preset="pocket_lora_cpu") == TRAINED
    made = facts_of(GenerateConfig(prompts=("one", "two")), TRAINED)
    assert made == JobFacts(subject="Ada", class_noun="woman", base="pocket", prompt="one")
    finished = facts_of(FinishConfig.parse({"steps": [{"do": "fit"}]}), made)
    assert finished == JobFacts(subject="Ada", class_noun="woman", base="pocket", steps=("fit",))
    assert facts_of(ExportConfig(format="kohya"), TRAINED).format == "kohya"
    assert facts_of(PublishConfig(repo="ada/x"), TRAINED).repo == "ada/x"
    assert facts_of(GenerateConfig(adapter="ada/x", pack="styles")) == JobFacts(adapter="ada/x", pack="styles")


def test_a_fingerprint_changes_with_everything_that_was_asked_for():
    asked = [
        fingerprint("check", CheckConfig(), None, []),
        fingerprint("check", CheckConfig(subject="Ada"), None, []),
        fingerprint("check", CheckConfig(), "check-1", []),
        fingerprint("check", CheckConfig(), None, [["a.jpg", "00"]]),
        fingerprint("train", CheckConfig(), None, []),
    ]
    assert len(set(asked)) == len(asked)
    assert asked[0] == fingerprint("check", CheckConfig(), None, ())


def test_every_unprintable_name_is_refused():
    require_names(owner="ada", key=None)
    with pytest.raises(InputError) as caught:
        require_names(owner="a\nb", key="")
    assert [problem.where for problem in caught.value.problems] == ["owner", "key"]


def test_a_request_is_the_same_before_and_after_a_setting_was_added():
    class Later(CheckConfig):
        added: int = 3
        """A setting of a later version."""

    assert fingerprint("check", Later(subject="Ada"), None, []) == fingerprint(
        "check", CheckConfig(subject="Ada"), None, []
    )
    assert fingerprint("check", Later(added=4), None, []) != fingerprint("check", CheckConfig(), None, [])
    asked = ["check", CheckConfig(subject="Ada").model_dump(mode="json"), None, []]
    stored = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()
    assert stored in fingerprints("check", CheckConfig(subject="Ada"), None, ()), "as earlier versions wrote it"
