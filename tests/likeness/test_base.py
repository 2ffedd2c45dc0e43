from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from studio.likeness.base import (
    Embeddings,
    Scale,
    centroid,
    likeness,
    photo_likeness,
    photo_spread,
    scores,
    summarise,
    word,
)

SCALE = Scale(other=0.2, same=0.7, borders=(0.2, 0.4, 0.9))
NOBODY = np.full((1, 2), np.nan, np.float32)


class FakeEngine:
    """An engine that nobody asks to embed anything."""

    name, version, caveat = "fake", "3", "Mind the gap."

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        raise AssertionError("not to be called")

    def scale(self, class_noun: str) -> Scale:
        return SCALE


def unit(*rows: list[float]) -> np.ndarray:
    array = np.array(rows, dtype=np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def at_cosines(*cosines: float) -> np.ndarray:
    values = np.array(cosines, np.float32)
    return np.stack([values, np.sqrt(1 - values**2)], axis=1)


def test_centroid_leaves_out_pictures_without_a_subject() -> None:
    rows = unit([1, 0], [0, 1])
    assert centroid(np.vstack([rows, NOBODY])) == pytest.approx([2**-0.5, 2**-0.5])


def test_centroid_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="shows a subject"):
        centroid(np.full((2, 3), np.nan, np.float32))


def test_ends_of_the_scale_are_zero_and_one_and_nothing_is_clipped() -> None:
    reference = np.array([1.0, 0.0], np.float32)
    rows = at_cosines(0.2, 0.7, 0.95, -0.3)
    assert likeness(rows, reference, SCALE) == pytest.approx([0, 1, 1.5, -1], abs=1e-5)


def test_picture_without_subject_is_not_measured() -> None:
    reference = np.array([1.0, 0.0], np.float32)
    rows = np.vstack([NOBODY, at_cosines(0.7)])
    assert np.isnan(likeness(rows, reference, SCALE)).tolist() == [True, False]
    assert scores(rows, reference, SCALE) == [None, pytest.approx(1.0)]


def test_photo_is_compared_with_the_others_and_not_with_itself() -> None:
    rows = unit([1, 0], [1, 0], [0, 1])
    values = photo_likeness(rows, Scale(other=0.0, same=1.0))
    assert values == pytest.approx([2**-0.5, 2**-0.5, 0.0], abs=1e-6)


def test_single_photo_has_nothing_to_be_compared_with() -> None:
    assert np.isnan(photo_likeness(unit([1, 0]), SCALE)).all()


def test_pictures_of_a_subject_are_summarised_with_engine_spread_and_word() -> None:
    photos, pictures = unit([1, 0], [1, 0], [1, 0]), np.vstack([at_cosines(0.7, 0.5), NOBODY])
    found = scores(pictures, centroid(photos), SCALE)
    assert found == [pytest.approx(1.0), pytest.approx(0.6), None]
    summary = summarise(FakeEngine(), found, "woman", photo_spread(photos, pictures, SCALE))
    assert (summary["engine"], summary["version"], summary["measured"]) == ("fake", "3", 2)
    assert summary["mean"] == pytest.approx(0.8)
    assert summary["spread"] == pytest.approx(0.2 * 2**0.5, abs=1e-4)
    assert summary["photo_spread"] == pytest.approx(0.0, abs=1e-4)
    assert summary["word"] == "alike"


def test_pictures_without_any_subject_have_no_photo_spread() -> None:
    assert photo_spread(unit([1, 0], [1, 0], [1, 0]), NOBODY, SCALE) is None


def test_one_picture_alone_has_no_spread() -> None:
    assert summarise(FakeEngine(), [0.5], "woman")["spread"] is None


def test_photos_that_disagree_spread_the_mean() -> None:
    alike, unlike = unit([1, 0], [1, 0], [1, 0]), unit([1, 0], [1, 0], [0, 1])
    pictures = at_cosines(0.9)
    of_alike, of_unlike = photo_spread(alike, pictures, SCALE), photo_spread(unlike, pictures, SCALE)
    assert of_alike == pytest.approx(0, abs=1e-6)
    assert of_unlike is not None and of_unlike > 0.05
    assert photo_spread(alike[:2], pictures, SCALE) is None


def test_words_begin_at_their_borders() -> None:
    values = (-0.5, 0.19, 0.2, 0.4, 0.89, 0.9, 1.4)
    assert [word(value, SCALE) for value in values] == [
        "not alike",
        "not alike",
        "somewhat alike",
        "alike",
        "alike",
        "very alike",
        "very alike",
    ]
    assert word(0.5, replace(SCALE, borders=None)) is None


def test_a_summary_leaves_out_what_was_not_measured() -> None:
    found = summarise(FakeEngine(), [1.2, None, 0.8, 1.0], "woman", photo_spread=0.01)
    assert found == {
        "engine": "fake",
        "version": "3",
        "mean": 1.0,
        "shown": 1.0,
        "spread": 0.2,
        "photo_spread": 0.01,
        "word": "very alike",
        "measured": 3,
        "pictures": 4,
        "caveat": "Mind the gap.",
    }


def test_a_summary_of_nothing_holds_no_number() -> None:
    found = summarise(FakeEngine(), [None, None], "woman")
    assert (found["mean"], found["shown"], found["spread"], found["word"]) == (None, None, None, None)
    assert (found["measured"], found["pictures"]) == (0, 2)
