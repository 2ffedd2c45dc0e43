"""Which timesteps are trained, and the noise that goes with them; every draw comes from a generator that is given."""

from collections.abc import Sequence

import torch
from diffusers.training_utils import compute_density_for_timestep_sampling
from torch import Generator, Tensor


def uniform(count: int, num_train_timesteps: int, generator: Generator) -> Tensor:
    """Draw ``count`` timesteps uniformly from [0, T), ``(count,)`` int64 on the CPU."""
    return torch.randint(num_train_timesteps, (count,), generator=generator)


def logit_normal(count: int, num_train_timesteps: int, generator: Generator) -> Tensor:
    """Draw timesteps that favour the middle, ``(count,)`` int64 on the CPU.

    Source: Esser et al. 2024, arXiv:2403.03206, sec. 3.1, with mean 0 and standard deviation 1.
    """
    u = compute_density_for_timestep_sampling("logit_normal", count, 0.0, 1.0, generator=generator)
    return (u * num_train_timesteps).long().clamp(max=num_train_timesteps - 1)


TIMESTEP_SAMPLERS = {"uniform": uniform, "logit_normal": logit_normal}
"""Density over the timesteps -> its draw; ``FamilySpec.timestep_density`` names the one of each family."""


def spread(count: int, num_train_timesteps: int) -> Tensor:
    """Return ``count`` timesteps evenly spread over [0, T), ``(count,)`` int64; for a validation set."""
    return ((torch.arange(count) + 0.5) * num_train_timesteps / count).long()


def noise(shape: Sequence[int], generator: Generator, offset: float = 0.0) -> Tensor:
    """Draw Gaussian noise.

    Args:
        shape: ``(B, C, h, w)``.
        generator: on the CPU, so that a seed means the same on every device.
        offset: adds this much noise that is constant over each channel.

    Returns:
        ``shape`` float32 on the CPU.

    Source of the offset: N. Guttenberg 2023, https://www.crosslabs.org/blog/diffusion-with-offset-noise.
    """
    values = torch.randn(tuple(shape), generator=generator)
    if offset:
        values = values + offset * torch.randn((*shape[:2], *[1] * (len(shape) - 2)), generator=generator)
    return values
