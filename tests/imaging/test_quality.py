import io
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from studio.checking.judge import BRIGHT_REJECTED, DARK_REJECTED, DARK_WARNED, SHARPNESS_REJECTED, SHARPNESS_WARNED
from studio.imaging import quality
from studio.imaging.decode import decode
from studio.pocket.renderer.people import sample_identity, sample_scene
from studio.pocket.renderer.portrait import render
from studio.pocket.renderer.words import HELD_OUT_SEED

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dreambooth"
real_photos = pytest.mark.skipif(not REAL.is_dir(), reason="the real photos are not here")


def drawn(seed: int, size_px: int = 512, **fixed: object) -> Image.Image:
    identity = sample_identity(HELD_OUT_SEED + seed // 100)
    scene = sample_scene(HELD_OUT_SEED + seed, style="photo", **fixed)
    return Image.fromarray(render(identity, scene, size_px))


@pytest.fixture(scope="module")
def portraits_of_one() -> list[Image.Image]:
    return [drawn(seed) for seed in range(6)]


@pytest.fixture(scope="module")
def real() -> dict[str, list[Image.Image]]:
    return {
        folder.name: [decode(path, at_least_px=600).picture for path in sorted(folder.glob("*.jpg"))]
        for folder in sorted(REAL.iterdir())
        if folder.is_dir()
    }


def blurred(picture: Image.Image, radius_px: float) -> Image.Image:
    """Blur by ``radius_px`` pixels at a longer side of 512 px."""
    return picture.filter(ImageFilter.GaussianBlur(radius_px * max(picture.size) / 512))


def test_flat_drawings_count_as_sharp_until_they_are_blurred(portraits_of_one: list[Image.Image]) -> None:
    for picture in portraits_of_one:
        assert quality.sharpness(picture) > SHARPNESS_WARNED
        assert quality.sharpness(blurred(picture, 4)) < SHARPNESS_REJECTED


@real_photos
def test_real_photos_are_sharp_and_their_blurred_copies_are_not(real: dict[str, list[Image.Image]]) -> None:
    for pictures in real.values():
        for picture in pictures:
            assert quality.sharpness(picture) > SHARPNESS_WARNED
            assert quality.sharpness(blurred(picture, 4)) < SHARPNESS_REJECTED


@real_photos
def test_real_photos_are_well_exposed(real: dict[str, list[Image.Image]]) -> None:
    for pictures in real.values():
        for picture in pictures:
            light = quality.exposure(picture)
            assert light.dark > DARK_WARNED
            assert light.bright < BRIGHT_REJECTED


def test_sharpness_means_the_same_at_any_size(portraits_of_one: list[Image.Image]) -> None:
    changes = []
    for picture in portraits_of_one:
        large = picture.resize((1536, 1536), Image.Resampling.LANCZOS)
        changes.append(quality.sharpness(large) / quality.sharpness(picture))
    assert min(changes) > 0.85 and max(changes) < 1.15


def test_featureless_picture_is_not_sharp() -> None:
    assert quality.sharpness(Image.new("RGB", (300, 300), "grey")) == 0.0


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (2000, 3)])
def test_odd_sizes_are_measured_without_a_crash(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", size, "grey")
    assert quality.sharpness(picture) == 0.0
    assert quality.exposure(picture).dark == 128
    assert quality.structure(picture).shape == (192,)
    assert quality.near_duplicates(quality.fingerprint(picture), quality.fingerprint(picture))


def test_underexposed_and_overexposed_pictures_are_told_apart(portraits_of_one: list[Image.Image]) -> None:
    for picture in portraits_of_one:
        assert quality.exposure(ImageEnhance.Brightness(picture).enhance(0.12)).dark < DARK_REJECTED
        assert (
            quality.exposure(picture.point([min(255, 232 + v // 8) for v in range(256)] * 3)).bright > BRIGHT_REJECTED
        )


def copies(picture: Image.Image) -> list[Image.Image]:
    buffer = io.BytesIO()
    picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).save(buffer, "JPEG", quality=40)
    margin = picture.width // 60
    return [
        Image.open(buffer).convert("RGB"),
        picture.crop((margin, margin, picture.width - margin, picture.height)),
        ImageEnhance.Brightness(picture).enhance(1.1),
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    ]


def test_copies_of_a_photo_are_near_duplicates(portraits_of_one: list[Image.Image]) -> None:
    for picture in portraits_of_one:
        original = quality.fingerprint(picture)
        for copy in copies(picture):
            assert quality.near_duplicates(original, quality.fingerprint(copy))


def test_other_scenes_of_one_person_are_not_near_duplicates(portraits_of_one: list[Image.Image]) -> None:
    prints = [quality.fingerprint(picture) for picture in portraits_of_one]
    assert not any(quality.near_duplicates(a, b) for a, b in combinations(prints, 2))


@real_photos
def test_real_photo_sets_hold_no_duplicates_and_are_varied(real: dict[str, list[Image.Image]]) -> None:
    for pictures in real.values():
        prints = [quality.fingerprint(picture) for picture in pictures]
        assert not any(quality.near_duplicates(a, b) for a, b in combinations(prints, 2))
        assert not quality.same_background(pictures)
        assert not quality.same_composition(pictures)


def test_set_before_one_wall_has_the_same_background(portraits_of_one: list[Image.Image]) -> None:
    assert quality.same_background([drawn(n, 128, background="plain blue", light="neutral") for n in range(6)])
    assert not quality.same_background(portraits_of_one)


def test_three_photos_are_too_few_to_speak_of_sameness() -> None:
    assert not quality.same_background([drawn(0, 64)] * 3)
    assert not quality.same_composition([drawn(0, 64)] * 3)


def test_burst_of_one_pose_has_the_same_composition(portraits_of_one: list[Image.Image]) -> None:
    fixed = {"yaw": 0.1, "roll": 0.0, "zoom": 1.0, "shift_yx": (0.0, 0.0), "jitter": 3, "expression": "neutral"}
    burst = [
        drawn(seed, 128, **fixed, clothes="shirt", accessory="none", background=background, light="neutral")
        for seed, background in enumerate(("plain blue", "plain grey", "plain pink", "plain white"))
    ]
    assert quality.same_composition(burst)
    assert not quality.same_composition(portraits_of_one)


def test_black_bars_are_found_on_opposite_sides_only() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(30, 255, (200, 300, 3), dtype=np.uint8))
    assert quality.black_bars(picture) is None
    for size, at in (((300, 260), (0, 30)), ((360, 200), (30, 0))):
        framed = Image.new("RGB", size)
        framed.paste(picture, at)
        top, left, height, width = quality.black_bars(framed) or (0, 0, 0, 0)
        assert abs(top * size[1] - at[1]) <= 2 and abs(left * size[0] - at[0]) <= 2
        assert abs(height * size[1] - 200) <= 4 and abs(width * size[0] - 300) <= 4
    one_side = Image.new("RGB", (300, 230))
    one_side.paste(picture, (0, 30))
    assert quality.black_bars(one_side) is None, "a dark sky is no bar"
    assert quality.black_bars(Image.new("RGB", (300, 200))) is None
