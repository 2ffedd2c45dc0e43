from hypothesis import example, given
from hypothesis import strategies as st

from studio.imaging.bucket import aspect, nearest_bucket
from studio.imaging.crop import centre_crop, face_crop, fit, whole

sides = st.integers(1, 6000)
sizes = st.tuples(sides, sides)
offsets = st.integers(-500, 6500)


def is_inside(box: tuple[int, int, int, int], size_hw: tuple[int, int]) -> bool:
    top, left, height, width = box
    return (
        top >= 0
        and left >= 0
        and height >= 1
        and width >= 1
        and top + height <= size_hw[0]
        and left + width <= size_hw[1]
    )


@given(sizes, st.tuples(offsets, offsets, sides, sides), st.integers(1, 2000))
@example((1, 6000), (0, 0, 1, 1), 1)
def test_crop_around_any_face_lies_inside_the_photo(
    size_hw: tuple[int, int], face: tuple[int, int, int, int], at_least_px: int
) -> None:
    assert is_inside(face_crop(size_hw, face, at_least_px), size_hw)


@given(sizes)
def test_centre_crop_lies_inside_and_touches_two_edges(size_hw: tuple[int, int]) -> None:
    box = centre_crop(size_hw)
    assert is_inside(box, size_hw)
    assert box[2] == size_hw[0] or box[3] == size_hw[1]


@given(st.tuples(st.integers(200, 6000), st.integers(200, 6000)))
def test_crop_has_the_aspect_of_its_bucket(size_hw: tuple[int, int]) -> None:
    height, width = fit(size_hw, nearest_bucket(size_hw))
    assert abs(width / height - aspect(nearest_bucket(size_hw))) < 0.02


def test_face_crop_shows_head_and_shoulders() -> None:
    top, left, height, width = face_crop((3000, 4000), (1000, 2000, 400, 400))
    assert height == width == 1280
    above, below = 1000 - top, top + height - 1400
    assert below > above > 0.5 * 400
    assert left + width / 2 == 2200


def test_small_face_keeps_at_least_the_pixels_asked_for() -> None:
    assert face_crop((3000, 4000), (1000, 2000, 60, 60), at_least_px=512)[2:] == (512, 512)


def test_upright_photo_filled_by_a_face_keeps_its_shape() -> None:
    assert face_crop((1600, 1200), (400, 300, 600, 600)) == whole((1600, 1200))


def test_wide_photo_filled_by_a_face_becomes_a_square_around_it() -> None:
    assert face_crop((1080, 1920), (200, 1200, 600, 600)) == (0, 840, 1080, 1080)
