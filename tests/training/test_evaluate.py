import pytest

from studio.core.errors import TrainingError
from studio.training.evaluate import BLEED_LIMIT, LossMonitor, choose_best, require_sane_validation


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
        LossMonitor([0.1] * 6).see(loss, 7)


def test_a_loss_that_explodes_ends_the_run_and_one_that_jumps_does_not() -> None:
    watch = LossMonitor()
    for step in range(1, 21):
        watch.see(0.1 if step % 5 else 1.5, step)  # single timesteps differ tenfold
    with pytest.raises(TrainingError, match=r"from 0\.38 to .*the training diverged; lower learning_rate"):
        for step in range(21, 40):
            watch.see(20.0, step)


def test_a_run_that_goes_on_compares_with_its_own_first_losses() -> None:
    watch = LossMonitor([0.1] * 10 + [1.0] * 10)
    with pytest.raises(TrainingError, match=r"from 0\.1"):
        for step in range(21, 31):
            watch.see(9.0, step)


@pytest.mark.parametrize("val_loss", [float("nan"), 2.1])
def test_a_validation_loss_that_explodes_ends_the_run(val_loss: float) -> None:
    require_sane_validation(1.9, 0.2, 4)
    with pytest.raises(TrainingError, match="by step 4: the training diverged"):
        require_sane_validation(val_loss, 0.2, 4)
