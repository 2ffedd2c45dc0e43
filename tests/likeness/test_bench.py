from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.core.errors import InputError, JobCancelled, MissingExtraError
from studio.core.settings import PROJECT_ROOT
from studio.likeness import bench
from studio.likeness.base import Box, Embeddings, Scale
from studio.likeness.bench import measure, spoil
from studio.likeness.registry import EngineChoice
from studio.pocket.renderer.people import sample_identity, sample_scene, twin
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED

PORTRAITS = PROJECT_ROOT.parent / "shared" / "data" / "portraits"
"""Photos of real people, one folder each; not part of this repository."""


class HairEngine:
    """Looks at the mean colour of a picture, as a measure does that never sees a face."""

    name, version, caveat = "hair", "1", ""

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        rows = np.array([np.asarray(picture).reshape(-1, 3).mean(0) for picture in pictures], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def scale(self, class_noun: str) -> Scale:
        return Scale(0.5, 1.0)

    def face_box(self, picture: Image.Image) -> Box | None:
        return 8, 8, 40, 40


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three drawn women, of whom the second is the first one's twin."""
    folder = tmp_path_factory.mktemp("people")
    ada, bea = (sample_identity(HELD_OUT_SEED + seed, "woman") for seed in (3, 8))
    for name, identity in {"Ada": ada, "Ada's twin": twin(ada, 1), "Bea": bea}.items():
        (folder / name).mkdir()
        for n in range(3):
            scene = sample_scene(HELD_OUT_SEED + n, style="photo", accessory="none", light="neutral")
            Image.fromarray(render(identity, scene, 256)).save(folder / name / f"{n}.png")
    Image.new("RGB", (256, 256), "teal").save(folder / "Bea" / "wall.png")
    return folder


def test_drawn_people_are_told_apart_and_spoilt_faces_are_not_measured(people: Path) -> None:
    result = measure(people, "pocket", "woman")
    ada, twin_of_ada, bea = result.subjects
    assert (result.engine, ada.name, twin_of_ada.name, bea.name) == ("pocket", "Ada", "Ada's twin", "Bea")
    assert (bea.measured, bea.pictures, result.total.measured, result.total.pictures) == (3, 4, 9, 10)
    for row in result.subjects:
        assert row.ceiling > 0.8 and row.spread < 0.2
        assert row.floor <= row.nearest_likeness < 0.75
        assert row.nearest != row.name and row.beats_nearest == 1
        assert (row.mosaic.pictures, row.mosaic.not_measured, row.mosaic.likeness) == (3, 1.0, None)
        assert (row.blur.pictures, row.blur.not_measured) == (3, 1.0)
    assert result.measured_other < 0.5 < result.measured_same
    hardest = min(result.subjects, key=lambda row: row.ceiling - row.nearest_likeness)
    assert result.total.nearest == f"{hardest.name} / {hardest.nearest}"
    assert result.total.nearest_likeness == hardest.nearest_likeness


def test_a_measure_that_looks_at_hair_is_found_out(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "choose_engine", lambda *args, **given: EngineChoice(HairEngine(), "asked"))
    result = measure(people, "face", "woman")
    assert result.total.mosaic.not_measured == 0
    assert result.total.mosaic.likeness == pytest.approx(result.total.ceiling, abs=0.1)
    assert {result.subjects[0].nearest, result.subjects[1].nearest} == {"Ada", "Ada's twin"}  # the same hair
    assert result.subjects[0].beats_nearest < 1
    assert result.total.nearest.split(" / ")[1] in ("Ada", "Ada's twin")


def test_every_folder_that_is_too_small_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "Ada").mkdir()
    with pytest.raises(InputError, match=r"(?s)folders of 1 subjects, and 2 are needed.*Ada: pictures in it: 0"):
        measure(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        measure(tmp_path / "nothing")


def test_no_engine_is_an_error_with_its_reason(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "choose_engine", lambda *args, **given: EngineChoice(None, "nobody came"))
    with pytest.raises(MissingExtraError, match="nobody came; name an engine"):
        measure(people)


def test_it_stops_between_two_pictures(people: Path) -> None:
    asked = iter([False, False, True])
    with pytest.raises(JobCancelled):
        measure(people, "pocket", "woman", should_stop=lambda: next(asked))


@pytest.mark.parametrize("how", bench.SPOILT)
def test_only_the_face_is_spoilt(how: str) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    before = np.asarray(picture).copy()
    levels = np.asarray(spoil(picture, (10, 20, 30, 40), how))
    assert (np.asarray(picture) == before).all()
    inside = np.zeros((60, 80), dtype=bool)
    inside[10:40, 20:60] = True
    assert (levels[~inside] == before[~inside]).all()
    assert levels[inside].std() < before[inside].std() / 3


@pytest.mark.skipif(not PORTRAITS.is_dir(), reason="no portraits of real people beside this repository")
def test_photographed_people_are_told_apart_and_spoilt_faces_are_not_measured() -> None:
    total = measure(PORTRAITS, "face").total
    assert total.ceiling > 0.7 > 0.3 > total.floor
    assert total.beats_nearest > 0.97
    assert min(total.mosaic.not_measured, total.blur.not_measured) >= 0.95
