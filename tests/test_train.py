import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from studio import train as train_module
from studio.core.adapters import EMBEDS_NAME, FULL_NAME, WEIGHTS_NAME, adapter_folder, checkpoint_steps, read_info
from studio.core.catalog import FAMILIES
from studio.core.domain import Event, TrainResult
from studio.core.errors import ConflictError, InputError, JobCancelled, MissingExtraError, ResourceError, TrainingError
from studio.core.train_config import TrainConfig
from studio.exporting import certificate, reload
from studio.imaging import nudity
from studio.likeness.base import Embeddings, Scale
from studio.likeness.registry import EngineChoice
from studio.train import train
from studio.training import evaluate


class ColourEngine:
    """Takes a picture's mean colour for an identity: good enough to follow what happens to the scores."""

    name = "colour"
    version = "1"
    caveat = ""

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        rows = np.stack([np.asarray(picture, dtype=np.float32).mean((0, 1)) + 1 for picture in pictures])
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def scale(self, class_noun: str) -> Scale:
        return Scale(other=0.9, same=1.0)


@pytest.fixture
def colour_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = EngineChoice(ColourEngine(), "the test wants it")
    monkeypatch.setattr(evaluate, "choose_engine", lambda *args, **kwargs: choice)


@pytest.fixture
def config(tiny_base: Path) -> Callable[..., TrainConfig]:
    def make(**changes: Any) -> TrainConfig:
        given = {
            "base": str(tiny_base),
            "class_noun": "woman",
            "steps": 4,
            "batch_size": 2,
            "checkpoint_every_steps": 2,
            "samples_per_checkpoint": 1,
            "sample_steps": 1,
            "learning_rate": 1e-3,
            "method": {"rank": 2},
            "likeness": "none",
            "certify": False,
        }
        return TrainConfig.parse({**given, **changes})

    return make


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_every_file_of_the_contract_and_plain_diffusers_loads_its_adapter(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tiny_base: Path,
    tmp_path: Path,
    events: list[Event],
    colour_engine: None,
) -> None:
    wanted = config(token_learning_rate=5e-3, samples_per_checkpoint=2)
    result = train(wanted, make_dataset(), tmp_path / "run", on_event=events.append)
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} == {
        "config.yaml", "inputs.json", "metrics.jsonl", "checkpoints", "samples", "adapter", "report.json", "curve.png",
        "DONE",
    }  # fmt: skip
    kept = TrainConfig.parse(yaml.safe_load((run / "config.yaml").read_text()))
    assert kept == wanted.for_subject("Ada", "woman"), "the dataset says whose photos these are"
    assert [row["step"] for row in lines(run) if "loss" in row] == [1, 2, 3, 4]
    assert [row["step"] for row in lines(run) if "val_loss" in row] == [0, 2, 4]
    assert sorted(path.name for path in (run / "samples" / "4").glob("*.png")) == [
        "00.png", "01.png", "class_00.png", "class_01.png",
    ]  # fmt: skip

    report = json.loads((run / "report.json").read_text())
    assert report["best_step"] == result.best_step in (2, 4)
    assert report["likeness_engine_reason"] == "the test wants it"
    assert (report["method"], report["read_with"]) == ("lora", "load_lora_weights of diffusers")
    assert result.likeness_before is not None and result.likeness_after is not None and result.bleed is not None
    info = read_info(run / "adapter")
    assert (info.subject, info.class_noun, info.instance_token) == ("Ada", "woman", "sks")
    assert (info.resolution_px, info.likeness_engine) == (64, "colour")
    assert info.centroid is not None and np.linalg.norm(info.centroid) == pytest.approx(1, abs=1e-4)
    assert checkpoint_steps(run) == [2, 4]
    best = adapter_folder(run, result.best_step)
    for name in (WEIGHTS_NAME, EMBEDS_NAME):
        assert (best / name).read_bytes() == (run / "adapter" / name).read_bytes()

    pipeline = StableDiffusionPipeline.from_pretrained(tiny_base, use_safetensors=True)
    pipeline.load_textual_inversion(run / "adapter", weight_name=EMBEDS_NAME, use_safetensors=True)
    pipeline.load_lora_weights(run / "adapter", weight_name=WEIGHTS_NAME, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    sample = json.loads((run / "samples" / str(result.best_step) / "scores.json").read_text())["samples"][0]
    picture = pipeline(
        sample["prompt"],
        generator=[torch.Generator().manual_seed(sample["seed"])],
        num_inference_steps=wanted.sample_steps,
        guidance_scale=7.5,
        height=64,
        width=64,
    ).images[0]
    with Image.open(run / sample["path"]) as shown:
        difference = np.abs(np.asarray(picture, dtype=int) - np.asarray(shown, dtype=int))
    assert difference.max() <= 1, "the reloaded adapter draws what the trained one drew"

    kinds = [event.kind for event in events]
    assert kinds[0] == "stage" and {"progress", "metrics", "sample"} <= set(kinds)
    last = [event.data for event in events if event.kind == "progress"][-1]
    assert (last["step"], last["total"]) == (4, 4) and last["eta_s"] >= 0
    assert all((run / event.data["path"]).is_file() for event in events if event.kind == "sample")
    json.dumps([dict(event.data) for event in events])


def test_a_run_ends_with_a_certificate_or_fails(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read_back(command: Sequence[str], *_: Any) -> tuple[int, str]:
        reload.main(Path(command[-1]))  # here: another process would only cost time
        return 0, ""

    monkeypatch.setattr(certificate, "_run", read_back)
    dataset = make_dataset()
    wanted = config(certify=True, token_learning_rate=5e-3, token_vectors=2)
    train(wanted, dataset, tmp_path / "run")
    found = json.loads((tmp_path / "run" / "adapter" / "certificate.json").read_text())
    assert found["tensors_matched"] == found["tensors_in_file"] > 0 and found["missing"] == 0
    assert found["pictures"] == 1 and found["difference_max"] <= 3
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert "likeness" in found and found["likeness"] == report["likeness_summary"]

    draw = train_module.certify
    black = Image.new("RGB", (64, 64))
    monkeypatch.setattr(
        train_module, "certify", lambda export, shots, wanted, **given: draw(export, shots, [black], **given)
    )
    with pytest.raises(TrainingError, match="is not the trained model: its pictures differ"):
        train(config(certify=True, steps=1), dataset, tmp_path / "wrong")
    assert not (tmp_path / "wrong" / "DONE").exists() and not (tmp_path / "wrong" / "adapter").exists()


def test_a_run_goes_on_from_a_lora_and_from_its_own_checkpoint_when_that_file_is_gone(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = make_dataset()
    train(config(samples_per_checkpoint=0), dataset, tmp_path / "first")
    lora = tmp_path / "lora.safetensors"
    lora.write_bytes((tmp_path / "first" / "adapter" / WEIGHTS_NAME).read_bytes())
    wanted = config(method={"rank": 2, "start_from": str(lora)}, samples_per_checkpoint=0)

    def after_a_step() -> bool:
        return (tmp_path / "second" / "metrics.jsonl").exists() and len(lines(tmp_path / "second")) >= 2

    with pytest.raises(JobCancelled):
        train(wanted, dataset, tmp_path / "second", should_stop=after_a_step)
    first, second = (lines(tmp_path / name) for name in ("first", "second"))
    assert second[0]["val_loss"] == pytest.approx([row for row in first if row.get("val_loss")][-1]["val_loss"], abs=0)
    lora.unlink()
    train(wanted, dataset, tmp_path / "second")
    with pytest.raises(InputError, match=r"method.start_from: lora.safetensors does not exist"):
        train(wanted, dataset, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def _has_step(events: Sequence[Event], step: int) -> bool:
    return any(event.kind == "progress" and event.data["step"] >= step for event in events)


def test_a_run_that_an_earlier_version_was_stopped_in_goes_on(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    """It held a digest of its settings, of which there are more now."""
    dataset, run = make_dataset(), tmp_path / "run"
    steps: list[Event] = []
    with pytest.raises(JobCancelled):
        train(config(steps=4), dataset, run, on_event=steps.append, should_stop=lambda: _has_step(steps, 2))
    inputs = json.loads((run / "inputs.json").read_text())
    (run / "inputs.json").write_text(
        json.dumps({"settings": "0" * 64, **{k: inputs[k] for k in ("photos", "revision")}})
    )
    settings = yaml.safe_load((run / "config.yaml").read_text())
    del settings["block_offload"]
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(ConflictError, match="a run made with other settings"):
        train(config(steps=5), dataset, run)
    assert train(config(steps=4), dataset, run) and checkpoint_steps(run)[-1] == 4


def test_a_run_can_go_on_after_its_subject_was_renamed(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    dataset, run = make_dataset(), tmp_path / "run"
    wanted = config(steps=1, samples_per_checkpoint=0)
    result = train(wanted, dataset, run)
    (dataset / "dataset.json").write_text((dataset / "dataset.json").read_text().replace('"Ada"', '"Grace"'))
    assert train(wanted.model_copy(update={"subject": "Grace"}), dataset, run) == result
    with pytest.raises(ConflictError, match="a run made with other settings"):
        train(wanted.model_copy(update={"subject": "Grace", "seed": 2}), dataset, run)


def test_nothing_in_the_run_names_a_photo(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = make_dataset()
    train(config(steps=1), dataset, tmp_path / "run")
    for path in (tmp_path / "run" / "adapter").iterdir():
        content = path.read_bytes()
        assert b"IMG_" not in content and str(dataset).encode() not in content and b"photo of" not in content


@pytest.mark.parametrize("mode", ["images", "prediction"])
def test_a_run_with_a_prior_finishes(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path, mode: str
) -> None:
    wanted = config(prior={"mode": mode, "class_images": 3}, samples_per_checkpoint=0)
    result = train(wanted, make_dataset(), tmp_path / "run")
    assert "validation loss" in result.best_reason


def test_class_pictures_are_drawn_once_and_shared_by_runs_of_other_subjects(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    studio_home: Path,
    events: list[Event],
) -> None:
    wanted = {"steps": 1, "samples_per_checkpoint": 0}
    images = {"mode": "images", "class_images": 3}
    train(config(**wanted, prior=images), make_dataset(), tmp_path / "first")
    paths = sorted((studio_home / "cache" / "class_images").glob("*/*.png"))
    assert [path.name for path in paths] == ["000.png", "001.png", "002.png"]
    written = {path: path.stat().st_mtime_ns for path in paths}

    other = config(**wanted, prior=images, seed=5, instance_token="ohwx")
    train(other, make_dataset(photos=5, name="other"), tmp_path / "second", on_event=events.append)
    assert {path: path.stat().st_mtime_ns for path in paths} == written
    assert not any(event.data.get("name") == "class_images" for event in events)

    paths[1].write_bytes(b"half a picture")
    train(config(**wanted, prior=images, seed=6), make_dataset(name="third"), tmp_path / "run3")
    with Image.open(paths[1]) as image:
        assert image.size == (64, 64), "a damaged picture is drawn again"
    train(
        config(**wanted, prior=images, class_noun="dog"), make_dataset(name="dog", class_noun="dog"), tmp_path / "run4"
    )
    assert len(list((studio_home / "cache" / "class_images").iterdir())) == 2, "another class, other pictures"


def test_a_run_trains_kl_and_epsilon_with_text_encoder_flip_and_buckets(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tiny_base_kl: Path, tmp_path: Path
) -> None:
    wanted = config(
        base=str(tiny_base_kl),
        method={"rank": 2, "target": "attention+conv", "text_encoder": True, "dropout": 0.1},
        flip=True,
        min_snr_gamma=5,
        noise_offset=0.05,
        gradient_checkpointing=True,
        micro_batch_size=1,
        lr_scheduler="cosine",
        lr_warmup_steps=1,
    )
    result = train(wanted, make_dataset(buckets=("1:1", "3:4")), tmp_path / "run")
    assert result.best_step in (2, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"token_learning_rate": 5e-3, "method": {"rank": 2, "dropout": 0.2}, "ema_decay": 0.5},
        {"method": {"name": "full"}, "token_learning_rate": 5e-3, "token_vectors": 2, "token_share": 0.5},
        {"optimizer": "adafactor", "method": {"name": "lokr", "rank": 2}, "token_learning_rate": 5e-3},
    ],
    ids=["lora-ema", "full-tokens", "lokr-adafactor"],
)
def test_cancelling_keeps_a_checkpoint_and_going_on_changes_no_byte(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    events: list[Event],
    changes: dict[str, Any],
) -> None:
    dataset, wanted = make_dataset(), config(**changes)
    train(wanted, dataset, tmp_path / "whole")
    run, done = tmp_path / "run", []

    def third_step() -> bool:
        path = run / "metrics.jsonl"
        done[:] = [row for row in lines(run) if "loss" in row] if path.exists() else []
        return len(done) == 3

    with pytest.raises(JobCancelled, match="Stopped at step 3 of 4"):
        train(wanted, dataset, run, should_stop=third_step)
    assert checkpoint_steps(run) == [2, 3]
    assert not (run / "DONE").exists()
    result = train(wanted, dataset, run, on_event=events.append)
    assert any("Continuing from step 3" in str(event.data) for event in events)
    weights = FULL_NAME if wanted.method.name == "full" else WEIGHTS_NAME
    for name in (weights, EMBEDS_NAME):
        for folder in ("checkpoints/4", "adapter"):
            assert (run / folder / name).read_bytes() == (tmp_path / "whole" / folder / name).read_bytes()
    earlier, later = (tmp_path / "whole" / "checkpoints" / step / EMBEDS_NAME for step in ("2", "4"))
    rests = wanted.token_share * 4 <= 2
    assert (earlier.read_bytes() == later.read_bytes()) == rests, "the token learns in its share of the steps only"
    assert [row["step"] for row in lines(run)] == [row["step"] for row in lines(tmp_path / "whole")]
    assert result.best_step == read_info(run / "adapter").step


def test_cancelling_while_sampling_keeps_the_checkpoint(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    events: list[Event] = []

    def should_stop() -> bool:
        return any(event.data.get("message") == "Making sample pictures at step 2." for event in events)

    with pytest.raises(JobCancelled, match="while sampling"):
        train(config(), make_dataset(), run, on_event=events.append, should_stop=should_stop)
    assert checkpoint_steps(run) == [2]
    assert not (run / "samples" / "2" / "scores.json").exists()


def test_a_finished_run_answers_at_once(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dataset, wanted = make_dataset(), config(steps=1)
    first = train(wanted, dataset, tmp_path / "run")
    monkeypatch.setattr(train_module, "resolve_base", None)
    second = train(wanted, dataset, tmp_path / "run")
    assert isinstance(second, TrainResult) and second == first


def test_other_settings_or_photos_do_not_go_on_in_the_same_folder(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    dataset, run = make_dataset(), tmp_path / "run"
    train(config(steps=1), dataset, run)
    with pytest.raises(ConflictError, match="other settings"):
        train(config(steps=2), dataset, run)
    with pytest.raises(ConflictError, match="other photos"):
        train(config(steps=1), make_dataset(photos=3, name="other"), run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(ConflictError, match="other files"):
        train(config(), dataset, tmp_path / "full")


def test_every_bad_photo_is_named_before_anything_is_loaded(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_module.families, "family", lambda name: CannotLoad)
    dataset = make_dataset()
    (dataset / "photos" / "000.png").write_bytes(b"")
    (dataset / "photos" / "002.png").unlink()
    with pytest.raises(InputError) as caught:
        train(config(resolution_px=64), dataset, tmp_path / "run")
    assert [problem.where for problem in caught.value.problems] == ["IMG_0.jpg", "IMG_2.jpg"]
    assert not (tmp_path / "run").exists(), "nothing is claimed by a run that cannot start"


def test_words_that_the_base_does_not_read_are_told_and_a_subject_among_them_is_refused_before_the_start(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_module.families, "family", lambda name: CannotLoad)
    dataset, told = make_dataset(), []
    data = json.loads((dataset / "dataset.json").read_text())
    subject = "{instance_token} {class_noun}"
    for photo, caption in zip(  # the tiny base reads eight pieces of 30 tokens
        data["photos"],
        (f"{'a ' * 240}{subject}", f"photo of {subject} {'a ' * 240}dog", f"{subject} {'a ' * 232}dog", subject),
        strict=True,
    ):
        photo["caption"] = caption
    (dataset / "dataset.json").write_text(json.dumps(data))
    for vectors, warned in ((1, ["IMG_1.jpg"]), (8, ["IMG_1.jpg", "IMG_2.jpg"])):
        wanted = config(resolution_px=64, token_learning_rate=1e-3, token_vectors=vectors)
        told.clear()
        with pytest.raises(InputError, match=r"IMG_0.jpg: its caption is too long .*'sks woman' is cut off") as caught:
            train(wanted, dataset, tmp_path / "run", on_event=lambda event: told.append(str(event.data)))
        assert [problem.where for problem in caught.value.problems] == ["IMG_0.jpg"]
        assert [name for name in ("IMG_1.jpg", "IMG_2.jpg", "IMG_3.jpg") if name in "".join(told)] == warned
        assert not (tmp_path / "run").exists()


class CannotLoad:
    """A family that can be asked for its spec and for nothing else."""

    spec = FAMILIES["sd"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(version=2), "has version 2"),
        (lambda data: data.update(photos=[]), "no usable photo"),
        (lambda data: data.pop("subject"), "is damaged"),
        (lambda data: data["photos"][0].update(file="../../secret.png"), "IMG_0.jpg: has a damaged row"),
        (lambda data: data["photos"][0].update(bucket="7:1"), "IMG_0.jpg: has a damaged row"),
    ],
)
def test_a_foreign_dataset_is_refused_in_words(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    change: Callable[[dict], Any],
    words: str,
) -> None:
    dataset = make_dataset()
    data = json.loads((dataset / "dataset.json").read_text())
    change(data)
    (dataset / "dataset.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=words):
        train(config(), dataset, tmp_path / "run")


def test_a_folder_without_a_dataset_asks_for_the_check(config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="check the photos first"):
        train(config(), tmp_path, tmp_path / "run")


def test_settings_that_a_family_has_no_use_for_are_all_named_before_anything_is_loaded(
    tiny_bases: Callable[[str], Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("studio.families.loading.load_parts", lambda *_, **__: pytest.fail("loaded the base"))
    wrong = TrainConfig(base=str(tiny_bases("zimage")), method={"text_encoder": True}, token_learning_rate=1e-3)
    with pytest.raises(InputError) as caught:
        train(wrong, make_dataset(), tmp_path / "run")
    assert {problem.where for problem in caught.value.problems} == {"method.text_encoder", "token_learning_rate"}
    assert not (tmp_path / "run").exists()


def test_a_base_that_is_not_here_is_told_from_one_that_does_not_fit(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    dataset = make_dataset()
    with pytest.raises(MissingExtraError):
        train(config(base="owner/model"), dataset, tmp_path / "run")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not a diffusers folder"):
        train(config(base=str(tmp_path / "empty")), dataset, tmp_path / "run")


def test_a_loss_that_is_no_number_ends_the_run(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_module, "train_step", lambda *args: float("nan"))
    with pytest.raises(TrainingError, match="The loss is nan at step 1"):
        train(config(), make_dataset(), tmp_path / "run")


@pytest.mark.parametrize("part", ["unet/diffusion_pytorch_model", "text_encoder/model", "vae/diffusion_pytorch_model"])
def test_a_base_that_holds_nan_ends_the_run_before_its_first_step(
    part: str, config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tiny_base: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(tiny_base, tmp_path / "base") / f"{part}.safetensors"
    tensors = load_file(path)
    for tensor in tensors.values():
        tensor.view(-1)[0] = float("nan")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(TrainingError, match=r"base's (own loss is nan|autoencoder produced NaN).*set dtype=float32"):
        train(config(base=str(tmp_path / "base")), make_dataset(), tmp_path / "run")
    assert not (tmp_path / "run" / "DONE").exists() and not (tmp_path / "run" / "samples").exists()


def test_an_adapter_that_does_not_move_ends_the_run(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_module, "train_step", lambda *args: 0.5)
    with pytest.raises(TrainingError, match="After 2 steps the adapter has not changed"):
        train(config(), make_dataset(), tmp_path / "run")


def test_an_explosion_ends_the_run(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([0.2, 2.5])
    monkeypatch.setattr(train_module, "validation_loss", lambda *args: next(losses))
    with pytest.raises(TrainingError, match=r"from 0.2 to 2.5 by step 2.*lower learning_rate"):
        train(config(), make_dataset(), tmp_path / "run")


def test_the_running_average_is_exported_and_the_newest_weights_are_gone_on_from(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    train(config(ema_decay=0.5, samples_per_checkpoint=0), make_dataset(), tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "4"
    exported, kept = load_file(folder / WEIGHTS_NAME), load_file(folder / "resume.safetensors")
    for name, tensor in exported.items():
        part, _, rest = name.partition(".")
        assert part == "unet"
        average = kept[f"average.denoiser.{rest.removesuffix('.weight')}.default.weight"]
        assert torch.equal(tensor, average)
        assert not torch.equal(tensor, kept[f"adapter.denoiser.{rest}"])


def test_float16_trains_with_scaled_losses_that_a_checkpoint_keeps(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    train(config(dtype="float16", samples_per_checkpoint=0), make_dataset(), tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "4"
    assert json.loads((folder / "state.json").read_text())["scaler"]["scale"] > 1
    learned = load_file(folder / WEIGHTS_NAME)
    assert all(tensor.dtype == torch.float32 and bool(tensor.isfinite().all()) for tensor in learned.values())
    assert any(float(tensor.abs().max()) > 0 for name, tensor in learned.items() if "lora_B" in name)


def test_memory_that_gives_out_costs_speed_and_no_step(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: list[Event],
) -> None:
    dataset, wanted = make_dataset(), config(prior={"mode": "prediction", "batch_size": 1})
    seen = []
    real = train_module.train_step

    def short_of_memory(model: Any, data: Any, optimizer: Any, scaler: Any, step: int) -> float:
        settings = model.run.config
        seen.append((step, settings.micro_batch_size, settings.gradient_checkpointing))
        if step == 3 and not settings.gradient_checkpointing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return real(model, data, optimizer, scaler, step)

    monkeypatch.setattr(train_module, "train_step", short_of_memory)
    train(wanted, dataset, tmp_path / "run", on_event=events.append)
    assert seen[:4] == [(step, None, False) for step in range(4)]
    assert seen[4:] == [(3, 2, False), (3, 1, False), (3, 1, True)], "no step is done again but the one that failed"
    told = [event.data["text"] for event in events if event.data.get("level") == "warning"]
    assert [text.split(". ")[1] for text in told] == [
        "Continuing with 2 instead of 3 pictures at a time, gradients accumulated: the same result.",
        "Continuing with 1 instead of 2 pictures at a time, gradients accumulated: the same result.",
        "Continuing with gradient checkpointing: the same result, slower.",
    ]
    assert [row["step"] for row in lines(tmp_path / "run") if "loss" in row] == [1, 2, 3, 4]
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["ladder"] == {"micro_batch_size": 1, "gradient_checkpointing": True}
    assert TrainConfig.parse(yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())) == wanted.for_subject(
        "Ada", "woman"
    )

    monkeypatch.setattr(train_module, "train_step", real)
    train(wanted, dataset, tmp_path / "whole")
    ours, whole = (load_file(tmp_path / name / "checkpoints" / "4" / WEIGHTS_NAME) for name in ("run", "whole"))
    for name, tensor in whole.items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-5, rtol=1e-3)


def test_a_second_run_knows_what_it_will_take_and_refuses_a_disk_that_is_too_small(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: list[Event],
) -> None:
    dataset = make_dataset()
    train(config(steps=1), dataset, tmp_path / "first")
    train(config(steps=2), dataset, tmp_path / "second", on_event=events.append)
    (told,) = [event.data["text"] for event in events if str(event.data.get("text")).startswith("Plan: ")]
    assert told.startswith("Plan: 2 steps, about ") and told.endswith("(measured here).")
    monkeypatch.setattr(train_module.shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    with pytest.raises(ResourceError, match=r"of disk space and \d+ \w+ is free; free some space"):
        train(config(steps=3), dataset, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_a_foot_of_the_ladder_without_room_says_what_to_change(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_room(*args: Any) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(train_module, "train_step", no_room)
    with pytest.raises(ResourceError, match="use a smaller resolution_px"):
        train(config(gradient_checkpointing=True, batch_size=1), make_dataset(), tmp_path / "run")


def test_other_errors_of_torch_are_no_want_of_memory(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*args: Any) -> float:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(train_module, "train_step", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        train(config(), make_dataset(), tmp_path / "run")


def test_masks_are_asked_for_read_and_part_of_the_run(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    dataset, wanted = make_dataset(), config(background_weight=0.1, steps=1, samples_per_checkpoint=0)
    with pytest.raises(InputError, match="the dataset contains no masks"):
        train(wanted, dataset, tmp_path / "run")
    (dataset / "masks").mkdir()
    Image.new("L", (32, 32)).save(dataset / "masks" / "000.png")
    (dataset / "masks" / "001.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        train(wanted, dataset, tmp_path / "run")
    assert [problem.where for problem in caught.value.problems] == ["IMG_0.jpg", "IMG_1.jpg"]
    for name in ("000.png", "001.png"):
        mask = Image.new("L", (64, 64))
        mask.paste(255, (0, 0, 32, 64))
        mask.save(dataset / "masks" / name)
    train(wanted, dataset, tmp_path / "run")
    mask.save(dataset / "masks" / "002.png")
    with pytest.raises(ConflictError, match="other photos"):
        train(wanted, dataset, tmp_path / "run")


def test_an_optimizer_that_is_not_installed_is_refused_before_anything_is_loaded(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(train_module, "resolve_base", None)
    monkeypatch.setitem(sys.modules, "prodigyopt", None)
    with pytest.raises(MissingExtraError, match=r"optimizer=prodigy.*pip install prodigyopt.*optimizer=adamw"):
        train(config(optimizer="prodigy", learning_rate=1), make_dataset(), tmp_path / "run")


def test_pictures_of_one_colour_end_the_run(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    black = [Image.new("RGB", (64, 64))]
    monkeypatch.setattr(evaluate, "sample", lambda run, model, prompts, seeds, listener: black * len(prompts))
    with pytest.raises(TrainingError, match="a single colour: the base itself"):
        train(config(), make_dataset(), tmp_path / "run")


def test_a_destroyed_subject_beside_a_healthy_class_ends_the_run(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    colour_engine: None,
) -> None:
    def drawn(run: Any, model: Any, prompts: Sequence[str], seeds: Any, listener: Any) -> list[Image.Image]:
        black = Image.new("RGB", (64, 64))
        noise = Image.effect_noise((64, 64), 60).convert("RGB")
        learned = (run.out_dir / "checkpoints" / "2" / "DONE").exists()
        return [black if learned and "sks" in prompt else noise for prompt in prompts]

    monkeypatch.setattr(evaluate, "sample", drawn)
    with pytest.raises(TrainingError, match="pictures at step 2 have a single colour: the training destroyed"):
        train(config(), make_dataset(), tmp_path / "run")
    assert checkpoint_steps(tmp_path / "run") == [2], "what was learned until then is kept"


def test_photos_without_the_subject_are_trained_without_likeness(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: list[Event],
) -> None:
    class Blind(ColourEngine):
        def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
            return np.full((len(pictures), 3), np.nan, dtype=np.float32)

    monkeypatch.setattr(evaluate, "choose_engine", lambda *args, **kwargs: EngineChoice(Blind(), ""))
    result = train(config(steps=1), make_dataset(), tmp_path / "run", on_event=events.append)
    assert result.likeness_engine is None and result.likeness_after is None
    assert any(event.data.get("level") == "warning" for event in events)


def test_the_globals_of_torch_are_put_back(
    config: Callable[..., TrainConfig], make_dataset: Callable[..., Path], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    before = (torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    train(config(steps=1), make_dataset(), tmp_path / "run")
    after = (torch.get_rng_state(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    assert torch.equal(before[0], after[0]) and before[1:] == after[1:]


class MostlyBlind(ColourEngine):
    """Sees the photos and no sample."""

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, pictures: Sequence[Image.Image]) -> Embeddings:
        self.calls += 1
        rows = super().embed(pictures) if pictures else np.zeros((0, 3), dtype=np.float32)
        return rows if self.calls == 1 else np.full_like(rows, np.nan)


def test_samples_that_do_not_show_the_subject_are_not_measured_anywhere(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: list[Event],
) -> None:
    engine = MostlyBlind()
    monkeypatch.setattr(evaluate, "choose_engine", lambda *args, **kwargs: EngineChoice(engine, ""))
    result = train(config(steps=1), make_dataset(), tmp_path / "run", on_event=events.append)
    assert (result.likeness_engine, result.likeness_version) == ("colour", "1")
    assert result.likeness_after is None and result.bleed is None
    assert result.likeness_summary is not None and result.likeness_summary["measured"] == 0
    text = (tmp_path / "run" / "report.json").read_text()
    assert "NaN" not in text and "no sample of any of them shows the subject" in json.loads(text)["best_reason"]
    assert all("likeness" not in line for line in lines(tmp_path / "run"))
    assert any("does not find the subject in any sample" in str(event.data.get("text")) for event in events)


def test_a_run_that_goes_on_with_another_engine_version_measures_its_samples_again(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: list[Event],
    colour_engine: None,
) -> None:
    dataset, run = make_dataset(), tmp_path / "run"

    def at_step_2() -> bool:
        return (run / "checkpoints" / "2" / "DONE").exists()

    with pytest.raises(JobCancelled):
        train(config(), dataset, run, should_stop=at_step_2)
    newer = ColourEngine()
    newer.version = "2"
    monkeypatch.setattr(newer, "scale", lambda class_noun: Scale(other=0.0, same=1.0))
    monkeypatch.setattr(evaluate, "choose_engine", lambda *args, **kwargs: EngineChoice(newer, ""))
    before = json.loads((run / "samples" / "0" / "scores.json").read_text())
    result = train(config(), dataset, run, on_event=events.append)
    after = json.loads((run / "samples" / "0" / "scores.json").read_text())
    assert before["likeness_summary"]["version"] == "1" and after["likeness_summary"]["version"] == "2"
    assert before["likeness"] != after["likeness"] == result.likeness_before
    assert {line["likeness_summary"]["version"] for line in lines(run) if "val_loss" in line} == {"2"}
    assert any("measuring them again" in str(event.data.get("text")) for event in events)


def test_samples_that_the_operators_check_refuses_are_grey_and_the_run_goes_on(
    config: Callable[..., TrainConfig],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STUDIO_NUDITY_PICTURES", "refuse")
    monkeypatch.setattr(nudity, "scorer", lambda: lambda picture: 1.0)
    train(config(steps=1), make_dataset(), tmp_path / "run")
    samples = list((tmp_path / "run" / "samples").rglob("0*.png"))
    assert samples and all(Image.open(path).getextrema() == ((128, 128),) * 3 for path in samples)
