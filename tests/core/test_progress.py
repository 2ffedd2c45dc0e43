import threading

import pytest

from studio.core import progress
from studio.core.domain import Event
from studio.core.errors import JobCancelled
from studio.core.progress import ProgressReporter, Throttle, TrainingReporter, check_stop, stopped


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def heard() -> list[Event]:
    return []


@pytest.fixture
def reporter(heard: list[Event], clock: Clock) -> ProgressReporter:
    return ProgressReporter(heard.append, kept=progress.PICTURES_KEPT, clock=clock)


def test_the_throttle_lets_one_pass_per_interval_and_whatever_must_pass(clock: Clock) -> None:
    throttle = Throttle(0.25, clock)
    assert throttle.is_due() and not throttle.is_due()
    assert throttle.is_due(always=True)
    clock.now_s += 0.25
    assert throttle.is_due() and not throttle.is_due()
    throttle.reset()
    assert throttle.is_due()


def test_progress_is_told_four_times_a_second_and_the_last_step_always(
    reporter: ProgressReporter, heard: list[Event], clock: Clock
) -> None:
    reporter.start(100)
    for done in range(1, 101):
        clock.now_s += 0.1
        reporter.step(done, "working")
    assert [event.data["step"] for event in heard] == [*range(1, 100, 3), 100]


def test_the_first_step_of_a_stage_is_told(reporter: ProgressReporter, heard: list[Event]) -> None:
    reporter.start(9)
    reporter.advance("one")
    reporter.advance("not told")
    reporter.stage("next", "Going on")
    reporter.advance("three")
    assert [event.data["message"] for event in heard] == ["one", "Going on", "three"]
    assert heard[0].data["eta_s"] == 0.0 and set(heard[0].data) == {"step", "total", "eta_s", "message"}


def test_the_time_left_comes_from_what_was_done_here_and_runs_down_between_steps(
    reporter: ProgressReporter, heard: list[Event], clock: Clock
) -> None:
    reporter.start(10, done=4)
    reporter.tick("drawing")
    clock.now_s += 2
    reporter.step(5, "drawing")
    clock.now_s += 1
    reporter.tick("drawing")
    clock.now_s += 60
    reporter.tick("drawing")
    assert [event.data["eta_s"] for event in heard] == [None, 10.0, 9.0, 0.0]
    assert [event.data["step"] for event in heard] == [4, 5, 5, 5]


def test_a_sign_of_life_after_the_last_step_repeats_nothing(reporter: ProgressReporter, heard: list[Event]) -> None:
    reporter.start(1)
    reporter.advance("done")
    reporter.tick("packing")
    assert len(heard) == 1


def test_messages_carry_their_level(reporter: ProgressReporter, heard: list[Event]) -> None:
    reporter.message("so it is")
    reporter.warn("take care")
    assert [event.data for event in heard] == [
        {"level": "info", "text": "so it is"},
        {"level": "warning", "text": "take care"},
    ]


def test_stopping_is_said_in_one_way() -> None:
    assert str(stopped("nothing was kept")) == "Stopped; nothing was kept."
    assert str(stopped(progress.GO_ON, "at step 3 of 4")) == (
        "Stopped at step 3 of 4; start again to go on from there."
    )
    check_stop(lambda: False, "nothing was kept")
    with pytest.raises(JobCancelled, match=r"^Stopped while planning; nothing was kept.$"):
        check_stop(lambda: True, progress.NOTHING_KEPT, "while planning")


@pytest.mark.parametrize(
    "ask",
    [lambda r: r.check_stop(), lambda r: r.stage("a", "b"), lambda r: r.tick("c")],
    ids=["check", "stage", "tick"],
)
def test_a_request_to_stop_is_heard(heard: list[Event], ask) -> None:
    with pytest.raises(JobCancelled, match=r"^Stopped; finished pictures are kept.$"):
        ask(ProgressReporter(heard.append, lambda: True, kept=progress.PICTURES_KEPT))
    assert heard == []


def test_long_work_returns_its_answer_raises_its_error_and_hears_a_request_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.01)
    assert ProgressReporter().wait_for(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        ProgressReporter().wait_for(lambda: 1 // 0)
    never = threading.Event()
    with pytest.raises(JobCancelled):
        ProgressReporter(should_stop=lambda: True).wait_for(lambda: never.wait(30))
    never.set()


def test_a_training_step_brings_its_metrics_and_counts_the_evaluations_to_come(heard: list[Event]) -> None:
    reporter = TrainingReporter(heard.append, lambda: False)
    reporter.evaluated(
        {"step": 0, "samples": [{"path": "a", "prompt": "b", "likeness": 0.5, "seed": 1}]}, {"step": 0}, 5.0
    )
    reporter.trained({"step": 1, "loss": 0.5}, 2.0, total=3, evaluations_left=2)
    reporter.trained({"step": 2, "loss": 0.4}, 2.0, total=3, evaluations_left=1)
    reporter.trained({"step": 3, "loss": 0.3}, 2.0, total=3, evaluations_left=0)
    assert [event.kind for event in heard] == ["metrics", "sample", *["progress", "metrics"] * 2]
    assert heard[1].data == {"step": 0, "path": "a", "prompt": "b", "likeness": 0.5}
    assert heard[2].data == {"step": 1, "total": 3, "eta_s": 2.0 * 2 + 5.0 * 2, "message": "step 1 of 3"}
    assert heard[-1].data["step"] == 3


def test_what_is_no_number_of_things_says_so(reporter: ProgressReporter, heard: list[Event]) -> None:
    reporter.start(3, counted=False)
    reporter.step(3, "Looked at one.jpg")
    reporter.start(1)
    reporter.step(1, "Picture 1")
    assert [event.data.get("counted") for event in heard] == [False, None]
