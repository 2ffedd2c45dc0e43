from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from studio.core.errors import ConflictError, InputError, LoginError, NotFoundError
from studio.core.finish_config import FinishConfig
from studio.core.settings import Settings
from studio.jobs.events import Outcome
from studio.jobs.queue import NewJob
from studio.service import Studio
from studio.web.codes import code_of
from studio.web.login import Visitor, visitor_of
from studio.web.page.train_tab import dataset_choices
from studio.web.session import USABLE_STATES, StudioSession, is_open, label


@pytest.fixture
def session(settings: Settings, studio: Any) -> StudioSession:
    return StudioSession(studio, settings)


@pytest.fixture
def check_id(session: StudioSession, photos: list[Path]) -> str:
    return session.submit_check(photos, {"subject": "Ada", "class_noun": "woman"}).id


def test_a_check_without_photos_is_refused_with_a_cure(session: StudioSession) -> None:
    with pytest.raises(InputError, match="add 5 to 20 photos"):
        session.submit_check([], {"subject": "Ada"})


def test_training_takes_the_subject_from_the_check_and_the_rest_from_the_preset(
    session: StudioSession, check_id: str
) -> None:
    job = session.submit_train(check_id, changes={"method.rank": 4})
    config = session.studio.jobs[job.id].config  # type: ignore[attr-defined]
    assert (config.subject, config.class_noun, config.base) == ("", "", "pocket"), "the dataset fills them in"
    assert (job.title, job.facts.preset) == ("Training of Ada on pocket", "pocket_lora_cpu")
    assert (job.facts.subject, job.facts.class_noun, job.facts.base) == ("Ada", "woman", "pocket")
    assert (config.method.rank, config.learning_rate) == (4, 0.001)


def test_wrong_settings_are_all_named_at_once(session: StudioSession, check_id: str) -> None:
    with pytest.raises(InputError) as caught:
        session.submit_train(check_id, changes={"method.rank": 0, "sed": 3, "steps": -5})
    assert {problem.where for problem in caught.value.problems} >= {"method.rank", "sed"}


def test_unknown_presets_bases_packs_and_jobs_are_named(session: StudioSession, check_id: str) -> None:
    with pytest.raises(NotFoundError, match="nothere"):
        session.submit_train(check_id, preset="nothere")
    with pytest.raises(InputError, match="no preset is made for base 'sdxxl'"):
        session.submit_train(check_id, base="sdxxl")
    run = session.submit_train(check_id)
    with pytest.raises(NotFoundError, match="nopack"):
        session.submit_generate(run.id, {"pack": "nopack"})
    with pytest.raises(NotFoundError, match="check job"):
        session.submit_generate(check_id, {"pack": "places"})
    with pytest.raises(NotFoundError, match="Photos tab"):
        session.submit_train(None)


def test_everything_is_ordered_in_one_go_behind_a_check_that_still_runs(
    settings: Settings, held: Callable[..., Any], photos: list[Path]
) -> None:
    session = StudioSession(held("check"), settings)
    check = session.submit_check(photos, {"subject": "Ada", "class_noun": "woman"})
    assert is_open(check)
    with pytest.raises(InputError, match="the photo check is not finished"):
        session.plan_train(check.id)
    assert [job_id for _, job_id in dataset_choices(session)] == [check.id]
    run = session.submit_train(check.id)
    assert session.subject_of(run) == {"subject": "Ada", "class_noun": "woman"}
    made = session.submit_generate(run.id, {"pack": "places"})
    jobs = [run, made, session.submit_export(run.id, {"format": "kohya"})]
    jobs += [session.submit_publish(run.id, {"repo": "ada/x", "dry_run": True})]
    jobs += [session.finish(FinishConfig(), generate_job=made.id)]
    assert {is_open(job) for job in jobs} == {True}
    session.studio.jobs[check.id].release.set()  # type: ignore[attr-defined]
    assert {session.studio.wait(job.id, owner=session.owner).state for job in jobs} == {"completed"}


def test_nothing_is_queued_behind_a_job_that_was_cancelled(
    settings: Settings, held: Callable[..., Any], photos: list[Path]
) -> None:
    session = StudioSession(held("check"), settings)
    check = session.submit_check(photos, {"subject": "Ada", "class_noun": "woman"})
    session.studio.cancel(check.id, owner=session.owner)
    assert dataset_choices(session) == []
    with pytest.raises(ConflictError, match="retry it first"):
        session.submit_train(check.id)


def test_other_owners_jobs_do_not_exist(session: StudioSession, check_id: str, settings: Settings) -> None:
    stranger = StudioSession(session.studio, settings.model_copy(update={"owner": "stranger"}))
    assert stranger.jobs("check") == [] and stranger.current("check") is None
    with pytest.raises(NotFoundError):
        stranger.job(check_id, "check")
    with pytest.raises(NotFoundError):
        stranger.submit_train(check_id)
    with pytest.raises(NotFoundError):
        stranger.out_file(check_id, "previews/000.webp")


def test_files_outside_a_jobs_folder_are_not_there(session: StudioSession, check_id: str) -> None:
    assert session.out_file(check_id, "previews/000.webp") is not None
    for path in ("../out/../../secret", "/etc/passwd", "previews", "nothing.png", "../out"):
        assert session.out_file(check_id, path) is None


def test_an_open_job_is_found_before_a_newer_finished_one(
    settings: Settings, held: Callable[..., Any], photos: list[Path]
) -> None:
    studio = held("check")
    session = StudioSession(studio, settings)
    running = session.submit_check(photos, {})
    studio.hold.clear()
    newer = session.submit_check(photos, {})
    current = session.current("check")
    assert current is not None and current.id == running.id
    studio.jobs[running.id].release.set()
    studio.wait(running.id, owner=session.owner)
    studio.wait(newer.id, owner=session.owner)
    current = session.current("check")
    assert current is not None and current.id == newer.id


def test_old_sets_and_runs_stay_in_their_lists_whatever_was_done_since(settings: Settings, tmp_path: Path) -> None:
    real = Settings(home=tmp_path / "home", presets_dir=settings.presets_dir)
    studio = Studio(real)
    session = StudioSession(studio, real)
    assert session.current("check") is None  # makes the table
    photos = {"photos": [{}], "verdicts": [], "subject": "Ada", "class_noun": "woman"}
    for job_id, kind, result in (("check-0", "check", photos), ("train-0", "train", {})):
        studio._store.insert(NewJob(job_id, kind, "local", f"Title of {job_id}", "fp"))
        studio._store.finish(studio._store.claim(), Outcome("completed", result=result))
    for number in range(250):
        studio._store.insert(NewJob(f"finish-{number}", "finish", "local", "Finishing: avatar", "fp"))
    assert [job.id for job in session.jobs("check")] == ["check-0"]
    assert [job_id for _, job_id in dataset_choices(session)] == ["check-0"]
    assert [job_id for _, job_id in session.choices("train", states=USABLE_STATES)] == ["train-0"]
    current = session.current("train")
    assert current is not None and current.id == "train-0"
    studio.close()


def test_the_job_that_is_shown_is_in_its_list_however_old_it_is(
    session: StudioSession, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.web.session.MAX_LISTED", 2)
    oldest, *_ = [session.submit_check(photos, {"subject": name}) for name in ("Ada", "Bob", "Cy")]
    listed = [job_id for _, job_id in session.choices("check", also=oldest)]
    assert len(listed) == 3 and listed[-1] == oldest.id


def test_a_run_is_known_by_its_code_too_but_to_its_owner_only(
    session: StudioSession, check_id: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.web.session.MAX_LISTED", 2)  # the list is read in parts
    runs = [session.submit_train(check_id) for _ in range(5)]
    assert [job.id for job in session.every("train")][:5] == [run.id for run in reversed(runs)]
    for run in (runs[0], runs[4]):
        assert session.job(code_of(run.id), "train") == run
        assert session.submit_export(code_of(run.id), {}).source == run.id
    other = StudioSession(session.studio, settings.model_copy(update={"owner": "bob"}))
    for handle in (code_of(runs[0].id), "10000000"):
        with pytest.raises(NotFoundError, match=f"no adapter with the code '{handle}'"):
            other.job(handle, "train")


def test_a_run_may_be_assembled_for_publishing_without_any_token(
    session: StudioSession, check_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.web.session.is_off", lambda settings: True)
    run = session.submit_train(check_id, publish={"repo": "you/ada", "dry_run": True})
    then = session.publishing_of(run)
    assert then is not None and then.facts.repo == "you/ada"
    with pytest.raises(InputError, match="token: is missing"):
        session.submit_train(check_id, publish={"repo": "you/ada"})


def test_packs_fit_base_and_subject(session: StudioSession) -> None:
    assert [pack.name for pack in session.packs(base="pocket", class_noun="woman")] == ["places"]
    assert session.packs(base="sd15") == [] and session.packs(base="pocket", class_noun="dog") == []


def test_a_packs_best_pictures_of_this_run_are_its_preview(session: StudioSession, check_id: str) -> None:
    run, other = session.submit_train(check_id), session.submit_train(check_id)
    assert session.pack_pictures(run.id) == {}
    made = session.submit_generate(run.id, {"pack": "places", "count": 3})
    session.submit_generate(run.id, {"prompts": ["{subject}"]})
    session.studio.wait(made.id, owner=session.owner)
    found = session.pack_pictures(run.id)["places"]
    best = {row["shot"]: row["file"] for row in reversed(session.job(made.id, "generate").result["images"])}  # type: ignore[index]
    assert found == {shot: (made.id, best[shot]) for shot in ("beach", "library")}
    assert session.pack_pictures(other.id) == {}


def test_a_pack_for_other_subjects_is_refused_before_a_job_is_made(session: StudioSession, check_id: str) -> None:
    run = session.submit_train(check_id)
    places = session.settings.presets_dir / "packs" / "places.yaml"
    path = places.with_name("animals.yaml")
    path.write_text(places.read_text().replace("bases: [pocket]", "subjects: [animal]"), encoding="utf-8")
    try:
        before = len(session.jobs("generate"))
        with pytest.raises(InputError, match="animals is written for animals, and a woman is a person"):
            session.submit_generate(run.id, {"pack": "animals"})
        assert len(session.jobs("generate")) == before
    finally:
        path.unlink()


def test_labels_tell_jobs_apart(session: StudioSession, check_id: str) -> None:
    job = session.job(check_id, "check")
    assert label(job).startswith("Ada · 6 photos · ")
    assert "stopped early" in label(replace(job, state="stalled", result=None))
    run = session.submit_train(check_id)
    assert "Ada on pocket · 0.86" in label(run)
    summary = {"mean": 1.02, "spread": 0.07, "word": "very alike"}
    result = {**run.result, "likeness_summary": summary}
    assert "Ada on pocket · 1.00 ± 0.07 (very alike) · " in label(replace(run, result=result))


def test_where_people_log_in_jobs_are_the_visitors_and_their_login_serves_them(
    settings: Settings, held: Any, photos: list[Path]
) -> None:
    visitor = Visitor("hf:1", "ada", "hf_write0123456789")
    session = StudioSession(held(), settings, visitor=lambda: visitor)
    check = session.submit_check(photos, {"subject": "Ada", "class_noun": "woman"})
    run = session.submit_train(check.id)
    assert {check.owner, run.owner} == {"hf:1"} and session.has_owner
    assert session.submit_publish(run.id, {"repo": "ada/x"}).state == "completed", "by the login, no token was typed"
    visitor = Visitor("hf:1", "ada")
    with pytest.raises(InputError, match="token"):
        session.submit_publish(run.id, {"repo": "ada/y"})
    visitor = Visitor("hf:2", "eve", "hf_write0123456789")
    assert session.jobs("train") == []
    with pytest.raises(NotFoundError):
        session.submit_publish(run.id, {"repo": "eve/x"})
    assert "hf_write" not in repr(visitor)


def test_where_people_log_in_nobody_has_no_jobs_and_starts_none(settings: Settings, held: Any) -> None:
    session = StudioSession(held(), settings, visitor=lambda: visitor_of({}))
    assert not session.has_owner and session.jobs("check") == [] and session.current("train") is None
    for call in (
        lambda: session.submit_check([Path("a.jpg")], {}),
        lambda: session.submit_train("check-1"),
        lambda: session.submit_generate("", {"adapter": "ada/x", "prompts": ("a",)}),
        lambda: session.submit_finish("plain_white", {}, pictures=[Path("a.jpg")]),
    ):
        with pytest.raises(LoginError, match="log in with Hugging Face first"):
            call()


def test_a_server_without_a_token_lends_the_machines_hub_token_to_nobody(
    studio: Any, settings: Settings, check_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    monkeypatch.setattr(type(studio), "unpublish", lambda *_, owner, token: asked.append(token), raising=False)
    open_to_all = StudioSession(studio, settings.model_copy(update={"token": SecretStr("off")}))
    run = open_to_all.submit_train(check_id)
    for refused in (
        lambda: open_to_all.unpublish("ada/x"),
        lambda: open_to_all.submit_publish(run.id, {"repo": "ada/x"}),
        lambda: open_to_all.submit_train(check_id, publish={"repo": "ada/x"}),
    ):
        with pytest.raises(InputError, match="token: is missing"):
            refused()
    open_to_all.unpublish("ada/x", token="hf_write0123456789")
    StudioSession(studio, settings).unpublish("ada/x", token="")
    assert asked == ["hf_write0123456789", None]
    assert open_to_all.submit_publish(run.id, {"repo": "ada/x", "dry_run": True})


def test_the_preview_of_a_pack_never_compares_scores_of_two_engine_versions_and_takes_missing_for_no_number(
    session: StudioSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(job_id: str, version: str, *rows: tuple[str, float | None]) -> SimpleNamespace:
        images = [{"file": file, "shot": "beach", "likeness": likeness} for file, likeness in rows]
        result = {"images": images, "likeness_engine": "stub", "likeness_version": version}
        return SimpleNamespace(id=job_id, facts=SimpleNamespace(pack="places"), result=result, hearts=())

    jobs = [made("new", "2", ("unseen.png", None), ("seen.png", -0.2)), made("old", "1", ("other.png", 0.9))]
    monkeypatch.setattr(StudioSession, "jobs", lambda *args, **kwargs: jobs)
    assert session.pack_pictures("run")["places"] == {"beach": ("new", "seen.png")}


def test_who_runs_the_studio_is_named_where_people_log_in_and_else_whoever_is_let_in(
    session: StudioSession, settings: Settings
) -> None:
    assert session.is_operator and session.operation is session.studio.operation

    def seen_by(visitor: Visitor | None, **changes: Any) -> StudioSession:
        def who() -> Visitor:
            return visitor_of({"studio.visitor": visitor})

        return replace(session, settings=settings.model_copy(update=changes), visitor=who)

    eve = Visitor("hf:7", "eve")
    assert not seen_by(eve).is_operator and not seen_by(None, admins="hf:7").is_operator
    assert not seen_by(eve, admins="hf:70,, 7").is_operator and not seen_by(Visitor("", ""), admins="").is_operator
    for changes in ({"admins": " hf:1 , hf:7"}, {"owner": "hf:7"}):
        assert seen_by(eve, **changes).operation is session.studio.operation
    with pytest.raises(NotFoundError, match="STUDIO_ADMINS"):
        _ = seen_by(eve).operation
    with pytest.raises(LoginError):
        _ = seen_by(None).operation


def test_one_press_orders_a_run_and_pictures_with_it_from_the_first_pack_that_fits(
    session: StudioSession, check_id: str
) -> None:
    run, pictures = session.submit_whole_way(check_id)
    assert (run.kind, run.source, pictures.kind, pictures.source) == ("train", check_id, "generate", run.id)
    assert pictures.facts.pack == "places" and pictures.state == "completed"
    with pytest.raises(NotFoundError):
        session.submit_whole_way("")
