import hashlib
import importlib.util
import json
import os
import threading
import time
from pathlib import Path

import pytest

from studio.core import listings, machine
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import SourceJob
from studio.core.errors import ConflictError, InputError, NotFoundError, ResourceError
from studio.core.finish_config import FinishConfig
from studio.core.fit import MeasuredRun, remember
from studio.core.job_words import waiting_for
from studio.core.machine import Machine
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.jobs import slots
from studio.service import Studio

FAKES = Path(__file__).parent / "jobs" / "fake_verbs.py"
OWNER = "ada"


def load_fakes():
    spec = importlib.util.spec_from_file_location("fake_verbs", FAKES)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def studio(tmp_path, monkeypatch):
    """A studio that is not started, over verbs without a model."""
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parent))
    monkeypatch.setenv("STUDIO_OWNER", "somebody")
    settings = Settings(home=tmp_path / "home", device="cpu", max_photos=5, max_upload_bytes=2000)
    studio = Studio(settings, verbs=load_fakes().VERBS, grace_s=1.0)
    yield studio
    studio.close()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "upload"
    folder.mkdir()
    for name in ("one.jpg", "two 🙂.jpg"):
        (folder / name).write_bytes(name.encode())
    return sorted(folder.iterdir())


def until(condition, timeout_s=30.0):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "timed out"
        time.sleep(0.02)


def state(studio, job):
    return studio.get(job.id, owner=OWNER).state


def test_photos_go_through_check_train_and_generate(studio, photos):
    check = studio.submit_check(CheckConfig(subject="quick", class_noun="person"), photos, owner=OWNER)
    train = studio.submit_train(TrainConfig(instance_token="count 3 10"), check.id, owner=OWNER)
    generate = studio.submit_generate(GenerateConfig(prompts=("quick",)), train.id, owner=OWNER)
    export = studio.submit_export(ExportConfig(format="kohya"), train.id, owner=OWNER)
    assert (check.state, train.state, generate.state) == ("pending", "pendingImages", "pendingImages")
    assert check.waits_for is None and train.waits_for == SourceJob(check.id, "check", "Photos of quick")
    assert [waiting_for(job) for job in (check, train, generate)] == [
        None, "the photo check of quick", "the training of quick"
    ]  # fmt: skip
    assert train.title == "Training of quick on pocket"
    assert (generate.facts.subject, generate.facts.class_noun, generate.facts.base) == ("quick", "person", "pocket")

    studio.start()
    ended = studio.wait(generate.id, owner=OWNER, timeout_s=60)

    assert ended.state == "completed"
    assert ended.result == {"steps": 1, "source_files": ["steps.txt"], "hub_token": "", "likeness": None}
    assert studio.get(check.id, owner=OWNER).result["source_files"] == ["one.jpg", "two 🙂.jpg"]
    assert studio.get(train.id, owner=OWNER).result["steps"] == 3
    assert [job.id for job in studio.list(owner=OWNER)] == [export.id, generate.id, train.id, check.id]
    assert ended.waits_for is None
    exported = studio.wait(export.id, owner=OWNER, timeout_s=60)
    assert (exported.state, exported.title) == ("completed", "Export: kohya")
    assert exported.result["source_files"] == ["steps.txt"]
    assert (studio.out_dir(train.id, owner=OWNER) / "steps.txt").is_file()
    assert ended.created_s <= ended.started_s <= ended.finished_s
    assert studio.cancel(generate.id, owner=OWNER).state == "completed"
    with pytest.raises(ConflictError, match="is completed"):
        studio.retry(generate.id, owner=OWNER)


def test_jobs_of_two_gpus_run_at_the_same_time(tmp_path, monkeypatch, photos):
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parent))
    studio = Studio(Settings(home=tmp_path / "home", device="auto", gpus="4,6"), verbs=load_fakes().VERBS, grace_s=1.0)
    try:
        check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
        jobs = [studio.submit_train(TrainConfig(instance_token="meet"), check.id, owner=OWNER) for _ in range(3)]
        studio.start()
        assert {studio.wait(job.id, owner=OWNER, timeout_s=60).state for job in jobs} == {"completed"}
        notes = {(studio.out_dir(job.id, owner=OWNER) / "gpu.txt").read_text() for job in jobs}
        assert notes == {"4", "6"}
    finally:
        studio.close()


def test_photos_are_checked_beside_a_training_and_without_its_device(tmp_path, monkeypatch, photos):
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parent))
    studio = Studio(Settings(home=tmp_path / "home", device="cuda", gpus="4"), verbs=load_fakes().VERBS, grace_s=1.0)
    try:
        first = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
        run = studio.submit_train(TrainConfig(instance_token="meet"), first.id, owner=OWNER)
        waiting = studio.submit_train(TrainConfig(instance_token="quick"), first.id, owner=OWNER)
        studio.start()
        until(lambda: (studio.out_dir(run.id, owner=OWNER) / "gpu.txt").exists())
        dropped = studio.submit_check(CheckConfig(subject="meet"), photos, owner=OWNER)
        # Either waits for the other's note: both end only if they run at the same time.
        assert studio.wait(dropped.id, owner=OWNER, timeout_s=60).state == "completed"
        assert studio.wait(run.id, owner=OWNER, timeout_s=60).state == "completed"
        assert (studio.out_dir(dropped.id, owner=OWNER) / "gpu.txt").read_text() == ""
        assert (studio.out_dir(run.id, owner=OWNER) / "gpu.txt").read_text() == "4"
        assert studio.wait(waiting.id, owner=OWNER, timeout_s=60).state == "completed"
    finally:
        studio.close()


@pytest.mark.parametrize(("memory_gb", "together"), [(24, True), (8, False)])
def test_pictures_are_made_beside_a_training_on_its_gpu_where_both_fit(
    tmp_path, monkeypatch, photos, memory_gb, together
):
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parent))
    monkeypatch.setattr(slots, "gpu_bytes", lambda slot: memory_gb * 10**9)
    studio = Studio(Settings(home=tmp_path / "home", device="cuda", gpus="4"), verbs=load_fakes().VERBS, grace_s=1.0)
    try:
        check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
        done = studio.submit_train(TrainConfig(base="sd15", instance_token="quick"), check.id, owner=OWNER)
        studio.start()
        assert studio.wait(done.id, owner=OWNER, timeout_s=60).state == "completed"
        words = "meet" if together else "count 25 50"
        run = studio.submit_train(TrainConfig(base="sd15", instance_token=words), check.id, owner=OWNER)
        until(lambda: state(studio, run) in ("pendingModel", "training"))
        drawn = studio.submit_generate(GenerateConfig(prompts=("meet" if together else "quick",)), done.id, owner=OWNER)
        # Together, either waits for the other's note: both end only if they run at the same time.
        ends = [studio.wait(job.id, owner=OWNER, timeout_s=60) for job in (run, drawn)]
        assert [end.state for end in ends] == ["completed", "completed"]
        assert (ends[1].started_s < ends[0].finished_s) is together
        if together:
            assert (studio.out_dir(drawn.id, owner=OWNER) / "gpu.txt").read_text() == "4"
    finally:
        studio.close()


def test_a_run_is_published_with_a_token_that_is_in_memory_only(studio, photos, hub, tmp_path):
    token, repo = "hf_write0123456789", "ada/portrait"
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    train = studio.submit_train(TrainConfig(instance_token="quick"), check.id, owner=OWNER)
    made = studio.submit_generate(GenerateConfig(prompts=("quick",)), train.id, owner=OWNER)
    config = PublishConfig(repo=repo, title="quick")
    with pytest.raises(ConflictError, match="its pictures are not ready"):
        studio.submit_publish(config, train.id, pictures=made.id, token=token, owner=OWNER)
    job = studio.submit_publish(config, train.id, token=token, owner=OWNER, key="once")
    asked = len(hub.log)
    again = studio.submit_publish(config, train.id, token="hf_other0123456789", owner=OWNER, key="once")
    assert again.id == job.id and len(hub.log) == asked, "the token is no part of the request"
    assert (job.kind, job.title) == ("publish", "Publishing: ada/portrait") and hub.asked("POST", "/") == []
    studio.start()
    ended = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert ended.state == "completed", ended.cause
    # Of the token's hash, so that the token itself is not even in what the fake verb tells.
    assert ended.result["hub_token"] == hashlib.sha256(token.encode()).hexdigest()
    assert studio.get(check.id, owner=OWNER).result["hub_token"] == "", "no other job's process knows it"
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path
    assert studio._tokens._known == {}


def test_with_a_key_a_publish_goes_on_after_a_restart_and_the_table_tells_no_token(tmp_path, monkeypatch, photos, hub):
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parent))
    settings = Settings(home=tmp_path / "home", device="cpu", secrets_key="k" * 32)
    before = Studio(settings, verbs=load_fakes().VERBS)
    check = before.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    train = before.submit_train(TrainConfig(instance_token="quick"), check.id, owner=OWNER)
    token = "hf_write0123456789"
    job = before.submit_publish(PublishConfig(repo="ada/portrait", title="quick"), train.id, token=token, owner=OWNER)
    before.close()
    after = Studio(settings, verbs=load_fakes().VERBS)
    after.start()
    try:
        ended = after.wait(job.id, owner=OWNER, timeout_s=60)
        assert ended.state == "completed", ended.cause
        assert ended.result["hub_token"] == hashlib.sha256(token.encode()).hexdigest()
        assert after._store.sealed_of(job.id) is None, "it goes with the end of the job"
    finally:
        after.close()
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path


def test_a_token_that_cannot_write_is_refused_at_submit_and_nothing_is_queued(studio, photos, hub):
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    train = studio.submit_train(TrainConfig(instance_token="quick"), check.id, owner=OWNER)
    before = studio.list(owner=OWNER)
    for token in ("hf_read0123456789", "hf_wrong", None):
        with pytest.raises(InputError, match="token"):
            studio.submit_publish(PublishConfig(repo="ada/portrait"), train.id, token=token, owner=OWNER)
    with pytest.raises(InputError, match="is a path on this machine"):
        studio.submit_publish(PublishConfig(repo="ada/portrait", pictures="/etc"), train.id, owner=OWNER)
    with pytest.raises(InputError, match="give a train job"):
        studio.submit_publish(PublishConfig(repo="ada/portrait"), check.id, owner=OWNER)
    with pytest.raises(InputError, match="give a generate job"):
        studio.submit_publish(PublishConfig(repo="ada/portrait"), train.id, pictures=check.id, owner=OWNER)
    with pytest.raises(InputError, match="either a train job or an adapter"):
        studio.submit_generate(GenerateConfig(prompts=("quick",)), owner=OWNER)
    assert studio.list(owner=OWNER) == before


def test_a_run_is_published_when_it_is_done_with_a_token_that_was_asked_before(studio, photos, hub, tmp_path):
    token, then = "hf_write0123456789", PublishConfig(repo="ada/portrait", title="quick")
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    config = TrainConfig(instance_token="quick")
    train = studio.submit_train(config, check.id, owner=OWNER, key="both", publish=then, publish_token=token)
    asked = len(hub.log)
    job = studio.publishing_of(train.id, owner=OWNER)
    assert (job.kind, job.source, job.state) == ("publish", train.id, "pendingImages") and asked > 0
    again = studio.submit_train(config, check.id, owner=OWNER, key="both", publish=then, publish_token=token)
    assert again.id == train.id and len(studio.list(owner=OWNER)) == 3 and len(hub.log) == asked
    with pytest.raises(ConflictError, match="key"):
        other = PublishConfig(repo="ada/other")
        studio.submit_train(config, check.id, owner=OWNER, key="both", publish=other, publish_token=token)
    assert studio.get(train.id, owner=OWNER).state == "pendingImages", "a wrong repeat cancels nothing"
    assert studio.publishing_of(train.id, owner="ben") is None
    studio.start()
    ended = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert ended.result["hub_token"] == hashlib.sha256(token.encode()).hexdigest()
    assert studio.get(train.id, owner=OWNER).result["hub_token"] == "", "the training never knew it"
    for path in (tmp_path / "home").rglob("*"):
        assert not path.is_file() or token.encode() not in path.read_bytes(), path
    assert studio._tokens._known == {}


def test_a_cancelled_run_that_goes_on_is_published_with_the_token_that_was_given_for_it(studio, photos, hub):
    token, then = "hf_write0123456789", PublishConfig(repo="ada/portrait", title="quick")
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    train = studio.submit_train(
        TrainConfig(instance_token="quick"), check.id, owner=OWNER, publish=then, publish_token=token
    )
    studio.cancel(train.id, owner=OWNER)
    job = studio.publishing_of(train.id, owner=OWNER)
    studio.start()
    until(lambda: state(studio, job) == "stalled")
    assert "Retry that job first" in studio.get(job.id, owner=OWNER).cause
    for waiting in (train, job):
        studio.retry(waiting.id, owner=OWNER, token="hf_read0123456789")
    ended = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert ended.state == "completed", ended.cause
    assert ended.result["hub_token"] == hashlib.sha256(token.encode()).hexdigest()


@pytest.mark.parametrize(
    ("train", "publish", "token", "words"),
    [
        ({}, {}, "hf_read0123456789", "token: may only read"),
        ({}, {}, "hf_wrong", "token: is not known to the Hub"),
        ({}, {}, None, "token: is missing"),
        ({}, {"repo": "eve/portrait"}, "hf_write0123456789", "token: belongs to ada"),
        ({}, {"licence": "mit"}, "hf_write0123456789", "licence: follows from the base"),
        ({"base": "you/own-base"}, {}, "hf_write0123456789", "licence: the licence of the base you/own-base is not"),
        ({"method": {"name": "full"}}, {}, "hf_write0123456789", "form: method full does not train a LoRA"),
        ({}, {"choose": ("a.png",)}, "hf_write0123456789", "choose: names pictures"),
        ({}, {"pictures": "/etc"}, "hf_write0123456789", "pictures: is a path"),
        ({}, {"about": "hf_write0123456789"}, "hf_write0123456789", "about: contains your token"),
    ],
)
def test_what_cannot_be_published_is_refused_before_the_training(studio, photos, hub, train, publish, token, words):
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    config, then = TrainConfig(instance_token="quick", **train), PublishConfig(**{"repo": "ada/portrait", **publish})
    with pytest.raises(InputError, match=words) as caught:
        studio.submit_train(config, check.id, owner=OWNER, publish=then, publish_token=token)
    assert not token or token not in str(caught.value)
    assert [job.id for job in studio.list(owner=OWNER)] == [check.id] and not any(studio._tokens._known.values())


def test_a_taken_name_and_a_hub_that_is_away_are_told_before_the_training(studio, photos, hub, monkeypatch):
    from studio.publishing.hub import _api

    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    token, config, then = "hf_write0123456789", TrainConfig(instance_token="quick"), PublishConfig(repo="ada/portrait")
    _api(token).create_repo("ada/portrait", private=False)
    with pytest.raises(ConflictError, match="is public; set public"):
        studio.submit_train(config, check.id, owner=OWNER, publish=then, publish_token=token)
    monkeypatch.setattr("studio.publishing.hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ResourceError, match="cannot be reached"):
        studio.submit_train(config, check.id, owner=OWNER, publish=then, publish_token=token)
    assert [job.id for job in studio.list(owner=OWNER)] == [check.id]


def test_a_run_whose_publishing_cannot_be_queued_is_not_started(studio, photos, hub, monkeypatch):
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)

    def full(*_, **__):
        raise ResourceError("the disk is full")

    monkeypatch.setattr(studio, "_queue_publish", full)
    then = PublishConfig(repo="ada/portrait")
    with pytest.raises(ResourceError, match="disk is full"):
        studio.submit_train(
            TrainConfig(instance_token="quick"), check.id, owner=OWNER, publish=then, publish_token="hf_write0123456789"
        )
    assert [(job.kind, job.state) for job in studio.list(owner=OWNER)] == [
        ("train", "cancelled"), ("check", "pending")
    ]  # fmt: skip


def test_only_the_owner_of_the_machine_may_use_the_machines_token(studio, photos, hub, monkeypatch):
    monkeypatch.setattr("studio.publishing.hub.get_token", lambda: "hf_write0123456789")
    monkeypatch.setenv("STUDIO_HUB_TOKEN", "hf_write0123456789")
    wanted = PublishConfig(repo="ada/portrait", title="quick")
    jobs = {}
    for owner in (OWNER, studio._settings.owner):
        check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=owner)
        jobs[owner] = studio.submit_train(TrainConfig(instance_token="quick"), check.id, owner=owner)
    with pytest.raises(InputError, match="token"):
        studio.submit_publish(wanted, jobs[OWNER].id, owner=OWNER)
    mine = studio.submit_publish(wanted, jobs[studio._settings.owner].id, owner=studio._settings.owner)
    theirs = studio.submit_generate(GenerateConfig(prompts=("quick",), adapter="ada/portrait"), owner=OWNER)
    lost = studio.submit_publish(wanted, jobs[OWNER].id, token="hf_write0123456789", owner=OWNER)
    studio._tokens.drop(lost.id)  # as after a restart of the server
    studio.start()
    ended = studio.wait(mine.id, owner=studio._settings.owner, timeout_s=60)
    assert ended.result["hub_token"] == hashlib.sha256(b"hf_write0123456789").hexdigest()
    for job in (theirs, lost):
        assert studio.wait(job.id, owner=OWNER, timeout_s=60).result["hub_token"] == ""


@pytest.mark.parametrize(
    ("owner", "server"),
    [
        ("somebody", {"LOGIN": "true", "HOST": "0.0.0.0"}),
        ("hf:eve", {"LOGIN": "true", "HOST": "0.0.0.0"}),
        ("somebody", {"LOGIN": "false"}),
        ("somebody", {"LOGIN": "false", "TOKEN": "off"}),
    ],
)
def test_a_job_of_somebody_who_has_not_shown_who_they_are_runs_without_the_machines_secrets(
    owner, server, tmp_path, monkeypatch, photos
):
    (tmp_path / "tell_secrets.py").write_text(
        "import dataclasses, os\nfrom huggingface_hub import get_token\n"
        "from studio.core.settings import load_settings\n"
        "from studio.publishing.hub import token_of\n"
        "@dataclasses.dataclass\nclass Told:\n    secrets: list\n    token: bool\n    login: bool\n    guest: bool\n"
        "def run(config, source, out, *, on_event, should_stop):\n"
        "    found = sorted(name for name, value in os.environ.items() if 'sesame' in value)\n"
        "    s = load_settings()\n    return Told(found, bool(token_of(s)), bool(get_token()), s.guest)\n"
    )
    secrets = ("STUDIO_HUB_TOKEN", "HF_TOKEN", "STUDIO_REMOTE_TOKEN", "STUDIO_CIVITAI_KEY", "OAUTH_CLIENT_SECRET")
    secrets += ("AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS", "AZURE_STORAGE_KEY", "OPENAI_API_KEY")
    secrets += ("HF_HUB_UPLOAD_TOKEN", "PYTHON_KEYRING_PASSWORD", "A_PROGRAM_THAT_NOBODY_KNOWS")
    for name in secrets:
        monkeypatch.setenv(name, "hf_sesame0123456789")
    (tmp_path / "hf-home").mkdir()
    (tmp_path / "hf-home" / "token").write_text("hf_of_a_login_on_this_machine")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, value in {"OWNER": "somebody", **server}.items():
        monkeypatch.setenv(f"STUDIO_{name}", value)
    specs = load_fakes().VERBS.items()
    verbs = {kind: type(spec)("tell_secrets:run", spec.config, spec.working, False) for kind, spec in specs}
    other = Studio(Settings(home=tmp_path / "other", device="cpu"), verbs=verbs)
    try:
        other.start()
        job = other.submit_check(CheckConfig(), photos, owner=owner)
        told = other.wait(job.id, owner=owner, timeout_s=60)
    finally:
        other.close()
    is_theirs = owner == "somebody" and "TOKEN" not in server
    assert told.result, told.cause
    logins = ["HF_TOKEN", "STUDIO_CIVITAI_KEY", "STUDIO_HUB_TOKEN"]
    assert told.result["secrets"] == (logins if is_theirs else [])
    assert (told.result["token"], told.result["login"], told.result["guest"]) == (is_theirs, is_theirs, not is_theirs)


@pytest.mark.parametrize(
    "base", ["{home}/jobs/export-1/out", "../out", "~/bases/mine", "mine.safetensors", "studio/web"]
)
def test_somebody_else_may_not_train_on_what_lies_on_this_machine(studio, photos, base, tmp_path, monkeypatch):
    monkeypatch.chdir(PROJECT_ROOT)
    check = studio.submit_check(CheckConfig(), photos, owner=OWNER)
    named = TrainConfig.parse({"base": base.format(home=tmp_path), "method": {"start_from": str(tmp_path / "adapter")}})
    with pytest.raises(InputError) as caught:
        studio.submit_train(named, check.id, owner=OWNER)
    assert [problem.where for problem in caught.value.problems] == ["base", "method.start_from"]
    for allowed in ("pocket", "owner/model", "civitai:1@2"):
        assert studio.submit_train(TrainConfig(base=allowed), check.id, owner=OWNER)
    mine = studio.submit_check(CheckConfig(), photos, owner="somebody")
    assert studio.submit_train(named, mine.id, owner="somebody"), "the machine's owner may"


def test_what_was_published_is_deleted_again(studio, hub):
    from studio.publishing.hub import _api

    _api("hf_write0123456789").create_repo("ada/portrait", private=True)
    with pytest.raises(InputError, match="token"):
        studio.unpublish("ada/portrait", owner=OWNER)
    studio.unpublish("ada/portrait", owner=OWNER, token="hf_write0123456789")
    assert hub.repos == {}


def test_uploads_are_finished_by_a_job_of_their_own(studio, photos):
    job = studio.submit_finish(FinishConfig(chain="quick"), pictures=photos, owner=OWNER, key="once")
    assert (job.kind, job.title, job.source) == ("finish", "Finishing: quick", None)
    assert studio.submit_finish(FinishConfig(chain="quick"), pictures=photos, owner=OWNER, key="once").id == job.id
    made = studio.submit_finish(FinishConfig(), pictures=photos, owner=OWNER)
    assert made.title == "Finishing: contact sheet"


def test_finishing_reads_pictures_or_a_generate_job_and_nothing_else(studio, photos):
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    with pytest.raises(InputError, match="give a generate job"):
        studio.submit_finish(FinishConfig(), check.id, owner=OWNER)
    for source, pictures in ((None, ()), (check.id, photos)):
        with pytest.raises(InputError, match="either pictures or a generate job"):
            studio.submit_finish(FinishConfig(), source, pictures, owner=OWNER)


@pytest.mark.parametrize(
    "step",
    [
        {"do": "upscale", "model": "/etc/network.pth"},
        {"do": "upscale", "model": "..\\network.pth"},
        {"do": "face", "model": "~/gfpgan.pth"},
        {"do": "face", "model": "hf:ada/faces/../gfpgan.pth"},
        {"do": "background", "fill": "picture", "picture": "../other/one.jpg"},
    ],
)
def test_a_job_takes_no_paths_of_the_server(studio, photos, step):
    config = FinishConfig.parse({"steps": [step]})
    with pytest.raises(InputError, match="is a path"):
        studio.submit_finish(config, pictures=photos, owner=OWNER)


def test_a_network_on_the_hub_is_no_path(studio, photos):
    config = FinishConfig.parse({"steps": [{"do": "face", "model": "hf:ada/faces/nets/gfpgan.pth"}]})
    assert studio.submit_finish(config, pictures=photos, owner=OWNER).state == "pending"


def test_events_come_in_order_and_go_on_after_a_number(studio, photos):
    studio.start()
    job = studio.submit_check(CheckConfig(subject="chatter 1500"), photos, owner=OWNER)
    view = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert view.state == "completed"

    events = studio.events(job.id, owner=OWNER)
    numbers = [number for number, _ in events]
    assert numbers == sorted(set(numbers))
    steps = [event.data["step"] for _, event in events if event.kind == "metrics"]
    assert steps == list(range(1, 1501)), "every metric is kept, and nothing that was only printed"
    assert [event.data for _, event in events if event.kind == "progress"] == [dict(view.progress)]
    assert view.progress["step"] == 1500
    middle = numbers[700]
    assert studio.events(job.id, owner=OWNER, after=middle) == events[701:]
    assert "printed 1500" in (studio.out_dir(job.id, owner=OWNER).parent / "log.txt").read_text()


def test_state_follows_the_work(studio, photos):
    studio.start()
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    studio.wait(check.id, owner=OWNER, timeout_s=60)
    loading = studio.submit_train(TrainConfig(instance_token="load"), check.id, owner=OWNER)
    until(lambda: state(studio, loading) == "pendingModel")
    behind = studio.submit_train(TrainConfig(instance_token="count 1000 20"), check.id, owner=OWNER)
    until(lambda: state(studio, behind) == "pendingGpu")
    after = studio.submit_generate(GenerateConfig(prompts=("quick",)), behind.id, owner=OWNER)

    assert studio.cancel(loading.id, owner=OWNER).state == "pendingModel", "the child is asked first"
    assert studio.wait(loading.id, owner=OWNER, timeout_s=20).state == "cancelled"
    until(lambda: state(studio, behind) == "training")
    assert state(studio, after) == "pendingImages"

    studio.cancel(behind.id, owner=OWNER)
    studio.cancel(behind.id, owner=OWNER)
    ended = studio.wait(behind.id, owner=OWNER, timeout_s=20)
    assert (ended.state, ended.cause) == ("cancelled", None)
    steps = (studio.out_dir(behind.id, owner=OWNER) / "steps.txt").read_text().splitlines()
    assert steps, "what was done is kept"

    stalled = studio.wait(after.id, owner=OWNER, timeout_s=20)
    assert stalled.state == "stalled"
    assert stalled.cause == "The training of quick was cancelled.\nRetry that job first, then this one."
    assert stalled.waits_for is None
    with pytest.raises(ConflictError, match="retry it first"):
        studio.submit_generate(GenerateConfig(prompts=("quick",)), behind.id, owner=OWNER)


def test_waiting_job_is_cancelled_at_once_and_can_be_retried(studio, photos):
    job = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    assert studio.cancel(job.id, owner=OWNER).state == "cancelled"
    assert studio.cancel(job.id, owner=OWNER).state == "cancelled"
    again = studio.retry(job.id, owner=OWNER)
    assert (again.state, again.finished_s) == ("pending", None)
    with pytest.raises(ConflictError, match="is pending"):
        studio.retry(job.id, owner=OWNER)
    studio.start()
    assert studio.wait(job.id, owner=OWNER, timeout_s=60).state == "completed"


def test_child_that_does_not_listen_is_killed_after_the_grace_time(studio, photos):
    studio.start()
    job = studio.submit_check(CheckConfig(subject="stubborn"), photos, owner=OWNER)
    until(lambda: studio.get(job.id, owner=OWNER).progress)
    begin_s = time.monotonic()
    studio.cancel(job.id, owner=OWNER)
    assert studio.wait(job.id, owner=OWNER, timeout_s=20).state == "cancelled"
    assert 0.9 <= time.monotonic() - begin_s < 8


def test_child_that_tells_nothing_for_too_long_is_ended_with_a_cause(tmp_path, monkeypatch, photos):
    monkeypatch.setenv("PYTHONPATH", str(FAKES.parent))
    settings = Settings(home=tmp_path / "home", device="cpu", job_silence_s=2)
    studio = Studio(settings, verbs=load_fakes().VERBS, grace_s=0.5)
    studio.start()
    try:
        job = studio.submit_check(CheckConfig(subject="stubborn"), photos, owner=OWNER)
        view = studio.wait(job.id, owner=OWNER, timeout_s=60)
        assert (view.state, view.attempt) == ("stalled", 1)
        assert "reported nothing for 2 s" in view.cause and "STUDIO_JOB_SILENCE_S" in view.cause
        assert studio.retry(job.id, owner=OWNER).state == "pending"
    finally:
        studio.close()


def test_failure_ends_in_words(studio, photos):
    refused = studio.submit_check(CheckConfig(subject="refuse"), photos, owner=OWNER)
    broken = studio.submit_check(CheckConfig(subject="boom"), photos, owner=OWNER)
    studio.start()

    view = studio.wait(refused.id, owner=OWNER, timeout_s=60)
    assert view.state == "stalled"
    assert view.cause == "a.jpg: is blurred; use a sharp photo.\nb.jpg: is dark; use light."
    assert [problem["code"] for problem in view.problems] == ["blurred", "dark"]

    view = studio.wait(broken.id, owner=OWNER, timeout_s=60)
    assert view.cause == "Something unexpected went wrong (KeyError); details are in the job's log."
    assert view.attempt == 1, "a bug is not tried again by itself"
    assert "secret detail" in (studio.out_dir(broken.id, owner=OWNER).parent / "log.txt").read_text()


def test_closing_leaves_the_job_pending_and_the_next_start_goes_on(studio, photos):
    studio.start()
    job = studio.submit_check(CheckConfig(subject="count 60 20"), photos, owner=OWNER)
    until(lambda: studio.get(job.id, owner=OWNER).progress.get("step", 0) >= 5)
    studio.close()
    assert state(studio, job) == "pending"
    done = (studio.out_dir(job.id, owner=OWNER) / "steps.txt").read_text()

    studio.start()
    view = studio.wait(job.id, owner=OWNER, timeout_s=60)
    assert (view.state, view.attempt) == ("completed", 2)
    steps = (studio.out_dir(job.id, owner=OWNER) / "steps.txt").read_text()
    assert steps.startswith(done)
    assert [int(line.split()[0]) for line in steps.splitlines()] == list(range(1, 61))


def test_second_server_on_the_same_home_takes_over_when_the_first_closes(studio, photos, tmp_path):
    studio.start()
    second = Studio(Settings(home=tmp_path / "home"), verbs=load_fakes().VERBS)
    try:
        second.start()
        job = second.submit_check(CheckConfig(subject="count 100 20"), photos, owner=OWNER)
        until(lambda: state(second, job) == "checking")
        studio.close()
        assert second.wait(job.id, owner=OWNER, timeout_s=60).state == "completed"
    finally:
        second.close()


@pytest.mark.parametrize("behaviour", ["load", "stubborn"])
def test_what_runs_is_stopped_before_it_is_forgotten_also_from_another_process(studio, photos, tmp_path, behaviour):
    check = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    train = studio.submit_train(TrainConfig(instance_token=behaviour), check.id, owner=OWNER)
    behind = studio.submit_export(ExportConfig(format="kohya"), train.id, owner=OWNER)
    studio.start()
    until(lambda: state(studio, train) in ("pendingModel", "training"))
    lock = tmp_path / "home" / "jobs" / train.id / "child.lock"
    until(lambda: lock.exists() and lock.read_text().isdigit())
    pid = int(lock.read_text())
    beside = Studio(Settings(home=tmp_path / "home"), verbs=load_fakes().VERBS)  # as the command line does
    receipt = beside.forget(owner=OWNER, job=check.id)
    beside.close()
    assert set(receipt.jobs) == {check.id, train.id, behind.id} and receipt.forgotten_s is not None
    assert studio.list(owner=OWNER) == [] == list((tmp_path / "home" / "jobs").iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    again = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    assert studio.wait(again.id, owner=OWNER, timeout_s=60).state == "completed", "the queue goes on"
    originals = tmp_path / "home" / "jobs" / again.id / "photos"
    until(lambda: not originals.exists())  # they go with the end of the check, right after it is told


def test_a_job_of_a_server_that_died_is_forgotten_without_a_server(studio, photos, tmp_path):
    job = studio.submit_check(CheckConfig(subject="quick"), photos, owner=OWNER)
    assert studio._store.claim().id == job.id  # and that is where its server died
    assert studio.forget(owner=OWNER, job=job.id).jobs == (job.id,)
    assert studio.list(owner=OWNER) == [] == list((tmp_path / "home" / "jobs").iterdir())


def test_other_owners_see_nothing(studio, photos):
    job = studio.submit_check(CheckConfig(), photos, owner=OWNER)
    calls = (studio.get, studio.cancel, studio.retry, studio.events, studio.wait, studio.out_dir)
    for call in calls:
        with pytest.raises(NotFoundError) as theirs:
            call(job.id, owner="eve")
        with pytest.raises(NotFoundError) as missing:
            call("check-0", owner="eve")
        assert str(theirs.value).replace(job.id, "check-0") == str(missing.value)
    with pytest.raises(NotFoundError):
        studio.submit_train(TrainConfig(), job.id, owner="eve")
    assert studio.list(owner="eve") == []
    assert state(studio, job) == "pending"


def test_a_training_for_another_subject_than_the_checks_is_refused_with_both_named(studio, photos):
    check = studio.submit_check(CheckConfig(subject="Ada", class_noun="woman"), photos, owner=OWNER)
    with pytest.raises(InputError) as caught:
        studio.submit_train(TrainConfig(subject="Bob", class_noun="man"), check.id, owner=OWNER)
    words = str(caught.value)
    assert "'Bob' here and 'Ada' in the checked photos" in words and "'man' here and 'woman'" in words
    assert "leave subject out, or check the photos again with subject 'Bob'" in words
    assert studio.submit_train(TrainConfig(subject="Ada"), check.id, owner=OWNER).facts.class_noun == "woman"


def test_source_of_another_kind_is_refused(studio, photos):
    check = studio.submit_check(CheckConfig(), photos, owner=OWNER)
    with pytest.raises(InputError, match="is a check job; give a train job"):
        studio.submit_generate(GenerateConfig(prompts=("quick",)), check.id, owner=OWNER)


def test_same_key_from_twenty_threads_is_one_job(studio, photos):
    config = CheckConfig(subject="quick")
    views, begin = [], threading.Barrier(20)

    def submit():
        begin.wait()
        views.append(studio.submit_check(config, photos, owner=OWNER, key="k1"))

    threads = [threading.Thread(target=submit) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(views) == 20
    (job_id,) = {view.id for view in views}
    assert [path.name for path in studio.out_dir(job_id, owner=OWNER).parent.parent.iterdir()] == [job_id]
    assert len(studio.list(owner=OWNER)) == 1


def test_same_key_with_another_request_is_a_conflict(studio, photos):
    job = studio.submit_check(CheckConfig(), photos, owner=OWNER, key="k")
    studio.cancel(job.id, owner=OWNER)
    assert studio.submit_check(CheckConfig(), photos, owner=OWNER, key="k").id == job.id, "even after its end"
    with pytest.raises(ConflictError, match="was used for another request"):
        studio.submit_check(CheckConfig(), photos[:1], owner=OWNER, key="k")
    with pytest.raises(ConflictError):
        studio.submit_check(CheckConfig(subject="Bob"), photos, owner=OWNER, key="k")
    photos[0].write_bytes(b"other pixels")
    with pytest.raises(ConflictError):
        studio.submit_check(CheckConfig(), photos, owner=OWNER, key="k")
    assert studio.submit_check(CheckConfig(), photos, owner="bob", key="k").id != job.id, "keys are per owner"
    with pytest.raises(InputError, match="printable"):
        studio.submit_check(CheckConfig(), photos, owner=OWNER, key="")


def test_bad_upload_gets_all_its_problems_at_once_and_stores_nothing(studio, photos, tmp_path):
    large = tmp_path / "large.jpg"
    large.write_bytes(b"x" * 2001)
    given = [*photos, large, tmp_path / "gone.jpg", tmp_path, photos[0]]
    with pytest.raises(InputError) as raised:
        studio.submit_check(CheckConfig(), given, owner=OWNER)
    assert [problem.code for problem in raised.value.problems] == [
        "too_many_photos",
        "too_large",
        "unreadable",
        "not_a_file",
    ]
    with pytest.raises(InputError, match="add at least one photo"):
        studio.submit_check(CheckConfig(), [], owner=OWNER)
    assert studio.list(owner=OWNER) == []
    assert not list((tmp_path / "home").glob("jobs/*"))


def test_full_disk_leaves_nothing_behind(studio, photos, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="The disk is full; nothing was stored"):
        studio.submit_check(CheckConfig(), photos, owner=OWNER)
    monkeypatch.undo()
    assert studio.list(owner=OWNER) == []
    assert not list((tmp_path / "home").glob("jobs/*"))


def test_accepted_job_is_in_the_table_and_in_its_folder(studio, photos, tmp_path):
    job = studio.submit_check(CheckConfig(subject="Zoë"), photos, owner=OWNER)
    other = Studio(Settings(home=tmp_path / "home"))
    assert other.get(job.id, owner=OWNER) == job
    other.close()
    folder = tmp_path / "home" / "jobs" / job.id
    assert json.loads((folder / "request.json").read_text())["config"]["subject"] == "Zoë"
    assert sorted(path.name for path in (folder / "photos").iterdir()) == ["one.jpg", "two 🙂.jpg"]


def test_child_gets_the_settings_of_its_server(studio, photos, monkeypatch, tmp_path):
    (tmp_path / "tell_settings.py").write_text(
        "import dataclasses, os\nfrom studio.core.settings import Settings\n"
        "@dataclasses.dataclass\nclass Told:\n    home: str\n    device: str\n    threads: int\n    omp: str\n"
        "def run(config, source, out, *, on_event, should_stop):\n"
        "    s = Settings()\n    return Told(str(s.home), s.device, s.threads, os.environ['OMP_NUM_THREADS'])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    verbs = {
        kind: type(spec)("tell_settings:run", spec.config, spec.working, False)
        for kind, spec in load_fakes().VERBS.items()
    }
    other = Studio(Settings(home=tmp_path / "other", device="cpu", threads=1), verbs=verbs)
    try:
        other.start()
        job = other.submit_check(CheckConfig(), photos, owner=OWNER)
        view = other.wait(job.id, owner=OWNER, timeout_s=60)
        assert view.result == {"home": str(tmp_path / "other"), "device": "cpu", "threads": 1, "omp": "1"}, view.cause
    finally:
        other.close()


def test_wait_gives_up_after_its_time(studio, photos):
    job = studio.submit_check(CheckConfig(), photos, owner=OWNER)
    begin_s = time.monotonic()
    assert studio.wait(job.id, owner=OWNER, timeout_s=0.2).state == "pending"
    assert time.monotonic() - begin_s < 2


def test_run_calls_the_verb_here_and_now(studio, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FAKES.parent))
    source = tmp_path / "photos"
    source.mkdir()
    events = []
    result = studio.run("check", CheckConfig(subject="quick"), source, tmp_path / "out", on_event=events.append)
    assert result.steps == 1
    assert [event.kind for event in events] == ["stage", "progress"]
    with pytest.raises(InputError):
        studio.run("check", CheckConfig(subject="refuse"), source, tmp_path / "out")
    with pytest.raises(NotFoundError, match="check, train, generate"):
        studio.run("fly", CheckConfig(), source, tmp_path / "out")
    assert not (tmp_path / "home").exists(), "running here and now keeps no books"


def test_embedded_base_is_the_default_without_a_gpu(studio):
    rows = studio.bases()
    assert [row["name"] for row in rows if row["default"]] == ["pocket"]
    assert rows[0]["default_preset"] == "pocket_lora_cpu"
    assert str(PROJECT_ROOT) not in json.dumps(rows)


def test_presets_and_packs_are_plain_data(studio, tmp_path):
    folder = tmp_path / "presets"
    (folder / "train").mkdir(parents=True)
    (folder / "packs").mkdir()
    (folder / "train" / "small.yaml").write_text(
        "title: T\ndescription: D\nbase: pocket\nhardware: cpu\nconfig: {base: pocket, steps: 5}\n"
    )
    (folder / "packs" / "one.yaml").write_text("title: T\ndescription: D\nshots: [{name: a, prompt: '{subject}'}]\n")
    settings = Settings(home=tmp_path / "home", presets_dir=folder)
    assert json.loads(json.dumps(listings.presets(settings)))[0]["config"]["steps"] == 5
    assert json.loads(json.dumps(listings.packs(settings)))[0]["shots"][0]["name"] == "a"


def test_verb_runs_in_another_process_that_is_gone_afterwards(studio, photos):
    studio.start()
    job = studio.submit_check(CheckConfig(subject="count 2 10"), photos, owner=OWNER)
    assert studio.wait(job.id, owner=OWNER, timeout_s=60).state == "completed"
    child = int((studio.out_dir(job.id, owner=OWNER) / "steps.txt").read_text().split()[1])
    assert child != os.getpid()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_a_plan_is_told_at_once_for_this_gpu_from_the_catalog_or_from_what_was_measured_here(
    studio, tmp_path, monkeypatch
):
    config = TrainConfig(base="sd15", steps=100, gradient_checkpointing=True)
    rough = studio.plan(config, photos=8)
    assert (rough.steps, rough.measured, rough.seconds) == (100, False, None)
    assert rough.peak_bytes and rough.room_bytes
    monkeypatch.setattr(machine, "look", lambda device: Machine("cuda", 2 * 2**30, frozenset()))
    small = studio.plan(config, photos=8)
    assert small.fits is False and "GB of 2.15 GB memory" in small.words()
    measured = MeasuredRun("cpu", 1.0, step_s=0.5, picture_s=1.0, peak_bytes=2**30, adapter_bytes=8, resume_bytes=9)
    remember(tmp_path / "home", config, measured)
    assert studio.plan(config, photos=8).measured
