from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.imaging.decode import decode
from studio.imaging.faces import Face, find_faces, is_readable, pose

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dreambooth"


@pytest.fixture(scope="module")
def person() -> Image.Image:
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut())


def test_face_of_a_person_is_found_where_it_is(person: Image.Image) -> None:
    (face,) = find_faces(person)
    top, left, height, width = face.box
    assert top < 110 < top + height  # the eyes
    assert left < 222 < left + width
    assert 60 < height < 160


def test_box_is_given_in_the_pixels_of_a_large_photo(person: Image.Image) -> None:
    large = person.resize((1536, 1536))
    (small_face,), (face,) = find_faces(person), find_faces(large)
    assert np.array(face.box) / 3 == pytest.approx(small_face.box, abs=12)


def test_two_people_are_two_faces_the_larger_one_first(person: Image.Image) -> None:
    head = person.crop((120, 0, 330, 240))
    pair = Image.new("RGB", (600, 300), "grey")
    pair.paste(head.resize((168, 192)), (40, 80))
    pair.paste(head, (330, 30))
    first, second = find_faces(pair)
    assert first.box[1] > 300 > second.box[1]


@pytest.mark.parametrize("size", [(1, 1), (24, 24), (3000, 20), (20, 900)])
def test_picture_of_any_size_may_hold_no_face(size: tuple[int, int]) -> None:
    assert find_faces(Image.new("RGB", size)) == []


def test_boxes_lie_inside_even_when_the_face_is_cut_off(person: Image.Image) -> None:
    cut = person.crop((190, 60, 290, 190))
    for face in find_faces(cut):
        top, left, height, width = face.box
        assert top >= 0 and left >= 0 and top + height <= cut.height and left + width <= cut.width


@pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")
def test_things_and_pets_have_no_faces() -> None:
    for name in ("cat2/02", "dog/01", "robot_toy/03", "robot_toy/01"):  # Haar alone sees faces in these
        assert find_faces(decode(REAL / f"{name}.jpg", at_least_px=800).picture) == []


def test_tilted_head_has_a_sloping_eye_line(person: Image.Image) -> None:
    head = person.crop((90, 0, 350, 260))
    (upright,), tilted = find_faces(head), head.rotate(-12, Image.Resampling.BICUBIC)
    (turned,) = find_faces(tilted)
    slope = pose(tilted, turned)[1] - pose(head, upright)[1]
    assert np.degrees(slope) == pytest.approx(12, abs=4)
    assert abs(pose(head, upright)[0]) < 0.1


def test_mirrored_head_is_turned_the_other_way(person: Image.Image) -> None:
    mirrored = person.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    here, there = pose(person, find_faces(person)[0]), pose(mirrored, find_faces(mirrored)[0])
    assert here[0] == pytest.approx(-there[0], abs=0.06)
    assert here[1] == pytest.approx(-there[1], abs=0.06)


def test_a_patch_of_one_colour_or_of_cells_is_no_readable_face() -> None:
    face = Face((40, 40, 120, 120), 1.0)
    cells = np.random.default_rng(0).integers(0, 256, (13, 13, 3), dtype=np.uint8)
    for picture in (Image.new("RGB", (200, 200), "grey"), Image.fromarray(cells).resize((200, 200), 0)):
        assert not is_readable(picture, face)
