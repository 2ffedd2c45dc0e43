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


def summarised(step: int, likeness: float | None, measured: int, version: str = "1", **changes: float) -> dict:
    summary = {"engine": "stub", "version": version, "measured": measured, "pictures": 4}
    return {**row(step, likeness, **changes), "likeness_summary": summary}


def test_a_checkpoint_that_shows_nobody_is_no_candidate_and_spoils_no_comparison() -> None:
    step, reason = choose_best([summarised(1, -0.3, 4), summarised(2, None, 0, val_loss=0.1)])
    assert step == 1, "not measured is not 0"
    assert "1 without enough measured pictures left out" in reason


def test_one_lucky_picture_does_not_beat_a_checkpoint_that_shows_the_subject_in_all() -> None:
    assert choose_best([summarised(1, 0.7, 4), summarised(2, 0.9, 1)])[0] == 1
    assert choose_best([summarised(1, 0.7, 4), summarised(2, 0.9, 2)])[0] == 2


def test_scores_of_two_versions_of_an_engine_are_never_compared() -> None:
    rows = [summarised(1, 0.9, 4, version="1"), summarised(2, 0.5, 4, version="2", val_loss=0.2)]
    step, reason = choose_best(rows)
    assert step == 2 and "not measured by one and the same engine" in reason


def test_where_no_sample_shows_the_subject_the_reason_says_so() -> None:
    step, reason = choose_best([summarised(1, None, 0), summarised(2, None, 0, val_loss=0.2)])
    assert step == 2 and "no sample of any of them shows the subject" in reason


def test_bleed_that_is_not_measured_costs_nothing_and_is_said() -> None:
    rows = [summarised(1, 0.9, 4, bleed=None), summarised(2, 0.5, 4)]  # type: ignore[arg-type]
    assert choose_best(rows) == (1, "highest likeness of 2 checkpoints (0.90, bleed not measured)")
