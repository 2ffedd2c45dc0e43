from pathlib import Path

import pytest
from PIL import Image

from studio.errors import InputError, MissingExtraError
from studio.likeness import pocket, registry
from studio.likeness.registry import choose_engine, get_engine, is_person


@pytest.fixture
def photos() -> list[Image.Image]:
    return [Image.new("RGB", (64, 64), colour) for colour in ("teal", "navy", "olive", "plum")]


@pytest.fixture
def everything_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket, "DRAWN_MIN_SHARE", -1e9)


@pytest.fixture
def nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pocket, "DRAWN_MIN_SHARE", 1e9)


def test_last_word_of_a_noun_says_whether_it_is_a_person() -> None:
    assert is_person("young Woman")
    assert not is_person("woman doll")


def test_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"auto, pocket, face, subject, none"):
        get_engine("magic")


def test_likeness_can_be_switched_off() -> None:
    choice = choose_engine("none", base="pocket", class_noun="woman")
    assert choice.engine is None
    assert choice.reason == "likeness is switched off"


@pytest.mark.usefixtures("everything_is_drawn")
def test_auto_takes_pocket_for_drawn_photos_on_a_base_that_draws(drawn_base: Path, photos: list[Image.Image]) -> None:
    choice = choose_engine("auto", base=str(drawn_base), class_noun="woman", pictures=photos)
    assert choice.engine is not None
    assert choice.engine.name == "pocket"


@pytest.mark.usefixtures("everything_is_drawn")
def test_auto_takes_pocket_before_a_base_is_known(
    drawn_base: Path, photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "POCKET_FOLDER", drawn_base)
    choice = choose_engine("auto", base=None, class_noun="woman", pictures=photos)
    assert choice.engine is not None
    assert choice.engine.name == "pocket"


@pytest.mark.usefixtures("nothing_is_drawn")
def test_auto_finds_no_engine_for_real_photos_of_a_thing_offline(drawn_base: Path, photos: list[Image.Image]) -> None:
    choice = choose_engine("auto", base=str(drawn_base), class_noun="teapot", pictures=photos)
    assert choice.engine is None
    assert "dinov2" in choice.reason


@pytest.mark.usefixtures("nothing_is_drawn")
def test_auto_takes_face_for_real_photos_of_a_person(drawn_base: Path) -> None:
    data = pytest.importorskip("skimage.data")
    astronaut = Image.fromarray(data.astronaut())
    choice = choose_engine("auto", base=str(drawn_base), class_noun="woman", pictures=[astronaut, astronaut])
    assert choice.engine is not None
    assert choice.engine.name == "face"


def test_auto_takes_no_engine_for_a_person_whose_photos_show_no_face(photos: list[Image.Image]) -> None:
    choice = choose_engine("auto", base="sd15", class_noun="woman", pictures=photos)
    assert choice.engine is None
    assert "fewer than half" in choice.reason


def test_auto_takes_face_for_a_person_on_a_photographic_base() -> None:
    choice = choose_engine("auto", base="sd15", class_noun="woman")
    assert choice.engine is not None
    assert choice.engine.name == "face"


def test_engine_asked_for_by_name_whose_weights_are_missing_says_how_to_get_them() -> None:
    with pytest.raises(MissingExtraError, match="hf download facebook/dinov2-small"):
        get_engine("subject")
