import pytest

from studio.errors import TrainingError
from studio.evaluate import BLEED_LIMIT, choose_best, require_finite


def row(step: int, likeness: float | None, bleed: float | None = 0.0, val_loss: float = 1.0) -> dict:
    return {"step": step, "likeness": likeness, "bleed": bleed, "val_loss": val_loss}


def test_the_best_checkpoint_has_the_highest_likeness() -> None:
    step, reason = choose_best([row(1, 0.5), row(2, 0.8, 0.1), row(3, 0.7)])
    assert step == 2
    assert reason == "highest likeness of 3 checkpoints (0.80, bleed 0.10)"


def test_bleed_above_the_limit_costs_a_checkpoint_its_place() -> None:
    step, reason = choose_best([row(1, 0.75, 0.05), row(2, 0.85, BLEED_LIMIT + 0.1)])
    assert step == 1
    assert "penalty for bleed" in reason


def test_bleed_below_the_limit_and_negative_bleed_cost_nothing() -> None:
    assert choose_best([row(1, 0.75, -0.2), row(2, 0.8, BLEED_LIMIT)])[0] == 2


def test_equal_checkpoints_leave_the_earlier_one() -> None:
    assert choose_best([row(1, 0.8), row(2, 0.8)])[0] == 1


def test_without_likeness_the_lowest_validation_loss_is_best() -> None:
    step, reason = choose_best([row(1, None, None, 0.3), row(2, None, None, 0.2), row(3, None, None, 0.25)])
    assert step == 2
    assert "validation loss" in reason


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_with_a_cure(loss: float) -> None:
    with pytest.raises(TrainingError, match=r"at step 7.*lower learning_rate"):
        require_finite(loss, 7)
