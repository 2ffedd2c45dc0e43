import numpy as np
import pytest

from studio.likeness.base import Scale, centroid, likeness, photo_likeness

SCALE = Scale(other=0.2, same=0.7)


def unit(*rows: list[float]) -> np.ndarray:
    array = np.array(rows, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_centroid_leaves_out_pictures_without_a_subject() -> None:
    rows = unit([1, 0], [0, 1])
    with_gap = np.vstack([rows, np.full((1, 2), np.nan, np.float32)])
    assert centroid(with_gap) == pytest.approx([2**-0.5, 2**-0.5])


def test_centroid_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="shows a subject"):
        centroid(np.full((2, 3), np.nan, np.float32))


def test_ends_of_the_scale_are_zero_and_one_and_nothing_is_clipped() -> None:
    reference = np.array([1.0, 0.0], np.float32)
    cosines = np.array([0.2, 0.7, 0.95, -0.3], np.float32)
    rows = np.stack([cosines, np.sqrt(1 - cosines**2)], axis=1)
    assert likeness(rows, reference, SCALE) == pytest.approx([0, 1, 1.5, -1], abs=1e-5)


def test_picture_without_subject_scores_zero() -> None:
    assert likeness(np.full((1, 2), np.nan, np.float32), np.array([1, 0], np.float32), SCALE).tolist() == [0.0]


def test_photo_is_compared_with_the_others_and_not_with_itself() -> None:
    rows = unit([1, 0], [1, 0], [0, 1])
    scores = photo_likeness(rows, Scale(other=0.0, same=1.0))
    assert scores == pytest.approx([2**-0.5, 2**-0.5, 0.0], abs=1e-6)


def test_single_photo_has_nothing_to_be_compared_with() -> None:
    assert np.isnan(photo_likeness(unit([1, 0]), SCALE)).all()
