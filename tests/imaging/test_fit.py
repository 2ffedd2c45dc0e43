"""Sizes are met exactly, bytes by quality alone, and files say nothing but what we say."""

import io
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from studio.core.errors import InputError
from studio.imaging.fit import aspect_wh, encode, fit

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8))


def encoded(picture=NOISE, file_format="jpeg", quality=90, **more):
    return encode(picture, file_format=file_format, quality=quality, record={"chain": "c"}, software="S 1", **more)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    how=st.sampled_from(["cover", "contain"]),
    focus=st.none() | st.tuples(st.floats(-10, 99), st.floats(-10, 99)),
)
def test_the_size_is_exact_whatever_comes(size, target, how, focus):
    for mode in ("RGB", "RGBA"):
        made = fit(Image.new(mode, size), target, how=how, fill=(255, 255, 255), focus_yx=focus)
        assert made.size == target and made.mode == mode


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
    aspect=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_an_aspect_lies_inside_or_around(size, aspect):
    text = f"{aspect[0]}:{aspect[1]}"
    inside, around = aspect_wh(size, text, "cover"), aspect_wh(size, text, "contain")
    assert inside[0] <= size[0] and inside[1] <= size[1]
    assert around[0] >= size[0] and around[1] >= size[1]
    assert 1 in inside or abs(inside[0] / inside[1] - aspect[0] / aspect[1]) <= aspect[0] / aspect[1] / min(inside)


def test_cover_keeps_what_matters_in_the_middle():
    pixels = np.zeros((40, 200, 3), np.uint8)
    pixels[18:22, 150:154] = 255
    made = np.asarray(fit(Image.fromarray(pixels), (40, 40), how="cover", fill=(0, 0, 0), focus_yx=(20, 152)))
    assert made[18:22, 18:22].min() == 255, "taken as it is, in the middle"


def test_contain_keeps_everything_and_fills_up():
    made = np.asarray(fit(Image.new("RGB", (30, 10), "black"), (30, 30), how="contain", fill=(9, 8, 7)))
    assert tuple(made[0, 0]) == (9, 8, 7) and tuple(made[15, 15]) == (0, 0, 0)
    clear = np.asarray(fit(Image.new("RGBA", (30, 10), "black"), (30, 30), how="contain", fill=(9, 8, 7)))
    assert clear[0, 0, 3] == 0 and clear[15, 15, 3] == 255


@pytest.mark.parametrize("file_format", ["jpeg", "webp"])
def test_bytes_are_met_by_the_highest_quality_that_meets_them(file_format):
    limit = 9000
    made = encoded(file_format=file_format, max_bytes=limit)
    assert len(made.data) <= limit and made.quality is not None and made.quality < 90
    assert Image.open(io.BytesIO(made.data)).size == NOISE.size
    higher = encoded(file_format=file_format, quality=made.quality + 1)
    assert len(higher.data) > limit


def test_quality_stays_where_the_bytes_suffice():
    assert encoded(max_bytes=10**6).quality == 90


def test_bytes_that_cannot_be_met_are_refused_with_what_they_would_be():
    with pytest.raises(InputError) as caught:
        encoded(max_bytes=900, min_quality=30)
    (problem,) = caught.value.problems
    assert problem.code == "too_many_bytes" and "at quality 30" in problem.message and "900" in problem.message
    with pytest.raises(InputError, match="lossless"):
        encoded(file_format="png", max_bytes=900)


def test_a_format_that_cannot_hold_the_size_is_refused():
    with pytest.raises(InputError, match="20000 px are more than WEBP"):
        encoded(Image.new("RGB", (20000, 1)), file_format="webp")


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_files_carry_srgb_and_our_record_and_nothing_else(file_format):
    picture = NOISE.copy()
    picture.info["comment"] = b"secret"
    made = encoded(picture, file_format=file_format)
    assert encoded(picture, file_format=file_format) == made, "equal pictures make equal files"
    opened = Image.open(io.BytesIO(made.data))
    opened.load()
    profile = ImageCms.ImageCmsProfile(io.BytesIO(opened.info["icc_profile"]))
    assert "sRGB" in ImageCms.getProfileDescription(profile)
    assert b"secret" not in made.data
    if file_format == "png":
        assert set(opened.text) == {"Software", "likeness_studio"}
        record = opened.text["likeness_studio"]
    else:
        exif = opened.getexif()
        assert set(exif) == {0x010E, 0x0131} and exif[0x0131] == "S 1"
        record = exif[0x010E]
    assert json.loads(record) == {"chain": "c"}
