"""Likeness of generated pictures to the photos of the run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from studio.core.adapters import AdapterInfo
from studio.core.config import GenerateConfig
from studio.core.domain import GenerateResult
from studio.core.errors import MissingExtraError
from studio.core.progress import ProgressReporter
from studio.likeness.base import LikenessEngine, scores, summarise
from studio.likeness.registry import choose_engine


@dataclass(frozen=True, slots=True)
class LikenessScorer:
    """Measures pictures against the run's photos, or says None of each."""

    name: str | None
    engine: LikenessEngine | None = None
    reference: NDArray[np.float32] | None = None
    class_noun: str = ""

    def score(self, pictures: Sequence[PILImage.Image]) -> list[float | None]:
        """Return the likeness of each picture; None where there is no engine, or it finds no subject."""
        if self.engine is None or self.reference is None:
            return [None] * len(pictures)
        return scores(self.engine.embed(pictures), self.reference, self.engine.scale(self.class_noun))

    def written(self, score: float | None) -> dict[str, Any] | None:
        """Return what a picture's file says of its likeness; None where nobody measures."""
        if self.engine is None:
            return None
        return {**self._ruler, "value": None if score is None else round(score, 4)}

    def wrote(self, likeness: dict[str, Any] | None) -> bool:
        """Return whether what a picture's file says of its likeness comes from this version of this engine."""
        found = likeness or {}
        return {name: found.get(name) for name in ("engine", "version")} == self._ruler

    @property
    def _ruler(self) -> dict[str, str | None]:
        return {"engine": self.name, "version": self.version}

    @property
    def version(self) -> str | None:
        """Version of the engine."""
        return self.engine.version if self.engine else None

    def summary(self, values: Sequence[float | None]) -> dict[str, Any] | None:
        """Return the numbers of several scores, as ``studio.likeness.base.summarise``; None without engine."""
        return summarise(self.engine, values, self.class_noun) if self.engine else None


def open_scorer(config: GenerateConfig, info: AdapterInfo, reporter: ProgressReporter) -> LikenessScorer:
    """Open the likeness engine of the run, or say in a message why there is none."""
    if config.likeness == "none":
        return LikenessScorer(None)
    if info.likeness_engine is None or info.centroid is None:
        reporter.warn("this run has no likeness reference, so its pictures are not ranked")
        return LikenessScorer(None)
    try:
        choice = choose_engine(info.likeness_engine, base=info.base, class_noun=info.class_noun)
    except MissingExtraError as error:
        reporter.warn(f"the pictures are not ranked: {error}")
        return LikenessScorer(None)
    if choice.engine is None:
        reporter.warn(f"the pictures are not ranked: {choice.reason}")
        return LikenessScorer(None)
    if choice.engine.version != info.likeness_version:
        made_by = f"version {info.likeness_version}" if info.likeness_version else "an earlier version"
        reporter.warn(
            f"the pictures are not ranked: {made_by} of the likeness engine {choice.engine.name} made this run's "
            f"reference, and here is version {choice.engine.version}; train again to measure"
        )
        return LikenessScorer(None)
    return LikenessScorer(
        choice.engine.name, choice.engine, np.asarray(info.centroid, dtype=np.float32), info.class_noun
    )


def measured_otherwise(result: GenerateResult, info: AdapterInfo, reporter: ProgressReporter) -> bool:
    """Return whether finished pictures can be measured anew, as another version of the engine gave their scores.

    Says so where the engine here has another version and the run's reference is none of that version either.
    """
    if result.likeness_engine is None or info.likeness_engine != result.likeness_engine or info.centroid is None:
        return False
    try:
        engine = choose_engine(info.likeness_engine, base=info.base, class_noun=info.class_noun).engine
    except MissingExtraError:
        return False
    if engine is None or engine.version == result.likeness_version:
        return False
    again = engine.version == info.likeness_version
    scores = f"the scores of these pictures come from version {result.likeness_version or '(unknown)'} of the engine"
    after = "they are measured again" if again else "do not compare them with new ones"
    reporter.warn(f"{scores} {engine.name}, and here is version {engine.version}: {after}")
    return again
