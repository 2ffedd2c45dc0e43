"""Records go to JSON and back without loss, and a damaged file is named with its cure."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from studio.core import records
from studio.core.adapters import AdapterInfo
from studio.core.domain import ExportResult, FinishedPicture, FinishResult, GenerateResult, Image, TrainResult
from studio.core.errors import InputError, NotFoundError
from studio.core.fit import MeasuredRun

IMAGE = Image("pictures/001.png", "snow", "a photo of sks dog", "", 3, 0.91, 1)
PICTURE = FinishedPicture("a.jpg", "a.png", (512, 640), 1000, None, "b.webp", "c.webp", 0.5, "0" * 64, ("enlarged",))
RECORDS = (
    GenerateResult((IMAGE,), "sheet.png", "pictures.zip", 1.5, 0.91, "face", left_out=(IMAGE,), sheets=("a", "b")),
    FinishResult((PICTURE,), ({"where": "b", "message": "m", "cure": "c", "code": "d"},), "sheet.png", None, 2.0, None),
    ExportResult("kohya", ("ada.safetensors",), "certificate.json", 5, 1, 0.01, 3.25),
    TrainResult("adapter", 60, "best", 100, 9.5, 0.1, 0.9, None, "face", ({"step": 60, "likeness": None},)),
    AdapterInfo("pocket", None, "sd", "Ada", "woman", "sks", 64, 3.0, 20, "pocket", (0.6, 0.8), 60),
    AdapterInfo("sd15", "abc", "sd", "Ada", "woman", "sks", 512, 7.5, 30, None, None, 60),
    MeasuredRun("cpu", 1.0, 0.5, 0.25, 10, 20, 30),
)


@dataclass(frozen=True, slots=True)
class Page:
    """A record with a default, as one gets when a field is added."""

    number: int
    size_hw: tuple[int, int]
    title: str = "untitled"


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_comes_back_from_its_file_as_it_was(record: object, tmp_path: Path) -> None:
    records.write(tmp_path / "record.json", record)
    assert records.read(type(record), tmp_path / "record.json") == record
    assert records.from_dict(type(record), records.to_dict(record)) == record


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_the_file_holds_the_fields_in_order_as_readable_text(record: object, tmp_path: Path) -> None:
    records.write(tmp_path / "record.json", record)
    assert (tmp_path / "record.json").read_text() == json.dumps(asdict(record), indent=1) + "\n"  # type: ignore[call-overload]


def test_a_field_that_was_added_later_may_be_missing() -> None:
    assert records.from_dict(Page, {"number": 1, "size_hw": [2, 3]}) == Page(1, (2, 3))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"number": 1}', r"page\.json: is damaged \(size_hw: field required\); write it again"),
        ('{"number": 1, "size_hw": [2]}', r"is damaged \(size_hw\.1: field required\)"),
        ('{"number": 1, "size_hw": [2, 3], "colour": "red"}', r"is damaged \(colour: unexpected"),
        ('{"number": 1, "si', r"is damaged \(invalid json"),
        ("", r"is damaged \(invalid json"),
        ("[]", "is damaged"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong_and_the_cure(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "page.json").write_text(text)
    with pytest.raises(InputError, match=words) as caught:
        records.read(Page, tmp_path / "page.json", cure="write it again", code="bad_page")
    assert [problem.code for problem in caught.value.problems] == ["bad_page"]


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no page\.json"):
        records.read(Page, tmp_path / "page.json")


def test_a_file_may_hold_more_than_its_record_where_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "page.json").write_text('{"number": 1, "size_hw": [2, 3], "versions": {}}')
    assert records.read(Page, tmp_path / "page.json", ignore_others=True) == Page(1, (2, 3))
