import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from studio.core import files, folder
from studio.core.adapters import WEIGHTS_NAME, AdapterInfo, write_info
from studio.core.config import CheckConfig, ExportConfig, GenerateConfig, PublishConfig
from studio.core.domain import Event
from studio.core.errors import ConflictError, JobCancelled, ResourceError
from studio.core.finish_config import FinishConfig
from studio.core.train_config import TrainConfig

REQUEST = {"verb": "generate", "config": {"seed": 1}, "adapter_sha256": "a"}
CLUTTER = (".DS_Store", "Thumbs.db", "desktop.ini", "Desktop.ini", "._letter.txt")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def claim(out: Path, **changes: Any) -> bool:
    return folder.claim(out, {**REQUEST, **changes}, what="pictures", scratch={"config.yaml"})


# ------------------------------------------------------------------------------------------------------- the rule


def test_a_folder_is_claimed_once_and_gone_on_with_by_the_same_request(out: Path) -> None:
    assert not claim(out)
    (out / "001.png").touch()
    assert claim(out)


def test_another_request_is_refused_and_told_what_is_different(out: Path) -> None:
    claim(out)
    (out / "001.png").touch()
    for changes, words in (
        ({"config": {"seed": 2}}, "^out holds pictures made with other settings; choose another folder.$"),
        ({"config": {}, "adapter_sha256": "b"}, "other settings and weights;"),
        ({"verb": "export"}, "holds other files"),
    ):
        with pytest.raises(ConflictError, match=words):
            claim(out, **changes)
    assert claim(out), "a refusal changes nothing"


def test_settings_that_were_added_since_do_not_make_it_another_request(out: Path) -> None:
    now = GenerateConfig(prompts=("a dog",), seed=7)
    before = {name: value for name, value in now.model_dump(mode="json").items() if name != "keep"}
    assert not folder.claim(out, {**REQUEST, "config": before}, what="pictures")
    (out / "001.png").write_bytes(b"made")
    asked = {name: value for name, value in REQUEST.items() if name != "config"}
    assert folder.claim(out, asked, what="pictures", config=now)
    for other in (now.model_copy(update={"seed": 8}), now.model_copy(update={"keep": 1, "count": 2})):
        with pytest.raises(ConflictError, match="made with other settings"):
            folder.claim(out, asked, what="pictures", config=other)
    assert folder.claim(out, asked, what="pictures", config=now.model_copy(update={"seed": 8}), without={"seed"})


@pytest.mark.parametrize("name", [None, *CLUTTER, "config.yaml", ".001.png.part"])
def test_a_folder_in_which_nothing_was_made_is_free_for_another_request(out: Path, name: str | None) -> None:
    claim(out)
    if name:
        (out / name).touch()
    assert not claim(out, config={"seed": 2})
    assert claim(out, config={"seed": 2})


def test_looking_writes_nothing(out: Path) -> None:
    assert folder.look(out, REQUEST, what="pictures") is None
    assert not out.exists()


def test_keys_that_were_added_to_a_request_come_back(out: Path) -> None:
    out.mkdir()
    files.write_json(out / "inputs.json", {**REQUEST, "revision": "r"})
    known = folder.look(out, REQUEST, what="a run", name="inputs.json")
    assert known is not None and known["revision"] == "r"


def test_a_damaged_request_does_not_hide_what_was_made(out: Path) -> None:
    claim(out)
    (out / "request.json").write_text("{")
    assert not claim(out)
    (out / "request.json").write_text("{")
    (out / "001.png").touch()
    with pytest.raises(ConflictError, match="other files"):
        claim(out)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(ConflictError, match=r"^out is a file; choose a folder.$"):
        claim(tmp_path / "out")


def test_done_is_written_after_everything_else_is_on_the_disk(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(out)
    (out / "sub").mkdir()
    (out / "sub" / "001.png").touch()
    flushed: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda handle: flushed.append(Path(f"/proc/self/fd/{handle}").readlink().name))
    folder.finish(out)
    assert {"001.png", "request.json", "sub", "out"} <= set(flushed[: flushed.index(".DONE.part")])
    assert flushed[-1] == "out" and folder.is_finished(out)
    folder.reopen(out)
    assert not folder.is_finished(out)


def test_a_swap_replaces_a_folder_as_a_whole(out: Path) -> None:
    part = out.with_name(".out.partial")
    for number in (1, 2):
        part.mkdir()
        (part / str(number)).touch()
        folder.swap(part, out)
    assert [path.name for path in out.iterdir()] == ["2"]
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(".out")] == []


@pytest.mark.parametrize("name", CLUTTER)
def test_clutter_is_known_and_listed_nowhere(out: Path, name: str) -> None:
    (out / "sub").mkdir(parents=True)
    for place in (out, out / "sub"):
        (place / name).touch()
    (out / "sub" / "a.png").touch()
    assert folder.is_clutter(out / name)
    assert [path.name for path in folder.contents(out)] == ["sub"]
    assert list(folder.files_below(out)) == [out / "sub" / "a.png"]


@pytest.mark.parametrize("name", ["photo.jpg", ".gitignore", "Thumbs.db.txt", "_letter"])
def test_what_somebody_made_is_not_clutter(name: str) -> None:
    assert not folder.is_clutter(name)


# ---------------------------------------------------------------------------------------------- the six verbs follow it


@pytest.fixture
def run_dir(tiny_base: Path, tmp_path: Path) -> Path:
    """As much of a finished run as the verbs look at before they claim their folder."""
    adapter = tmp_path / "run" / "adapter"
    adapter.mkdir(parents=True)
    save_file({"unet.mid.lora_A.weight": np.zeros((1, 1), np.float32)}, adapter / WEIGHTS_NAME)
    known = {"revision": None, "family": "sd", "subject": "Ada", "class_noun": "woman", "instance_token": "sks"}
    drawn = {"resolution_px": 64, "guidance_scale": 3.0, "num_inference_steps": 2, "step": 10}
    write_info(adapter, AdapterInfo(base=str(tiny_base), likeness_engine=None, centroid=None, **known, **drawn))  # type: ignore[arg-type]
    return tmp_path / "run"


@pytest.fixture
def verbs(
    run_dir: Path, tiny_base: Path, make_dataset: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[Callable[..., Any], Any, Path]]:
    """Name -> the verb, a config, what it works on."""
    from studio.check import check
    from studio.export import export
    from studio.infer import generate
    from studio.postprocess import finish
    from studio.publish import publish
    from studio.train import train

    monkeypatch.setenv("STUDIO_HUB_TOKEN", "hf_" + "a" * 34)
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (600, 600)).save(tmp_path / "photos" / "1.png")
    training = {"base": str(tiny_base), "class_noun": "woman", "likeness": "none", "steps": 1}
    publishing = {"repo": "ada/likeness", "licence": "apache-2.0", "gallery": 0}
    return {
        "check": (check, CheckConfig(subject="Ada", class_noun="toy", likeness="none"), tmp_path / "photos"),
        "train": (train, TrainConfig.parse(training), make_dataset()),
        "generate": (generate, GenerateConfig.parse({"prompts": ["{subject}"], "use_cache": False}), run_dir),
        "export": (export, ExportConfig(format="diffusers"), run_dir),
        "finish": (finish, FinishConfig(), tmp_path / "photos"),
        "publish": (publish, PublishConfig.parse(publishing), run_dir),
    }


VERBS = ("check", "train", "generate", "export", "finish", "publish")


def start(verb: tuple[Callable[..., Any], Any, Path], out: Path) -> None:
    """Run a verb up to the first stage after it has claimed its folder, where it is stopped."""
    function, config, source = verb
    heard: list[Event] = []

    def should_stop() -> bool:  # train reads its dataset before it looks at the folder
        return function.__name__ != "train" or any(event.kind == "stage" for event in heard)

    function(config, source, out, on_event=heard.append, should_stop=should_stop)


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_goes_on_into_a_folder_that_holds_only_clutter(verbs: Any, out: Path, name: str) -> None:
    out.mkdir()
    (out / ".DS_Store").write_text("icons")
    with pytest.raises(JobCancelled, match=r"^Stopped"):
        start(verbs[name], out)


@pytest.mark.parametrize("name", VERBS)
@pytest.mark.parametrize("file", ["letter.txt", ".gitignore"])
def test_a_verb_refuses_a_folder_that_holds_somebodys_file(verbs: Any, out: Path, name: str, file: str) -> None:
    out.mkdir()
    (out / file).write_text("dear")
    with pytest.raises(ConflictError, match=r"^out holds other files; choose an empty folder.$"):
        start(verbs[name], out)
    assert [path.name for path in out.iterdir()] == [file]


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_says_in_the_same_words_that_the_disk_is_full(
    verbs: Any, out: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, config, source = verbs[name]

    def full(event: Event) -> None:
        raise OSError(28, os.strerror(28))

    with pytest.raises(ResourceError) as caught:
        function(config, source, out, on_event=full)
    assert str(caught.value) == files.DISK_IS_FULL
