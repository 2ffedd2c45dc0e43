"""What the denoiser learns to say: epsilon, v and flow, side by side.

All three mix a clean sample with noise, ``noisy = signal * x0 + sigma * noise``; they differ in the two coefficients'
course over time (the ``Schedule``) and in what is asked of the net (the ``Objective``). A family fills
``Parts.schedule`` with ``Schedule.from_scheduler``; ``studio.training.steps`` uses nothing but the functions below and
never asks which is which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from studio.core.errors import InputError, Problem


@dataclass(frozen=True, slots=True)
class Objective:
    """One objective; every function takes tensors that broadcast with each other and knows no schedule."""

    name: str
    target: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """``(x0, noise, signal, sigma) -> the target of the net``, ``(B, C, h, w)``."""
    x0: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    """``(noisy, output, signal, sigma) -> the clean sample that this output means``, ``(B, C, h, w)``."""
    x0_error: Callable[[Tensor, Tensor], Tensor]
    """``(signal, sigma) -> how much of a squared error of the output arrives in x0``, ``(B,)``; infinite for epsilon
    where no signal is left."""
    snr_weight: Callable[[Tensor, Tensor], Tensor]
    """``(signal, sigma) -> x0_error * snr``, ``(B,)``, finite everywhere."""


OBJECTIVES: dict[str, Objective] = {
    # Ho et al. 2020, arXiv:2006.11239, eq. 14 and 15.
    "epsilon": Objective(
        name="epsilon",
        target=lambda x0, noise, signal, sigma: noise,
        x0=lambda noisy, output, signal, sigma: (noisy - sigma * output) / signal,
        x0_error=lambda signal, sigma: (sigma / signal) ** 2,
        snr_weight=lambda signal, sigma: torch.ones_like(signal),
    ),
    # Salimans and Ho 2022, arXiv:2202.00512, appendix D; signal^2 + sigma^2 = 1.
    "v_prediction": Objective(
        name="v_prediction",
        target=lambda x0, noise, signal, sigma: signal * noise - sigma * x0,
        x0=lambda noisy, output, signal, sigma: signal * noisy - sigma * output,
        x0_error=lambda signal, sigma: sigma**2,
        snr_weight=lambda signal, sigma: signal**2,
    ),
    # Liu et al. 2022, arXiv:2209.03003, eq. 1, with time running from data to noise; signal + sigma = 1.
    "flow": Objective(
        name="flow",
        target=lambda x0, noise, signal, sigma: noise - x0,
        x0=lambda noisy, output, signal, sigma: noisy - sigma * output,
        x0_error=lambda signal, sigma: sigma**2,
        snr_weight=lambda signal, sigma: signal**2,
    ),
}


_OF_DDPM = frozenset(
    f"{name}Scheduler"
    for name in (
        "DDPM", "DDIM", "PNDM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete", "HeunDiscrete",
        "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverMultistep", "DPMSolverSinglestep", "DPMSolverSDE",
        "DEISMultistep", "UniPCMultistep", "SASolver", "LCM", "TCD",
    )
)  # fmt: skip
"""Samplers whose configuration holds the betas of a DDPM; EDM, for one, uses the same names for other noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Schedule:
    """Noise schedule and objective of one base.

    Attributes:
        signal: coefficient of the clean sample at each timestep, ``(T,)`` float32 in [0, 1].
        sigma: coefficient of the noise at each timestep, ``(T,)`` float32 in (0, 1].
        objective: row of ``OBJECTIVES``.
    """

    signal: Tensor
    sigma: Tensor
    objective: Objective

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> "Schedule":
        """Read the schedule that a base was trained with out of its diffusers scheduler.

        Raises:
            InputError: it is of another noise schedule than those here, or predicts what ``OBJECTIVES`` does not hold.
        """
        config, kind = scheduler.config, type(scheduler).__name__
        name = config.get("prediction_type")
        is_flow = kind.startswith("FlowMatch")
        if not is_flow and (
            kind not in _OF_DDPM or config.get("use_flow_sigmas", False) != (name == "flow_prediction")
        ):
            cure = "choose a base with a DDPM or flow matching scheduler, such as Euler or FlowMatchEuler"
            message = f"its {kind} has a noise schedule that cannot be trained"
            raise InputError.of([Problem("base", message, cure, "unknown_schedule")])
        if is_flow or name == "flow_prediction":
            # A dynamic shift depends on the picture's size and the sampler's steps; training knows none.
            shift = 1.0 if config.get("use_dynamic_shifting") else config.get("shift", 1.0)
            return cls.flow(config.num_train_timesteps, shift)
        if name not in OBJECTIVES:
            raise InputError.of(
                [
                    Problem(
                        "base",
                        f"its scheduler predicts {name!r}, which cannot be trained",
                        f"choose a base that predicts one of: {', '.join(OBJECTIVES)}",
                        "unknown_objective",
                    )
                ]
            )
        # DDPM is the schedule of training; samplers such as PNDM or Euler describe the same betas.
        alphas_cumprod = DDPMScheduler.from_config(config).alphas_cumprod.float()  # (T,)
        return cls(alphas_cumprod**0.5, (1.0 - alphas_cumprod) ** 0.5, OBJECTIVES[name])

    @classmethod
    def flow(cls, num_train_timesteps: int = 1000, shift: float = 1.0) -> "Schedule":
        """Return the straight path from data to noise: sigma rises to 1.

        Args:
            num_train_timesteps: T.
            shift: > 1 trains large sigmas more often, as larger pictures need it; 1 leaves sigma linear.

        Source: Esser et al. 2024, arXiv:2403.03206, eq. 23. Golden: diffusers.FlowMatchEulerDiscreteScheduler.
        """
        sigma = torch.arange(1, num_train_timesteps + 1, dtype=torch.float32) / num_train_timesteps
        sigma = shift * sigma / (1.0 + (shift - 1.0) * sigma)
        return cls(1.0 - sigma, sigma, OBJECTIVES["flow"])

    @property
    def num_train_timesteps(self) -> int:
        """Number of timesteps T."""
        return len(self.signal)

    def at(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return signal and sigma at ``timesteps`` ``(B,)``, shaped ``(B, 1, ...)`` to broadcast with ``like``."""
        shape = (-1, *[1] * (like.ndim - 1))
        index = timesteps.to(self.signal.device)
        signal, sigma = self.signal[index].view(shape), self.sigma[index].view(shape)
        return signal.to(like.device, like.dtype), sigma.to(like.device, like.dtype)

    def clock(self, timesteps: Tensor) -> Tensor:
        """Return what flow models are told the time is at ``timesteps`` ``(B,)``: sigma * T, ``(B,)`` float32."""
        sigma = self.sigma[timesteps.to(self.sigma.device)].to(timesteps.device)
        return sigma * self.num_train_timesteps

    def add_noise(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return ``x0`` ``(B, ...)`` as it looks at ``timesteps`` ``(B,)``; same shape."""
        signal, sigma = self.at(timesteps, x0)
        return signal * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the net should say of ``add_noise(x0, noise, timesteps)``; same shape."""
        return self.objective.target(x0, noise, *self.at(timesteps, x0))

    def x0(self, noisy: Tensor, output: Tensor, timesteps: Tensor) -> Tensor:
        """Return the clean sample that the net means by ``output``; same shape."""
        return self.objective.x0(noisy, output, *self.at(timesteps, noisy))

    def snr(self, timesteps: Tensor) -> Tensor:
        """Return the signal-to-noise ratio, ``(B,)`` float32, >= 0."""
        return (self.signal[timesteps.to(self.signal.device)] / self.sigma[timesteps.to(self.signal.device)]) ** 2
