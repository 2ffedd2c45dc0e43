"""FLUX.1: a transformer on packed latents with the guidance as a number, CLIP's pooled embedding and T5.

Training follows diffusers' train_dreambooth_lora_flux.py:
https://github.com/huggingface/diffusers/blob/58eb52c0803ea9af3abec60841c2a093bdf1f951/examples/dreambooth/train_dreambooth_lora_flux.py#L1689-L1846
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from studio.diffusion.packing import grid, patchify, positions, tokens, unpatchify
from studio.families.base import Conditioning, Parts
from studio.families.loading import DiffusersFamily, text_pipeline

TRAINING_GUIDANCE = 1.0
"""Guidance value for training a guidance-distilled net: photos do not look like pictures of a strong guidance.

The official example's README, fluxgym and sd-scripts train with 1; the example's own default is 3.5.
"""


class Flux(DiffusersFamily):
    """The verbs for the FLUX.1 classes."""

    denoiser = FluxTransformer2DModel
    text_encoders = (CLIPTextModel, T5EncoderModel)
    tokenizers = (CLIPTokenizer, T5Tokenizer)
    pipeline_class = FluxPipeline

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, 512, 4096)`` of T5 and ``pooled_prompt_embeds`` ``(B, 768)`` of CLIP."""
        pipeline = text_pipeline(FluxPipeline, parts, self.spec)
        embeds, pooled, _ = pipeline.encode_prompt(list(prompts), device=parts.device)
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the transformer's output for ``noisy`` ``(B, 16, h, w)`` at ``timesteps`` ``(B,)``; same shape."""
        transformer: Any = parts.denoiser
        squares = patchify(noisy)  # (B, 64, h/2, w/2)
        size_hw = (squares.shape[2], squares.shape[3])
        embeds = conditioning["prompt_embeds"].to(parts.dtype)
        guidance = None
        if transformer.config.guidance_embeds:
            guidance = torch.full((len(noisy),), TRAINING_GUIDANCE, device=noisy.device)
        output = transformer(
            hidden_states=tokens(squares).to(parts.dtype),
            timestep=parts.schedule.clock(timesteps) / parts.schedule.num_train_timesteps,
            guidance=guidance,
            pooled_projections=conditioning["pooled_prompt_embeds"].to(parts.dtype),
            encoder_hidden_states=embeds,
            txt_ids=torch.zeros(embeds.shape[1], 3, device=noisy.device),
            img_ids=positions(size_hw, 3, noisy.device),
            return_dict=False,
        )[0]
        return unpatchify(grid(output, size_hw))

    def pipeline_inputs(
        self, conditioning: Conditioning, negative: Conditioning, guidance_scale: float
    ) -> dict[str, Any]:
        """See ``Family.pipeline_inputs``; the guidance is an input of the net, so there is no negative prompt."""
        return {**conditioning, "guidance_scale": guidance_scale}
