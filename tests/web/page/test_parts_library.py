from dataclasses import replace

from studio.core.domain import JobFacts, JobView, SourceJob
from studio.web.page.parts_library import subject_caption, subject_shelf
from studio.web.shelf import Shelf, shelves_from

EVIL = "<img src=x onerror=alert(1)>"
ADA = JobFacts(subject="Ada", class_noun="woman", base="pocket", pack="styles")
RUN = JobView("t", "train", "completed", "local", "Training of Ada on pocket", 0.0, facts=ADA)
SUMMARY = {"mean": 0.76, "spread": 0.18, "word": "alike"}
DONE = replace(RUN, result={"likeness_after": 0.76, "likeness_summary": SUMMARY})
OPEN = replace(RUN, id="o", state="training", progress={"step": 120, "total": 400, "eta_s": 112.0})


def shelf(*jobs: JobView) -> Shelf:
    by_kind: dict = {}
    for job in jobs:
        by_kind.setdefault(job.kind, []).append(job)
    (found,) = shelves_from(by_kind)
    return found


def link(job: str, file: str) -> str | None:
    return None if file == "gone.png" else f"files/{job}/{file}"


def test_a_shelf_links_its_jobs_and_shows_pictures_that_are_there() -> None:
    images = [{"file": "a.png", "likeness": 0.9}, {"file": "gone.png", "likeness": 0.8}]
    made = replace(RUN, id="g", kind="generate", result={"images": images})
    html = subject_shelf(shelf(DONE, made), link)
    assert 'href="?job=t"' in html and 'href="?job=g"' in html and "files/g/a.png" in html and "gone.png" not in html
    assert "Best run: likeness 0.76 ± 0.18 (alike)" in html and "left:76.0%" in html
    assert "woman · 1 run · 1 series of pictures" in html


def test_favourites_have_a_row_of_their_own_and_stand_nowhere_twice() -> None:
    images = [{"file": f"{name}.png", "likeness": 0.9} for name in "ab"]
    made = replace(RUN, id="g", kind="generate", result={"images": images}, hearts=("b.png",))
    html = subject_shelf(shelf(DONE, made), link)
    assert html.index("Favourites") < html.index("files/g/b.png") < html.index("files/g/a.png")
    assert html.count("<img") == 2
    assert "Favourites" not in subject_shelf(shelf(DONE, replace(made, hearts=())), link)


def test_a_photo_set_is_listed_by_its_name() -> None:
    named = replace(RUN, id="c", kind="check", facts=replace(ADA, name="summer"))
    assert ">Ada, summer</a>" in subject_shelf(shelf(named), link)


def test_what_is_at_work_says_how_far_it_is_and_where_it_waits() -> None:
    html = subject_shelf(shelf(OPEN, DONE), link)
    assert "Training · 30 % · about 2 min left" in html
    waiting = replace(RUN, id="w", state="pendingGpu", place=2, starts_in_s=720.0)
    assert "Waiting for a free device · number 2 in the queue, starts in about 12 min" in subject_shelf(
        shelf(waiting), link
    )
    behind = replace(RUN, id="b", state="pendingImages", waits_for=SourceJob("c", "check", "Photos of Ada"))
    assert "Waiting for the photo check of Ada" in subject_shelf(shelf(behind), link)


def test_a_face_says_what_is_at_work_or_how_alike_the_best_run_is() -> None:
    assert subject_caption(shelf(DONE)) == "Ada · 0.76 (alike)"
    assert subject_caption(shelf(OPEN, DONE)) == "Ada · Training"
    assert subject_caption(shelf(replace(RUN, state="cancelled"))) == "Ada"


def test_foreign_words_are_escaped() -> None:
    evil = replace(RUN, id=EVIL, facts=JobFacts(subject=EVIL, class_noun=EVIL, base=EVIL), title=EVIL, state="training")
    html = subject_shelf(shelf(evil), link)
    assert "<img src=x" not in html and "&lt;img src=x" in html


def test_a_preview_of_a_publishing_is_not_counted_as_one() -> None:
    preview = replace(RUN, id="p", kind="publish", result={"commit": None})
    assert "published" not in subject_shelf(shelf(preview, DONE), link).split("<h3>")[0]
    pushed = replace(preview, result={"commit": "c" * 40})
    assert "published" in subject_shelf(shelf(pushed, DONE), link).split("<h3>")[0]
