"""The client in Python against the whole app with scripted jobs, over a real connection."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio import client as module
from studio.client import Client, Job
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import TERMINAL_STATES, Dataset, Event, GenerateResult, TrainResult
from studio.core.errors import InputError, JobCancelled, StudioError
from studio.core.settings import PROJECT_ROOT, Settings
from studio.core.train_config import TrainConfig
from studio.pocket.samples import sample_photos
from studio.remote.client import ServerGoneError


def load_edge():
    spec = importlib.util.spec_from_file_location("edge", PROJECT_ROOT / "tests" / "web" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a scripted studio that holds exports at half way; it finds the token in the server's home."""
    edge = load_edge()
    folder = tmp_path_factory.mktemp("client")
    settings = Settings(home=folder / "home", port=0, presets_dir=edge.write_presets(folder / "presets"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_HOME", str(settings.home))
        patch.setenv("GRADIO_TEMP_DIR", str(settings.home / "web-cache"))
        with edge.serve(settings, folder / "log.txt", hold=["export"], token="") as address, Client(address) as client:
            yield client


@pytest.fixture(scope="module")
def check(studio: Client, tmp_path_factory: pytest.TempPathFactory) -> Job[Dataset]:
    folder = tmp_path_factory.mktemp("photos")
    sample_photos(folder, count=3, size_px=256)
    return studio.check(folder, CheckConfig(subject="Ada", class_noun="woman", min_photos=2))


@pytest.fixture(scope="module")
def run(studio: Client, check: Job[Dataset]) -> Job[TrainResult]:
    return studio.train(check, TrainConfig.model_validate({"steps": 20, "method": {"rank": 4}}))


@pytest.fixture(scope="module")
def pictures(studio: Client, run: Job[TrainResult]) -> Job[GenerateResult]:
    return studio.generate(run, GenerateConfig(pack="places", count=2, keep=1, adapter_scale=0.8))


def test_hearts_and_names_are_given_from_python(
    studio: Client, check: Job[Dataset], pictures: Job[GenerateResult]
) -> None:
    first, second = (image.file for image in pictures.wait().images)
    assert studio.heart(pictures, first, second) == (first, second)
    assert studio.heart(pictures, first, on=False) == (second,)
    assert pictures.view()["hearts"] == [second]
    assert studio.rename("summer", photo_set=check) == [check.id]
    assert check.view()["title"] == "Photos of Ada, summer"
    assert check.id in studio.rename("Grace", subject="Ada") and check.view()["facts"]["subject"] == "Grace"
    studio.rename("Ada", subject="Grace")
    with pytest.raises(StudioError):
        studio.rename("Ada")


def test_photos_come_back_as_a_dataset(check: Job[Dataset]) -> None:
    dataset = check.wait()
    assert (dataset.subject, dataset.class_noun, len(dataset.photos)) == ("Ada", "woman", 3)
    assert dataset.set_problems == ()  # three are enough for min_photos=2, which travels with the other settings


def test_a_run_tells_its_progress_and_brings_its_adapter(run: Job[TrainResult], tmp_path: Path) -> None:
    told: list[Event] = []
    result = run.wait(on_event=told.append)
    assert result.steps == 20  # the preset says at least 60
    steps = [event.data["step"] for event in told if event.kind == "progress"]
    assert steps == sorted(steps) and steps[-1] == 20
    paths = run.download(tmp_path)
    assert tmp_path.resolve() / "adapter" / "pytorch_lora_weights.safetensors" in paths
    assert run.view()["state"] == "completed"


def test_pictures_are_typed_and_their_files_are_there(pictures: Job[GenerateResult], tmp_path: Path) -> None:
    result = pictures.wait()
    assert len(result.images) == 2 and all(0 < image.likeness <= 1 for image in result.images)
    pictures.download(tmp_path)
    assert all((tmp_path / image.file).read_bytes()[:4] == b"\x89PNG" for image in result.images)


def test_pictures_of_a_job_and_of_this_machine_are_finished(
    studio: Client, pictures: Job[GenerateResult], tmp_path: Path
) -> None:
    assert len(studio.finish(pictures, "plain_white").wait().pictures) == 2
    (own,) = sample_photos(tmp_path, count=1, size_px=64)
    (finished,) = studio.finish([own], "plain_white", {"fit.max_bytes": 50_000}).wait().pictures
    assert finished.source == own.name


def test_a_wait_may_end_before_the_job_which_goes_on_and_can_be_cancelled(
    studio: Client, run: Job[TrainResult]
) -> None:
    job = studio.export(run, ExportConfig(format="kohya"))
    with pytest.raises(JobCancelled, match="goes on"):
        job.wait(timeout_s=0.2)
    assert job.view()["state"] not in TERMINAL_STATES
    job.cancel()
    with pytest.raises(JobCancelled, match="was cancelled"):
        job.wait()


def test_a_run_is_published_with_what_is_set(studio: Client, run: Job[TrainResult]) -> None:
    config = PublishConfig(repo="ada/me", dry_run=True, title="Ada", form="merged")
    result = studio.publish(run, config).wait()
    assert (result.repo, result.form, result.commit) == ("ada/me", "merged", None)


def test_the_same_key_is_the_same_job_and_without_one_each_call_is_new(studio: Client, run: Job[TrainResult]) -> None:
    config = GenerateConfig(prompts=("photo of {subject}",))
    same = {studio.generate(run, config, key="mine").id for _ in range(2)}
    assert len(same) == 1
    assert len({studio.generate(run, config).id for _ in range(2)} | same) == 3
    assert studio.jobs(limit=1)[0]["kind"] == "generate"
    assert [row["name"] for row in studio.choices("packs")] == ["places"]


def test_a_refusal_is_in_the_words_of_the_studio(studio: Client, run: Job[TrainResult]) -> None:
    with pytest.raises(StudioError, match="did you mean 'places'"):
        studio.generate(run, GenerateConfig(pack="place"))
    with pytest.raises(InputError, match="none were given"):
        studio.check([], CheckConfig())


def test_a_server_that_is_not_there_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.client.CONTACT_S", 0.3)
    with Client("http://127.0.0.1:9") as client, pytest.raises(ServerGoneError, match="Is a studio running there"):
        client.jobs()


def test_importing_it_brings_in_nothing_heavy() -> None:
    heavy = ("torch", "gradio", "gradio_client", "diffusers", "transformers", "cv2", "dlib")
    code = f"import sys, studio.client; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_a_set_is_edited_without_sending_its_photos_again(studio: Client, check: Job[Dataset], tmp_path: Path) -> None:
    one_more = sample_photos(tmp_path, count=4, size_px=256)[3:]
    config = CheckConfig(subject="Eve", consent=True)
    edited = studio.check(one_more, config, edits=check).wait()
    assert (edited.subject, edited.class_noun, len(edited.verdicts), edited.consent) == ("Eve", "woman", 4, True)
    assert len(studio.check((), CheckConfig(subject="Mia"), edits=check.id).wait().verdicts) == 3
    with pytest.raises(InputError, match="photos"):
        studio.check((), CheckConfig())
    with pytest.raises(StudioError, match="not there"):
        studio.check((), CheckConfig(), edits="check-0")


def test_forgetting_says_what_would_go_and_lets_go(studio: Client, tmp_path: Path) -> None:
    sample_photos(tmp_path, count=2, size_px=256)
    check = studio.check(tmp_path, CheckConfig(subject="Zoe", class_noun="woman", min_photos=2))
    check.wait()
    assert studio.forget(subject="Zoe", dry_run=True)["jobs"] == [check.id]
    receipt = studio.forget(check)
    assert receipt["jobs"] == [check.id] and "Deleted for good" in receipt["words"]
    with pytest.raises(StudioError, match="not there"):
        check.view()


def test_nothing_that_is_set_is_left_out_not_even_none() -> None:
    """A preset with a rate of its own for the token is told to train none."""
    assert module._given(TrainConfig(token_learning_rate=None, steps=3)) == {"token_learning_rate": None, "steps": 3}
