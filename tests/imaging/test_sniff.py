import io

import numpy as np
import pytest
from PIL import Image

from studio.core.errors import InputError
from studio.imaging.decode import decode_bytes, display_name


def scene(width: int = 96, height: int = 64) -> Image.Image:
    """A picture whose four quarters differ: red, green / blue, white."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (200, 30, 30)
    pixels[: height // 2, width // 2 :] = (30, 180, 30)
    pixels[height // 2 :, : width // 2] = (30, 30, 200)
    pixels[height // 2 :, width // 2 :] = (240, 240, 240)
    return Image.fromarray(pixels)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    if form == "HEIF":
        from pillow_heif import register_heif_opener

        register_heif_opener()
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def problem_of(data: bytes, name: str = "IMG_1.jpg") -> tuple[str, str]:
    with pytest.raises(InputError) as caught:
        decode_bytes(data, name)
    (problem,) = caught.value.problems
    assert problem.where == display_name(name)
    assert problem.cure
    return problem.code, problem.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"Dear diary, this is not a picture.\n" * 20, "is a text file, not a photo"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is a drawing (SVG), not a photo"),
        (b"%PDF-1.7\n%\xe2\xe3", "is a PDF, not a photo"),
        (b"PK\x03\x04" + bytes(60), "is a zip archive, not a photo"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(60), "is a video, not a photo"),
        (bytes(range(256)), "is not a photo in a format that can be read"),
    ],
)
def test_foreign_file_renamed_to_jpg_is_refused_by_what_it_is(data: bytes, words: str) -> None:
    assert problem_of(data) == ("not_a_photo", words)


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BMP"])
def test_other_picture_formats_are_never_opened(form: str) -> None:
    code, message = problem_of(encoded(scene(), form))
    assert code == "not_a_photo"
    assert message.endswith("not a photo")


def test_animated_gif_is_refused() -> None:
    data = encoded(scene(), "GIF", save_all=True, append_images=[scene().rotate(90)])
    assert problem_of(data, "party.gif") == ("not_a_photo", "is a GIF, not a photo")


@pytest.mark.parametrize("form", ["WEBP", "PNG", "AVIF"])
def test_animation_in_a_photo_format_is_refused(form: str) -> None:
    data = encoded(scene(), form, save_all=True, append_images=[scene().transpose(Image.Transpose.ROTATE_180)])
    assert problem_of(data) == ("not_a_photo", "is an animation, not a photo")
