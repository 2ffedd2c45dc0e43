"""Stable Diffusion 1.x and 2.x, and every base made of the same classes.

These are UNet2DConditionModel, CLIPTextModel, CLIPTokenizer and an autoencoder (AutoencoderKL or AutoencoderTiny).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from studio.families.base import Conditioning, Parts
from studio.families.loading import DiffusersFamily
from studio.families.words import in_pieces, spelled_out


class StableDiffusion(DiffusersFamily):
    """The verbs for the Stable Diffusion 1 and 2 classes."""

    denoiser = UNet2DConditionModel
    text_encoders = (CLIPTextModel,)
    tokenizers = (CLIPTokenizer,)
    pipeline_class = StableDiffusionPipeline
    # Without a safety checker.
    pipeline_settings: ClassVar[Mapping[str, Any]] = {
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }

    def encode_in_pieces(self, parts: Parts, prompts: Sequence[str], count: int) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, count * L, D)``, in the encoder's dtype; gradients follow its parameters."""
        tokenizer, text_encoder = parts.tokenizers[0], parts.text_encoders[0]
        tokens = tokenizer(
            spelled_out(in_pieces(prompts, [tokenizer], count), tokenizer),
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        uses_mask = getattr(text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(parts.device) if uses_mask else None
        embeds = text_encoder(tokens.input_ids.to(parts.device), attention_mask=mask)[0]
        return {"prompt_embeds": embeds.reshape(len(prompts), -1, embeds.shape[-1])}

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the UNet's output for ``noisy`` ``(B, C, h, w)`` at ``timesteps`` ``(B,)``; same shape."""
        unet = parts.denoiser
        return unet(noisy.to(parts.dtype), timesteps, conditioning["prompt_embeds"].to(parts.dtype), return_dict=False)[
            0
        ]
