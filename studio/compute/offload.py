"""Training with the denoiser's blocks in main memory: one block at a time is on the GPU.

diffusers' group offloading takes a block's weights away as soon as its forward pass is over, which is right for
drawing, but a backward pass still needs them. Here a block stays until the next one is asked for. With recomputed
activations (``gradient_checkpointing``) each block is run once more just before its gradients, so its weights are
there when they are needed, and autograd keeps none of the others.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def blocks_of(denoiser: Any) -> list[nn.Module]:
    """Return the blocks that diffusers' class says repeat, in the order of the forward pass."""
    names = {*(denoiser._repeated_blocks or denoiser._no_split_modules or ())}
    return [module for module in denoiser.modules() if type(module).__name__ in names]


def keep_blocks_away(denoiser: nn.Module, device: torch.device) -> None:
    """Move a denoiser to ``device``, but for the frozen weights of its blocks: those come and go with their block.

    What learns stays on the device. Needs recomputed activations.
    """
    swap = _BlockSwapper(blocks_of(denoiser), device)
    at_home = {id(parameter) for parameters in swap.frozen.values() for parameter in parameters}
    for module in denoiser.modules():
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = buffer.to(device)
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in at_home:
                parameter.data = parameter.data.to(device)


class _BlockSwapper:
    """Who is on the device; at most one block."""

    def __init__(self, blocks: Iterable[nn.Module], device: torch.device) -> None:
        self.device = device
        self.frozen = {
            block: [parameter for parameter in block.parameters() if not parameter.requires_grad] for block in blocks
        }
        # Frozen weights never change: what lies in main memory is always right, and nothing is copied back.
        self.home = {
            block: [_at_home(parameter.data, device) for parameter in parameters]
            for block, parameters in self.frozen.items()
        }
        self.here: nn.Module | None = None
        for block in self.frozen:
            self._send_home(block)
            block.register_forward_pre_hook(lambda module, _: self.bring(module))

    def bring(self, block: nn.Module) -> None:
        """Put ``block`` on the device, in the place of the one that is there."""
        if block is self.here:
            return
        if self.here is not None:
            self._send_home(self.here)
        for parameter, weights in zip(self.frozen[block], self.home[block], strict=True):
            parameter.data = weights.to(self.device, non_blocking=True)
        self.here = block

    def _send_home(self, block: nn.Module) -> None:
        for parameter, weights in zip(self.frozen[block], self.home[block], strict=True):
            parameter.data = _away(weights)


def _at_home(weights: Tensor, device: torch.device) -> Tensor:
    weights = weights.to("cpu")
    # Pinned memory is copied faster, and while the CPU goes on.
    return weights.pin_memory() if device.type == "cuda" else weights


def _away(weights: Tensor) -> Tensor:
    """Return what stands for weights that are not on the device; nothing may compute with it."""
    return weights
