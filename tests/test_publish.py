"""Publishing tiny runs to a stand-in of the Hub; the process that reads exports back is stood in for."""

import errno
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from safetensors import SafetensorError

from studio import publish
from studio.check import check
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME, read_info
from studio.core.catalog import POCKET_FOLDER
from studio.core.config import CheckConfig, GenerateConfig, PublishConfig
from studio.core.domain import PublishResult
from studio.core.errors import ConflictError, InputError, JobCancelled, NotFoundError, ResourceError, StudioError
from studio.core.presets import override, train_config
from studio.core.settings import PROJECT_ROOT
from studio.exporting import certificate, reload
from studio.imaging.fit import encode
from studio.imaging.png import made_record, write_png
from studio.imaging.provenance import PACKET
from studio.infer import generate
from studio.pocket.samples import sample_photos
from studio.publishing import assemble
from studio.train import train

WRITE, READ = "hf_write0123456789", "hf_read0123456789"
REPO = "ada/portrait"
PHOTO = "IMG_4711 grandma kitchen"


def _module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


write_run = _module("test_export").write_run


def finish_run(run: Path, step: int = 10) -> Path:
    """Add to an adapter what else a run folder holds, with things in it that must not leave the machine."""
    (run / "config.yaml").write_text(
        yaml.safe_dump(
            {"subject": "Ada L", "base": f"/home/ada/bases/{PHOTO}", "learning_rate": 1e-4, "resolution_px": None,
             "method": {"name": "lora", "rank": 4, "target": "attention",
                        "start_from": f"/home/ada/{PHOTO}/old.safetensors"}}
        )
    )  # fmt: skip
    (run / "inputs.json").write_text(json.dumps({"photos": PHOTO}))
    (run / "report.json").write_text(json.dumps({"photos": [PHOTO]}))
    for at, likeness in ((0, 0.04), (step, 0.83)):
        folder = run / "samples" / str(at)
        folder.mkdir(parents=True)
        rows = []
        for number in range(2):
            path = f"samples/{at}/{number:02d}.png"
            draw(run / path, f"photo of sks woman, {number}", seed=number)
            rows.append({"path": path, "prompt": f"photo of sks woman, {number}", "seed": number, "likeness": likeness})
        scores = {"step": at, "likeness": likeness, "bleed": 0.05 if at else None, "samples": rows}
        (folder / "scores.json").write_text(json.dumps(scores))
    return run


def draw(path: Path, prompt: str, *, seed: int = 0, size: int = 64) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    write_png(path, Image.fromarray(pixels), parameters=f"{prompt}\nModel: {PHOTO}", record={"prompt": prompt})


@pytest.fixture(scope="module")
def run_dir(tiny_base_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish_run(write_run(tmp_path_factory.mktemp("run") / "adas run", tiny_base_clip))


@pytest.fixture(autouse=True)
def same_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back in this process: starting another costs more than all else in these tests."""

    def run(command: Sequence[str], *_: Any) -> tuple[int, str]:
        reload.main(Path(command[-1]))
        return 0, ""

    monkeypatch.setattr(certificate, "_run", run)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_HUB_TOKEN", WRITE)


def config(**changes: Any) -> PublishConfig:
    return PublishConfig.parse({"repo": REPO, "licence": "apache-2.0", **changes})


def published(run_dir: Path, out: Path, **changes: Any) -> PublishResult:
    return publish.publish(config(**changes), run_dir, out)


@pytest.fixture
def assembled(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write hardly anything for an export: for tests of what comes after."""

    def export(wanted: Any, run: Path, folder: Path, **_: Any) -> Any:
        folder.mkdir(parents=True, exist_ok=True)
        name = WEIGHTS_NAME if wanted.format == "diffusers" else "Ada_L.safetensors"
        shutil.copyfile(run / "adapter" / WEIGHTS_NAME, folder / name)
        (folder / "certificate.json").write_text("{}")
        files = [name, "certificate.json"]
        if wanted.format == "diffusers":
            shutil.copyfile(run / "adapter" / EMBEDS_NAME, folder / EMBEDS_NAME)
            files.append(EMBEDS_NAME)
        return SimpleNamespace(files=files)

    monkeypatch.setattr(assemble, "export", export)


@pytest.mark.whole
def test_a_run_becomes_one_private_commit_with_card_gallery_certificates_and_both_layouts(
    hub: Any, run_dir: Path, tmp_path: Path
) -> None:
    out, events = tmp_path / "out", []
    result = publish.publish(config(), run_dir, out, on_event=events.append)
    (commit,) = hub.commits(REPO)
    assert (result.commit, result.repo, result.public, result.pictures) == (commit.oid, REPO, False, 2)
    assert hub.repos[REPO].private and result.url == f"{hub.address}/{REPO}"
    assert set(result.files) == {
        "README.md", "adapter.json", "certificate.json", "config.yaml", "files.json", WEIGHTS_NAME, EMBEDS_NAME,
        "gallery/01.png", "gallery/02.png", "kohya/Ada_L.safetensors", "kohya/certificate.json",
        "kohya/embeddings/sks.safetensors",
    }  # fmt: skip
    pushed = {name: blob.data for name, blob in commit.files.items() if name != ".gitattributes"}
    assert pushed == {name: (out / "repo" / name).read_bytes() for name in result.files}
    for name in ("certificate.json", "kohya/certificate.json"):
        found = json.loads(pushed[name])
        assert found["tensors_matched"] == found["tensors_in_file"] > 0
    card = ModelCard(pushed["README.md"].decode())
    card.validate()
    assert [row["output"]["url"] for row in card.data.widget] == ["gallery/01.png", "gallery/02.png"]
    assert "0.83" in card.text and card.data.license == "apache-2.0" and "Ada L" in card.text
    stages = [event.data["name"] for event in events if event.kind == "stage"]
    assert stages[0] == "checking" and stages[-3:] == ["assembling", "looking", "publishing"]
    assert {path.name for path in out.iterdir()} == {"repo", "request.json", "publish.json", "DONE"}

    hub.log.clear()
    assert published(run_dir, out) == result and hub.log == [], "it is done"
    (out / "DONE").unlink()
    again = published(run_dir, out)
    assert again.commit == commit.oid and len(hub.commits(REPO)) == 1, "cut off after the commit, it makes no other"


def test_nothing_of_the_photos_no_path_and_no_key_is_pushed(
    hub: Any, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_CIVITAI_KEY", "civitai-sesame-42")
    info = read_info(run_dir / "adapter")
    planted = tmp_path / "planted"
    shutil.copytree(run_dir, planted)
    data = json.loads((planted / "adapter" / "adapter.json").read_text())
    centroid = [0.123456789, 0.987654321]
    data |= {"likeness_engine": "pocket", "centroid": centroid}
    (planted / "adapter" / "adapter.json").write_text(json.dumps(data))
    said: list[str] = []
    publish.publish(config(), planted, tmp_path / "out", on_event=lambda event: said.append(json.dumps(event.data)))
    secrets = [WRITE, "civitai-sesame-42", PHOTO, str(tmp_path), str(run_dir), "/home/ada", "0.123456789", info.base]
    (commit,) = hub.commits(REPO)
    everything = b"".join(hub.bodies) + b"".join(blob.data for blob in commit.files.values())
    for secret in secrets:
        assert secret.encode() not in everything, secret
    kept = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not any(WRITE.encode() in path.read_bytes() for path in kept) and WRITE not in "".join(said)
    pulled = json.loads(commit.files["adapter.json"].data)
    assert pulled["centroid"] is None and pulled["likeness_engine"] is None and pulled["step"] == 10
    settings = yaml.safe_load(commit.files["config.yaml"].data)
    assert settings["method"]["start_from"] == "old.safetensors" and "subject" not in settings
    with Image.open(io.BytesIO(commit.files["gallery/01.png"].data)) as picture:
        assert set(picture.info) <= {"xmp", "XML:com.adobe.xmp"} and picture.text == {"XML:com.adobe.xmp": PACKET}
        assert not picture.getexif()


def test_a_dry_run_needs_neither_token_nor_network_and_is_what_gets_pushed(
    hub: Any, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_HUB_TOKEN", "")
    dry = published(run_dir, tmp_path / "out", dry_run=True)
    assert dry.commit is None and hub.log == []
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "repo").rglob("*") if path.is_file()}
    assert published(run_dir, tmp_path / "out", dry_run=True) == dry
    monkeypatch.setenv("STUDIO_HUB_TOKEN", WRITE)
    real = published(run_dir, tmp_path / "out")
    assert real.commit == hub.repos[REPO].head.oid and real.files == dry.files
    assert before == {path: path.read_bytes() for path in (tmp_path / "out" / "repo").rglob("*") if path.is_file()}
    assert published(run_dir, tmp_path / "out", dry_run=True) == real


@pytest.mark.whole
@pytest.mark.parametrize("form", ["merged", "single_file"])
def test_whole_models_are_published_too(hub: Any, run_dir: Path, tmp_path: Path, form: str) -> None:
    result = published(run_dir, tmp_path / "out", form=form, public=True, title="Ada, merged")
    files = hub.repos[REPO].head.files
    wanted = {"merged": "model_index.json", "single_file": "Ada_L.safetensors"}[form]
    assert wanted in files and "adapter.json" not in files and result.public and not hub.repos[REPO].private
    card = ModelCard(files["README.md"].data.decode())
    assert "lora" not in card.data.tags and "# Ada, merged" in card.text


def test_an_update_replaces_what_was_published_and_keeps_what_was_not_ours(
    hub: Any, run_dir: Path, tmp_path: Path, assembled: None
) -> None:
    first = published(run_dir, tmp_path / "one")
    hub.repos[REPO].head.files["notes.txt"] = next(iter(hub.repos[REPO].head.files.values()))
    with pytest.raises(ConflictError, match="is taken"):
        published(run_dir, tmp_path / "two", gallery=1)
    assert not (tmp_path / "two" / "repo").exists(), "told before anything long"
    second = published(run_dir, tmp_path / "two", gallery=1, update=True)
    assert [commit.oid for commit in hub.commits(REPO)] == [first.commit, second.commit]
    there = set(hub.repos[REPO].head.files)
    assert "gallery/01.png" in there and "gallery/02.png" not in there and "notes.txt" in there
    with pytest.raises(NotFoundError, match="to update"):
        published(run_dir, tmp_path / "three", repo="ada/other", update=True)


# ------------------------------------------------------------------------------------------------------- the gallery


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder as ``generate`` writes it: five pictures, the last the best."""
    folder = tmp_path / "pictures"
    rows = []
    for number in range(5):
        draw(
            folder / "beach" / f"{number:03d}.png",
            f"sks woman, {number}",
            seed=number,
            size=2000 if number == 4 else 64,
        )
        rows.append({"file": f"beach/{number:03d}.png", "rank": 5 - number})
    (folder / "index.json").write_text(json.dumps({"images": sorted(rows, key=lambda row: row["rank"])}))
    return folder


def prompts(out: Path) -> list[str]:
    data = ModelCard((out / "repo" / "README.md").read_text()).data.to_dict()
    return [row["text"] for row in data.get("widget", [])]


def test_the_gallery_takes_the_best_or_the_chosen_pictures(
    run_dir: Path, tmp_path: Path, pictures: Path, assembled: None
) -> None:
    given = {"pictures": str(pictures), "dry_run": True}
    published(run_dir, tmp_path / "best", gallery=2, **given)
    assert prompts(tmp_path / "best") == ["sks woman, 4", "sks woman, 3"]
    with Image.open(tmp_path / "best" / "repo" / "gallery" / "01.png") as picture:
        assert picture.size == (1024, 1024) and picture.info.keys() == {"xmp", "XML:com.adobe.xmp"}, "its mark alone"
    published(run_dir, tmp_path / "chosen", choose=["beach/001.png", "beach/000.png"], **given)
    assert prompts(tmp_path / "chosen") == ["sks woman, 1", "sks woman, 0"]
    published(run_dir, tmp_path / "none", gallery=0, dry_run=True)
    assert prompts(tmp_path / "none") == [] and not (tmp_path / "none" / "repo" / "gallery").exists()


@pytest.mark.parametrize("file_format", ["png", "jpeg", "webp"])
def test_finished_pictures_are_known_by_what_they_were_made_of(
    run_dir: Path, tmp_path: Path, pictures: Path, assembled: None, file_format: Any
) -> None:
    made = made_record((pictures / "beach" / "000.png").read_bytes())
    picture = Image.open(pictures / "beach" / "000.png").convert("RGB")
    record = {"chain": "avatar", "made": made}
    data = encode(picture, file_format=file_format, quality=90, record=record, software="S").data
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / f"a.{file_format}").write_bytes(data)
    published(run_dir, tmp_path / "out", pictures=str(tmp_path / "finished"), dry_run=True)
    assert prompts(tmp_path / "out") == ["sks woman, 0"]


def test_photos_never_get_into_the_gallery(run_dir: Path, tmp_path: Path, assembled: None) -> None:
    folder = tmp_path / "mixed"
    draw(folder / "a.png", "sks woman")
    exif = Image.Exif()
    exif[0x010E] = json.dumps({"place": "home"})
    Image.new("RGB", (64, 64)).save(folder / f"{PHOTO}.jpg", exif=exif)
    Image.new("RGB", (64, 64)).save(folder / "b.png")
    (folder / "c.png").write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        published(run_dir, tmp_path / "out", pictures=str(folder), dry_run=True)
    assert [problem.where for problem in caught.value.problems] == [f"{PHOTO}.jpg", "b.png", "c.png"] or {
        problem.where for problem in caught.value.problems
    } == {f"{PHOTO}.jpg", "b.png", "c.png"}
    assert all(problem.code == "not_generated" for problem in caught.value.problems)


def test_a_huge_gallery_is_refused_before_anything_is_read(run_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        (folder / f"{number}.png").touch()
    with pytest.raises(InputError, match="300 pictures are more than the gallery's 12; choose some"):
        published(run_dir, tmp_path / "out", pictures=str(folder))
    with pytest.raises(InputError, match="gallery"):
        config(gallery=51)
    with pytest.raises(InputError, match="choose"):
        config(choose=[f"{number}.png" for number in range(51)])


# ---------------------------------------------------------------------------------------------------------- bad input


def test_all_that_is_wrong_is_told_at_once_before_the_hub_is_asked(hub: Any, tiny_base: Path, tmp_path: Path) -> None:
    run = finish_run(write_run(tmp_path / "run", tiny_base, name="lokr", token=False))
    with pytest.raises(InputError) as caught:
        published(run, tmp_path / "out", licence=None, pictures=str(tmp_path / "nowhere"))
    assert {problem.where for problem in caught.value.problems} == {"form", "licence", "pictures"}
    assert "use form merged" in str(caught.value) and hub.log == [] and not (tmp_path / "out").exists()
    with pytest.raises(NotFoundError, match="finish the training"):
        published(tmp_path / "nothing", tmp_path / "out")
    with pytest.raises(NotFoundError, match="checkpoint 7"):
        published(run, tmp_path / "out", checkpoint=7)


@pytest.mark.parametrize(
    ("licence", "words"),
    [("cc-by-nc-nd-4.0", "forbids passing on"), (None, "is not known"), ("My Licence", "licence")],
)
def test_a_licence_that_forbids_or_is_not_known_stops_it(
    run_dir: Path, tmp_path: Path, licence: str | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        published(run_dir, tmp_path / "out", licence=licence)


def test_the_licence_of_a_base_in_the_catalog_cannot_be_changed(
    tmp_path: Path, assembled: None, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(run_dir, run)
    data = json.loads((run / "adapter" / "adapter.json").read_text())
    (run / "adapter" / "adapter.json").write_text(json.dumps({**data, "base": "pocket"}))
    with pytest.raises(InputError, match=r"follows from the base and is apache-2\.0, not mit"):
        published(run, tmp_path / "out", licence="mit")
    result = published(run, tmp_path / "out", licence=None, dry_run=True)
    assert result.licence == "apache-2.0" and result.warnings == ()
    text = (tmp_path / "out" / "repo" / "README.md").read_text()
    assert "POCKET_FOLDER" in text and "base_model:" not in text


def test_a_licence_without_commerce_is_a_warning(run_dir: Path, tmp_path: Path, assembled: None) -> None:
    events: list[Any] = []
    wanted = config(licence="cc-by-nc-4.0", dry_run=True)
    result = publish.publish(wanted, run_dir, tmp_path / "out", on_event=events.append)
    assert any("not for commercial use" in line for line in result.warnings)
    assert any(event.kind == "message" and "commercial" in event.data["text"] for event in events)
    assert "Not for commercial use." in (tmp_path / "out" / "repo" / "README.md").read_text()


@pytest.mark.parametrize("repo", ["portrait", "ada/", "/ada", "ada/a b", "a/b/c", "ada/x--y", "ada/x.git", "ada/.."])
def test_an_illegal_name_is_refused_with_what_is_legal(repo: str) -> None:
    with pytest.raises(InputError, match=r"not a valid repository name|remove it|change this setting"):
        config(repo=repo)


@pytest.mark.parametrize("bad", [READ, "hf_wrong", ""])
def test_a_token_that_cannot_write_is_told_before_anything_long(
    hub: Any, run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    monkeypatch.setenv("STUDIO_HUB_TOKEN", bad)
    monkeypatch.setattr(assemble, "export", lambda *_, **__: pytest.fail("too late"))
    with pytest.raises(InputError) as caught:
        published(run_dir, tmp_path / "out")
    assert [problem.where for problem in caught.value.problems] == ["token"]
    assert hub.asked("POST", "/") == [] and not (bad and bad in str(caught.value))


def test_a_hub_that_is_away_keeps_what_was_assembled(
    hub: Any, run_dir: Path, tmp_path: Path, assembled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fail("POST", "/commit/", 503, times=6)
    said: list[Any] = []
    with pytest.raises(ResourceError, match="the assembled files are kept"):
        publish.publish(config(), run_dir, tmp_path / "out", on_event=said.append)
    assert sum("trying again" in event.data.get("text", "") for event in said) == 5
    monkeypatch.setattr(publish, "assemble", lambda *_: pytest.fail("assembled twice"))
    assert published(run_dir, tmp_path / "out").commit and len(hub.commits(REPO)) == 1


@pytest.mark.parametrize("where", ["weights", "gallery", "card", "result"])
def test_a_full_disk_is_told_in_words_and_the_next_call_goes_on(
    hub: Any, run_dir: Path, tmp_path: Path, assembled: None, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if where == "weights":  # safetensors has no errno, only these words

            def serialized(*_: Any, **__: Any) -> Any:
                raise SafetensorError(f'I/O error: Os {{ code: 28, message: "{os.strerror(errno.ENOSPC)}" }}')

            patch.setattr(assemble, "export", serialized)
        elif where == "gallery":
            patch.setattr(Image.Image, "save", full)
        elif where == "card":
            patch.setattr(assemble, "model_card", full)
        else:
            patch.setattr(publish, "records", SimpleNamespace(write=full))
        with pytest.raises(ResourceError, match="The disk is full"):
            published(run_dir, tmp_path / "out")
        assert not (tmp_path / "out" / "DONE").exists()
    result = published(run_dir, tmp_path / "out")
    assert [commit.oid for commit in hub.commits(REPO)] == [result.commit]


def test_stopping_is_heard_before_the_commit(hub: Any, run_dir: Path, tmp_path: Path, assembled: None) -> None:
    hub.fail("POST", "/commit/", 503, times=9, retry_after="60")
    with pytest.raises(JobCancelled):
        publish.publish(config(), run_dir, tmp_path / "out", should_stop=lambda: bool(hub.asked("POST", "/preupload/")))
    assert hub.commits(REPO) == []


def test_a_folder_of_something_else_is_not_written_to(run_dir: Path, tmp_path: Path, hub: Any, assembled: None) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConflictError, match="other files"):
        published(run_dir, tmp_path / "out")
    published(run_dir, tmp_path / "done", dry_run=True)
    with pytest.raises(ConflictError, match="other settings"):
        published(run_dir, tmp_path / "done", title="Another")
    (tmp_path / "done" / "repo" / "README.md").write_text("changed")
    with pytest.raises(ConflictError, match="changed since they were assembled"):
        published(run_dir, tmp_path / "done")


def test_what_says_too_much_is_caught_before_it_is_sent(
    hub: Any, run_dir: Path, tmp_path: Path, assembled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="about: contains one of your keys; remove it"):
        published(run_dir, tmp_path / "one", about=f"My token is {WRITE} and nobody knows.")
    with monkeypatch.context() as patch, pytest.raises(StudioError, match=r"README\.md holds one of your keys"):
        patch.setattr(publish, "require_no_secrets", lambda *_: None)
        published(run_dir, tmp_path / "three", about=f"My token is {WRITE} and nobody knows.")
    monkeypatch.setattr(assemble, "_public_settings", lambda source: {"base": str(run_dir)})
    with pytest.raises(StudioError, match=r"config\.yaml holds a path on this machine"):
        published(run_dir, tmp_path / "two")
    assert hub.asked("POST", "/") == []


# -------------------------------------------------------------------------------------------------- the way back


FRESH = """
import json, sys
import torch
wishes = json.loads(sys.argv[1])
exec(compile(wishes["code"], "card", "exec"))

def draw(name):
    picture = pipeline(
        wishes["prompt"], num_inference_steps=wishes["steps"], guidance_scale=wishes["guidance"], height=64, width=64,
        generator=torch.Generator().manual_seed(wishes["seed"]),
    ).images[0]
    picture.save(f"{wishes['out']}/{name}.png")

draw("as_the_card_says")
pipeline.unload_lora_weights()
draw("without")
pipeline.load_lora_weights(wishes["repo"])
draw("plain")
"""


def levels(path: Path) -> Any:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


WISHES = {"prompts": ("photo of sks woman",), "seed": 7, "num_inference_steps": 2, "likeness": "none"}


def pocket_run(folder: Path) -> Path:
    run = write_run(folder, POCKET_FOLDER)
    data = json.loads((run / "adapter" / "adapter.json").read_text())
    (run / "adapter" / "adapter.json").write_text(json.dumps({**data, "base": "pocket"}))
    return run


def drawn(run: Path, out: Path, **changes: Any) -> Any:
    made = generate(GenerateConfig.parse({**WISHES, **changes}), run, out)
    return levels(out / made.images[0].file)


def test_what_was_published_is_pulled_and_draws_the_same_picture(
    hub: Any, tmp_path: Path, assembled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pocket_run(tmp_path / "run")
    published(run, tmp_path / "out", licence=None)
    trained = drawn(run, tmp_path / "ours")
    assert np.abs(drawn(tmp_path / "nothing", tmp_path / "pulled", adapter=REPO) - trained).max() == 0
    hub.log.clear()
    pinned = f"{REPO}@{hub.repos[REPO].head.oid}"
    assert np.abs(drawn(tmp_path / "nothing", tmp_path / "again", adapter=pinned) - trained).max() == 0
    assert hub.log == [], "a commit that is here needs no network"
    monkeypatch.setenv("STUDIO_HUB_TOKEN", "")
    with pytest.raises(NotFoundError, match="or it is private"):
        drawn(tmp_path / "nothing", tmp_path / "strangers", adapter=REPO)


@pytest.mark.slow
def test_plain_diffusers_in_a_fresh_process_draws_the_same_picture(
    hub: Any, near_hub: dict[str, str], tmp_path: Path
) -> None:
    check(
        CheckConfig(subject="Ada", class_noun="woman"), sample_photos(tmp_path / "photos")[0].parent, tmp_path / "set"
    )
    short = {"steps": 24, "learning_rate": 5e-3, "samples_per_checkpoint": 1, "sample_steps": 2, "certify": False}
    run = tmp_path / "run"
    train(override(train_config("pocket_lora_cpu", subject="Ada", class_noun="woman"), short), tmp_path / "set", run)
    published(run, tmp_path / "out", licence=None)
    trained = drawn(tmp_path / "nothing", tmp_path / "pulled", adapter=REPO)
    assert np.abs(drawn(run, tmp_path / "ours") - trained).max() == 0

    (code,) = re.findall(r"```python\n(.*?)```", (tmp_path / "out" / "repo" / "README.md").read_text(), re.DOTALL)
    (tmp_path / "theirs").mkdir()
    order = {"code": code, "prompt": "photo of sks woman", "steps": 2, "seed": 7, "repo": REPO,
             "guidance": read_info(run / "adapter").guidance_scale, "out": str(tmp_path / "theirs")}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", FRESH, json.dumps(order)], cwd=tmp_path, capture_output=True, text=True,
        env={**near_hub, "HF_TOKEN": WRITE, "PYTHONPATH": str(PROJECT_ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    for name in ("as_the_card_says", "plain"):
        assert np.abs(levels(tmp_path / "theirs" / f"{name}.png") - trained).max() <= 1, name
    assert np.abs(levels(tmp_path / "theirs" / "without.png") - trained).mean() > 1, "the adapter shows"
    assert f"/{REPO}/resolve/main/{WEIGHTS_NAME}" in {path for _, path, _ in hub.log}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"base": "/etc"}, "that only its author has"),
        ({"base": "~/model.safetensors"}, "that only its author has"),
        ({"base": "eve/x.safetensors"}, "that only its author has"),
        ({"resolution_px": 10**6}, "settings out of range"),
        ({"instance_token": "{subject}\n"}, "invalid subject"),
        ({"family": "unknown"}, "an unknown family"),
        ({"revision": "../.."}, "invalid revision"),
    ],
)
def test_a_strangers_adapter_is_looked_over(
    hub: Any, run_dir: Path, tmp_path: Path, assembled: None, changes: dict[str, Any], words: str
) -> None:
    published(run_dir, tmp_path / "out")
    files = hub.repos[REPO].head.files
    data = {**json.loads(files["adapter.json"].data), "base": "pocket", **changes}
    files["adapter.json"] = type(files["adapter.json"]).of(json.dumps(data).encode())
    wanted = GenerateConfig.parse({"prompts": ("sks woman",), "adapter": REPO})
    with pytest.raises(InputError, match=words):
        generate(wanted, tmp_path / "nothing", tmp_path / "pictures")


def test_what_is_no_adapter_or_not_there_is_told(hub: Any, run_dir: Path, tmp_path: Path) -> None:
    def pull(name: str) -> Any:
        wanted = GenerateConfig.parse({"prompts": ("sks woman",), "adapter": name})
        return generate(wanted, tmp_path / "nothing", tmp_path / "pictures")

    with pytest.raises(NotFoundError, match="ada/nothing"):
        pull("ada/nothing")
    published(run_dir, tmp_path / "merged", form="merged", repo="ada/merged")
    with pytest.raises(InputError, match=r"contains no adapter\.json and no pytorch_lora_weights"):
        pull("ada/merged")
    for name in ("nothing", "ada/x@", "ada/x@a b", "../x/y"):
        with pytest.raises(InputError):
            GenerateConfig.parse({"prompts": ("sks woman",), "adapter": name})


def test_finishing_hands_on_how_a_picture_was_generated(tmp_path: Path, pictures: Path) -> None:
    from studio.core.finish_config import FinishConfig
    from studio.postprocess import finish

    wanted = FinishConfig.parse({"steps": [{"do": "fit", "width_px": 32, "height_px": 32, "format": "jpeg"}]})
    done = finish(wanted, pictures / "beach" / "001.png", tmp_path / "finished")
    made = made_record((tmp_path / "finished" / done.pictures[0].file).read_bytes())
    assert made == {"prompt": "sks woman, 1"}


def test_what_a_file_manager_leaves_while_somebody_looks_over_a_dry_run_is_not_pushed(
    hub: Any, run_dir: Path, tmp_path: Path, assembled: None
) -> None:
    published(run_dir, tmp_path / "out", dry_run=True)
    (tmp_path / "out" / "repo" / ".DS_Store").touch()
    (tmp_path / "out" / "repo" / "gallery" / "Thumbs.db").touch()
    result = published(run_dir, tmp_path / "out")
    (commit,) = hub.commits(REPO)
    assert commit.oid == result.commit and "README.md" in commit.files
    assert not {".DS_Store", "gallery/Thumbs.db"} & (commit.files.keys() | set(result.files))
