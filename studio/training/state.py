"""Everything that changes while a run trains: optimizer, gradient scaler, weight average."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from studio.methods.groups import TOKEN_PART
from studio.training import optimizers
from studio.training.run import TrainingRun
from studio.training.steps import learning_rate_factor


class TrainingState:
    """Everything that moves the trainable parameters of a run, and what a checkpoint has to know of it."""

    def __init__(self, run: TrainingRun, groups: list[Any], trainable: Mapping[str, nn.Parameter]) -> None:
        self.run, self.trainable = run, trainable
        self.optimizer = optimizers.make(run.config.optimizer, groups, run.device)
        self.scaler = torch.amp.GradScaler(run.device.type, enabled=run.dtype == torch.float16)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        decay = run.config.ema_decay
        self._average = None if decay is None else optimizers.WeightAverage(trainable, decay)

    def set_rates(self, step: int) -> float:
        """Set the learning rates for the step after ``step`` steps; returns the first group's."""
        config, steps = self.run.config, self.run.steps
        factor = learning_rate_factor(config.lr_scheduler, step, config.lr_warmup_steps, steps)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            rests = group["part"] == TOKEN_PART and step >= config.token_share * steps
            group["lr"] = 0.0 if rests else rate * factor
        return float(self._rates[0] * factor)

    def moved(self, step: int) -> None:
        """Take up the parameters after ``step`` steps into the average, if one is kept."""
        if self._average is not None:
            self._average.update(self.trainable, step)

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context manager inside which the parameters are what the run shows and exports."""
        return optimizers.averaged(self.optimizer, self.trainable, self._average)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors by name and numbers for JSON."""
        tensors, numbers = optimizers.state_of(self.optimizer, self.trainable)
        found = {f"optimizer.{name}": tensor for name, tensor in tensors.items()}
        if self._average is not None:
            found |= {f"average.{name}": value.cpu().clone() for name, value in self._average.values.items()}
        return found, {"optimizer": numbers, "scaler": self.scaler.state_dict()}

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]], numbers: Mapping[str, Any]) -> None:
        """Put the result of ``state`` back; ``tensors`` by the first word of their names."""
        state, device = tensors.get("optimizer", {}), self.run.device
        optimizers.load_state(self.optimizer, self.trainable, state, numbers["optimizer"], device)
        if self._average is not None:
            self._average.load(tensors["average"])
        self.scaler.load_state_dict(numbers["scaler"])
