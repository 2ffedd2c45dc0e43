"""The benchmark that asks whether a likeness sees the face: its verdict follows its numbers."""

from typing import Any

import numpy as np
import pytest

from benchmarks.twins import KINDS, Targets, pictures, share_beaten, spoilt, summarise, table
from studio.pocket.renderer.people import sample_identity


def likenesses(**changes: float) -> dict[str, Any]:
    usual = {"self": 1.0, "near twin": 0.7, "twin": 0.2, "stranger": 0.0, "mosaic": np.nan, "blur": np.nan}
    return {kind: np.full((2, 3), value, np.float32) for kind, value in (usual | changes).items()}


def test_measure_that_sees_faces_meets_all_targets() -> None:
    result = summarise(likenesses(), Targets())
    assert all(result["met"].values())
    assert result["kinds"]["mosaic"] == {"not_measured": 1.0}
    assert "all targets met" in table(result)


@pytest.mark.parametrize(
    ("changed", "missed"),
    [
        ({"self": 0.8}, {"self"}),
        ({"twin": 1.01}, {"twin", "beats_twin"}),
        ({"stranger": -0.3}, {"stranger"}),
        ({"mosaic": 1.01}, {"spoilt"}),
        ({"blur": 0.0}, {"spoilt"}),
    ],
)
def test_each_fault_of_a_measure_misses_its_own_target(changed: dict[str, float], missed: set[str]) -> None:
    result = summarise(likenesses(**changed), Targets())
    assert {name for name, met in result["met"].items() if not met} == missed


def test_pictures_that_are_not_measured_are_no_pairs() -> None:
    own = np.array([[0.9, np.nan]], np.float32)
    assert share_beaten(own, np.array([[0.5, 1.0]], np.float32)) == 0.5


def test_spoilt_pictures_differ_from_whole_ones_in_the_face_alone() -> None:
    person = sample_identity(1_000_001)
    for how in KINDS[-2:]:
        whole, covered = np.asarray(pictures(person, 5)[0]), np.asarray(spoilt(person, 5, how)[0])
        changed = (whole != covered).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        assert rows[0] > 30 and rows[-1] < 240
        assert columns[0] > 40 and columns[-1] < 216
