"""What a machine is, and the one rule that picks base and preset for it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.core import machine
from studio.core.catalog import BASES
from studio.core.errors import InputError, NotFoundError
from studio.core.machine import Machine, choose, default_base, default_preset
from studio.core.presets import PRESETS_DIR, TrainPreset, list_presets
from studio.core.train_config import TrainConfig

ALL = frozenset({"bitsandbytes", "prodigyopt", "schedulefree", "xformers"})
MIB = 2**20
# What drivers report of cards that are sold with so many gigabytes: a plain one, and one that keeps much to itself.
GPUS_MIB = {
    6: (6144, 5925), 8: (8192, 8188), 12: (12288, 12045), 16: (16376, 15109), 24: (24564, 22731),
    48: (49140, 46068), 80: (81920, 81559), 141: (143771, 143771),
}  # fmt: skip
# base: preset on a GPU of 6, 8, 12, 16, 24, 48, 80 and 141 GB
EXPECTED = {
    "pocket": ["pocket_lora_cpu"] * 8,
    "sd15": ["sd15_lora_6gb"] * 2 + ["sd15_lora_12gb"] * 6,
    "sd21": ["sd21_lora_8gb"] * 8,
    "sdxl": ["sdxl_lora_12gb"] * 4 + ["sdxl_lora_24gb"] * 4,
    "sd35": ["sd35_lora_24gb"] * 8,
    "flux": ["flux_lora_12gb"] * 4 + ["flux_lora_24gb"] + ["flux_lora_40gb"] * 3,
    "flux2_klein": ["flux2_klein_lora_16gb"] * 4 + ["flux2_klein_lora_24gb"] * 4,
    "zimage": ["zimage_lora_16gb"] * 4 + ["zimage_lora_24gb"] * 4,
    "qwen_image": ["qwen_image_lora_24gb"] * 6 + ["qwen_image_lora_80gb"] * 2,
}


@pytest.fixture(scope="module")
def presets() -> list[TrainPreset]:
    return list_presets()


@pytest.fixture(autouse=True)
def fresh_eyes() -> Iterator[None]:
    machine.look.cache_clear()
    yield
    machine.look.cache_clear()


@pytest.mark.parametrize("packages", [ALL, frozenset()], ids=["all packages", "no package"])
@pytest.mark.parametrize("base", BASES)
def test_the_default_preset_of_every_base_follows_the_gpu(
    base: str, packages: frozenset[str], presets: list[TrainPreset]
) -> None:
    for (gb, sizes_mib), expected in zip(GPUS_MIB.items(), EXPECTED[base], strict=True):
        for size_mib in sizes_mib:
            found = default_preset(base, Machine("cuda", size_mib * MIB, packages), presets)
            assert found and found.name == expected, f"{gb} GB ({size_mib} MiB)"


@pytest.mark.parametrize("here", [Machine("cpu", 64 * 10**9, ALL), Machine("cuda", None, ALL)], ids=["cpu", "unknown"])
@pytest.mark.parametrize("base", BASES)
def test_where_nothing_is_known_to_fit_the_smallest_preset_is_taken(
    base: str, here: Machine, presets: list[TrainPreset]
) -> None:
    found = default_preset(base, here, presets)
    assert found and found.name == EXPECTED[base][0]


def test_a_preset_whose_package_is_missing_gives_way_only_to_one_that_fits() -> None:
    def preset(name: str, hardware: str, **config: object) -> TrainPreset:
        data = {"name": name, "title": "T", "description": "D", "base": "flux", "hardware": hardware}
        return TrainPreset.parse({**data, "config": {"base": "flux", **config}})

    small, packed, rare = (
        preset("small", "12gb"),
        preset("packed", "24gb", quantization="8bit"),
        preset("rare", "24gb", optimizer="prodigy", learning_rate=1.0),
    )
    lacking, having = Machine("cuda", 24 * 10**9, frozenset()), Machine("cuda", 24 * 10**9, ALL)
    assert default_preset("flux", having, [small, packed]) == packed
    assert default_preset("flux", lacking, [small, packed]) == small
    assert default_preset("flux", lacking, [small, rare]) == small
    assert default_preset("flux", lacking, [packed]) == packed, "its refusal names the package"
    assert default_preset("flux", lacking, []) is None


def test_variants_are_taken_by_name_only(presets: list[TrainPreset]) -> None:
    special = {preset.name for preset in presets if preset.variant != "usual"}
    assert special >= {"sd15_dreambooth_24gb", "sd21_dreambooth_24gb"}
    assert not special & {name for row in EXPECTED.values() for name in row}
    assert choose(None, "sd15_dreambooth_24gb", Machine("cpu", None, ALL), PRESETS_DIR)[0] == "sd15"


@pytest.mark.parametrize(
    ("here", "base"),
    [
        (Machine("cpu", 64 * 10**9, ALL), "pocket"),
        (Machine("cuda", 4 * 10**9, ALL), "pocket"),
        (Machine("cuda", 6144 * MIB, ALL), "sd15"),
        (Machine("cuda", None, ALL), "sd15"),
        (Machine("mps", 11 * 10**9, ALL), "sd15"),
    ],
)
def test_the_first_base_is_the_embedded_one_without_a_gpu_that_is_large_enough(here: Machine, base: str) -> None:
    assert default_base(here) == base
    chosen, preset = choose(None, None, here, PRESETS_DIR)
    assert chosen == preset.base == base


def test_base_and_preset_can_be_named_apart_and_together() -> None:
    here = Machine("cuda", 24 * 10**9, ALL)
    assert choose("sdxl", None, here, PRESETS_DIR)[1].name == "sdxl_lora_24gb"
    assert choose(None, "sdxl_lora_12gb", here, PRESETS_DIR)[0] == "sdxl"
    assert choose("someone/xl", "sdxl_lora_12gb", here, PRESETS_DIR)[0] == "someone/xl"
    with pytest.raises(InputError, match=r"no preset is made for base 'someone/xl'; name a preset, or take.*sdxl"):
        choose("someone/xl", None, here, PRESETS_DIR)
    with pytest.raises(NotFoundError, match="nope"):
        choose("sdxl", "nope", here, PRESETS_DIR)


def test_needed_packages_are_those_of_optimizer_and_quantization() -> None:
    assert machine.needed_packages(TrainConfig()) == set()
    config = TrainConfig.parse({"optimizer": "schedule_free", "quantization": "4bit"})
    assert machine.needed_packages(config) == {"schedulefree", "bitsandbytes"}


# ------------------------------------------------------------------------------------------------------------- looking


def answer(monkeypatch: pytest.MonkeyPatch, said: str | Exception) -> None:
    def run(command: tuple[str, ...], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[0] == "nvidia-smi"
        if isinstance(said, Exception):
            raise said
        return subprocess.CompletedProcess(command, 0, said, "")

    monkeypatch.setattr(machine.subprocess, "run", run)


@pytest.mark.parametrize(("said", "size_mib"), [("81559\n", 81559), ("8192\n24564\n", 24564), ("[N/A]\n", None)])
def test_nvidias_own_program_is_asked_for_the_memory(
    said: str, size_mib: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "_AMD", (str(tmp_path), "card*"))
    answer(monkeypatch, said)
    found = machine.look("cuda").memory_bytes
    assert found == (size_mib * MIB if size_mib else None)


def test_how_each_gpu_stands_is_asked_anew_and_none_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "NVIDIA H200, 512, 143771\nOdd, with a comma, 0, 24564\n")
    assert machine.gpus() == (
        machine.Gpu("NVIDIA H200", 512 * MIB, 143771 * MIB),
        machine.Gpu("Odd, with a comma", 0, 24564 * MIB),
    )
    for broken in ("H200, [N/A], [N/A]\n", FileNotFoundError("nvidia-smi")):
        answer(monkeypatch, broken)
        assert machine.gpus() == ()


def test_amds_driver_tells_the_memory_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    answer(monkeypatch, FileNotFoundError("nvidia-smi"))
    for card, size in (("card0", 512 * MIB), ("card1", 16 * 2**30)):
        (tmp_path / card / "device").mkdir(parents=True)
        (tmp_path / card / "device" / "mem_info_vram_total").write_text(f"{size}\n")
    monkeypatch.setattr(machine, "_AMD", (str(tmp_path), machine._AMD[1]))
    assert machine.look("cuda").memory_bytes == 16 * 2**30


def test_a_driver_that_hangs_costs_nothing_but_the_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_AMD", (str(tmp_path), "card*"))
    answer(monkeypatch, subprocess.TimeoutExpired("nvidia-smi", 10))
    assert machine.look("cuda").memory_bytes is None


def test_without_a_gpu_the_memory_is_the_machines_and_bitsandbytes_of_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_GPU_DEVICES", ())
    monkeypatch.setattr(machine.platform, "system", lambda: "Linux")
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    answer(monkeypatch, AssertionError("nobody is asked"))
    here = machine.look()
    assert here.kind == "cpu" and here.memory_bytes and here.packages == {"prodigyopt", "schedulefree"}


def test_a_drivers_device_file_means_a_gpu_and_apples_share_their_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(machine, "_GPU_DEVICES", (str(tmp_path / "nvidia0"),))
    monkeypatch.setattr(machine, "find_spec", lambda name: object())
    answer(monkeypatch, "24564\n")
    assert machine.look() == Machine("cuda", 24564 * MIB, ALL)
    assert machine.look("cpu").kind == "cpu", "the setting has the last word"
    machine.look.cache_clear()
    monkeypatch.setattr(machine.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")
    apple, main = machine.look(), machine.look("cpu").memory_bytes
    assert apple.kind == "mps" and apple.memory_bytes and main and main / 2 < apple.memory_bytes < main
