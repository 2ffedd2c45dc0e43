import hashlib
import os
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from studio.core.errors import InputError, ResourceError
from studio.jobs import intake


@given(st.text(st.characters(), max_size=300))
@example("../../etc/passwd")
@example("..")
@example("con.jpg")
@example("\ud800.png")
@example("a" * 300 + ".jpeg")
@example("\u202egpj.exe")
def test_safe_name_is_always_one_plain_visible_file_name(name):
    safe = intake.safe_name(name)
    assert safe == intake.safe_name(safe), "safe names stay as they are"
    assert 0 < len(safe.encode()) <= 160
    assert safe[0] != "." and safe.strip() == safe
    assert not set(safe) & set('/\\<>:"|?*')
    assert not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in safe)
    assert "\u202e" not in safe


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("IMG_0001.jpg", "IMG_0001.jpg"),
        ("Grüße 👩\u200d🚀 東京.heic", "Grüße 👩\u200d🚀 東京.heic"),
        ("../../secret.png", "secret.png"),
        ("C:\\photos\\me.jpg", "me.jpg"),
        ("a\nb\x00c.jpg", "abc.jpg"),
        (".hidden.jpg", "hidden.jpg"),
        ("nul.webp", "_nul.webp"),
        ("", "photo"),
        (".jpg", "jpg"),
        ("cafe\u0301.jpg", "café.jpg"),
    ],
)
def test_safe_name_keeps_what_the_user_wrote(name, safe):
    assert intake.safe_name(name) == safe


def test_long_name_keeps_its_ending():
    safe = intake.safe_name("ü" * 200 + ".jpg")
    assert safe.endswith("ü.jpg")
    assert len(safe.encode()) <= 160


def test_same_names_are_numbered_and_copied_byte_by_byte(tmp_path):
    paths = []
    for folder, name in (("a", "x.jpg"), ("b", "X.JPG"), ("c", "x.jpg")):
        (tmp_path / folder).mkdir()
        paths.append(tmp_path / folder / name)
        paths[-1].write_bytes(folder.encode() * 3_000_000)

    uploads = intake.inspect(paths, max_photos=3, max_bytes=3_000_000)
    rows = intake.copy(uploads, tmp_path / "photos", max_bytes=3_000_000)

    assert [name for name, _ in rows] == ["x.jpg", "X (2).JPG", "x (3).jpg"]
    assert rows == intake.digest(uploads)
    for (name, sha256), path in zip(rows, paths, strict=True):
        assert (tmp_path / "photos" / name).read_bytes() == path.read_bytes()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def test_file_that_vanishes_or_grows_after_the_inspection_is_named(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"12345")
    uploads = intake.inspect([path], max_photos=1, max_bytes=5)
    path.write_bytes(b"123456")
    with pytest.raises(InputError, match=r"x\.jpg: is larger"):
        intake.copy(uploads, tmp_path / "photos", max_bytes=5)
    path.unlink()
    with pytest.raises(InputError, match=r"x\.jpg: cannot be found"):
        intake.copy(uploads, tmp_path / "photos 2", max_bytes=5)


def test_pipe_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(InputError, match="is not a file"):
        intake.inspect([tmp_path / "pipe.jpg"], max_photos=1, max_bytes=5)


def test_name_with_a_null_byte_is_reported_and_not_a_crash(tmp_path):
    with pytest.raises(InputError, match=r"a\.jpg: cannot be found"):
        intake.inspect([tmp_path / "a\0.jpg"], max_photos=1, max_bytes=5)


def test_folder_that_cannot_be_made_is_the_machines_fault(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="nothing was stored"):
        intake.copy([], tmp_path / "file" / "photos", max_bytes=5)
