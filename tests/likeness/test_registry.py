from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from studio.core.errors import InputError, MissingExtraError
from studio.likeness import registry
from studio.likeness.registry import choose_engine, get_engine
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED


@pytest.fixture(scope="module")
def drawings() -> list[Image.Image]:
    identity = sample_identity(HELD_OUT_SEED + 41, "woman")
    scenes = [sample_scene(HELD_OUT_SEED + n, style="photo") for n in range(6)]
    return [Image.fromarray(render(identity, scene, 256)) for scene in scenes]


@pytest.fixture(scope="module")
def photographs() -> list[Image.Image]:
    data = pytest.importorskip("skimage.data")
    person = Image.fromarray(data.astronaut())
    return [person, person.crop((60, 0, 400, 340)), ImageEnhance.Brightness(person).enhance(0.7)]


def test_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"auto, pocket, face, sface, subject, none"):
        get_engine("magic")


def test_likeness_can_be_switched_off() -> None:
    choice = choose_engine("none", base="pocket", class_noun="woman")
    assert choice.engine is None
    assert choice.reason == "likeness is turned off"


def test_auto_takes_pocket_for_drawn_photos_on_a_base_that_draws(drawn_base: Path, drawings: list[Image.Image]) -> None:
    for pictures in (drawings, None):
        choice = choose_engine("auto", base=str(drawn_base), class_noun="woman", pictures=pictures)
        assert choice.engine is not None
        assert choice.engine.name == "pocket"


def test_auto_takes_pocket_before_a_base_is_known(
    drawn_base: Path, drawings: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "POCKET_FOLDER", drawn_base)
    choice = choose_engine("auto", base=None, class_noun="woman", pictures=drawings)
    assert choice.engine is not None
    assert choice.engine.name == "pocket"


def test_auto_finds_no_engine_for_a_thing_offline(drawn_base: Path, drawings: list[Image.Image]) -> None:
    choice = choose_engine("auto", base=str(drawn_base), class_noun="teapot", pictures=drawings)
    assert choice.engine is None
    assert "dinov2" in choice.reason


def test_auto_takes_face_for_real_photos_of_a_person(photographs: list[Image.Image]) -> None:
    for base in ("sd15", None):
        choice = choose_engine("auto", base=base, class_noun="woman", pictures=photographs)
        assert choice.engine is not None
        assert choice.engine.name == "face"


def test_auto_measures_nothing_where_a_drawing_base_learns_a_photographed_face(
    drawn_base: Path, photographs: list[Image.Image]
) -> None:
    choice = choose_engine("auto", base=str(drawn_base), class_noun="woman", pictures=photographs)
    assert choice.engine is None
    assert "drawings" in choice.reason


def test_auto_takes_no_engine_for_a_person_whose_photos_show_no_face() -> None:
    walls = [Image.new("RGB", (256, 256), colour) for colour in ("teal", "navy", "olive", "plum")]
    choice = choose_engine("auto", base="sd15", class_noun="woman", pictures=walls)
    assert choice.engine is None
    assert "fewer than half" in choice.reason


def test_auto_takes_face_for_a_person_on_a_photographic_base() -> None:
    choice = choose_engine("auto", base="sd15", class_noun="woman")
    assert choice.engine is not None
    assert choice.engine.name == "face"


def test_engine_asked_for_by_name_whose_weights_are_missing_says_how_to_get_them() -> None:
    with pytest.raises(MissingExtraError, match="hf download facebook/dinov2-small"):
        get_engine("subject")
