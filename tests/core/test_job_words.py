import pytest

from studio.core.domain import JobFacts, JobView, SourceJob
from studio.core.job_words import name_of, place_of, title_of, waiting_for, work_of

ADA = JobFacts(subject="Ada", class_noun="woman", base="pocket")


@pytest.mark.parametrize(
    ("kind", "facts", "title"),
    [
        ("check", JobFacts(subject="Ada"), "Photos of Ada"),
        ("train", ADA, "Training of Ada on pocket"),
        ("generate", JobFacts(pack="business"), "Pictures: business"),
        ("generate", JobFacts(prompt="a " * 50), f"Pictures: {'a ' * 29}a…"),
        ("export", JobFacts(format="kohya"), "Export: kohya"),
        ("finish", JobFacts(chain="avatar", steps=("fit",)), "Finishing: avatar"),
        ("finish", JobFacts(steps=("cutout", "fit")), "Finishing: cutout, fit"),
        ("finish", JobFacts(), "Finishing: contact sheet"),
        ("publish", JobFacts(repo="ada/portrait"), "Publishing: ada/portrait"),
    ],
)
def test_a_title_is_worded_from_the_facts(kind, facts, title):
    assert title_of(kind, facts) == title


def test_in_a_list_of_one_kind_the_name_does_without_the_kind():
    job = JobView("t", "train", "pending", "ada", "Training of Ada on pocket", 0.0, facts=ADA)
    assert name_of(job) == "Ada on pocket"


def test_a_waiting_job_names_the_work_and_the_subject_that_it_waits_for():
    publish = JobView("p", "publish", "pendingImages", "ada", "", 0.0, facts=ADA)
    assert waiting_for(publish) is None
    waiting = JobView(
        "p", "publish", "pendingImages", "ada", "", 0.0, facts=ADA, waits_for=SourceJob("t", "train", "Training of Ada")
    )
    assert waiting_for(waiting) == "the training of Ada"
    assert work_of("generate", JobFacts()) == "the pictures"


@pytest.mark.parametrize(
    ("place", "starts_in_s", "words"),
    [
        (None, None, ""),
        (1, 0.0, "next in the queue"),
        (1, 40.0, "next in the queue, starts in about 40 s"),
        (3, None, "number 3 in the queue"),
        (1200, 720.0, "number 1,200 in the queue, starts in about 12 min"),
    ],
)
def test_a_place_in_the_queue_is_told_with_an_estimate_where_there_is_one(place, starts_in_s, words):
    assert place_of(place, starts_in_s) == words
