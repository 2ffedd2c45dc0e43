import re
from dataclasses import replace

import pytest

from studio.core import language
from studio.core.domain import JobView
from studio.core.fit import FitPlan
from studio.web.page import parts_train, words
from studio.web.page.history import JobHistory

JOB = JobView("train-1", "train", "training", "local", "Ada", created_s=0.0)


def linked(path: str) -> str:
    return f"files/job/{path}"


def test_curves_appear_with_their_first_points() -> None:
    assert parts_train.curves(JobHistory(loss={1: 0.5}), None) == ""
    history = JobHistory(loss={step: 1 / step for step in range(1, 2001)}, likeness={0: 0.1, 1000: 0.8, 2000: 0.7})
    html = parts_train.curves(history, {"best_step": 1000})
    assert "Loss" in html and "best 0.80" in html and "Likeness by step: 0: 0.10, 1000: 0.80" in html
    assert len(html) < 40_000  # a long run must not make the page heavy
    numbers = [
        float(number) for number in re.findall(r"[\d.]+,([\d.]+)", " ".join(re.findall(r'points="([^"]*)"', html)))
    ]
    assert all(0 <= y <= 132 for y in numbers)


def test_smoothing_neither_lags_nor_leaves_the_range() -> None:
    values = [1.0, 0.0] * 50
    smooth = parts_train._smooth(values)
    assert len(smooth) == 100 and all(0.3 <= value <= 0.7 for value in smooth)


def run_with(*steps: int) -> JobHistory:
    history = JobHistory(likeness={0: 0.05, 50: 0.6}, summaries={50: {"mean": 0.62, "word": "somewhat alike"}})
    for step in steps:
        for number in (1, 0):
            path = f"samples/{step}/0{number}.png"
            sample = {"step": step, "path": path, "prompt": f"scene {number}", "likeness": step / 100 or None}
            history.samples[path] = sample
    return history


def test_every_evaluated_checkpoint_is_a_frame_with_its_word_its_bar_and_the_kept_one_marked() -> None:
    html = parts_train.film(run_with(50, 0, 100), linked, 50, (0, 50))
    frames = re.findall(r"<button[^>]*data-frame=.*?</button>", html)
    shown = [re.sub(r"<[^>]+>", " ", frame).split() for frame in frames]
    assert [" ".join(words) for words in shown] == [
        "Before training likeness 0.05",
        "Step 50 kept Somewhat alike · likeness 0.62",
        "Step 100 likeness not measured",
    ]
    assert [re.findall(r"width:(\d+)%", frame) for frame in frames] == [["5"], ["62"], []]
    assert all(f"samples/{step}/00.png?small=1" in frame for step, frame in zip((0, 50, 100), frames, strict=True))
    assert [re.findall(r'aria-pressed="(\w+)"', frame) for frame in frames] == [["true"], ["true"], ["false"]]


def test_two_checkpoints_stand_side_by_side_with_the_same_prompts() -> None:
    html = parts_train.film(run_with(0, 50, 100), linked, 50, (100, 50)).partition("ls-pair")[2]
    assert re.findall(r'href="([^"]*)"', html) == [
        f"files/job/samples/{step}/0{number}.png" for number in (0, 1) for step in (50, 100)
    ]
    assert re.findall(r'ls-hint">(.*?)<', html) == ["scene 0", "scene 1"]
    assert parts_train.film(JobHistory(), linked, None, ()) == ""


@pytest.mark.parametrize(
    ("best", "pressed", "beside"),
    [
        (50, (), (0, 50)),
        (None, (), (0, 100)),  # the newest one while it trains
        (50, (100,), (50, 100)),
        (50, (0,), (50, 0)),
        (50, (100, 0), (100, 0)),
        (50, (100, 100), (50, 100)),
        (50, (7, 100), (50, 100)),  # of another attempt
    ],
)
def test_what_was_pressed_last_stands_beside_what_was_pressed_before_or_the_kept_one(
    best: int | None, pressed: tuple[int, ...], beside: tuple[int, ...]
) -> None:
    assert parts_train.chosen_frames(run_with(0, 50, 100), best, pressed) == beside
    assert parts_train.chosen_frames(JobHistory(), best, pressed) == ()


@pytest.mark.parametrize(
    ("after", "word", "said"),
    [
        (0.85, "alike", "clearly show"),
        (0.5, "somewhat alike", "resemble"),
        (0.1, "not alike", "hardly"),
        (None, None, "Judge"),
    ],
)
def test_the_likeness_is_judged_by_the_word_of_its_engine(after: float | None, word: str | None, said: str) -> None:
    summary = {"mean": after, "word": word, "caveat": "Mind the gap."}
    result = {"likeness_before": 0.04, "likeness_after": after, "best_step": 8, "steps": 9, "seconds": 100.0}
    result["likeness_summary"] = summary
    html = parts_train.train_result(replace(JOB, state="completed", result=result), linked)
    assert "Mind the gap." in html
    assert said in html and "step 8 of 9" in html and "pytorch_lora_weights.safetensors" in html


def test_a_likeness_without_measured_borders_is_not_judged() -> None:
    result = {"likeness_after": 0.85, "likeness_summary": {"mean": 0.85, "word": None}, "best_step": 8, "steps": 9}
    html = parts_train.train_result(replace(JOB, state="completed", result=result), linked)
    assert not any(sentence in html for sentence in words.JUDGEMENTS.values())


def test_a_german_title_keeps_its_capitals() -> None:
    result = {"likeness_after": 0.85, "likeness_summary": {"mean": 0.85, "word": None}, "best_step": 8, "steps": 9}
    job = replace(JOB, state="completed", result=result)
    with language.speaking("de"):
        assert "Das Training ist fertig" in parts_train.train_result(job, linked)
        result["likeness_summary"] = {"mean": 0.85, "word": "alike"}
        html = parts_train.train_result(job, linked)
    assert "Ähnlich<" in html and "Ähnlichkeit 0.85." in html and "deutlich das Motiv" in html


def test_a_plan_that_does_not_fit_is_framed_and_one_that_does_is_a_hint() -> None:
    plan = FitPlan(100, 5, 60.0, 6 * 10**9, 8 * 10**9, None, True, "a GPU")
    assert "ls-hint" in parts_train.plan(
        plan
    ) and "Plan: 100 steps, about 60 s, 6 GB of 8 GB memory" in parts_train.plan(plan)
    assert "ls-notice" in parts_train.plan(replace(plan, room_bytes=4 * 10**9))
