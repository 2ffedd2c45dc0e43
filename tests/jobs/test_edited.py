import json
from pathlib import Path

import pytest

from studio.core.errors import ConflictError, InputError, NotFoundError
from studio.jobs import intake
from studio.jobs.edited import originals_of, settings_of


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """A check of three photos, one of which could not be read; the uploads are gone."""
    out = tmp_path / "check-1" / "out"
    (out / "originals").mkdir(parents=True)
    for name in ("001.jpg", "003.jpg"):
        (out / "originals" / name).write_bytes(name.encode())
    (out / "originals" / "003.txt").write_text("in the snow")
    rows = [("a.heic", "originals/001.jpg"), ("bad.jpg", None), ("c (2).jpg", "originals/003.jpg")]
    verdicts = [{"name": name, "original": original} for name, original in rows]
    (out / "dataset.json").write_text(json.dumps({"verdicts": verdicts}))
    config = {"subject": "Ada", "exclude": ["a.heic", "bad.jpg"], "captions": {"bad.jpg": "x", "c (2).jpg": "y"}}
    (out.parent / "request.json").write_text(json.dumps({"config": config}))
    return out.parent


def test_the_photos_that_a_check_has_kept_come_under_their_names_with_their_captions(job: Path) -> None:
    found = originals_of(job)
    assert [(upload.name, upload.path.name) for upload in found] == [
        ("a.heic", "001.jpg"),
        ("c (2).jpg", "003.jpg"),
        ("c (2).jpg.txt", "003.txt"),
    ]


def test_photos_that_are_added_keep_apart_from_those_that_are_there(job: Path, tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"another")
    uploads = intake.inspect([tmp_path / "a.heic"], max_photos=3, max_bytes=99, kept=originals_of(job))
    assert [upload.name for upload in uploads] == ["a.heic", "c (2).jpg", "c (2).jpg.txt", "a (2).heic"]
    assert len(intake.inspect([], max_photos=3, max_bytes=99, kept=originals_of(job))) == 3
    with pytest.raises(InputError, match="3 photos are more than the limit of 2"):
        intake.inspect([tmp_path / "a.heic"], max_photos=2, max_bytes=99, kept=originals_of(job))


def test_settings_lose_the_edits_of_photos_that_are_gone(job: Path) -> None:
    config = settings_of(job)
    assert (config.subject, config.exclude, config.captions) == ("Ada", ("a.heic",), {"c (2).jpg": "y"})
    (job / "request.json").unlink()
    with pytest.raises(NotFoundError):
        settings_of(job)


def test_a_set_without_kept_photos_cannot_be_edited(tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="drop the photos"):
        originals_of(tmp_path)
