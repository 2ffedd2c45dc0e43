from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.core.catalog import POCKET_FOLDER
from studio.core.errors import MissingExtraError
from studio.likeness.base import Scale, centroid, likeness
from studio.likeness.pocket import PocketEngine
from studio.pocket import portraits


def drawn(person: int, scene: int, size_px: int = 64, **fixed: object) -> Image.Image:
    identity = portraits.sample_identity(portraits.HELD_OUT_SEED + person, "woman")
    style = portraits.sample_scene(portraits.HELD_OUT_SEED + scene, **{"style": "photo", **fixed})
    return Image.fromarray(portraits.render(identity, style, size_px))


def test_picture_that_shows_nothing_gets_no_embedding(drawn_base: Path) -> None:
    black, wall = Image.new("RGB", (64, 64)), Image.new("RGB", (300, 200), "teal")
    rows = PocketEngine(drawn_base).embed([black, drawn(1, 1), wall])
    assert np.isnan(rows).all(axis=1).tolist() == [True, False, True]
    assert np.linalg.norm(rows[1]) == pytest.approx(1, abs=1e-5)


def test_scale_of_a_noun_is_what_was_measured_and_the_mean_for_others(drawn_base: Path) -> None:
    engine = PocketEngine(drawn_base)
    assert engine.scale("woman") == Scale(other=0.1, same=0.8)
    general = engine.scale("pirate")
    assert (general.other, general.same) == (pytest.approx(0.2), pytest.approx(0.85))


def test_base_without_an_identity_encoder_is_a_missing_extra(tiny_base: Path) -> None:
    with pytest.raises(MissingExtraError, match="identity encoder"):
        PocketEngine(tiny_base)


def test_tall_picture_is_judged_by_its_middle_square(drawn_base: Path) -> None:
    engine = PocketEngine(drawn_base)
    square = drawn(1, 1, 64)
    tall = Image.new("RGB", (64, 96), "red")
    tall.paste(square, (0, 16))
    assert engine.embed([tall])[0] == pytest.approx(engine.embed([square])[0], abs=1e-6)


def test_embedded_encoder_tells_people_apart_on_the_calibrated_scale() -> None:
    engine = PocketEngine(POCKET_FOLDER)
    same, other = [], []
    for person in range(6):
        reference = centroid(engine.embed([drawn(person, 10 * person + scene) for scene in range(5)]))
        probes = engine.embed([drawn(person, 500 + person), drawn(person + 50, 600 + person)])
        scores = likeness(probes, reference, engine.scale("woman"))
        same.append(scores[0])
        other.append(scores[1])
    assert np.mean(same) > 0.7
    assert np.mean(other) < 0.3
