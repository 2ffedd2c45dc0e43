from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.checking import advice
from studio.checking.advice import advise
from studio.checking.judge import CandidatePhoto, PhotoFinding
from studio.imaging.faces import Face


def _photos(count: int, *, side_px: int = 1200, alike: bool = False, face_px: int = 0) -> list[CandidatePhoto]:
    """Photos of noise in front of walls that all differ in colour and light, or are all alike."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        colour = (120, 110, 100) if alike else tuple(int(level) for level in random.integers(10, 245, 3))
        look = Image.new("RGB", (200, 200), colour)
        look.paste(Image.fromarray(random.integers(0, 255, (60, 60, 3), dtype=np.uint8)), (70, 70))
        face = Face((70, 70, face_px, face_px), 2.0) if face_px else None
        name = f"{number}.jpg"
        made.append(CandidatePhoto(Path(name), name, look=look, size_hw=(side_px, side_px), face=face))
    return made


def codes(found: list[PhotoFinding]) -> list[str]:
    return [row.code for row in found]


def test_a_rich_set_needs_no_advice() -> None:
    assert advise(_photos(9), []) == []


def test_what_is_missing_in_a_set_is_counted() -> None:
    found = {row.code: row for row in advise(_photos(6, alike=True), [])}
    assert list(found) == ["more_photos", "same_light", "few_backgrounds"]
    assert found["more_photos"].cure == "add 2 more; 8 to 20 are best"
    assert found["few_backgrounds"].message == "6 photos show only one background"
    assert not any(row.serious for row in found.values())


def test_nothing_is_said_twice() -> None:
    told = ["too_few", "same_background"]
    assert codes(advise(_photos(6, alike=True), told)) == ["same_light"]


@pytest.mark.parametrize(
    ("turns", "code"),
    [
        ([0.0, 0.05, -0.04, 0.1], "no_turned_head"),
        ([0.0, 0.2, 0.3, 0.1], "one_side"),
        ([0.0, 0.2, -0.3, 0.1], None),
        ([0.0, 0.0], None),
    ],
)
def test_angles_are_judged_where_faces_are_found(
    turns: list[float], code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(turns)
    monkeypatch.setattr(advice, "pose", lambda look, face: (next(left), 0.0))
    found = codes(advise(_photos(len(turns), face_px=60), ["too_few", "same_background"]))
    assert [name for name in found if name in ("no_turned_head", "one_side")] == ([code] if code else [])


def test_small_crops_and_soft_photos_are_told_with_the_phone_in_mind() -> None:
    photos = _photos(9, side_px=400)
    for photo in photos[:3]:
        photo.findings.append(PhotoFinding("blurred", "is slightly blurred", "use a sharper photo", serious=False))
    soft, small = advise(photos, [])
    assert soft.message == "3 of 9 photos are not quite sharp" and "lens of the phone" in soft.cure
    assert small.message.startswith("in 9 of 9 photos the subject has fewer pixels") and "messengers" in small.cure
    far = advise(_photos(9, face_px=10, side_px=2000), ["same_pose"])
    assert far[0].message.startswith("in 9 of 9 photos the face fills fewer pixels")
