from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, LoginError, NotFoundError
from studio.login import Visitor, visitor_of
from studio.settings import Settings
from studio.ui.actions import Desk, is_open, label


@pytest.fixture
def desk(settings: Settings, studio: Any) -> Desk:
    return Desk(studio, settings)


@pytest.fixture
def check_id(desk: Desk, photos: list[Path]) -> str:
    return desk.submit_check(photos, {"subject": "Ada", "class_noun": "woman"}).id


def test_a_check_without_photos_is_refused_with_a_cure(desk: Desk) -> None:
    with pytest.raises(InputError, match="add 5 to 20 photos"):
        desk.submit_check([], {"subject": "Ada"})


def test_training_takes_the_subject_from_the_check_and_the_rest_from_the_preset(desk: Desk, check_id: str) -> None:
    job = desk.submit_train(check_id, changes={"method.rank": 4})
    config = desk.studio.jobs[job.id].config  # type: ignore[attr-defined]
    assert (config.subject, config.class_noun, config.base) == ("Ada", "woman", "pocket")
    assert (config.method.rank, config.learning_rate) == (4, 0.001)


def test_wrong_settings_are_all_named_at_once(desk: Desk, check_id: str) -> None:
    with pytest.raises(InputError) as caught:
        desk.submit_train(check_id, changes={"method.rank": 0, "sed": 3, "steps": -5})
    assert {problem.where for problem in caught.value.problems} >= {"method.rank", "sed"}


def test_unknown_presets_bases_packs_and_jobs_are_named(desk: Desk, check_id: str) -> None:
    with pytest.raises(NotFoundError, match="nothere"):
        desk.submit_train(check_id, preset="nothere")
    with pytest.raises(InputError, match="no preset is made for base 'sdxxl'"):
        desk.submit_train(check_id, base="sdxxl")
    run = desk.submit_train(check_id)
    with pytest.raises(NotFoundError, match="nopack"):
        desk.submit_generate(run.id, {"pack": "nopack"})
    with pytest.raises(NotFoundError, match="check job"):
        desk.submit_generate(check_id, {"pack": "places"})
    with pytest.raises(NotFoundError, match="Photos tab"):
        desk.submit_train(None)


def test_work_on_unfinished_jobs_is_refused(settings: Settings, held: Callable[..., Any], photos: list[Path]) -> None:
    desk = Desk(held("check"), settings)
    check = desk.submit_check(photos, {"subject": "Ada", "class_noun": "woman"})
    assert is_open(check)
    with pytest.raises(InputError, match="not finished"):
        desk.submit_train(check.id)
    desk.studio.cancel(check.id, owner=desk.owner)


def test_other_owners_jobs_do_not_exist(desk: Desk, check_id: str, settings: Settings) -> None:
    stranger = Desk(desk.studio, settings.model_copy(update={"owner": "stranger"}))
    assert stranger.jobs("check") == [] and stranger.current("check") is None
    with pytest.raises(NotFoundError):
        stranger.job(check_id, "check")
    with pytest.raises(NotFoundError):
        stranger.submit_train(check_id)
    with pytest.raises(NotFoundError):
        stranger.out_file(check_id, "previews/000.webp")


def test_files_outside_a_jobs_folder_are_not_there(desk: Desk, check_id: str) -> None:
    assert desk.out_file(check_id, "previews/000.webp") is not None
    for path in ("../out/../../secret", "/etc/passwd", "previews", "nothing.png", "../out"):
        assert desk.out_file(check_id, path) is None


def test_an_open_job_is_found_before_a_newer_finished_one(
    settings: Settings, held: Callable[..., Any], photos: list[Path]
) -> None:
    studio = held("check")
    desk = Desk(studio, settings)
    running = desk.submit_check(photos, {})
    studio.hold.clear()
    newer = desk.submit_check(photos, {})
    current = desk.current("check")
    assert current is not None and current.id == running.id
    studio.jobs[running.id].release.set()
    studio.wait(running.id, owner=desk.owner)
    studio.wait(newer.id, owner=desk.owner)
    current = desk.current("check")
    assert current is not None and current.id == newer.id


def test_packs_fit_base_and_subject(desk: Desk) -> None:
    assert [pack.name for pack in desk.packs(base="pocket", class_noun="woman")] == ["places"]
    assert desk.packs(base="sd15") == [] and desk.packs(base="pocket", class_noun="dog") == []


def test_a_packs_best_pictures_of_this_run_are_its_preview(desk: Desk, check_id: str) -> None:
    run, other = desk.submit_train(check_id), desk.submit_train(check_id)
    assert desk.pack_pictures("places", run.id) == {}
    made = desk.submit_generate(run.id, {"pack": "places", "count": 3})
    desk.submit_generate(run.id, {"prompts": ["{subject}"]})
    desk.studio.wait(made.id, owner=desk.owner)
    found = desk.pack_pictures("places", run.id)
    best = {row["shot"]: row["file"] for row in reversed(desk.job(made.id, "generate").result["images"])}  # type: ignore[index]
    assert found == {shot: (made.id, best[shot]) for shot in ("beach", "library")}
    assert desk.pack_pictures("places", other.id) == {}


def test_a_pack_for_other_subjects_is_refused_before_a_job_is_made(desk: Desk, check_id: str) -> None:
    run = desk.submit_train(check_id)
    places = desk.settings.presets_dir / "packs" / "places.yaml"
    path = places.with_name("animals.yaml")
    path.write_text(places.read_text().replace("bases: [pocket]", "subjects: [animal]"), encoding="utf-8")
    try:
        before = len(desk.jobs("generate"))
        with pytest.raises(InputError, match="animals is written for animals, and a woman is a person"):
            desk.submit_generate(run.id, {"pack": "animals"})
        assert len(desk.jobs("generate")) == before
    finally:
        path.unlink()


def test_labels_tell_jobs_apart(desk: Desk, check_id: str) -> None:
    job = desk.job(check_id, "check")
    assert label(job).startswith("Ada · 6 photos · ")
    assert "stopped early" in label(replace(job, state="stalled", result=None))
    run = desk.submit_train(check_id)
    assert "Ada on pocket · 0.86" in label(run)


def test_where_people_log_in_the_desk_is_the_visitors_and_their_login_serves_their_jobs(
    settings: Settings, held: Any, photos: list[Path]
) -> None:
    asking = Visitor("hf:1", "ada", "hf_write0123456789")
    desk = Desk(held(), settings, visitor=lambda: asking)
    check = desk.submit_check(photos, {"subject": "Ada", "class_noun": "woman"})
    run = desk.submit_train(check.id)
    assert {check.owner, run.owner} == {"hf:1"} and desk.has_owner
    assert desk.submit_publish(run.id, {"repo": "ada/x"}).state == "completed", "by the login, no token was typed"
    asking = Visitor("hf:1", "ada")
    with pytest.raises(InputError, match="token"):
        desk.submit_publish(run.id, {"repo": "ada/y"})
    asking = Visitor("hf:2", "eve", "hf_write0123456789")
    assert desk.jobs("train") == []
    with pytest.raises(NotFoundError):
        desk.submit_publish(run.id, {"repo": "eve/x"})
    assert "hf_write" not in repr(asking)


def test_where_people_log_in_nobody_has_no_jobs_and_starts_none(settings: Settings, held: Any) -> None:
    desk = Desk(held(), settings, visitor=lambda: visitor_of({}))
    assert not desk.has_owner and desk.jobs("check") == [] and desk.current("train") is None
    for call in (
        lambda: desk.submit_check([Path("a.jpg")], {}),
        lambda: desk.submit_train("check-1"),
        lambda: desk.submit_generate("", {"adapter": "ada/x", "prompts": ("a",)}),
        lambda: desk.submit_finish("plain_white", {}, pictures=[Path("a.jpg")]),
    ):
        with pytest.raises(LoginError, match="log in with Hugging Face first"):
            call()
