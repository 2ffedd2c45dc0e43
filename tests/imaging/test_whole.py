import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from studio.core.errors import InputError
from studio.imaging import apart

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "dreambooth"


SCENE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)).filter(
    ImageFilter.GaussianBlur(2)
)


def jpeg(**options: object) -> bytes:
    buffer = io.BytesIO()
    SCENE.save(buffer, "JPEG", quality=92, **options)
    return buffer.getvalue()


def problem_of(data: bytes) -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        apart.decode_bytes(data, "IMG_1.jpg")
    (problem,) = caught.value.problems
    assert problem.where == "IMG_1.jpg" and problem.cure
    return problem.code, problem.message


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 40}])
def test_jpeg_with_a_hole_is_refused_and_a_whole_one_is_not(options: dict[str, object]) -> None:
    data = jpeg(**options)
    middle, size = len(data) // 2, 3000
    assert apart.decode_bytes(data, "a.jpg").size_hw == (480, 640)
    for torn in (
        data[:middle] + bytes(size) + data[middle + size :],
        data[:middle] + data[middle + size :],
        data[:middle] + b"\xff\xd9",
    ):
        assert problem_of(torn) == ("not_a_photo", "is damaged or incomplete")


def test_bytes_that_cameras_leave_over_at_the_end_harm_nobody() -> None:
    data = jpeg()
    for more in (data[:-2] + bytes(9) + data[-2:], data + b"\x00" * 5000, data + b"<script>"):
        assert apart.decode_bytes(more, "a.jpg").size_hw == (480, 640)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared photos are not here")
def test_real_photos_are_whole() -> None:
    for path in sorted(REAL.glob("*/*.jpg")):
        assert min(apart.decode(path, at_least_px=100).size_hw) > 100, path
