from typing import Any

import pytest

from studio.core.config import CheckConfig
from studio.web.page.photo_edits import Edits, actions, crop_shares, sliders_of


def _verdict(status: str = "good", code: str = "", *, kept: bool = True) -> dict[str, Any]:
    problems = [{"code": code, "message": "m", "cure": "c"}] if code else []
    return {"name": "a.jpg", "status": status, "problems": problems, "original": "originals/1.jpg" if kept else None}


def test_a_photo_offers_what_can_be_done_with_it() -> None:
    edits = Edits()
    assert actions(_verdict(), edits) == ("take_out", "open")
    assert actions(_verdict("rejected", "blurred"), edits) == ("use", "open")
    assert actions(_verdict("rejected", "excluded"), edits) == ("put_back",)
    assert actions(_verdict("rejected", "not_a_photo", kept=False), edits) == ()
    edits.pressed("take_out", "a.jpg")
    assert actions(_verdict(), edits) == ("undo",)


def test_the_last_press_counts_and_undo_takes_it_back() -> None:
    edits = Edits()
    edits.pressed("use", "a.jpg")
    edits.pressed("take_out", "a.jpg")
    assert edits.action_of("a.jpg") == "take_out" and len(edits) == 1
    edits.captions["b.jpg"] = "at the sea"
    assert len(Edits.of(edits.state())) == 2
    edits.pressed("undo", "a.jpg")
    assert edits.action_of("a.jpg") == "" and len(edits) == 1


def test_edits_come_on_top_of_those_that_the_set_was_made_with() -> None:
    before = {
        "exclude": ["a.jpg", "b.jpg"],
        "force": ["c.jpg"],
        "captions": {"d.jpg": "x"},
        "crops": {"d.jpg": [0] * 4},
    }
    edits = Edits(take_out=["c.jpg"], put_back=["a.jpg"], use=["e.jpg"], captions={"f.jpg": "y"}, crops={"d.jpg": None})
    settings = edits.settings(before)
    assert settings == {
        "exclude": ["b.jpg", "c.jpg"],
        "force": ["e.jpg"],
        "captions": {"d.jpg": "x", "f.jpg": "y"},
        "crops": {},
    }
    CheckConfig.parse(settings)


@pytest.mark.parametrize("size_hw", [(600, 800), (800, 600), (500, 500)])
@pytest.mark.parametrize("sliders", [(True, 100.0, 0.0, 50.0), (True, 40.0, 100.0, 25.0), (False, 60.0, 10.0, 90.0)])
def test_a_crop_and_its_sliders_say_the_same(
    size_hw: tuple[int, int], sliders: tuple[bool, float, float, float]
) -> None:
    is_square, size, across, down = sliders
    crop = crop_shares(size_hw, is_square=is_square, size=size, across=across, down=down)
    CheckConfig.parse({"crops": {"a.jpg": crop}})
    square, *found = sliders_of(crop, size_hw)
    again = crop_shares(size_hw, is_square=square, size=found[0], across=found[1], down=found[2])
    assert again == pytest.approx(crop, abs=0.003)
    if is_square:
        assert crop[2] * size_hw[0] == pytest.approx(crop[3] * size_hw[1], abs=1)


def test_nothing_is_cut_where_the_whole_photo_is_used() -> None:
    assert sliders_of((0, 0, 1, 1), (600, 800)) == (False, 100.0, 50.0, 50.0)
