"""Stable Diffusion XL: two text encoders, and a UNet with size and crop conditioning.

Training follows diffusers' train_dreambooth_lora_sdxl.py:
https://github.com/huggingface/diffusers/blob/58eb52c0803ea9af3abec60841c2a093bdf1f951/examples/dreambooth/train_dreambooth_lora_sdxl.py#L1657-L1860
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from studio.families.base import Conditioning, Parts
from studio.families.loading import DiffusersFamily, text_pipeline
from studio.families.words import in_pieces


class StableDiffusionXL(DiffusersFamily):
    """The verbs for the Stable Diffusion XL classes."""

    denoiser = UNet2DConditionModel
    text_encoders = (CLIPTextModel, CLIPTextModelWithProjection)
    tokenizers = (CLIPTokenizer, CLIPTokenizer)
    pipeline_class = StableDiffusionXLPipeline
    # Without a watermark.
    pipeline_settings: ClassVar[Mapping[str, Any]] = {"add_watermarker": False}

    def encode_in_pieces(self, parts: Parts, prompts: Sequence[str], count: int) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, count * 77, 2048)`` and ``pooled_prompt_embeds`` ``(B, 1280)``.

        The empty prompt becomes zeros where the base says so: that is what it was trained with. Of several pieces the
        first one's pooled embedding counts.

        Source: the pooled embedding: comfyanonymous/ComfyUI@9c0cf36c comfy/sd1_clip.py (encode_token_weights).
        """
        pipeline = text_pipeline(StableDiffusionXLPipeline, parts, self.spec, add_watermarker=False)
        texts = in_pieces(prompts, parts.tokenizers, count)
        embeds, _, pooled, _ = pipeline.encode_prompt(texts, device=parts.device, do_classifier_free_guidance=False)
        embeds, pooled = embeds.reshape(len(prompts), -1, embeds.shape[-1]), pooled[::count]
        if pipeline.config.force_zeros_for_empty_prompt:
            said = torch.tensor([bool(prompt) for prompt in prompts], device=embeds.device)
            embeds, pooled = embeds * said[:, None, None], pooled * said[:, None]
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the UNet's output for ``noisy`` ``(B, 4, h, w)`` at ``timesteps`` ``(B,)``; same shape.

        Source of the micro-conditioning: Podell et al. 2023, arXiv:2307.01952, sec. 2.2.
        """
        return parts.denoiser(
            noisy.to(parts.dtype),
            timesteps,
            conditioning["prompt_embeds"].to(parts.dtype),
            added_cond_kwargs={
                "text_embeds": conditioning["pooled_prompt_embeds"].to(parts.dtype),
                "time_ids": conditioning["framing"].to(parts.dtype),
            },
            return_dict=False,
        )[0]
