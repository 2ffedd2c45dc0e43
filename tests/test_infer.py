"""Generation on a tiny random base with a hand-made adapter: pictures, resume, ranking, files."""

import dataclasses
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from studio import infer
from studio.core import progress
from studio.core.adapters import AdapterInfo, write_info
from studio.core.catalog import FAMILIES
from studio.core.config import GenerateConfig
from studio.core.domain import Event, GenerateResult
from studio.core.errors import ConflictError, InputError, JobCancelled, MissingExtraError, NotFoundError
from studio.imaging import nudity
from studio.imaging.provenance import is_marked
from studio.likeness.base import Scale
from studio.pictures import render, request, scorer


class RednessEngine:
    """An engine whose subject is the colour red."""

    name = "pocket"
    version = "1"
    caveat = ""

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        means = np.stack([np.asarray(picture.convert("RGB"), np.float32).mean((0, 1)) for picture in pictures])
        return means / np.linalg.norm(means, axis=1, keepdims=True)

    def scale(self, class_noun: str) -> Scale:
        return Scale(other=0.0, same=1.0)


@pytest.fixture(scope="session")
def adapter(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    write_lora(tiny_base, folder, seed=1)
    return folder


def write_lora(base: Path, folder: Path, seed: int, strength: float = 0.3) -> None:
    unet = render.load_pipeline(str(base)).unet
    unet.add_adapter(LoraConfig(r=4, lora_alpha=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    generator = torch.Generator().manual_seed(seed)
    state = get_peft_model_state_dict(unet)
    layers = {name: torch.randn(tensor.shape, generator=generator) * strength for name, tensor in state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=layers)


@pytest.fixture
def run_dir(tiny_base: Path, adapter: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    (run / "adapter").mkdir(parents=True)
    for path in adapter.iterdir():
        (run / "adapter" / path.name).write_bytes(path.read_bytes())
    info = AdapterInfo(
        base=str(tiny_base),
        revision=None,
        family="sd",
        subject="Ada",
        class_noun="woman",
        instance_token="sks",
        resolution_px=64,
        guidance_scale=3.0,
        num_inference_steps=2,
        likeness_engine="pocket",
        likeness_version="1",
        centroid=(1.0, 0.0, 0.0),
        step=10,
    )
    write_info(run / "adapter", info)
    return run


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> RednessEngine:
    engine = RednessEngine()
    monkeypatch.setattr(scorer, "choose_engine", lambda *_, **__: SimpleNamespace(engine=engine, reason="test"))
    return engine


def config(**changes: Any) -> GenerateConfig:
    usual = {"prompts": ["photo of {subject}", "{subject} at the beach"], "count": 2, "use_cache": False}
    return GenerateConfig.parse({**usual, **changes})


def change_info(run: Path, **changes: Any) -> None:
    write_info(run / "adapter", dataclasses.replace(infer.read_info(run / "adapter"), **changes))


def pixels(pictures: Sequence[Image.Image]) -> np.ndarray:
    return np.stack([np.asarray(picture).astype(int) for picture in pictures])


def opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        picture.load()
        return picture


def without_clock(result: GenerateResult) -> GenerateResult:
    return dataclasses.replace(result, seconds=0.0)


def stop_after(images: int, events: list[Event]) -> Callable[[], bool]:
    return lambda: sum(event.kind == "image" for event in events) >= images


# ------------------------------------------------------------------------------------------------ the verb's folder


def test_generate_writes_pictures_sheet_zip_index_and_done(run_dir: Path, tmp_path: Path) -> None:
    out, events = tmp_path / "out", []
    result = infer.generate(config(seed=7), run_dir, out, on_event=events.append)

    files = ["Ada_prompt_1/001.png", "Ada_prompt_1/002.png", "Ada_prompt_2/001.png", "Ada_prompt_2/002.png"]
    by_file = {image.file: image for image in result.images}
    assert sorted(by_file) == files
    assert [by_file[file].seed for file in files] == [7, 8, 9, 10]
    assert by_file[files[0]].prompt == "photo of sks woman"
    assert by_file[files[3]].prompt == "sks woman at the beach"
    assert all(opened(out / file).size == (64, 64) for file in files)
    assert opened(out / result.contact_sheet).width > 3 * 192
    assert json.loads((out / "index.json").read_text()) == json.loads(json.dumps(dataclasses.asdict(result)))
    assert (out / "DONE").is_file()
    assert not list(out.rglob("*.part"))

    with zipfile.ZipFile(out / result.archive) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [*files, "index.json"]
        assert archive.read(files[0]) == (out / files[0]).read_bytes()
        rows = json.loads(archive.read("index.json"))["images"]
        assert [(row["file"], row["prompt"], row["seed"], row["likeness"]) for row in rows] == [
            (image.file, image.prompt, image.seed, image.likeness) for image in result.images
        ]

    assert result.sheets == ("Ada_prompt_1/contact_sheet.png", "Ada_prompt_2/contact_sheet.png")
    for file in (*files, *result.sheets, result.contact_sheet):
        assert is_marked((out / file).read_bytes()), f"{file} does not say that it was generated"
    assert all(opened(out / sheet).width > 2 * 192 for sheet in result.sheets)

    told = [event.data for event in events if event.kind == "image"]
    assert sorted(row["file"] for row in told) == files
    assert {row["rank"] for row in told} == {0}
    progress = [event.data for event in events if event.kind == "progress"]
    assert (progress[0]["step"], progress[-1]["step"], progress[-1]["total"]) == (0, 4, 4)
    assert progress[-1]["eta_s"] == 0


def test_same_config_gives_the_same_bytes(run_dir: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        infer.generate(config(), run_dir, tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a" / "pictures.zip") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    for name in ("pictures.zip", "contact_sheet.png", "Ada_prompt_1/001.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_png_tells_how_it_was_made_but_not_where(run_dir: Path, tiny_base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer.generate(config(seed=7, negative_prompt="a hat", adapter_scale=0.5), run_dir, out)
    picture = opened(out / "Ada_prompt_2/001.png")
    record = json.loads(picture.info["likeness_studio"])
    assert record["prompt"] == "sks woman at the beach"
    assert record["negative_prompt"] == "a hat"
    assert (record["seed"], record["num_inference_steps"], record["guidance_scale"]) == (9, 2, 3.0)
    assert (record["shot"], record["adapter_scale"]) == ("prompt_2", 0.5)
    assert record["adapter_sha256"] == infer.adapter_sha256(run_dir / "adapter")
    lines = picture.info["parameters"].splitlines()
    assert lines[:2] == ["sks woman at the beach", "Negative prompt: a hat"]
    assert lines[2].startswith("Steps: 2, Sampler: ")
    assert "CFG scale: 3, Seed: 9, Size: 64x64" in lines[2]
    assert str(tiny_base.parent) not in str(picture.info)


def test_scale_zero_gives_the_pictures_of_the_untrained_base(run_dir: Path, tiny_base: Path, tmp_path: Path) -> None:
    infer.generate(config(adapter_scale=0.0), run_dir, tmp_path / "out")
    expected = render.render_prompts(
        render.load_pipeline(str(tiny_base)),
        ["photo of sks woman"],
        [0],
        size_hw=(64, 64),
        num_inference_steps=2,
        guidance_scale=3.0,
    )
    found = opened(tmp_path / "out" / "Ada_prompt_1/001.png")
    assert abs(pixels([found]) - pixels(expected)).max() <= 1


def test_strengths_are_compared_from_the_same_seed_and_each_is_what_it_is_alone(run_dir: Path, tmp_path: Path) -> None:
    wanted = config(prompts=["photo of {subject}"], count=1, strengths=(0.0, 0.5, 1.0), use_cache=True)
    result = infer.generate(wanted, run_dir, tmp_path / "row")
    assert {image.adapter_scale: image.file for image in result.images} == {
        scale: f"Ada_prompt_1/001_at_{scale:g}.png" for scale in (0.0, 0.5, 1.0)
    }
    assert {image.seed for image in result.images} == {0}
    shown = {image.adapter_scale: opened(tmp_path / "row" / image.file) for image in result.images}
    for scale, picture in shown.items():
        alone = config(prompts=["photo of {subject}"], count=1, adapter_scale=scale)
        (one,) = infer.generate(alone, run_dir, tmp_path / f"at-{scale}").images
        assert (one.adapter_scale, one.file) == (scale, "Ada_prompt_1/001.png")
        assert np.array_equal(np.asarray(opened(tmp_path / f"at-{scale}" / one.file)), np.asarray(picture))
    assert np.ptp(pixels([*shown.values()]), axis=0).max() > 0
    again = infer.generate(wanted, run_dir, tmp_path / "again")
    assert again.from_cache == 2, "of strength 0 nothing is kept"


@pytest.mark.parametrize("changes", [{"keep": 1}, {"strengths": (1.0, 1.0)}, {"strengths": (2.5,)}])
def test_strengths_that_cannot_be_compared_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="strengths"):
        config(**{"strengths": (0.5, 1.0), **changes})


def test_checkpoint_picks_that_steps_adapter(run_dir: Path, tiny_base: Path, tmp_path: Path) -> None:
    write_lora(tiny_base, run_dir / "checkpoints" / "20", seed=2)
    infer.generate(config(), run_dir, tmp_path / "best")
    infer.generate(config(checkpoint=20), run_dir, tmp_path / "other")
    one, other = (opened(tmp_path / name / "Ada_prompt_1/001.png") for name in ("best", "other"))
    assert (pixels([one]) != pixels([other])).any()
    with pytest.raises(NotFoundError, match="use one of: 20"):
        infer.generate(config(checkpoint=15), run_dir, tmp_path / "third")


# ------------------------------------------------------------------------------------------------- cancel and go on


def test_cancelled_run_keeps_its_pictures_and_goes_on_to_the_same_end(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = infer.generate(config(batch_size=1), run_dir, tmp_path / "whole")
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    out, events = tmp_path / "out", []
    with pytest.raises(JobCancelled):
        infer.generate(config(batch_size=1), run_dir, out, on_event=events.append, should_stop=stop_after(2, events))
    kept = sorted(path.relative_to(out).as_posix() for path in out.rglob("0*.png"))
    assert kept == ["Ada_prompt_1/001.png", "Ada_prompt_1/002.png"]
    assert not (out / "DONE").exists()
    stamp = (out / kept[0]).stat().st_mtime_ns

    again: list[Event] = []
    result = infer.generate(config(batch_size=1), run_dir, out, on_event=again.append)
    assert without_clock(result) == without_clock(whole)
    assert (out / kept[0]).stat().st_mtime_ns == stamp
    # The same place is told again at each denoising step.
    assert list(dict.fromkeys(event.data["step"] for event in again if event.kind == "progress")) == [2, 3, 4]
    assert (out / "pictures.zip").read_bytes() == (tmp_path / "whole" / "pictures.zip").read_bytes()


def test_an_interrupted_run_goes_on_to_the_same_bytes_in_other_batches(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, rows = render._render, []

    def counted(pipeline: Any, picture_requests: Sequence[render.PictureRequest], *rest: Any) -> list[Image.Image]:
        rows.append(len(picture_requests))
        return whole(pipeline, picture_requests, *rest)

    monkeypatch.setattr(render, "_render", counted)
    wanted = config(count=3, batch_size=4)  # six pictures: two passes of three
    infer.generate(wanted, run_dir, tmp_path / "whole")
    out, events = tmp_path / "out", []
    with pytest.raises(JobCancelled):
        infer.generate(wanted, run_dir, out, on_event=events.append, should_stop=stop_after(3, events))
    (out / "Ada_prompt_1/002.png").unlink()
    infer.generate(wanted, run_dir, out)
    assert set(rows) == {3}  # a tiny base rounds alike for any number of rows; a real one does not
    for path in (tmp_path / "whole").rglob("*.png"):
        assert (out / path.relative_to(tmp_path / "whole")).read_bytes() == path.read_bytes(), path.name


def test_a_picture_made_in_other_company_differs_by_rounding_at_most(run_dir: Path, tmp_path: Path) -> None:
    infer.generate(config(prompts=["photo of {subject}"], count=1, seed=3), run_dir, tmp_path / "alone")
    infer.generate(config(prompts=["photo of {subject}"] * 3, count=3, seed=1), run_dir, tmp_path / "many")
    alone = opened(tmp_path / "alone/Ada_prompt_1/001.png")
    among = opened(tmp_path / "many/Ada_prompt_1/003.png")
    assert json.loads(among.info["likeness_studio"])["seed"] == 3
    assert abs(pixels([alone]) - pixels([among])).max() <= 1


def test_damaged_or_foreign_picture_is_made_again(run_dir: Path, tmp_path: Path) -> None:
    out, events = tmp_path / "out", []
    with pytest.raises(JobCancelled):
        infer.generate(config(batch_size=1), run_dir, out, on_event=events.append, should_stop=stop_after(3, events))
    files = ["Ada_prompt_1/001.png", "Ada_prompt_1/002.png", "Ada_prompt_2/001.png"]
    whole = [(out / file).read_bytes() for file in files]
    (out / files[0]).write_bytes(whole[0][: len(whole[0]) // 2])
    Image.new("RGB", (64, 64)).save(out / files[1])
    (out / files[2]).write_bytes(whole[1])  # whole and ours, but of another prompt and seed
    infer.generate(config(), run_dir, out)
    again = pixels([opened(out / file) for file in files])
    assert abs(again - pixels([Image.open(io.BytesIO(data)) for data in whole])).max() <= 1
    assert json.loads(opened(out / files[2]).info["likeness_studio"])["shot"] == "prompt_2"


def test_finished_folder_answers_without_loading_a_model(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = infer.generate(config(), run_dir, tmp_path / "out")
    monkeypatch.setattr(render, "open_pipeline", lambda *_, **__: pytest.fail("loaded the base"))
    assert infer.generate(config(), run_dir, tmp_path / "out") == first


def test_every_picture_says_which_engine_of_which_version_measured_it(run_dir: Path, tmp_path: Path) -> None:
    result = infer.generate(config(), run_dir, tmp_path / "out")
    for image in result.images:
        assert (image.likeness_engine, image.likeness_version) == ("pocket", "1")
        file = opened(tmp_path / "out" / image.file)
        written = {"engine": "pocket", "version": "1", "value": image.likeness}
        assert json.loads(file.info["likeness_studio"])["likeness"] == written
        assert file.info["parameters"].endswith(f", Likeness: {image.likeness:g}, Likeness engine: pocket 1")


def test_a_finished_folder_with_scores_of_another_version_is_measured_again_but_not_drawn(
    run_dir: Path, tmp_path: Path, engine: RednessEngine, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    out = tmp_path / "out"
    first = infer.generate(config(), run_dir, out)
    monkeypatch.setattr(render, "open_pipeline", lambda *_, **__: pytest.fail("loaded the base"))
    monkeypatch.setattr(engine, "version", "2", raising=False)

    assert infer.generate(config(), run_dir, out, on_event=events.append) == first  # the reference is of version 1, too
    assert any("do not compare them" in str(event.data.get("text")) for event in events)

    change_info(run_dir, likeness_version="2")
    again = infer.generate(config(), run_dir, out, on_event=events.append)
    assert any("they are measured again" in str(event.data.get("text")) for event in events)
    assert again.likeness_version == "2" and again.likeness_mean == first.likeness_mean
    for image in again.images:
        assert image.likeness_version == "2"
        assert json.loads(opened(out / image.file).info["likeness_studio"])["likeness"]["version"] == "2"
    assert infer.generate(config(), run_dir, out) == again


def test_finished_folder_that_lost_a_picture_makes_it_again(run_dir: Path, tmp_path: Path) -> None:
    first = infer.generate(config(), run_dir, tmp_path / "out")
    (tmp_path / "out/Ada_prompt_2/001.png").unlink()
    assert without_clock(infer.generate(config(), run_dir, tmp_path / "out")) == without_clock(first)
    assert (tmp_path / "out/Ada_prompt_2/001.png").is_file()


@pytest.mark.parametrize("changes", [{"seed": 1}, {"adapter_scale": 0.5}, {"num_inference_steps": 1}])
def test_other_settings_in_the_same_folder_are_refused(run_dir: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    infer.generate(config(), run_dir, tmp_path / "out")
    before = (tmp_path / "out" / "index.json").read_bytes()
    with pytest.raises(ConflictError, match="other settings"):
        infer.generate(config(**changes), run_dir, tmp_path / "out")
    assert (tmp_path / "out" / "index.json").read_bytes() == before


def test_folder_without_any_picture_may_be_used_for_other_settings(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(JobCancelled):
        patch.setattr(render, "open_pipeline", lambda *_, **__: (_ for _ in ()).throw(JobCancelled("stopped")))
        infer.generate(config(), run_dir, tmp_path / "out")
    assert len(infer.generate(config(seed=1), run_dir, tmp_path / "out").images) == 4


def test_other_adapter_in_the_same_folder_is_refused(run_dir: Path, tiny_base: Path, tmp_path: Path) -> None:
    infer.generate(config(), run_dir, tmp_path / "out")
    write_lora(tiny_base, run_dir / "adapter", seed=9)
    with pytest.raises(ConflictError):
        infer.generate(config(), run_dir, tmp_path / "out")


def test_folder_with_other_files_is_refused(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    with pytest.raises(ConflictError, match="other files; choose an empty folder"):
        infer.generate(config(), run_dir, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["letter.txt"]


# --------------------------------------------------------------------------------------------------------- likeness


def test_pictures_are_ranked_by_likeness(run_dir: Path, tmp_path: Path, engine: RednessEngine) -> None:
    result = infer.generate(config(), run_dir, tmp_path / "out")
    assert [image.rank for image in result.images] == [1, 2, 3, 4]
    found = [image.likeness for image in result.images]
    assert found == sorted(found, reverse=True)
    first = opened(tmp_path / "out" / result.images[0].file)
    assert found[0] == pytest.approx(engine.embed([first])[0, 0], abs=1e-4)
    assert result.likeness_engine == "pocket"
    assert result.likeness_mean == pytest.approx(np.mean(found), abs=1e-3)


@pytest.mark.parametrize("case", ["none", "no_reference", "missing_weights", "no_engine"])
def test_without_a_ruler_pictures_stay_in_order(
    case: str, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "no_reference":
        change_info(run_dir, likeness_engine=None, centroid=None)
    if case == "missing_weights":

        def missing(*_: Any, **__: Any) -> None:
            raise MissingExtraError("its weights are not here.")

        monkeypatch.setattr(scorer, "choose_engine", missing)
    if case == "no_engine":
        nothing = SimpleNamespace(engine=None, reason="nobody can")
        monkeypatch.setattr(scorer, "choose_engine", lambda *_, **__: nothing)
    events: list[Event] = []
    wanted = config(likeness="none" if case == "none" else "auto")
    result = infer.generate(wanted, run_dir, tmp_path / "out", on_event=events.append)
    assert [(image.rank, image.likeness, image.seed) for image in result.images] == [(0, None, i) for i in range(4)]
    assert (result.likeness_mean, result.likeness_engine) == (None, None)
    warned = [event.data["text"] for event in events if event.kind == "message"]
    assert any("not ranked" in text for text in warned) == (case != "none")


def test_engine_without_a_reference_in_the_run_is_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose auto, pocket or none"):
        infer.generate(config(likeness="face"), run_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------------- the best ones


def test_keeping_the_best_raises_the_mean_and_tells_what_was_left_out(run_dir: Path, tmp_path: Path) -> None:
    out, one = tmp_path / "out", {"prompts": ["photo of {subject}"], "count": 16}
    result = infer.generate(config(**one, keep=8), run_dir, out)
    everything = infer.generate(config(**one), run_dir, tmp_path / "all")
    assert (len(result.images), len(result.left_out), everything.left_out) == (8, 8, ())
    assert result.likeness_mean is not None and everything.likeness_mean is not None
    assert result.likeness_mean_made == everything.likeness_mean < result.likeness_mean
    assert [image.rank for image in result.images] == [*range(1, 9)]
    assert {image.rank for image in result.left_out} == {0}
    left_out = {image.seed for image in result.left_out}
    assert [image.seed for image in result.images] == [i.seed for i in everything.images if i.seed not in left_out]
    on_disk = {path.relative_to(out).as_posix() for path in out.rglob("[0-9]*.png")}
    assert on_disk == {image.file for image in (*result.images, *result.left_out)}
    assert all(image.file.startswith("left_out/") for image in result.left_out)
    with zipfile.ZipFile(out / "pictures.zip") as archive:
        assert len(archive.namelist()) == 8 + 1
    assert infer.generate(config(**one, keep=8), run_dir, out) == result


def test_left_out_pictures_are_not_made_again(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, out = config(count=3, keep=1), tmp_path / "out"
    first = infer.generate(wanted, run_dir, out)
    (out / "DONE").unlink()
    monkeypatch.setattr(render, "load_pipeline", lambda *_: pytest.fail("loaded the base"))
    assert without_clock(infer.generate(wanted, run_dir, out)) == without_clock(first)


def test_a_picture_that_repeats_a_better_one_is_left_out_first(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = render._render

    def twins(pipeline: Any, picture_requests: Sequence[render.PictureRequest], *rest: Any) -> list[Image.Image]:
        same = [
            dataclasses.replace(picture_request, seed=7 if picture_request.seed < 3 else picture_request.seed)
            for picture_request in picture_requests
        ]
        return whole(pipeline, same, *rest)

    monkeypatch.setattr(render, "_render", twins)
    result = infer.generate(config(prompts=["photo of {subject}"], count=5, keep=3), run_dir, tmp_path / "out")
    assert sorted(image.seed for image in result.images)[1:] == [3, 4]
    kept = next(image.file for image in result.images if image.seed < 3)
    assert [image.duplicate_of for image in result.left_out] == [kept, kept]


# ---------------------------------------------------------------------------------------------------- the result cache


def png_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


def test_the_same_request_is_served_from_the_cache_to_the_bit(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = infer.generate(config(use_cache=True), run_dir, tmp_path / "a")
    monkeypatch.setattr(render, "open_pipeline", lambda *_, **__: pytest.fail("loaded the base"))
    events: list[Event] = []
    again = infer.generate(config(use_cache=True), run_dir, tmp_path / "b", on_event=events.append)
    assert (first.from_cache, again.from_cache) == (0, 4)
    assert png_bytes(tmp_path / "a") == png_bytes(tmp_path / "b")
    assert [event.kind for event in events].count("image") == 4
    assert dataclasses.replace(without_clock(again), from_cache=0) == without_clock(first)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 9}, {"adapter_scale": 0.5}, {"negative_prompt": "a hat"}, {"guidance_scale": 2.0},
     {"num_inference_steps": 1}, {"width_px": 96}, {"prompts": ["{subject}", "{subject} at sea"]}],
)  # fmt: skip
def test_another_request_is_not_served_from_the_cache(run_dir: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    infer.generate(config(use_cache=True), run_dir, tmp_path / "a")
    assert infer.generate(config(use_cache=True, **changes), run_dir, tmp_path / "b").from_cache == 0


def test_another_adapter_is_not_served_from_the_cache(run_dir: Path, tiny_base: Path, tmp_path: Path) -> None:
    infer.generate(config(use_cache=True), run_dir, tmp_path / "a")
    write_lora(tiny_base, run_dir / "adapter", seed=9)
    assert infer.generate(config(use_cache=True), run_dir, tmp_path / "b").from_cache == 0


def test_damaged_values_are_made_again(run_dir: Path, tmp_path: Path, studio_home: Path) -> None:
    infer.generate(config(use_cache=True), run_dir, tmp_path / "a")
    values = sorted((studio_home / "cache" / "pictures").rglob("*.png"))
    assert len(values) == 4
    values[0].write_bytes(values[0].read_bytes()[:50])
    Image.new("RGB", (32, 32)).save(values[1])
    assert infer.generate(config(use_cache=True), run_dir, tmp_path / "b").from_cache == 2
    assert png_bytes(tmp_path / "a") == png_bytes(tmp_path / "b")


def test_a_cache_that_cannot_be_used_stops_nothing(run_dir: Path, tmp_path: Path, studio_home: Path) -> None:
    (studio_home / "cache").mkdir(parents=True)
    (studio_home / "cache" / "pictures").write_text("no folder")
    events: list[Event] = []
    result = infer.generate(config(use_cache=True), run_dir, tmp_path / "out", on_event=events.append)
    assert (len(result.images), result.from_cache) == (4, 0)
    warned = [event.data["text"] for event in events if event.kind == "message"]
    assert len(warned) == 1 and "the result cache cannot be used" in warned[0]


# ------------------------------------------------------------------------------------------------- prompts and sizes


def test_prompt_without_the_subject_is_run_with_a_kind_word(run_dir: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    prompts = ["a {red} house", "SKS woman", "portrait of {subject}", "photo of asksu"]
    result = infer.generate(config(prompts=prompts, count=1), run_dir, tmp_path / "out", on_event=events.append)
    by_shot = {image.shot: image.prompt for image in result.images}
    assert by_shot["prompt_1"] == "a {red} house"
    told = [event.data["text"] for event in events if event.kind == "message"]
    assert len(told) == 2
    assert "a {red} house" in told[0] and "asksu" in told[1]


def test_a_pack_for_other_subjects_is_refused_kindly(run_dir: Path, tmp_path: Path) -> None:
    change_info(run_dir, class_noun="teapot")
    with pytest.raises(InputError, match="pets is written for animals, and a teapot is a thing; choose a pack for"):
        infer.generate(GenerateConfig(pack="pets"), run_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("family", "negative"), [("sd", "person, blurry, a hat"), ("flux", "")])
def test_negative_prompts_go_to_families_that_have_them_only(family: str, negative: str, run_dir: Path) -> None:
    change_info(run_dir, class_noun="dog")
    wanted = GenerateConfig(pack="pets", negative_prompt="a hat")
    plan, remarks = request.plan_pictures(wanted, infer.read_info(run_dir / "adapter"), FAMILIES[family], None)
    found = plan[0].picture_request.negative_prompt
    assert found.startswith("person, blurry") == found.endswith("a hat") == bool(negative)
    assert remarks == ([] if negative else ["the negative prompt is ignored: this base does not support one"])


def test_a_shot_says_how_closely_it_is_followed_in_the_bases_own_scale(run_dir: Path) -> None:
    info, spec = infer.read_info(run_dir / "adapter"), FAMILIES["sd"]

    def guidances(own: float, **changes: Any) -> set[float]:
        base = dataclasses.replace(info, guidance_scale=own)
        wanted = GenerateConfig(pack="studio_headshot", **changes)
        return {item.picture_request.guidance_scale for item in request.plan_pictures(wanted, base, spec, None)[0]}

    assert guidances(4.0) == {4.0, 4.6}
    assert guidances(1.0) == {1.0}  # drawn without guidance: stays so
    assert guidances(4.0, guidance_scale=6.0) == {6.0}  # the user's word counts


# ----------------------------------------------------------------------------------------------------------- errors


def test_unfinished_run_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(NotFoundError, match="finish the training first"):
        infer.generate(config(), tmp_path / "run", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unknown_pack_is_refused_with_the_known_ones(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="pocket_scenes"):
        infer.generate(GenerateConfig(pack="nothing"), run_dir, tmp_path / "out")


def test_damaged_adapter_is_refused_in_words(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "adapter" / "pytorch_lora_weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="train again"):
        infer.generate(config(), run_dir, tmp_path / "out")


def test_damaged_description_is_refused_in_words(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "adapter" / "adapter.json").write_text("{}")
    with pytest.raises(InputError, match=r"adapter\.json: is damaged \(base: field required\); train again"):
        infer.generate(config(), run_dir, tmp_path / "out")


def test_words_that_the_base_does_not_read_are_told_before_anything_is_drawn(run_dir: Path, tmp_path: Path) -> None:
    told: list[str] = []
    long = "a " * 240
    wanted = GenerateConfig(
        prompts=(f"photo of {{subject}} {long}dog", f"{long}beach", "photo of {subject}"),
        negative_prompt=f"{long}forest",
        likeness="none",
    )
    infer.generate(
        wanted, run_dir, tmp_path / "out", on_event=lambda event: told.append(str(event.data.get("text", "")))
    )
    said = [text for text in told if "is cut off" in text]
    assert [text.partition(" is ")[0] for text in said] == [
        "the prompt of prompt_1",
        "the negative prompt of prompt_1",
        "the prompt of prompt_2",
    ]
    assert "dog' is cut off" in said[0] and "forest' is cut off" in said[1]


def test_a_prompt_whose_subject_is_not_read_is_refused(run_dir: Path, tmp_path: Path) -> None:
    prompts = (f"{'a ' * 241}{{subject}}", "photo of {subject}", f"{'a ' * 250}SKS")
    with pytest.raises(InputError, match="includes the subject; name the subject earlier") as caught:
        infer.generate(GenerateConfig(prompts=prompts, likeness="none"), run_dir, tmp_path / "out")
    assert [problem.where for problem in caught.value.problems] == ["prompt_1", "prompt_3"]
    assert not list((tmp_path / "out").rglob("*.png"))


class BlindOnce(RednessEngine):
    """Finds no subject in the first ``blind`` pictures that it is asked about."""

    def __init__(self, blind: int) -> None:
        self.blind = blind

    def embed(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        rows = super().embed(pictures) - 2 * np.array([1, 0, 0], np.float32)  # scores below 0, so that 0 would win
        for row in rows:
            if self.blind:
                row[:], self.blind = np.nan, self.blind - 1
        return rows


@pytest.mark.parametrize("keep", [None, 1])
def test_a_picture_that_is_not_measured_comes_last_and_is_said_so(
    keep: int | None, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    blind = SimpleNamespace(engine=BlindOnce(1), reason="test")
    monkeypatch.setattr(scorer, "choose_engine", lambda *_, **__: blind)
    wanted = config(prompts=["photo of {subject}"], count=3, keep=keep)
    result = infer.generate(wanted, run_dir, tmp_path / "out", on_event=events.append)
    last = (*result.images, *result.left_out)[-1]
    assert last.likeness is None and last.rank == 0
    assert result.images[0].rank == 1 and result.likeness_mean is not None and result.likeness_mean < 0
    assert result.likeness_summary is not None
    assert (result.likeness_summary["measured"], result.likeness_summary["version"]) == (2 if keep is None else 1, "1")
    assert any("not measured in 1 of 3 pictures" in str(event.data.get("text")) for event in events)


def test_a_set_in_which_nothing_is_measured_is_kept_by_other_means_and_says_so(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    blind = SimpleNamespace(engine=BlindOnce(99), reason="test")
    monkeypatch.setattr(scorer, "choose_engine", lambda *_, **__: blind)
    wanted = config(prompts=["photo of {subject}"], count=2, keep=1)
    result = infer.generate(wanted, run_dir, tmp_path / "out", on_event=events.append)
    assert len(result.images) == 1 and result.likeness_mean is None
    assert "NaN" not in (tmp_path / "out" / "index.json").read_text()
    assert any("first ones without near-duplicates are kept" in str(event.data.get("text")) for event in events)


def reddish(picture: Image.Image) -> float:
    """Stand for the score of the check: how red a picture is."""
    red, *_ = np.asarray(picture, np.float64).mean((0, 1))
    return float(red / 255)


@pytest.fixture
def from_score(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> float:
    """A score between those of the pictures of ``config()``: two pictures are above it."""
    monkeypatch.setattr(nudity, "scorer", lambda: reddish)
    plain = infer.generate(config(use_cache=True), run_dir, tmp_path / "plain")
    scores = sorted(reddish(opened(tmp_path / "plain" / image.file)) for image in plain.images)
    limit = (scores[1] + scores[2]) / 2
    monkeypatch.setenv("STUDIO_NUDITY_FROM", str(limit))
    return limit


def test_pictures_that_the_operators_check_withholds_are_written_nowhere_and_counted(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event], from_score: float
) -> None:
    monkeypatch.setenv("STUDIO_NUDITY_PICTURES", "refuse")
    out = tmp_path / "out"
    infer.generate(config(use_cache=True), run_dir, out, on_event=events.append)
    # What another job left in the result cache, and what lies in the folder from before, is withheld, too.
    fresh, again = tmp_path / "fresh", tmp_path / "again"
    shutil.copytree(tmp_path / "plain", again)
    (again / "DONE").unlink()
    for folder in (out, fresh, again):
        result = infer.generate(config(use_cache=folder == out), run_dir, folder)
        assert (len(result.images), result.withheld) == (2, 2)
        files = list(folder.rglob("0*.png"))
        assert len(files) == 2 and all(reddish(opened(path)) < from_score for path in files)
        with zipfile.ZipFile(folder / result.archive) as archive:
            assert sum(name.endswith(".png") for name in archive.namelist()) == 2
    assert sum(event.kind == "image" for event in events) == 2, "nobody is shown the others on the way either"
    assert any("2 of 4 pictures are withheld" in str(event.data) for event in events)


def test_where_the_check_warns_the_pictures_are_there_and_named(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event], from_score: float
) -> None:
    monkeypatch.setenv("STUDIO_NUDITY_PICTURES", "warn")
    result = infer.generate(config(), run_dir, tmp_path / "out", on_event=events.append)
    assert (len(result.images), result.withheld) == (4, 0)
    (said,) = [str(event.data) for event in events if "look at these" in str(event.data)]
    above = [one.file for one in result.images if reddish(opened(tmp_path / "out" / one.file)) >= from_score]
    assert len(above) == 2 and all(file in said for file in above)


def test_a_job_of_which_nothing_may_be_shown_says_so(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, from_score: float
) -> None:
    monkeypatch.setenv("STUDIO_NUDITY_PICTURES", "refuse")
    monkeypatch.setenv("STUDIO_NUDITY_FROM", "0.001")
    with pytest.raises(InputError, match="4 of 4 pictures are withheld"):
        infer.generate(config(), run_dir, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("0*.png"))
