import json
from pathlib import Path
from shutil import copytree

import huggingface_hub.errors as hub
import pytest
import torch
from httpx2 import ConnectError, Request, Response
from safetensors.torch import load_file

from studio import weights
from studio.catalog import BASES, POCKET_FOLDER
from studio.errors import InputError, MissingExtraError, NotFoundError, ResourceError, StudioError
from studio.weights import resolve_base, write_safetensors


def test_a_local_folder_describes_itself(tiny_base: Path, tiny_base_kl: Path) -> None:
    for folder in (tiny_base, tiny_base_kl):
        base = resolve_base(str(folder))
        assert (base.folder, base.revision, base.family) == (folder, None, "sd")
        assert base.spec.resolution_px == 64


def test_a_name_from_the_catalog_finds_its_row(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "snapshot_download", lambda *args, **kwargs: str(tiny_base))
    base = resolve_base("sd15", "abc")
    assert base.spec is BASES["sd15"]
    assert base.revision == tiny_base.name


def test_only_safetensors_json_and_text_of_the_parts_are_downloaded(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict = {}

    def download(hub_id: str, **given: object) -> str:
        asked.update(given, id=hub_id)
        return str(tiny_base)

    monkeypatch.setattr(weights, "snapshot_download", download)
    resolve_base("owner/model")
    assert asked["id"] == "owner/model"
    wanted = huggingface_filter(asked["allow_patterns"], asked["ignore_patterns"])
    assert wanted == ["model_index.json", "tokenizer/merges.txt", "unet/diffusion_pytorch_model.safetensors"]


def huggingface_filter(allow: list[str], ignore: list[str]) -> list[str]:
    from huggingface_hub.utils import filter_repo_objects

    listing = [
        "model_index.json",
        "README.md",
        "v1-5-pruned.safetensors",
        "v1-5-pruned.ckpt",
        "tokenizer/merges.txt",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "safety_checker/model.safetensors",
    ]
    return list(filter_repo_objects(listing, allow_patterns=allow, ignore_patterns=ignore))


def response(status: int) -> Response:
    return Response(status, request=Request("GET", "https://huggingface.co"))


@pytest.mark.parametrize(
    ("failure", "expected", "words"),
    [
        (hub.GatedRepoError("no", response=response(403)), InputError, "accept its licence"),
        (hub.RepositoryNotFoundError("no", response=response(404)), NotFoundError, "check its name"),
        (hub.RevisionNotFoundError("no", response=response(404)), NotFoundError, "at revision abc"),
        (hub.LocalEntryNotFoundError("no"), MissingExtraError, "cannot be reached"),
        (hub.OfflineModeIsEnabled("no"), MissingExtraError, "cannot be reached"),
        (hub.HfHubHTTPError("no", response=response(500)), ResourceError, "try again"),
        (ConnectError("no"), ResourceError, "try again"),
        (OSError(28, "No space left on device"), ResourceError, "No space left"),
    ],
)
def test_every_failure_of_the_hub_becomes_a_clear_error(
    failure: Exception, expected: type[StudioError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*args: object, **kwargs: object) -> str:
        raise failure

    monkeypatch.setattr(weights, "snapshot_download", download)
    with pytest.raises(expected, match=words):
        resolve_base("owner/model", "abc")


def test_an_offline_machine_says_so_without_asking_the_network() -> None:
    with pytest.raises(MissingExtraError, match="choose base 'pocket'"):
        resolve_base("owner/model")


def test_a_base_that_is_nowhere_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="no folder here"):
        resolve_base("no such base")


def test_missing_pocket_weights_ask_for_a_new_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    if POCKET_FOLDER.is_dir():
        pytest.skip("the embedded base is here")
    with pytest.raises(MissingExtraError, match="install it again"):
        resolve_base("pocket")


def test_a_folder_without_an_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a diffusers folder"):
        resolve_base(str(tmp_path))


def test_a_folder_that_names_none_of_its_parts_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    with pytest.raises(InputError, match=r"transformer or vae.*download the base again"):
        resolve_base(str(tmp_path))


def test_another_pipeline_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "KolorsPipeline"}))
    with pytest.raises(InputError, match=r"KolorsPipeline.*StableDiffusionPipeline"):
        resolve_base(str(tmp_path))


def test_pickle_and_missing_parts_are_reported_together(tiny_base: Path, tmp_path: Path) -> None:
    folder = copytree(tiny_base, tmp_path / "base")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "model.bin")
    with pytest.raises(InputError) as caught:
        resolve_base(str(folder))
    assert {problem.code for problem in caught.value.problems} == {"pickle", "bad_base"}
    assert "foreign code" in str(caught.value)


def test_equal_tensors_make_equal_bytes_whatever_the_order_of_the_metadata(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(5.0), "a": torch.ones(2, 3, dtype=torch.float16)}
    metadata = {"z": "1", "format": "pt", "note": "ä"}
    for i in range(4):  # safetensors' own order is a matter of luck
        order = sorted(metadata, reverse=bool(i % 2))
        write_safetensors(tmp_path / str(i), tensors, {key: metadata[key] for key in order})
    contents = {(tmp_path / str(i)).read_bytes() for i in range(4)}
    assert len(contents) == 1
    found = load_file(tmp_path / "0")
    assert all(torch.equal(found[name], tensors[name]) and found[name].dtype == tensors[name].dtype for name in tensors)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []
