"""The catalog: every row can be used as it stands."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from studio.core.catalog import BASES, FAMILIES, LICENCES, BaseSpec
from studio.core.settings import PROJECT_ROOT
from studio.core.train_config import MethodConfig

ROWS = [pytest.param(row, id=name) for name, row in BASES.items()]


@pytest.mark.parametrize("row", ROWS)
def test_every_base_belongs_to_a_family_and_fits_its_buckets(row: BaseSpec) -> None:
    assert row.resolution_px % FAMILIES[row.family].bucket_multiple_px == 0


@pytest.mark.parametrize("row", ROWS)
def test_every_base_says_its_licence_and_what_it_is(row: BaseSpec) -> None:
    assert row.licence in LICENCES and row.title and row.description.endswith(".")


@pytest.mark.parametrize("row", ROWS)
def test_a_source_is_an_absolute_folder_or_a_hub_id(row: BaseSpec) -> None:
    assert Path(row.source).is_absolute() or row.source.count("/") == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_layers_for_every_target_that_can_be_asked_for(name: str) -> None:
    asked = set(MethodConfig.model_fields["target"].annotation.__args__)  # type: ignore[union-attr]
    assert set(dict(FAMILIES[name].lora_targets)) == asked


def test_a_base_that_needs_no_gpu_is_embedded() -> None:
    assert [row.name for row in BASES.values() if row.vram_gb == 0] == ["pocket"]
    assert Path(BASES["pocket"].source).is_relative_to(Path(__file__).resolve().parents[2])


def test_the_memory_of_every_base_is_what_was_counted() -> None:
    counted = json.loads((PROJECT_ROOT / "benchmarks" / "results" / "memory.json").read_text(encoding="utf-8"))["bases"]
    assert counted.keys() == {row.name for row in BASES.values() if row.memory}
    for name, figures in counted.items():
        assert asdict(BASES[name].memory) == {**figures, "text_encoders_gb": BASES[name].memory.text_encoders_gb}  # type: ignore[arg-type, union-attr]
