import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from studio.bases import hub
from studio.bases.resolve import resolve_base
from studio.core.catalog import BASES
from studio.core.errors import InputError, MissingExtraError, NotFoundError


def test_a_local_folder_describes_itself(tiny_base: Path, tiny_base_kl: Path) -> None:
    for folder in (tiny_base, tiny_base_kl):
        base = resolve_base(str(folder))
        assert (base.folder, base.revision, base.family) == (folder, None, "sd")
        assert base.spec.resolution_px == 64


def test_only_safetensors_json_and_text_of_the_parts_are_wanted() -> None:
    wanted = huggingface_filter(hub.WANTED, hub.UNWANTED)
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


def test_an_offline_machine_says_so_without_asking_the_network() -> None:
    with pytest.raises(MissingExtraError, match="choose base 'pocket'"):
        resolve_base("owner/model")


def test_a_base_that_is_nowhere_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="nor a folder or"):
        resolve_base("no such base")


def test_missing_pocket_weights_ask_for_a_new_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BASES, "pocket", replace(BASES["pocket"], source="/nowhere"))
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
    assert "malicious code" in str(caught.value)


def test_every_damaged_file_of_a_base_is_named_before_anything_is_loaded(tiny_base: Path, tmp_path: Path) -> None:
    folder = copytree(tiny_base, tmp_path / "damaged")
    unet = folder / "unet" / "diffusion_pytorch_model.safetensors"
    words = folder / "text_encoder" / "model.safetensors"
    unet.write_bytes((2**40).to_bytes(8, "little") + b"{}")
    words.write_bytes(words.read_bytes()[:-4])
    with pytest.raises(InputError) as caught:
        resolve_base(str(folder))
    assert {problem.where for problem in caught.value.problems} == {
        f"{folder}/unet/{unet.name}",
        f"{folder}/text_encoder/{words.name}",
    }
    assert all("download it again" in problem.cure for problem in caught.value.problems)
