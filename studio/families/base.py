"""The seven verbs that a model family has to say; everything else about it is data in its FamilySpec.

``pieces`` and ``encode_in_pieces`` come with ``DiffusersFamily``; a family that reads long prompts in pieces has the
latter of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers import DiffusionPipeline
from torch import Tensor, nn

from studio.core.catalog import FamilySpec
from studio.core.train_config import Quantization
from studio.diffusion.objectives import Schedule

Conditioning = Mapping[str, Tensor]
"""The conditioning of ``predict``: name -> ``(B, ...)`` tensor.

``encode_prompts`` fills in what depends on text. Whoever calls ``predict`` adds ``framing``, which depends on the
photo: ``(B, 6)`` float32 with the original height and width, the top and left of the cut, and the height and width of
the training picture, all in pixels. A family uses the fields it knows.
"""


@dataclass(slots=True)
class Parts:
    """A loaded base, taken apart. VAE and text encoders may be dropped (None, []) once caches are made."""

    denoiser: nn.Module
    """On the CPU until moved, so that large text encoders can be loaded and freed before it."""
    vae: nn.Module | None
    text_encoders: list[nn.Module]
    tokenizers: list[Any]
    scheduler: Any
    """diffusers' own, for generation."""
    schedule: Schedule
    """Noise schedule and objective for training."""
    device: torch.device
    dtype: torch.dtype
    folder: Path
    """The local diffusers folder that it was read from."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The pipeline's own settings in model_index.json, such as ``is_distilled``."""
    extra: dict[str, Any] = field(default_factory=dict)


class Family(Protocol):
    """How one family of base models encodes prompts, predicts and generates."""

    spec: FamilySpec

    def load(
        self, folder: Path, *, dtype: torch.dtype, device: torch.device, quantization: Quantization = "none"
    ) -> Parts:
        """Read a local diffusers folder; never downloads, never reads pickle. Raises InputError on another family.

        ``quantization`` holds the denoiser's linear layers in fewer bits; see ``studio.compute.quantization.require``.
        """

    def encode_images(self, parts: Parts, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn pixels ``(B, 3, H, W)`` in [-1, 1] into scaled latents ``(B, C, h, w)``, float32."""

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """Encode prompts; with gradient if the text encoder's parameters ask for it."""

    def pieces(self, parts: Parts, prompt: str) -> int:
        """Return in how many pieces ``encode_prompts`` reads a prompt; 1 unless it is longer than the encoders read."""

    def encode_in_pieces(self, parts: Parts, prompts: Sequence[str], count: int) -> Conditioning:
        """Encode prompts as if the longest of them had ``count`` pieces, so that they fit to others."""

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the denoiser's output for ``noisy`` ``(B, C, h, w)`` at ``timesteps`` ``(B,)``; same shape."""

    def pipeline(self, parts: Parts) -> DiffusionPipeline:
        """Return diffusers' own pipeline over these parts, for generation; the progress bar is off.

        Without text encoders it takes only prompts that were encoded before (``pipeline_inputs``).
        """

    def pipeline_inputs(
        self, conditioning: Conditioning, negative: Conditioning, guidance_scale: float
    ) -> dict[str, Any]:
        """Return the pipeline's arguments that stand for encoded prompts, negative prompts and the guidance.

        Args:
            conditioning: from ``encode_prompts``, B rows.
            negative: likewise; left out where the family or the guidance has no use for it.
            guidance_scale: in the pipeline's own scale.
        """

    def export(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name the method's tensors as diffusers' ``load_lora_weights`` expects them."""
