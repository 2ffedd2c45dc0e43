"""Pictures inside requests: base64 in its usual forms, refused by name where it is none."""

import base64
from pathlib import Path

import pytest

from studio.core.errors import InputError
from studio.core.settings import Settings
from studio.web.api.pictures import SentFile, as_base64, from_base64, picture_from_base64, staged, taken
from studio.web.routes import Uploads

DATA = bytes(range(256))
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        f"data:image/png;base64,{TEXT}",
        f"data:image/svg+xml;charset=utf-8;base64,{TEXT}",
        "\n".join(TEXT[at : at + 76] for at in range(0, len(TEXT), 76)),
    ],
)
def test_base64_is_read_as_it_is_usually_written(text: str) -> None:
    assert from_base64(text, "image", 256) == DATA


@pytest.mark.parametrize(
    "text", ["", "data:image/png;base64,", "%%%", TEXT[:-1] + "!", "http://example.org/a.png", "AAA"]
)
def test_what_is_no_base64_is_refused_by_the_name_of_its_parameter(text: str) -> None:
    with pytest.raises(InputError, match="input_image: is not base64"):
        from_base64(text, "input_image", 256)


def test_what_is_too_large_or_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match="larger than 255 bytes"):
        from_base64(TEXT, "image", 255)
    with pytest.raises(InputError, match="not a picture that can be read"):
        picture_from_base64(TEXT, "image", 256)


def test_a_file_is_either_an_upload_or_here() -> None:
    for given in ({}, {"sha256": "0" * 64, "data": TEXT}):
        with pytest.raises(InputError, match="either sha256 or data"):
            SentFile.parse({"name": "a.png", **given})


def test_files_lie_in_the_owners_folder_for_as_long_as_they_are_taken(tmp_path: Path) -> None:
    uploads = Uploads(Settings(home=tmp_path))
    files = [SentFile(name="../a.png", data=TEXT), SentFile(name="../a.png", data=TEXT)]
    with taken(uploads, "ada", files, "photos", 256) as paths:
        assert [path.name for path in paths] == ["a.png", "a.png"] and len(set(paths)) == 2
        assert all(as_base64(path) == TEXT and path.is_relative_to(tmp_path / "uploads") for path in paths)
    with pytest.raises(ZeroDivisionError), staged(uploads, "ada", [("a.png", DATA)]):
        _ = 1 / 0
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
