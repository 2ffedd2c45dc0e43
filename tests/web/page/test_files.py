import os
from pathlib import Path

import pytest

from studio.core.settings import Settings
from studio.web.page import files


@pytest.fixture
def folder(settings: Settings) -> Path:
    return settings.home / "web-cache"


def test_only_uploads_count_as_photos(folder: Path, tmp_path: Path) -> None:
    upload = folder / "abc" / "face.jpg"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"x")
    link = folder / "link.jpg"
    os.symlink("/etc/passwd", link)
    assert files.uploads([str(upload), "/etc/passwd", str(tmp_path), str(link), f"{folder}/../../x"]) == [upload]


def test_deleted_uploads_are_gone_with_their_folder(folder: Path) -> None:
    upload = folder / "deleted" / "face.jpg"
    upload.parent.mkdir(parents=True)
    upload.write_bytes(b"x")
    files.delete([upload, folder / "was-never-there.jpg"])
    assert not upload.parent.exists()


def test_a_served_copy_lies_in_gradios_folder_under_a_stable_name_until_it_changes(
    folder: Path, tmp_path: Path
) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(b"one")
    first = files.served_copy(path)
    assert files.served_copy(path) == first and Path(first).is_relative_to(folder)
    path.unlink()
    path.write_bytes(b"other")
    second = files.served_copy(path)
    assert second != first and Path(second).read_bytes() == b"other"


def test_a_thumbnail_is_small_and_a_letter_has_none(tmp_path: Path) -> None:
    import base64
    import io

    from PIL import Image

    Image.new("RGB", (900, 600), "red").save(tmp_path / "a.jpg", comment=b"PLANTED")
    address = files.thumbnail(tmp_path / "a.jpg")
    assert address is not None and address.startswith("data:image/webp;base64,")
    data = base64.b64decode(address.partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (256, 171) and b"PLANTED" not in data
    (tmp_path / "b.jpg").write_text("Dear")
    assert files.thumbnail(tmp_path / "b.jpg") is None
