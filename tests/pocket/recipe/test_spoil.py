"""What the measuring nets meet besides whole pictures."""

import pytest
import torch

from studio.pocket.recipe.spoil import WAYS, blurred, disturb, face_box, feature_box, spoil_box, without_face

POINTS = torch.tensor([[0.5, 0.38], [0.5, 0.62], [0.59, 0.5], [0.69, 0.5]])


def picture() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(3, 64, 64) * 2 - 1


@pytest.mark.parametrize("way", WAYS)
def test_spoiling_changes_the_box_and_nothing_else(way: str) -> None:
    before, box = picture(), face_box(POINTS, 64, 0.5)
    after = spoil_box(before, box, way)
    top, left, bottom, right = box
    assert after.shape == before.shape and after.isfinite().all()
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    assert torch.equal(after[:, ~inside], before[:, ~inside])
    assert (after - before)[:, inside].abs().mean() > 0.1


def test_face_box_grows_and_holds_all_features() -> None:
    small, large = face_box(POINTS, 128, 0.0), face_box(POINTS, 128, 1.0)
    assert large[0] < small[0] < small[2] < large[2]
    for y, x in (POINTS * 128).tolist():
        assert small[0] <= y <= small[2] and small[1] <= x <= small[3]


def test_feature_box_holds_its_feature_and_no_other() -> None:
    top, left, bottom, right = feature_box(POINTS, 0, 128)
    inside = [top <= y <= bottom and left <= x <= right for y, x in (POINTS * 128).tolist()]
    assert inside == [True, False, False, False]


def test_picture_without_face_keeps_its_size_whatever_is_done_to_it() -> None:
    torch.manual_seed(1)
    for _ in range(40):
        made = without_face(picture(), POINTS)
        assert made.shape == (3, 64, 64) and made.isfinite().all()


def test_blur_takes_detail_away_and_keeps_the_mean() -> None:
    sharp = picture()[None]
    soft = blurred(sharp, 2.0)
    assert soft.std() < 0.3 * sharp.std()
    assert soft.mean().item() == pytest.approx(sharp.mean().item(), abs=0.05)


def test_disturbed_pictures_leave_the_originals_alone() -> None:
    torch.manual_seed(2)
    before = torch.stack([picture()] * 4)
    copy = before.clone()
    after = disturb(before)
    assert torch.equal(before, copy)
    assert after.shape == before.shape and not torch.equal(after[0], after[1])
