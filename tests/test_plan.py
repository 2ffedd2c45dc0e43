from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from studio import plan as plan_module
from studio.core import fit
from studio.core.domain import Event
from studio.core.errors import InputError, ResourceError
from studio.core.train_config import TrainConfig
from studio.plan import plan


@pytest.fixture
def config(tiny_base: Path) -> TrainConfig:
    return TrainConfig.parse(
        {"base": str(tiny_base), "class_noun": "woman", "steps": 50, "batch_size": 2, "sample_steps": 1,
         "method": {"rank": 2}, "likeness": "none", "prior": {"mode": "images", "class_images": 4}}
    )  # fmt: skip


def test_a_plan_measures_real_steps_and_leaves_nothing_but_its_figures(
    config: TrainConfig, make_dataset: Callable[..., Path], studio_home: Path
) -> None:
    dataset = make_dataset()
    before = sorted(dataset.rglob("*"))
    found = plan(config, dataset)
    assert found.measured and found.fits and found.steps == 50 and found.device == "cpu"
    assert found.seconds and found.peak_bytes and found.disk_bytes
    assert sorted(dataset.rglob("*")) == before
    assert [path.name for path in studio_home.iterdir()] == [fit.MEASURED_NAME]
    measured = fit.recall(studio_home, config)
    assert measured is not None and measured.step_s > 0 and measured.adapter_bytes > 1000
    assert fit.plan_of(config, 4, measured).seconds == found.seconds


@pytest.mark.whole
def test_a_plan_that_runs_short_of_memory_climbs_down_and_says_what_it_took(
    config: TrainConfig, make_dataset: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    real = plan_module.train_step

    def short_of_memory(model: Any, *others: Any) -> float:
        if model.run.config.micro_batch_size != 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(model, *others)

    monkeypatch.setattr(plan_module, "train_step", short_of_memory)
    found = plan(config, make_dataset(), on_event=events.append)
    assert found.changes == {"micro_batch_size": 1}
    assert any(event.data.get("level") == "warning" for event in events)

    monkeypatch.setattr(plan_module, "_measure", lambda *args: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(ResourceError, match="use a smaller resolution_px"):
        plan(config, make_dataset(name="again"))


def test_what_keeps_a_run_from_starting_keeps_it_from_being_planned(config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="check the photos first"):
        plan(config, tmp_path)
