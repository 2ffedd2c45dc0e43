import json
import sys
import types
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from studio.core.errors import MissingExtraError
from studio.training import optimizers
from studio.training.optimizers import WeightAverage, averaged

CPU = torch.device("cpu")
OPTIONAL = {"prodigy": "prodigyopt", "schedule_free": "schedulefree"}


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return {
        "denoiser.a": nn.Parameter(torch.randn(4, 3, generator=generator)),
        "text_encoder.b": nn.Parameter(torch.randn(3, generator=generator)),
    }


def made(name: str, trainable: dict[str, nn.Parameter]) -> torch.optim.Optimizer:
    rate = 1.0 if name == "prodigy" else 1e-2
    groups = [{"params": [p], "lr": rate, "weight_decay": 0.01, "part": n} for n, p in trainable.items()]
    return optimizers.make(name, groups, CPU)


def step(optimizer: torch.optim.Optimizer, trainable: dict[str, nn.Parameter], number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in trainable.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


@pytest.mark.parametrize("name", ["adamw", "adafactor", "prodigy", "schedule_free"])
def test_an_optimizer_goes_on_from_its_saved_state_to_the_same_bits(name: str) -> None:
    if name in OPTIONAL:
        pytest.importorskip(OPTIONAL[name])
    whole, first, second = parameters(), parameters(), parameters()
    optimizer = made(name, whole)
    for number in range(6):
        step(optimizer, whole, number)
    before = made(name, first)
    for number in range(3):
        step(before, first, number)
    tensors, numbers = optimizers.state_of(before, first)
    after = made(name, second)
    with torch.no_grad():
        for key, parameter in second.items():
            parameter.copy_(first[key])
    optimizers.load_state(after, second, tensors, json.loads(json.dumps(numbers)), CPU)
    for number in range(3, 6):
        step(after, second, number)
    for key in whole:
        assert torch.equal(whole[key], second[key]), key
        assert not torch.equal(whole[key], parameters()[key])
    with averaged(optimizer, whole, None):
        shown = {key: value.detach().clone() for key, value in whole.items()}
    with averaged(after, second, None):
        assert all(torch.equal(second[key], shown[key]) for key in shown)


def test_schedule_free_shows_its_own_average_and_gets_its_parameters_back_to_the_bit() -> None:
    pytest.importorskip("schedulefree")
    trainable = parameters()
    optimizer: Any = made("schedule_free", trainable)
    for number in range(4):
        step(optimizer, trainable, number)
    before = {key: value.detach().clone() for key, value in trainable.items()}
    with averaged(optimizer, trainable, None):
        shown = {key: value.detach().clone() for key, value in trainable.items()}
    assert all(torch.equal(trainable[key], before[key]) for key in before)
    optimizer.eval()
    for key, value in trainable.items():
        torch.testing.assert_close(shown[key], value.detach())
        assert not torch.equal(shown[key], before[key])


def test_a_running_average_is_that_of_diffusers_and_is_shown_only_inside_the_block() -> None:
    trainable = parameters()
    optimizer = made("adamw", trainable)
    average = WeightAverage(trainable, 0.9)
    golden = EMAModel(list(trainable.values()), decay=0.9)
    for number in range(20):
        step(optimizer, trainable, number)
        average.update(trainable, number + 1)
        golden.step(list(trainable.values()))
    now = {key: value.detach().clone() for key, value in trainable.items()}
    with averaged(optimizer, trainable, average):
        for parameter, expected in zip(trainable.values(), golden.shadow_params, strict=True):
            torch.testing.assert_close(parameter.detach(), expected)
    assert all(torch.equal(trainable[key], now[key]) for key in now)
    other = WeightAverage(trainable, 0.9)
    other.load({key: value.clone() for key, value in average.values.items()})
    assert all(torch.equal(other.values[key], average.values[key]) for key in now)


def test_what_torch_and_transformers_bring_runs_here() -> None:
    optimizers.require("adamw", CPU)
    optimizers.require("adafactor", CPU)


@pytest.mark.parametrize(("name", "package"), [("adamw8bit", "bitsandbytes"), *OPTIONAL.items()])
def test_an_optional_package_that_is_missing_is_named_with_its_cure(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.optim", None)
    with pytest.raises(MissingExtraError, match=f"optimizer={name} does not run.*pip install {package}.*=adamw"):
        optimizers.require(name, CPU)


def test_eight_bits_without_a_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    package, room = types.ModuleType("bitsandbytes"), types.ModuleType("bitsandbytes.optim")
    room.AdamW8bit = torch.optim.AdamW  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", room)
    with pytest.raises(MissingExtraError, match="needs an NVIDIA GPU"):
        optimizers.require("adamw8bit", CPU)
