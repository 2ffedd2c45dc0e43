"""The nouns: they survive the way through JSON, and nothing can change them."""

import json
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import numpy as np
import pytest

from studio.core.domain import (
    TERMINAL_STATES,
    Dataset,
    Event,
    JobFacts,
    JobState,
    Photo,
    Verdict,
    ignore_event,
    never_stop,
    plain,
)
from studio.core.records import from_dict, to_dict

PHOTO = Photo(
    file="photos/000.png",
    name="beach.jpg",
    sha256="ab" * 32,
    size_hw=(512, 384),
    caption="a photo of {instance_token} {class_noun} at the beach",
    bucket="3:4",
    crop_yxhw=(10, 20, 512, 384),
    problems=("blurred",),
)
GOOD = Verdict(name="beach.jpg", status="usable", size_hw=(600, 400), likeness=0.9, preview="previews/000.webp")
BAD = Verdict(
    name="broken.jpg",
    status="rejected",
    problems=({"code": "truncated", "message": "is cut off", "cure": "copy it again"},),
)
DATASET = Dataset(
    subject="Ada",
    class_noun="woman",
    photos=(PHOTO,),
    verdicts=(GOOD, BAD),
    set_problems=({"code": "too_few", "message": "1 photo", "cure": "add four"},),
    likeness_engine="pocket",
)


def test_a_dataset_survives_the_way_through_json() -> None:
    assert from_dict(Dataset, json.loads(json.dumps(to_dict(DATASET)))) == DATASET


@pytest.mark.parametrize("foreign", [{}, {"version": 1}, {**to_dict(DATASET), "photos": [{"file": "x"}]}])
def test_foreign_data_is_no_dataset(foreign: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        from_dict(Dataset, foreign)


def test_an_unknown_key_is_not_silently_dropped() -> None:
    with pytest.raises(ValueError, match="extra"):
        from_dict(Dataset, {**to_dict(DATASET), "extra": 1})


def test_records_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        PHOTO.caption = "another"  # type: ignore[misc]


def test_an_event_becomes_plain_json() -> None:
    event = Event("progress", {"step": 1, "total": 4, "eta_s": None, "message": "training"})
    assert json.loads(json.dumps(asdict(event)))["data"]["total"] == 4


def test_terminal_states_are_states() -> None:
    assert set(JobState.__args__) >= TERMINAL_STATES  # type: ignore[attr-defined]


def test_the_defaults_listen_to_nothing_and_never_stop() -> None:
    ignore_event(Event("message", {"text": "hello"}))
    assert never_stop() is False


def test_plain_makes_strict_json_of_anything_a_verb_may_tell() -> None:
    told = {"loss": float("nan"), "path": Path("a/b"), "size_hw": (1, 2), 3: {"verdict": GOOD}, "steps": np.int64(4)}
    data = plain(told)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["loss"] is None and data["path"] == "a/b" and data["size_hw"] == [1, 2] and data["steps"] == 4
    assert data["3"]["verdict"]["name"] == "beach.jpg"


def test_facts_of_a_job_come_back_from_json_and_those_of_a_later_version_are_left_out() -> None:
    facts = JobFacts(subject="Ada", steps=("cutout", "fit"))
    assert JobFacts.from_json({**json.loads(json.dumps(plain(facts))), "mood": "good"}) == facts
