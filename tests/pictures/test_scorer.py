from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.core.adapters import AdapterInfo
from studio.core.config import GenerateConfig
from studio.core.domain import GenerateResult
from studio.core.errors import MissingExtraError
from studio.core.progress import ProgressReporter
from studio.likeness.base import Scale
from studio.pictures import scorer

INFO = AdapterInfo("pocket", None, "sd", "Ada", "woman", "sks", 64, 5.0, 2, "redness", (1.0, 0.0, 0.0), 10, 1, "7")
CONFIG = GenerateConfig(prompts=("a {subject}",))


class RednessEngine:
    """An engine whose subject is the colour red."""

    name = "redness"
    version = "7"
    caveat = ""

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        means = np.stack([np.asarray(picture, np.float32).mean((0, 1)) for picture in pictures])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def scale(self, class_noun: str) -> Scale:
        return Scale(other=0.0, same=1.0)


def opened(choose: Any, monkeypatch: pytest.MonkeyPatch, events: list, **changes: Any) -> scorer.LikenessScorer:
    monkeypatch.setattr(scorer, "choose_engine", choose)
    info = AdapterInfo(**{**{name: getattr(INFO, name) for name in AdapterInfo.__slots__}, **changes})
    return scorer.open_scorer(CONFIG, info, ProgressReporter(events.append))


def test_pictures_are_measured_against_the_runs_photos(monkeypatch: pytest.MonkeyPatch, events: list) -> None:
    found = opened(lambda *_, **__: SimpleNamespace(engine=RednessEngine(), reason=""), monkeypatch, events)
    red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    assert found.name == "redness" and found.score([red, blue]) == [1.0, 0.0]
    assert events == []


def missing(*_: Any, **__: Any) -> Any:
    raise MissingExtraError("dlib is not here.")


@pytest.mark.parametrize(
    ("choose", "changes", "words"),
    [
        (missing, {}, "dlib is not here"),
        (lambda *_, **__: SimpleNamespace(engine=None, reason="it is a thing"), {}, "it is a thing"),
        (missing, {"centroid": None}, "no likeness reference"),
    ],
)
def test_without_a_ruler_nothing_is_measured_and_the_reason_is_said(
    choose: Any, changes: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch, events: list
) -> None:
    found = opened(choose, monkeypatch, events, **changes)
    assert found.score([Image.new("RGB", (8, 8))]) == [None]
    (event,) = events
    assert words in event.data["text"]


class HalfBlind(RednessEngine):
    """Finds no subject in black pictures."""

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        empty = [picture.getbbox() is None for picture in pictures]
        rows = super().embed([p if p.getbbox() else Image.new("RGB", (8, 8), "red") for p in pictures])
        rows[empty] = np.nan
        return rows


def test_a_picture_without_the_subject_has_no_score(monkeypatch: pytest.MonkeyPatch, events: list) -> None:
    found = opened(lambda *_, **__: SimpleNamespace(engine=HalfBlind(), reason=""), monkeypatch, events)
    scores = found.score([Image.new("RGB", (8, 8), colour) for colour in ("red", "black")])
    assert scores == [1.0, None]
    summary = found.summary(scores)
    assert summary is not None
    assert (summary["mean"], summary["measured"], summary["pictures"], summary["version"]) == (1.0, 1, 2, "7")


@pytest.mark.parametrize("made_with", ["6", None])
def test_a_reference_of_another_version_measures_nothing(
    made_with: str | None, monkeypatch: pytest.MonkeyPatch, events: list
) -> None:
    choose = lambda *_, **__: SimpleNamespace(engine=RednessEngine(), reason="")  # noqa: E731
    found = opened(choose, monkeypatch, events, likeness_version=made_with)
    assert found.score([Image.new("RGB", (8, 8), "red")]) == [None]
    assert "train again to measure" in events[0].data["text"]


def test_a_file_says_what_measured_it_and_another_version_is_seen(
    monkeypatch: pytest.MonkeyPatch, events: list
) -> None:
    found = opened(lambda *_, **__: SimpleNamespace(engine=RednessEngine(), reason=""), monkeypatch, events)
    written = found.written(0.81234)
    assert written == {"engine": "redness", "version": "7", "value": 0.8123}
    assert found.wrote(written) and found.wrote(found.written(None))
    assert not found.wrote({**written, "version": "6"}) and not found.wrote(None)
    assert scorer.LikenessScorer(None).written(0.5) is None


RESULT = GenerateResult((), "s.png", "p.zip", 1.0, 0.5, "redness", likeness_version="6")


@pytest.mark.parametrize(
    ("result", "reference", "again", "words"),
    [
        (RESULT, "7", True, "version 6 of the engine redness, and here is version 7: they are measured again"),
        (RESULT, "6", False, "do not compare them with new ones"),
        (replace(RESULT, likeness_version=None), "7", True, "version (unknown)"),
        (replace(RESULT, likeness_version="7"), "7", False, ""),
        (replace(RESULT, likeness_engine=None), "7", False, ""),
        (replace(RESULT, likeness_engine="face"), "7", False, ""),
    ],
)
def test_scores_of_another_version_in_a_finished_folder_are_told(
    result: GenerateResult, reference: str, again: bool, words: str, monkeypatch: pytest.MonkeyPatch, events: list
) -> None:
    monkeypatch.setattr(scorer, "choose_engine", lambda *_, **__: SimpleNamespace(engine=RednessEngine(), reason=""))
    info = replace(INFO, likeness_version=reference)
    assert scorer.measured_otherwise(result, info, ProgressReporter(events.append)) == again
    said = [event.data["text"] for event in events]
    assert len(said) == bool(words) and words in "".join(said)


def test_a_finished_folder_is_left_alone_where_the_engine_is_not_here(
    monkeypatch: pytest.MonkeyPatch, events: list
) -> None:
    monkeypatch.setattr(scorer, "choose_engine", missing)
    assert not scorer.measured_otherwise(RESULT, INFO, ProgressReporter(events.append)) and events == []
