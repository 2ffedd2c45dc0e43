"""The mark of generated pictures, read by another reader than the studio's own: Pillow with an XML parser."""

import io
from pathlib import Path

import pytest
from PIL import Image

from studio.imaging.fit import encode
from studio.imaging.png import is_generated, write_png
from studio.imaging.provenance import SOURCE_TYPE, is_marked, save_picture

FORMATS = ("PNG", "JPEG", "WEBP")
PICTURE = Image.linear_gradient("L").convert("RGB")


def source_type(data: bytes) -> str | None:
    """Return what a file says of the source of its picture."""
    with Image.open(io.BytesIO(data)) as file:
        said = file.getxmp()
    found = said.get("xmpmeta", {}).get("RDF", {}).get("Description", {}).get("DigitalSourceType")
    return None if found is None else str(found)


def saved(file_format: str, *, generated: bool) -> bytes:
    data = io.BytesIO()
    save_picture(PICTURE, data, file_format, generated=generated)
    return data.getvalue()


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_generated_picture_says_so_in_every_kind_of_file(file_format: str) -> None:
    data = saved(file_format, generated=True)
    assert source_type(data) == SOURCE_TYPE
    assert SOURCE_TYPE.encode() in data, "as plain text, which simpler readers look for"
    assert is_marked(data) and is_generated(data)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_photo_says_nothing(file_format: str) -> None:
    data = saved(file_format, generated=False)
    assert source_type(data) is None and not is_marked(data) and not is_generated(data)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_mark_takes_less_than_a_kilobyte_and_is_always_the_same_bytes(file_format: str) -> None:
    first, second = (saved(file_format, generated=True) for _ in range(2))
    assert first == second
    assert 0 < len(first) - len(saved(file_format, generated=False)) < 1000


def test_what_is_no_picture_has_no_mark() -> None:
    assert not is_marked(b"") and not is_marked(SOURCE_TYPE.encode()) and not is_marked(b"\x89PNG\r\n\x1a\nbroken")


def test_pictures_of_generate_are_marked(tmp_path: Path) -> None:
    write_png(tmp_path / "1.png", PICTURE, parameters="photo of sks woman", record={"prompt": "photo of sks woman"})
    assert source_type((tmp_path / "1.png").read_bytes()) == SOURCE_TYPE


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_a_picture_is_as_small_as_asked_with_its_mark(file_format: str) -> None:
    most = 40_000 if file_format == "png" else 3_500
    told = {"record": {}, "software": "test", "quality": 100, "max_bytes": most, "generated": True}
    encoded = encode(PICTURE, file_format=file_format, **told)  # type: ignore[arg-type]
    assert len(encoded.data) <= most
    assert source_type(encoded.data) == SOURCE_TYPE
