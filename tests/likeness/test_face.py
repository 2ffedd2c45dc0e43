import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from studio.imaging.faces import find_faces
from studio.likeness.base import likeness
from studio.likeness.bench import spoil
from studio.likeness.face import SCALE, FaceEngine
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED

PERSON_BOX = (80, 0, 360, 300)
"""Of NASA's portrait of Eileen Collins (public domain) that scikit-image brings: head and shoulders."""


@pytest.fixture(scope="module")
def engine() -> FaceEngine:
    return FaceEngine()


@pytest.fixture(scope="module")
def person() -> Image.Image:
    return Image.fromarray(pytest.importorskip("skimage.data").astronaut()).crop(PERSON_BOX)


@pytest.fixture(scope="module")
def somebody_else() -> Image.Image:
    """A drawn portrait that dlib takes for a face: the only other one that is free of rights."""
    scene = sample_scene(HELD_OUT_SEED + 59, style="photo")
    return Image.fromarray(render(sample_identity(HELD_OUT_SEED + 59), scene, 512))


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    page = Image.new("RGB", (left.width + right.width, max(left.height, right.height)), "white")
    page.paste(left, (0, 0))
    page.paste(right, (left.width, 0))
    return page


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def test_a_face_is_like_itself_and_a_picture_without_one_is_not_measured(engine: FaceEngine) -> None:
    person = Image.fromarray(pytest.importorskip("skimage.data").astronaut())
    rows = engine.embed([person, person.resize((400, 400)), Image.new("RGB", (256, 256), "grey")])
    assert rows.shape == (3, 128) and rows.dtype == np.float32
    assert np.isnan(rows[2]).all()
    np.testing.assert_allclose(np.linalg.norm(rows[:2], axis=1), 1, rtol=1e-5)
    assert rows[0] @ rows[1] > SCALE.same
    assert likeness(rows[1:2], rows[0], engine.scale("woman"))[0] > 0.9


def test_another_light_colour_or_file_changes_little(engine: FaceEngine, person: Image.Image) -> None:
    levels = np.asarray(person) / 255
    seen = {
        "bright": Image.fromarray(np.uint8(255 * levels**0.5)),
        "dark": ImageEnhance.Brightness(person).enhance(0.4),
        "flat": ImageEnhance.Contrast(person).enhance(0.5),
        "hard": ImageEnhance.Contrast(person).enhance(1.6),
        "grey": person.convert("L").convert("RGB"),
        "warm": Image.fromarray(np.uint8(255 * np.clip(levels * (1.15, 1, 0.75), 0, 1))),
        "jpeg": jpeg(person, 30),
        "small": person.resize((140, 150), Image.Resampling.LANCZOS),  # a face of 47 px
    }
    values = likeness(engine.embed(list(seen.values())), engine.embed([person])[0], engine.scale("woman"))
    assert dict(zip(seen, values > 0.85, strict=True)) == dict.fromkeys(seen, True)


def test_spoilt_faces_are_not_measured(engine: FaceEngine, person: Image.Image) -> None:
    """Also not those that the detector still takes for faces."""
    person = person.resize((560, 600), Image.Resampling.BICUBIC)
    box = engine.face_box(person)
    assert box is not None
    top, left, height, width = box
    corners = (left + width // 8, top + height // 8, left + width - width // 8, top + height)
    spoilt = [spoil(person, box, "mosaic"), spoil(person, box, "blur")]
    for cells in (8, 12, 16, 20, 24):
        picture, face = person.copy(), person.crop(corners)
        face = face.resize((cells, cells), Image.Resampling.BOX).resize(face.size, Image.Resampling.NEAREST)
        picture.paste(face, corners)
        spoilt.append(picture)
    spoilt += [person.filter(ImageFilter.GaussianBlur(share * width)) for share in (0.03, 0.05, 0.07, 0.1)]
    assert sum(bool(find_faces(picture)) for picture in spoilt) >= 3
    assert np.isnan(engine.embed(spoilt)).all(axis=1).tolist() == [True] * len(spoilt)
    assert [engine.face_box(picture) for picture in spoilt] == [None] * len(spoilt)


def test_two_people_are_told_apart(engine: FaceEngine, person: Image.Image, somebody_else: Image.Image) -> None:
    own, other = engine.embed([person, somebody_else])
    assert likeness(other[None], own, engine.scale("woman"))[0] < 0.3


def test_of_two_faces_the_larger_one_is_measured(
    engine: FaceEngine, person: Image.Image, somebody_else: Image.Image
) -> None:
    large_first = beside(person.resize((560, 600)), somebody_else.resize((200, 200)))
    small_first = beside(person.resize((186, 200)), somebody_else)
    own, other, one, two = engine.embed([person, somebody_else, large_first, small_first])
    scale = engine.scale("woman")
    assert likeness(np.stack([one, two]), own, scale).round() == pytest.approx([1, 0], abs=0.5)
    assert likeness(np.stack([one, two]), other, scale)[1] > 0.8


def test_a_smaller_face_does_not_stand_in_for_one_that_is_blurred(
    engine: FaceEngine, person: Image.Image, somebody_else: Image.Image
) -> None:
    large = person.resize((560, 600), Image.Resampling.BICUBIC)
    blurred = beside(large.filter(ImageFilter.GaussianBlur(5)), somebody_else.resize((240, 240)))
    assert len(find_faces(blurred)) == 2
    assert np.isnan(engine.embed([blurred])).all()
