from typing import Any

import pytest

from studio.web.page import parts_photos
from studio.web.page.photo_edits import Edits


def no_file(_: str) -> None:
    return None


def linked(path: str) -> str:
    return f"files/job/{path}"


def _verdict(**changes: Any) -> dict[str, Any]:
    return {"name": "a.jpg", "status": "good", "problems": (), "likeness": 0.9, "preview": "p/0.webp", **changes}


def test_a_photo_card_shows_crop_mark_likeness_and_cure() -> None:
    problems = [{"code": "blurred", "message": "is blurred", "cure": "use a sharper one"}]
    html = parts_photos.verdict_cards([_verdict(status="usable", problems=problems)], linked)
    assert 'src="files/job/p/0.webp"' in html and "Usable" in html and "0.90" in html
    assert "Is blurred. Use a sharper one." in html


def test_a_photo_without_crop_says_so() -> None:
    assert "no preview" in parts_photos.verdict_cards(
        [_verdict(status="rejected", preview=None, likeness=None)], linked
    )
    assert "no preview" in parts_photos.verdict_cards([_verdict()], no_file)


@pytest.mark.parametrize(
    ("ready", "left_out", "set_problems", "words"),
    [
        (6, 0, [], "All 6 photos are ready"),
        (5, 1, [], "5 of 6 photos of Ada are ready"),
        (3, 0, [{"code": "too_few", "message": "too few", "cure": "add more"}], "Too few. Add more."),
        (0, 2, [], "None of these photos can be used"),
    ],
)
def test_the_summary_says_what_to_do_next(ready: int, left_out: int, set_problems: list[Any], words: str) -> None:
    verdicts = [_verdict()] * ready + [_verdict(status="rejected", likeness=None)] * left_out
    dataset = {"subject": "Ada", "verdicts": verdicts, "photos": [1] * ready, "set_problems": set_problems}
    assert words in parts_photos.check_summary(dataset)


def test_the_summary_says_for_whom_the_comparison_is_worse() -> None:
    dataset = {"subject": "Ada", "verdicts": [_verdict()], "photos": [1], "set_problems": []}
    summary = {"mean": 0.9, "caveat": "Mind the gap."}
    assert "Mind the gap." in parts_photos.check_summary({**dataset, "likeness_summary": summary})


def test_a_set_with_a_problem_is_not_called_good_and_other_warnings_are_shown() -> None:
    problem = {"code": "not_compared", "message": "whether all show one was not checked", "cure": "look yourself"}
    dataset = {"subject": "Rex", "verdicts": [_verdict()] * 5, "photos": [1] * 5, "set_problems": [problem]}
    told = [f"{problem['message']}; {problem['cure']}", "photos in subfolders are ignored: 2 in old"]
    html = parts_photos.check_summary(dataset, told)
    assert html.count("Whether all show one was not checked. Look yourself.") == 1
    assert "good set" not in html and "photos in subfolders are ignored: 2 in old" in html


def test_advice_stands_beside_a_good_set() -> None:
    advice = [{"code": "same_light", "message": "the light is the same in all 8 photos", "cure": "add one outdoors"}]
    dataset = {"subject": "Ada", "verdicts": [_verdict()] * 8, "photos": [1] * 8, "set_problems": [], "advice": advice}
    html = parts_photos.check_summary(dataset)
    assert "This is a good set" in html and "What would make it better" in html
    assert "The light is the same in all 8 photos. Add one outdoors." in html
    assert "make it better" not in parts_photos.check_summary({**dataset, "advice": []})


def test_a_photo_that_was_left_out_keeps_its_picture_and_can_be_used_anyway_at_a_risk() -> None:
    problem = {"code": "blurred", "message": "is blurred", "cure": "use another", "risk": "pictures may come out soft"}
    row = _verdict(
        status="rejected", problems=[problem], original="originals/1.jpg", notes=("black bars were cut off",)
    )
    html = parts_photos.verdict_cards([row], linked, Edits())
    assert 'src="files/job/p/0.webp"' in html and "Risk: pictures may come out soft." in html
    assert 'data-do="use" data-photo="a.jpg"' in html and "Black bars were cut off." in html
    waiting = parts_photos.verdict_cards([row], linked, Edits(use=["a.jpg"]))
    assert "Will be used anyway" in waiting and 'data-do="undo"' in waiting
    assert "data-do" not in parts_photos.verdict_cards([row], linked), "while it is being checked nothing is edited"


def test_dropped_photos_are_cards_before_they_are_checked() -> None:
    html = parts_photos.new_cards([("a.jpg", "data:image/webp;base64,AA"), ("b.heic", None)])
    assert html.count("Not checked yet") == 2 and "cannot be shown" in html
    assert 'src="data:image/webp;base64,AA"' in html


def test_the_crop_is_a_frame_on_the_photo() -> None:
    html = parts_photos.crop_preview("files/job/o.jpg", "a.jpg", (0.25, 0, 0.5, 1))
    assert "top:25.0%;left:0%;height:50.0%;width:100%" in html


def test_a_set_without_a_usable_photo_says_what_concerns_all_of_it() -> None:
    rows = [("class_noun", "no face was found in any of 2 photos of a woman"), ("a.jpg", "no face found")]
    problems = [{"where": where, "message": message, "cure": "do this"} for where, message in rows]
    html = parts_photos.nothing_usable(problems, ["a.jpg"])
    assert "None of these photos can be used" in html
    assert "No face was found in any of 2 photos of a woman. Do this." in html and "No face found." not in html
