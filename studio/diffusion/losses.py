"""Losses and their weights per timestep."""

import torch
from torch import Tensor

from studio.diffusion.objectives import Schedule


def squared_error(output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared error of each sample.

    Args:
        output: ``(B, ...)``, any dtype.
        target: same shape.
        mask: weight of each place, ``(B, 1, h, w)``, mean 1; None weighs all alike.

    Returns:
        ``(B,)`` float32.
    """
    error = (output.float() - target.float()).square()
    return (error if mask is None else error * mask).flatten(1).mean(1)


def min_snr_weights(schedule: Schedule, timesteps: Tensor, gamma: float | None) -> Tensor:
    """Cap each sample's weight so that nearly clean timesteps do not dominate.

    The paper weighs the error of x0 with ``min(snr, gamma)``; ``x0_error`` turns that into a weight for what the net
    really says: ``min(snr, gamma) / snr`` for epsilon, ``min(snr, gamma) / (snr + 1)`` for v.

    Args:
        schedule: noise schedule and objective.
        timesteps: ``(B,)`` int64.
        gamma: cap on the SNR, dimensionless; the paper recommends 5.0. None weighs all timesteps alike.

    Returns:
        ``(B,)`` float32 on the schedule's device.

    Source: Hang et al. 2023, arXiv:2303.09556, sec. 3.4. Golden: diffusers.training_utils.compute_snr in the tests.
    """
    index = timesteps.to(schedule.signal.device)
    if gamma is None:
        return torch.ones(len(index), dtype=torch.float32, device=index.device)
    # min(snr, gamma) * error = snr * error * min(1, gamma / snr): the first is never 0 times infinity.
    uncapped = schedule.objective.snr_weight(schedule.signal[index], schedule.sigma[index])
    return uncapped * (gamma / schedule.snr(index)).clamp(max=1.0)
