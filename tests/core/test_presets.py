"""Presets: the loader's rules, and every shipped training preset run on a tiny base of its kind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from studio.core.catalog import BASES, FAMILIES, BaseSpec
from studio.core.errors import InputError, NotFoundError
from studio.core.presets import PRESETS_DIR, dump, list_presets, load_preset, override, parse_assignments, train_config
from studio.core.train_config import TrainConfig

NAMES = sorted(path.stem for path in (PRESETS_DIR / "train").glob("*.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(PRESETS_DIR / "train", tmp_path / "presets" / "train")
    return tmp_path / "presets"


def test_every_file_is_a_preset() -> None:
    assert [preset.name for preset in list_presets()] == NAMES


@pytest.mark.parametrize("row", BASES.values(), ids=list(BASES))
def test_the_catalog_tells_the_least_gpu_that_a_base_has_a_preset_for(row: BaseSpec) -> None:
    usual = [preset for preset in list_presets() if preset.base == row.name and preset.variant == "usual"]
    assert min(preset.memory_gb for preset in usual) == row.vram_gb
    assert (row.memory is None) == (row.vram_gb == 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preset_is_named_by_base_method_and_hardware(name: str) -> None:
    preset = load_preset(name)
    method = {"full": "dreambooth"}.get(preset.config.method.name, preset.config.method.name)
    usual = f"{preset.base}_{method}_{preset.hardware}"
    assert name == usual or (name == f"{usual}_{preset.variant}" and usual in NAMES)
    assert BASES[preset.base].family in FAMILIES
    # Many train large bases on pictures of half the size.
    assert preset.config.resolution_px in (None, *(BASES[preset.base].resolution_px // share for share in (1, 2)))
    head = (PRESETS_DIR / "train" / f"{name}.yaml").read_text()
    assert all(f"# {word}" in head for word in ("Base:", "Method:", "Hardware:", "Source:")), "numbers have a source"


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preset_has_sane_steps_for_five_to_twenty_photos(name: str) -> None:
    config = load_preset(name).config
    for photos in (5, 10, 20):
        views = config.total_steps(photos) * config.batch_size / photos
        assert 40 <= views <= 500, f"each of {photos} photos is seen {views} times"


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_preset_trains(
    name: str,
    tiny_base: Path,
    tiny_base_kl: Path,
    tiny_bases: Callable[[str], Path],
    make_dataset: Callable[..., Path],
    tmp_path: Path,
) -> None:
    from studio.train import train

    preset = load_preset(name)
    alike = {"pocket": tiny_base, "sd15": tiny_base_kl, "sd21": tiny_base}
    base = alike.get(preset.base) or tiny_bases(BASES[preset.base].family)
    changes = {"base": str(base), "steps": 2, "resolution_px": 64, "sample_steps": 2, "class_noun": "woman"}
    changes |= {"prior.class_images": 2, "samples_per_checkpoint": 1, "checkpoint_every_steps": 2, "certify": False}
    changes |= {"quantization": "none"}  # which needs a GPU; tests/compute/test_quantization.py trains with it
    config = override(preset.config, changes)
    assert train(config, make_dataset(photos=2), tmp_path / "run").best_step == 2


def test_an_unknown_preset_is_answered_with_those_that_are_there(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="pocket_lora_cpu"):
        load_preset("nope", folder)


def test_a_name_cannot_leave_the_folder(folder: Path) -> None:
    (folder / "secret.yaml").write_text("name: secret")
    with pytest.raises(NotFoundError):
        load_preset("../secret", folder)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_a_preset_that_a_windows_editor_saved_is_read(folder: Path, encoding: str) -> None:
    path = folder / "train" / "pocket_lora_cpu.yaml"
    before = load_preset("pocket_lora_cpu", folder)
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert load_preset("pocket_lora_cpu", folder) == before


def test_all_mistakes_of_a_file_are_listed_at_once(folder: Path) -> None:
    path = folder / "train" / "pocket_lora_cpu.yaml"
    data = yaml.safe_load(path.read_text())
    data["config"]["rnak"] = 3
    data["config"]["learning_rate"] = -1
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(InputError) as caught:
        load_preset("pocket_lora_cpu", folder)
    assert len(caught.value.problems) == 2
    assert "rnak" in str(caught.value) and "learning_rate" in str(caught.value)


def test_overrides_reach_nested_settings_and_are_checked_together() -> None:
    config = override(TrainConfig(), {"method.rank": 8, "prior.mode": "images", "steps": 7})
    assert (config.method.rank, config.prior.mode, config.total_steps(10)) == (8, "images", 7)
    with pytest.raises(InputError) as caught:
        override(TrainConfig(), {"method.rnak": 8, "seed": -1})
    assert {problem.where for problem in caught.value.problems} == {"method.rnak", "seed"}


def test_assignments_are_read_as_yaml() -> None:
    found = parse_assignments(["method.rank=8", "learning_rate=1.0e-3", "revision=null", "flip=true"])
    assert found == {"method.rank": 8, "learning_rate": 1e-3, "revision": None, "flip": True}
    with pytest.raises(InputError, match="seed=3"):
        parse_assignments(["rank"])


def test_a_dumped_config_is_read_back_as_it_was() -> None:
    config = train_config("sd15_lora_12gb", class_noun="dog", seed=None)
    assert config.class_noun == "dog"
    assert TrainConfig.parse(yaml.safe_load(dump(config))) == config


def test_no_preset_says_whom_it_is_for() -> None:
    # A preset with a subject or a class noun of its own would be refused with the photos of anybody else.
    for preset in list_presets():
        assert (preset.config.subject, preset.config.class_noun) == ("", ""), preset.name


@pytest.mark.parametrize(
    ("item", "value"),
    [("keep=None", None), ("keep=null", None), ("fill=#ffffff", "#ffffff"), ("rank=8", 8), ("flip=true", True)],
)
def test_an_assignment_is_read_as_settings_are_written(item: str, value: object) -> None:
    assert list(parse_assignments([item]).values()) == [value]
