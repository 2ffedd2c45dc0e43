import re
from dataclasses import replace
from typing import Any

import pytest

from studio.core.domain import JobFacts, JobView, SourceJob
from studio.core.errors import InputError, NotFoundError, Problem
from studio.core.fit import FitPlan
from studio.core.packs import Pack
from studio.web.page import parts, parts_photos, parts_pictures, parts_publish, parts_train
from studio.web.page.history import JobHistory

EVIL = '<img src=x onerror="alert(1)">'
JOB = JobView("train-1", "train", "training", "local", "Ada", created_s=0.0)


def no_file(_: str) -> None:
    return None


def linked(path: str) -> str:
    return f"files/job/{path}"


def _verdict(**changes: Any) -> dict[str, Any]:
    return {"name": "a.jpg", "status": "good", "problems": (), "likeness": 0.9, "preview": "p/0.webp", **changes}


def _tags(html: str) -> str:
    return re.sub(r"<(?!img src=x)[^>]*>", "", html)


def test_foreign_words_are_escaped_wherever_they_appear() -> None:
    problem = {"code": "x", "message": EVIL, "cure": EVIL}
    history = JobHistory(stage=EVIL, warnings=[EVIL])
    history.samples["s"] = {"step": 1, "path": EVIL, "prompt": EVIL, "likeness": 0.1}
    dataset = {"subject": EVIL, "verdicts": [_verdict(name=EVIL)], "photos": [1], "set_problems": [problem]}
    for html in (
        parts.error(InputError.of([Problem(EVIL, EVIL, EVIL)])),
        parts.error(NotFoundError(EVIL)),
        parts_photos.verdict_cards([_verdict(name=EVIL, problems=[problem], preview=EVIL)], linked),
        parts_photos.check_summary(dataset),
        parts.progress(JOB, history),
        parts.progress(replace(JOB, state="stalled", cause=EVIL, problems=({"where": EVIL, **problem},)), history),
        parts_train.samples(history, linked),
        parts.warnings(history),
    ):
        assert "<img src=x" not in html
        assert "&lt;img src=x" in html


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


def test_progress_shows_steps_and_remaining_time() -> None:
    job = replace(JOB, progress={"step": 120, "total": 400, "eta_s": 112.0})
    html = parts.progress(job, JobHistory(stage="Learning the subject"))
    assert "Step 120 of 400 · about 2 min left" in html and "30 %" in html and "Training" in html


def test_a_waiting_job_shows_no_numbers() -> None:
    html = parts.progress(replace(JOB, state="pending"), JobHistory())
    assert "Waiting for its turn" in html and "waiting" in html and "%" not in _tags(html)


@pytest.mark.parametrize(
    ("kind", "source", "sentence"),
    [("train", "check", "the photo check of Ada"), ("publish", "train", "the training of Ada")],
)
def test_a_job_that_waits_for_another_one_says_for_what(kind: Any, source: Any, sentence: str) -> None:
    waiting = replace(JOB, kind=kind, state="pendingImages", facts=JobFacts(subject="Ada"))
    html = parts.progress(replace(waiting, waits_for=SourceJob("1", source, "x")), JobHistory())
    assert f"Waiting for {sentence}" in html


def test_a_stalled_job_lists_every_problem_with_its_cure() -> None:
    rows = ({"where": "a.jpg", "message": "is no picture", "cure": "export it"},) * 2
    html = parts.progress(replace(JOB, state="stalled", cause="x", problems=rows), JobHistory())
    assert html.count("a.jpg: Is no picture. Export it.") == 2


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


def test_samples_come_newest_first_with_the_kept_one_marked() -> None:
    history = JobHistory(likeness={0: 0.05, 50: 0.6, 100: 0.5})
    for step in (0, 50, 100):
        history.samples[f"s{step}"] = {"step": step, "path": f"s{step}", "prompt": "p", "likeness": None}
    titles = re.findall(r"<h3>(.*?)</h3>", parts_train.samples(history, linked, best_step=50))
    assert titles == ["Step 100 · likeness 0.50", "Step 50 · likeness 0.60 · kept", "Before training · likeness 0.05"]


@pytest.mark.parametrize(
    ("after", "words"), [(0.85, "clearly show"), (0.5, "resemble"), (0.1, "hardly"), (None, "Judge")]
)
def test_the_likeness_is_judged_in_a_sentence(after: float | None, words: str) -> None:
    result = {"likeness_before": 0.04, "likeness_after": after, "best_step": 8, "steps": 9, "seconds": 100.0}
    html = parts_train.train_result(replace(JOB, state="completed", result=result), linked)
    assert words in html and "step 8 of 9" in html and "pytorch_lora_weights.safetensors" in html


def test_pictures_are_ordered_by_rank_once_ranked_and_by_likeness_before() -> None:
    rows = [{"file": "a", "likeness": 0.2, "rank": 0}, {"file": "b", "likeness": None, "rank": 0}]
    rows.append({"file": "c", "likeness": 0.9, "rank": 0})
    history = JobHistory(images={row["file"]: row for row in rows})
    assert [row["file"] for row in parts_pictures.picture_order(history, None)] == ["c", "a", "b"]
    ranked = [{**row, "rank": rank} for row, rank in zip(rows, (2, 1, 3), strict=True)]
    assert [row["file"] for row in parts_pictures.picture_order(history, {"images": ranked})] == ["b", "a", "c"]


PACK = Pack.parse(
    {
        "name": "small",
        "title": "Small",
        "description": f"About {EVIL}",
        "author": EVIL,
        "subjects": ["person", "animal"],
        "wildcards": {"place": ["at sea", "in town"]},
        "preview": {"shots": ["far_away"], "colours": ["#112233", "#445566"]},
        "shots": [
            {"name": "near", "prompt": "a {class_noun}: {subject}"},
            {"name": "far_away", "prompt": "{subject} {place}", "variants": {"animal": "{subject} runs"}},
        ],
    }
)


def test_a_packs_card_shows_its_colours_its_best_shots_and_all_in_words() -> None:
    html = parts_pictures.pack_preview(PACK, "Ada", "woman", {"far_away": "files/1/a.png", "near": "files/1/b.png"})
    assert "#112233 0% 50%, #445566 50% 100%" in html
    assert 'src="files/1/a.png"' in html and "b.png" not in html  # near is not among the previewed
    assert "a woman: Ada" in html and "Ada at sea …" in html and "far away" in html
    assert "Ada runs" in parts_pictures.pack_preview(PACK, "Rex", "dog").replace("Rex", "Ada")
    assert "<img" not in parts_pictures.pack_preview(PACK, "Ada")
    assert "Write your own prompts" in parts_pictures.pack_preview(None, "Ada")


def test_a_foreign_packs_words_are_escaped() -> None:
    html = parts_pictures.pack_preview(PACK, EVIL, EVIL, {"far_away": EVIL})
    assert "<img src=x" not in html and "&lt;img src=x" in html


def test_what_keeping_the_best_was_worth_is_said() -> None:
    image = {"file": "a.png", "shot": "far_away", "likeness": 0.8, "rank": 1}
    result = {"images": [image], "left_out": [image] * 3, "likeness_mean": 0.8, "likeness_mean_made": 0.613}
    said = _tags(parts_pictures.generate_result(replace(JOB, result={**result, "from_cache": 2}), no_file))
    assert "3 others were left out; the average of all was 0.61. 2 came from the cache." in said
    one = parts_pictures.generate_result(replace(JOB, result={"images": [image] * 2, "left_out": [image]}), no_file)
    assert "2 pictures" in one and "1 other was left out." in one
    assert parts_pictures.picture_caption(image) == "0.80 · far away"


def test_a_plan_that_does_not_fit_is_framed_and_one_that_does_is_a_hint() -> None:
    plan = FitPlan(100, 5, 60.0, 6 * 10**9, 8 * 10**9, None, True, "a GPU")
    assert "ls-hint" in parts_train.plan(
        plan
    ) and "Plan: 100 steps, about 60 s, 6 GB of 8 GB memory" in parts_train.plan(plan)
    assert "ls-notice" in parts_train.plan(replace(plan, room_bytes=4 * 10**9))


def test_what_was_published_is_told_with_a_safe_link() -> None:
    result = {"repo": "ada/<b>", "url": "https://hub/ada/x", "commit": "c" * 40, "public": False, "licence": "mit",
              "files": ["README.md"], "bytes": 4000, "warnings": ["Mind <it>."]}  # fmt: skip
    done = replace(JOB, kind="publish", state="completed", result=result)
    html = parts_publish.publish_result(done)
    assert (
        'href="https://hub/ada/x"' in html and "ada/&lt;b&gt;" in html and "Only you" in html and "&lt;it&gt;" in html
    )
    dry = replace(done, result={**result, "commit": None})
    assert "Nothing was sent" in parts_publish.publish_result(dry) and "href" not in parts_publish.publish_result(dry)
    odd = replace(done, result={**result, "url": "javascript:alert(1)"})
    assert "javascript" not in parts_publish.publish_result(odd)


def test_a_card_is_previewed_without_its_front_matter() -> None:
    assert (
        parts_publish.card_text("---\nlicense: mit\n---\n\n# Ada\n\n<Gallery />\n\n---\nend\n")
        == "# Ada\n\n\n\n---\nend"
    )
    assert parts_publish.card_text("# Ada") == "# Ada"


def test_an_open_job_of_which_nothing_can_be_stored_says_so_above_its_bar() -> None:
    full = "the table of jobs cannot grow because the disk is full; free some disk space <b>"
    html = parts.progress(replace(JOB, cause=full), JobHistory())
    assert "disk is full" in html and "&lt;b&gt;" in html
    assert 'role="alert"' not in parts.progress(JOB, JobHistory())
