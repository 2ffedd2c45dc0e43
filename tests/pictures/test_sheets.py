import json
import zipfile
from pathlib import Path

from PIL import Image as PILImage

from studio.core.domain import GenerateResult, Image
from studio.pictures.render import PictureRequest
from studio.pictures.request import PlannedPicture
from studio.pictures.sheets import ARCHIVE_NAME, SHEET_NAME, MadePictures, mean_likeness, write_archive, write_sheets

SHOTS = {"beach/001.png": "beach", "beach/002.png": "beach", "city/001.png": "city"}


def result_of(folder: Path) -> tuple[list[PlannedPicture], MadePictures, GenerateResult]:
    plan, made, images = [], MadePictures(with_prints=False), []
    for index, (file, shot) in enumerate(SHOTS.items()):
        picture = PILImage.new("RGB", (640, 480), (80 * index, 0, 0))
        (folder / file).parent.mkdir(exist_ok=True)
        picture.save(folder / file)
        plan.append(PlannedPicture(file, shot, PictureRequest("p", "", index, (480, 640), 1, 1.0), {}))
        made.add(index, picture, 0.5)
        images.append(Image(file, shot, "p", "", index, 0.5, index + 1))
    return plan, made, GenerateResult(tuple(images), SHEET_NAME, ARCHIVE_NAME, 1.0, 0.5, "pocket")


def test_there_is_a_sheet_of_all_and_one_of_every_shot_with_several_pictures(tmp_path: Path) -> None:
    plan, made, result = result_of(tmp_path)
    assert write_sheets(tmp_path, plan, made, result, "Ada", "pack", lambda scores: None).sheets == (
        f"beach/{SHEET_NAME}",
    )
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob(SHEET_NAME)) == [
        f"beach/{SHEET_NAME}",
        SHEET_NAME,
    ]


def test_only_thumbnails_are_kept_in_memory(tmp_path: Path) -> None:
    _, made, _ = result_of(tmp_path)
    assert {picture.size for picture in made.thumbnails.values()} == {(400, 300)}
    assert made.prints == {}, "nothing is left out, so nothing is compared"


def test_the_archive_is_the_same_bytes_for_the_same_pictures(tmp_path: Path) -> None:
    _, _, result = result_of(tmp_path)
    write_archive(tmp_path, result, "Ada")
    before = (tmp_path / ARCHIVE_NAME).read_bytes()
    write_archive(tmp_path, result, "Ada")
    assert (tmp_path / ARCHIVE_NAME).read_bytes() == before
    with zipfile.ZipFile(tmp_path / ARCHIVE_NAME) as archive:
        assert archive.namelist() == [*SHOTS, "index.json"]
        assert json.loads(archive.read("index.json"))["subject"] == "Ada"


def test_the_mean_is_of_what_was_measured() -> None:
    assert mean_likeness([0.2, None, 0.4]) == 0.3
    assert mean_likeness([None]) is None
