"""Pictures to finish: of a file, a folder, a zip or what generate wrote; hostile archives do no harm."""

import json
import struct
import zipfile
import zlib

import pytest

from studio.core.errors import InputError, NotFoundError
from studio.imaging import pictures
from studio.imaging.pictures import find_pictures


def pack(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as packed:
        for name, data in members:
            packed.writestr(name, data)
    return path


def names(source):
    return [one.name for one in find_pictures(source)]


def test_nothing_there_and_nothing_in_it_are_two_answers(tmp_path):
    with pytest.raises(NotFoundError, match="missing does not exist"):
        find_pictures(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are none"):
        find_pictures(tmp_path / "empty")


def test_pictures_that_lie_deeper_are_named_with_their_folder(tmp_path):
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "1.png").touch()
    with pytest.raises(InputError, match='1 photo in "best"'):
        find_pictures(tmp_path)


def test_a_folder_gives_its_pictures_in_order_and_those_of_its_zips_but_not_what_is_left_out(tmp_path):
    for name in ("10.png", "2.png", "behind.png", "letter.txt"):
        (tmp_path / name).write_bytes(name.encode())
    pack(tmp_path / "more.zip", [("2.png", b"other")])
    found = find_pictures(tmp_path, leave_out=tmp_path / "behind.png")
    assert [(one.name, one.read()) for one in found] == [
        ("2.png", b"2.png"),
        ("10.png", b"10.png"),
        ("2.png (2)", b"other"),
    ]


def test_of_a_zip_neither_folders_nor_clutter_count_and_equal_names_are_told_apart(tmp_path):
    members = [("a/one.png", b"1"), ("b/one.png", b"2"), ("../../evil.png", b"3"), ("__MACOSX/._one.png", b"4")]
    found = find_pictures(
        pack(tmp_path / "many.zip", [*members, (".DS_Store", b"5"), ("Thumbs.db", b"6"), ("a/", b"")])
    )
    assert [(one.name, one.read()) for one in found] == [
        ("one.png", b"1"),
        ("one.png (2)", b"2"),
        ("evil.png", b"3"),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["many.zip"], "nothing is unpacked"


def test_a_zip_of_the_finder_keeps_its_names(tmp_path):
    name = "Zoe\u0308 Größe 雪.png"  # the Finder takes letters apart, and does not say that it writes UTF-8
    path = pack(tmp_path / "Archive.zip", [("x" * len(name.encode()), b"1"), ("\u2591.png", b"2")])
    data = path.read_bytes().replace(b"x" * len(name.encode()), name.encode())
    path.write_bytes(data)
    assert names(path) == ["Zoë Größe 雪.png", "\u2591.png"]
    assert [one.read() for one in find_pictures(path)] == [b"1", b"2"]


def test_a_zip_that_says_its_names_twice_is_believed_where_both_belong_together(tmp_path):
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for plain, meant, digest in (("1_.png", "1é.png", None), ("2_.png", "2é.png", 5)):
            item = zipfile.ZipInfo(plain)
            said = struct.pack("<BI", 1, zlib.crc32(plain.encode()) if digest is None else digest) + meant.encode()
            item.extra = struct.pack("<HH", 0x7075, len(said)) + said
            packed.writestr(item, b"1")
    assert names(path) == ["1é.png", "2_.png"]


@pytest.mark.parametrize(
    ("name", "page", "shown"),
    [
        ("Größe.png", "cp437", "Größe.png"),
        ("Größe.png", "utf-8", "Größe.png"),
        ("Größe.png", "cp1252", "Gr÷\u2580e.png"),  # as the standard reads it
        ("Øre.png", "cp850", "¥re.png"),
        ("雪.png", "cp932", "Éß.png"),
        ("表.png", "cp932", "ò_.png"),  # its second byte is that of a backslash
        ("表\\1.png", "cp932", "1.png"),
        ("folder\\1.png", "ascii", "1.png"),
    ],
)
def test_names_in_the_code_pages_of_windows_lose_no_picture(tmp_path, name, page, shown):
    raw = name.encode(page)
    path = pack(tmp_path / "windows.zip", [("x" * len(raw), b"1")])
    path.write_bytes(path.read_bytes().replace(b"x" * len(raw), raw))
    assert names(path) == [shown]
    assert [one.read() for one in find_pictures(path)] == [b"1"]


def test_an_extra_field_that_is_damaged_gives_way_to_the_name_itself(tmp_path):
    path = tmp_path / "many.zip"
    name = "é.png".encode()
    with zipfile.ZipFile(path, "w") as packed:
        item = zipfile.ZipInfo("x" * len(name))
        said = struct.pack("<BI", 1, zlib.crc32(name)) + b"\xff\xfe.png"
        item.extra = struct.pack("<HH", 0x7075, len(said)) + said
        packed.writestr(item, b"1")
    path.write_bytes(path.read_bytes().replace(b"x" * len(name), name))
    assert names(path) == ["é.png"]


def test_clutter_in_a_zip_is_no_failed_picture_and_pictures_are_known_by_their_content(tmp_path):
    clutter = {"Thumbs.db": bytes(600), "desktop.ini": b"[x]", "read me.txt": b"hello", "a/index.json": b"{}"}
    members = [*clutter.items(), ("1.png", b"broken"), ("2.HIF", b"\xff\xd8\xff"), ("3", b"\x89PNG\r\n\x1a\n")]
    assert names(pack(tmp_path / "many.zip", members)) == ["1.png", "2.HIF", "3"]
    with pytest.raises(InputError, match="there are none"):
        find_pictures(pack(tmp_path / "none.zip", list(clutter.items())))


def test_a_downloaded_pack_is_taken_best_first_without_its_index(tmp_path):
    index = json.dumps({"images": [{"file": "beach/001.png"}, {"file": "beach/000.png"}]})
    members = [("beach/000.png", b"0"), ("beach/001.png", b"1"), ("index.json", index.encode())]
    assert names(pack(tmp_path / "pictures.zip", members)) == ["001.png", "000.png"]


def test_a_photo_that_ends_in_a_zip_is_a_photo(tmp_path):
    path = pack(tmp_path / "photo.jpg", [("one.png", b"1")])
    path.write_bytes(b"\xff\xd8" + path.read_bytes())
    assert zipfile.is_zipfile(path) and names(path) == ["photo.jpg"]


def test_a_member_that_unpacks_to_too_much_or_is_damaged_is_refused_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 100_000)
    bomb = pack(tmp_path / "bomb.zip", [("bomb.png", bytes(10_000_000))], zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match=r"bomb\.png.*larger"):
        find_pictures(bomb)[0].read()
    torn = pack(tmp_path / "torn.zip", [("torn.png", b"pixels" * 9)])
    torn.write_bytes(torn.read_bytes().replace(b"pixels", b"PIXELS", 1))  # its checksum is wrong now
    with pytest.raises(InputError, match=r"torn\.png.*damaged"):
        find_pictures(torn)[0].read()


def test_what_generate_wrote_is_taken_best_first_without_its_sheet_and_zip(tmp_path):
    (tmp_path / "beach").mkdir()
    for number in (0, 1):
        (tmp_path / f"beach/00{number}.png").write_bytes(b"picture")
    (tmp_path / "contact_sheet.png").write_bytes(b"sheet")
    pack(tmp_path / "pictures.zip", [("beach/000.png", b"picture")])
    images = [{"file": "beach/001.png"}, {"file": "beach/000.png"}, {"file": "../outside.png"}]
    (tmp_path / "index.json").write_text(json.dumps({"images": images}))
    assert names(tmp_path) == ["beach / 001.png", "beach / 000.png"]


def test_chosen_pictures_alone_are_taken_best_first_and_each_that_is_not_there_is_named(tmp_path):
    (tmp_path / "beach").mkdir()
    files = ["beach/2.png", "beach/1.png", "beach/3.png"]
    for file in files:
        (tmp_path / file).write_bytes(file.encode())
    (tmp_path / "index.json").write_text(json.dumps({"images": [{"file": file} for file in files]}))
    found = find_pictures(tmp_path, only=["beach/1.png", "beach/2.png"])
    assert [one.read() for one in found] == [b"beach/2.png", b"beach/1.png"]
    with pytest.raises(InputError) as caught:
        find_pictures(tmp_path, only=["beach/1.png", "beach/9.png", "../x.png"])
    assert [problem.message for problem in caught.value.problems] == [
        "beach/9.png is not there",
        "../x.png is not there",
    ]


def test_too_many_are_refused_and_a_file_that_is_gone_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PICTURES", 2)
    with pytest.raises(InputError, match="3 pictures are more than the limit of 2"):
        find_pictures(pack(tmp_path / "many.zip", [(f"{number}.png", b"") for number in range(9)]))
    (tmp_path / "one.png").touch()
    (found,) = find_pictures(tmp_path / "one.png")
    (tmp_path / "one.png").unlink()
    with pytest.raises(InputError, match=r"one\.png.*cannot be read"):
        found.read()
