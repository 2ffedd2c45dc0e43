"""Optimizers by name, the averages that go with them, and their state as a checkpoint holds it.

Optional packages are imported where they are used; ``require`` finds out before any weight is loaded whether one runs
on this machine. Called by ``studio.train`` and ``studio.plan``.

Sources: Loshchilov and Hutter 2017, arXiv:1711.05101 (AdamW); Dettmers et al. 2021, arXiv:2110.02861 (8 bit); Shazeer
and Stern 2018, arXiv:1804.04235 (Adafactor); Mishchenko and Defazio 2023, arXiv:2306.06101 (Prodigy); Defazio et al.
2024, arXiv:2405.15682 (schedule-free).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers.optimization import Adafactor

from studio.core.errors import MissingExtraError
from studio.core.train_config import OPTIONAL_PACKAGES

Groups = Sequence[dict[str, Any]]


def _adamw(groups: Groups, device: torch.device) -> Optimizer:
    # fused: a step over hundreds of small LoRA tensors one by one costs more than the arithmetic.
    return torch.optim.AdamW(list(groups), fused=device.type in ("cpu", "cuda"))


def _adamw8bit(groups: Groups, device: torch.device) -> Optimizer:
    from bitsandbytes.optim import AdamW8bit

    if device.type != "cuda":
        raise RuntimeError("it needs an NVIDIA GPU")
    optimizer: Optimizer = AdamW8bit(list(groups))
    return optimizer


def _adafactor(groups: Groups, device: torch.device) -> Optimizer:
    # With a rate of our own; the rate that it would find by itself is made for training from nothing.
    return Adafactor(list(groups), scale_parameter=False, relative_step=False)


def _prodigy(groups: Groups, device: torch.device) -> Optimizer:
    from prodigyopt import Prodigy

    # As in diffusers' advanced DreamBooth recipe: decoupled decay, bias correction, no trust in the warm-up.
    optimizer: Optimizer = Prodigy(list(groups), decouple=True, use_bias_correction=True, safeguard_warmup=True)
    return optimizer


def _schedule_free(groups: Groups, device: torch.device) -> Optimizer:
    from schedulefree import AdamWScheduleFree

    optimizer: Any = AdamWScheduleFree(list(groups))
    optimizer.train()
    return optimizer


_OPTIMIZERS: dict[str, Callable[[Groups, torch.device], Optimizer]] = {
    "adamw": _adamw,
    "adamw8bit": _adamw8bit,
    "adafactor": _adafactor,
    "prodigy": _prodigy,
    "schedule_free": _schedule_free,
}
"""Name in the configuration -> how it is made."""


def require(name: str, device: torch.device) -> None:
    """Do one real step on a small parameter, so that a run does not find out after minutes of loading.

    Raises:
        MissingExtraError: the package is missing or does not run on this device.
    """
    try:
        parameter = nn.Parameter(torch.ones(4096, device=device))  # bitsandbytes keeps smaller ones in 32 bits
        parameter.grad = torch.ones_like(parameter)
        make(name, [{"params": [parameter], "lr": 1e-3, "weight_decay": 0.0}], device).step()
    except (ImportError, OSError, RuntimeError, AttributeError, NotImplementedError) as error:
        package = OPTIONAL_PACKAGES.get(f"optimizer={name}", "torch transformers")
        reason = " ".join(str(error).split())[:200]
        raise MissingExtraError(
            f"optimizer={name} does not run here ({reason}); install it with `pip install {package}`, "
            "or set optimizer=adamw."
        ) from error


def make(name: str, groups: Groups, device: torch.device) -> Optimizer:
    """Return an optimizer over ``groups`` (params, lr, weight_decay and any other keys); see ``require``."""
    return _OPTIMIZERS[name](groups, device)


# --------------------------------------------------------------------------------------------------------------- state


def state_of(optimizer: Optimizer, trainable: Mapping[str, nn.Parameter]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return everything that the next step depends on: tensors on the CPU by name, and numbers for JSON."""
    tensors, numbers = {}, {}
    for name, parameter in trainable.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{key}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
            else:
                numbers[f"{key}.{name}"] = value
    groups = [
        {key: value for key, value in group.items() if isinstance(value, bool | int | float)}
        for group in optimizer.param_groups
    ]
    return tensors, {"parameters": numbers, "groups": groups}


def load_state(
    optimizer: Optimizer,
    trainable: Mapping[str, nn.Parameter],
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
    device: torch.device,
) -> None:
    """Put the result of ``state_of`` back, bit for bit."""
    for name, tensor in tensors.items():
        key, _, parameter = name.partition(".")
        optimizer.state[trainable[parameter]][key] = tensor.to(device)
    for name, number in numbers["parameters"].items():
        key, _, parameter = name.partition(".")
        optimizer.state[trainable[parameter]][key] = number
    for group, values in zip(optimizer.param_groups, numbers["groups"], strict=True):
        group.update(values)


# ------------------------------------------------------------------------------------------------------------ averages


class WeightAverage:
    """A running average of parameters, float32 beside them.

    Args:
        trainable: what is averaged, by name.
        decay: share of the average that stays at each step.
    """

    def __init__(self, trainable: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.values = {name: parameter.detach().clone() for name, parameter in trainable.items()}

    @torch.no_grad()
    def update(self, trainable: Mapping[str, nn.Parameter], step: int) -> None:
        """Take up the parameters after ``step`` steps; early steps weigh more, or the start would never fade.

        Golden: diffusers.training_utils.EMAModel in the tests.
        """
        decay = min(self.decay, step / (step + 9)) if step > 1 else 0.0
        parameters = [parameter.detach() for parameter in trainable.values()]
        torch._foreach_lerp_(list(self.values.values()), parameters, 1 - decay)

    def load(self, values: Mapping[str, Tensor]) -> None:
        """Put an earlier ``values`` back."""
        for name, value in self.values.items():
            value.copy_(values[name])


@contextmanager
def averaged(
    optimizer: Optimizer, trainable: Mapping[str, nn.Parameter], average: WeightAverage | None
) -> Iterator[None]:
    """Inside the block the parameters are what a run shows and exports; afterwards they are what it goes on from."""
    shown = average.values if average else _schedule_free_average(optimizer, trainable)
    before = {name: trainable[name].data for name in shown}
    for name, value in shown.items():
        trainable[name].data = value
    try:
        yield
    finally:
        for name, value in before.items():
            trainable[name].data = value


def _schedule_free_average(optimizer: Optimizer, trainable: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return the average that schedule-free optimizers judge themselves by; empty for all others.

    Their own ``eval()`` and ``train()`` move the parameters there and back, which costs their last bits.
    """
    found = {}
    for group in optimizer.param_groups:
        if "weight_lr_power" in group:
            here = {id(parameter) for parameter in group["params"]}
            for name, parameter in trainable.items():
                if id(parameter) in here and "z" in optimizer.state[parameter]:
                    z = optimizer.state[parameter]["z"]
                    found[name] = parameter.detach().lerp(z, 1 - 1 / group["betas"][0])
    return found
