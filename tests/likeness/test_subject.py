from pathlib import Path

import pytest
from PIL import Image, ImageEnhance

from studio.imaging.decode import decode
from studio.likeness.registry import is_person, looks_drawn
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED
from studio.pocket.samples import sample_photos


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


def test_sample_photos_of_many_people_look_drawn(tmp_path: Path) -> None:
    for seed in (0, 2):  # 2 has a face that the detector for photographs often finds
        files = sample_photos(tmp_path / str(seed), seed=seed, count=6, size_px=320)
        assert looks_drawn([decode(file).picture for file in files])


def test_photographs_do_not_look_drawn(photographs: list[Image.Image]) -> None:
    assert not looks_drawn(photographs)
    assert not looks_drawn([])


def test_one_photograph_among_drawings_changes_nothing(
    drawings: list[Image.Image], photographs: list[Image.Image]
) -> None:
    assert looks_drawn([*drawings, photographs[0]])


def test_pictures_too_small_to_tell_are_taken_for_drawn(photographs: list[Image.Image]) -> None:
    assert looks_drawn([picture.resize((64, 64)) for picture in photographs])


def test_last_word_of_a_noun_says_whether_it_is_a_person() -> None:
    assert is_person("young Woman")
    assert not is_person("woman doll")
