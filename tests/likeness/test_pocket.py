from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from studio.core.catalog import POCKET_FOLDER
from studio.core.errors import MissingExtraError
from studio.likeness.base import Scale, centroid, likeness
from studio.likeness.pocket import PocketEngine
from studio.pocket.renderer.people import sample_identity, sample_scene, twin
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED


@pytest.fixture(scope="module")
def engine() -> PocketEngine:
    return PocketEngine(POCKET_FOLDER)


def drawn(person: int, scene: int, size_px: int = 128, twin_of: bool = False, **fixed: object) -> Image.Image:
    identity = sample_identity(HELD_OUT_SEED + person, "woman")
    shown = sample_scene(HELD_OUT_SEED + scene, **{"style": "photo", "accessory": "none", **fixed})
    return Image.fromarray(render(twin(identity, 1) if twin_of else identity, shown, size_px))


def without_face(picture: Image.Image, how: str) -> Image.Image:
    share = picture.width / 128
    box = tuple(round(share * value) for value in (36, 48, 92, 102))
    face = picture.crop(box)
    if how == "mosaic":
        face = face.resize((5, 6)).resize(face.size, Image.Resampling.NEAREST)
    else:
        face = face.filter(ImageFilter.GaussianBlur(5 * share))
    spoilt = picture.copy()
    spoilt.paste(face, box)
    return spoilt


def test_picture_without_a_face_gets_no_embedding(engine: PocketEngine) -> None:
    black, wall = Image.new("RGB", (64, 64)), Image.new("RGB", (300, 200), "teal")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8))
    rows = engine.embed([black, drawn(1, 1), wall, noise])
    assert np.isnan(rows).all(axis=1).tolist() == [True, False, True, True]
    assert np.linalg.norm(rows[1]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("how", ["mosaic", "blur"])
def test_face_that_is_covered_is_not_measured(engine: PocketEngine, how: str) -> None:
    pictures = [drawn(person, person, 256) for person in range(8)]
    assert not np.isnan(engine.embed(pictures)).any()
    assert np.isnan(engine.embed([without_face(picture, how) for picture in pictures])).all()


def test_nothing_to_embed_gives_no_rows(engine: PocketEngine) -> None:
    assert engine.embed([]).shape == (0, engine.embed([drawn(1, 1)]).shape[1])


def test_scale_of_a_noun_is_what_was_measured_and_the_mean_for_others(drawn_base: Path) -> None:
    engine = PocketEngine(drawn_base)
    assert engine.version == "7"
    woman, general = engine.scale("woman"), engine.scale("pirate")
    assert woman == Scale(other=0.1, same=0.8, borders=(0.2, 0.4, 0.9))
    assert (general.other, general.same) == (pytest.approx(0.2), pytest.approx(0.85))
    assert general.borders == pytest.approx((0.15, 0.45, 0.85))


def test_base_without_measuring_nets_is_a_missing_extra(tiny_base: Path) -> None:
    with pytest.raises(MissingExtraError, match="identity encoder"):
        PocketEngine(tiny_base)


def test_tall_picture_is_judged_by_its_middle_square(engine: PocketEngine) -> None:
    square = drawn(1, 1)
    tall = Image.new("RGB", (128, 192), "red")
    tall.paste(square, (0, 32))
    assert engine.embed([tall])[0] == pytest.approx(engine.embed([square])[0], abs=1e-5)


def test_person_is_told_from_strangers_and_from_the_twin(engine: PocketEngine) -> None:
    found: dict[str, list[float]] = {"self": [], "twin": [], "stranger": []}
    for person in range(6):
        reference = centroid(engine.embed([drawn(person, 10 * person + scene) for scene in range(5)]))
        probes = [
            drawn(person, 500 + person),
            drawn(person, 600 + person, twin_of=True),
            drawn(person + 50, 700 + person),
        ]
        values = likeness(engine.embed(probes), reference, engine.scale("woman"))
        for kind, value in zip(found, values, strict=True):
            found[kind].append(float(value))
    assert np.mean(found["self"]) > 0.8
    assert np.mean(found["twin"]) < 0.4
    assert abs(np.mean(found["stranger"])) < 0.25
