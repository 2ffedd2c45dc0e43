"""A run on a tiny base, up to its first step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.bases.resolve import resolve_base
from studio.core.train_config import TrainConfig
from studio.families.registry import family
from studio.methods.registry import method
from studio.training.data import cache
from studio.training.photos import _read_photos, read_dataset
from studio.training.run import AdaptedModel, TrainingRun
from studio.training.steps import train_step


class Setup:
    """Everything that a step needs, on a tiny base."""

    def __init__(self, base: Path, dataset: Path, out: Path, pictures: list | None = None, **changes: Any) -> None:
        given = {"base": str(base), "class_noun": "woman", "method": {"rank": 2}, "learning_rate": 1e-3}
        config = TrainConfig.parse({**given, **changes})
        found = resolve_base(str(base))
        self.run = TrainingRun(
            config=config,
            out_dir=out,
            base=found,
            photos=_read_photos(config, read_dataset(dataset), dataset, found),
            device=torch.device("cpu"),
            dtype=torch.float32,
            steps=10,
        )
        speaks, learns = family("sd"), method("lora")
        parts = speaks.load(found.folder, dtype=torch.float32, device=torch.device("cpu"))
        groups: list[Any] = learns.attach(parts, speaks.spec, config)
        self.optimizer = torch.optim.AdamW(groups)
        self.model = AdaptedModel(self.run, speaks, learns, parts)
        self.data = cache(self.run, self.model, pictures or [])

    def step(self, number: int) -> float:
        return train_step(self.model, self.data, self.optimizer, torch.amp.GradScaler("cpu", enabled=False), number)

    def state(self) -> dict[str, torch.Tensor]:
        return self.model.method.adapter_state(self.model.parts)


@pytest.fixture
def setup(tiny_base: Path, make_dataset: Callable[..., Path], tmp_path: Path) -> Callable[..., Setup]:
    dataset = make_dataset(photos=4)
    return lambda **changes: Setup(tiny_base, changes.pop("dataset", dataset), tmp_path, **changes)
