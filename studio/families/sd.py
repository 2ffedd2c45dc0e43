"""Stable Diffusion 1.x and 2.x, and every base made of the same classes.

These are UNet2DConditionModel, CLIPTextModel, CLIPTokenizer and an autoencoder (AutoencoderKL or AutoencoderTiny).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from studio.core.catalog import FamilySpec
from studio.core.train_config import Quantization
from studio.families.base import Conditioning, Parts
from studio.families.loading import assemble, embeds_inputs, load_parts, prefixed, scaled_latents
from studio.families.words import spelled_out


class StableDiffusion:
    """The verbs for the Stable Diffusion 1 and 2 classes."""

    def __init__(self, spec: FamilySpec) -> None:
        self.spec = spec

    def load(
        self, folder: Path, *, dtype: torch.dtype, device: torch.device, quantization: Quantization = "none"
    ) -> Parts:
        """See ``Family.load``."""
        return load_parts(
            folder,
            self.spec,
            denoiser=UNet2DConditionModel,
            text_encoders=[CLIPTextModel],
            tokenizers=[CLIPTokenizer],
            dtype=dtype,
            device=device,
            quantization=quantization,
        )

    def encode_images(self, parts: Parts, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See ``Family.encode_images``; latents are ``(B, C, H/8, W/8)``."""
        return scaled_latents(parts, pixels, generator)

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, L, D)`` in the text encoder's dtype; gradients follow its parameters."""
        tokenizer, text_encoder = parts.tokenizers[0], parts.text_encoders[0]
        tokens = tokenizer(
            spelled_out(prompts, tokenizer),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        uses_mask = getattr(text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(parts.device) if uses_mask else None
        return {"prompt_embeds": text_encoder(tokens.input_ids.to(parts.device), attention_mask=mask)[0]}

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the UNet's output for ``noisy`` ``(B, C, h, w)`` at ``timesteps`` ``(B,)``; same shape."""
        unet = parts.denoiser
        return unet(noisy.to(parts.dtype), timesteps, conditioning["prompt_embeds"].to(parts.dtype), return_dict=False)[
            0
        ]

    def pipeline(self, parts: Parts) -> DiffusionPipeline:
        """See ``Family.pipeline``; without a safety checker."""
        return assemble(
            StableDiffusionPipeline,
            parts,
            self.spec,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )

    def pipeline_inputs(
        self, conditioning: Conditioning, negative: Conditioning, guidance_scale: float
    ) -> dict[str, Any]:
        """See ``Family.pipeline_inputs``."""
        return embeds_inputs(conditioning, negative, guidance_scale)

    def export(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``Family.export``."""
        return prefixed(state, self.spec)
