import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.imaging.bucket import RATIOS_WH, aspect, buckets, nearest_bucket


@pytest.mark.parametrize(
    ("size_hw", "bucket"),
    [((512, 512), "1:1"), ((4000, 3000), "3:4"), ((1080, 1920), "16:9"), ((1920, 1080), "9:16"), ((100, 5000), "16:9")],
)
def test_photo_goes_to_the_bucket_of_its_shape(size_hw: tuple[int, int], bucket: str) -> None:
    assert nearest_bucket(size_hw) == bucket


def test_turned_photo_goes_to_the_turned_bucket() -> None:
    for height, width in ((700, 512), (512, 300), (640, 620)):
        one, other = nearest_bucket((height, width)), nearest_bucket((width, height))
        assert one.split(":") == other.split(":")[::-1]


@given(st.integers(64, 2048), st.sampled_from((8, 16, 64)))
def test_buckets_have_about_the_area_of_the_square_and_suit_the_base(resolution_px: int, multiple_px: int) -> None:
    sizes = buckets(resolution_px, multiple_px)
    assert tuple(sizes) == RATIOS_WH
    for name, (height, width) in sizes.items():
        assert height % multiple_px == width % multiple_px == 0
        assert height > 0 and width > 0
        if resolution_px >= 8 * multiple_px:
            assert 0.75 < height * width / resolution_px**2 < 1.3
            assert abs(math.log(width / height / aspect(name))) < 0.3


def test_known_sizes_of_the_common_resolutions() -> None:
    assert buckets(64, 8)["1:1"] == (64, 64)
    assert buckets(64, 8)["2:3"] == (80, 56)
    assert buckets(512, 8)["3:4"] == (592, 440)
    assert buckets(1024, 64)["16:9"] == (768, 1344)
