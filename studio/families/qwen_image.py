"""Qwen-Image: a transformer on packed latents of a video autoencoder, with Qwen2.5-VL as its text.

Training follows diffusers' train_dreambooth_lora_qwen_image.py:
https://github.com/huggingface/diffusers/blob/58eb52c0803ea9af3abec60841c2a093bdf1f951/examples/dreambooth/train_dreambooth_lora_qwen_image.py#L1690-L1815
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import QwenImagePipeline, QwenImageTransformer2DModel
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from studio.diffusion.packing import grid, patchify, tokens, unpatchify
from studio.families.base import Conditioning, Parts
from studio.families.loading import (
    DiffusersFamily,
    embeds_inputs,
    padded,
    raw_latents,
    text_pipeline,
    vae_of,
)

MAX_TOKENS = 512
"""Length to which the pipeline's call cuts a prompt."""


class QwenImage(DiffusersFamily):
    """The verbs for the Qwen-Image classes."""

    denoiser = QwenImageTransformer2DModel
    text_encoders = (Qwen2_5_VLForConditionalGeneration,)
    tokenizers = (Qwen2Tokenizer,)
    pipeline_class = QwenImagePipeline

    def encode_images(self, parts: Parts, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See ``Family.encode_images``; latents are ``(B, 16, H/8, W/8)``, each channel normalised."""
        latents = raw_latents(parts, pixels.unsqueeze(2), generator).squeeze(2)  # a film of one picture
        config = vae_of(parts).config
        mean, deviation = (
            torch.tensor(values, device=latents.device).view(1, -1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return ((latents - mean) / deviation).float()

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, 512, D)`` and their ``prompt_embeds_mask`` ``(B, 512)`` int64."""
        pipeline = text_pipeline(QwenImagePipeline, parts, self.spec)
        rows = []
        for prompt in prompts:  # one by one, so that none is padded to another's length
            embeds, _ = pipeline.encode_prompt([prompt], device=parts.device, max_sequence_length=MAX_TOKENS)
            rows.append(embeds[0])
        return padded(rows, MAX_TOKENS)

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the transformer's output for ``noisy`` ``(B, 16, h, w)`` at ``timesteps`` ``(B,)``; same shape."""
        squares = patchify(noisy)  # (B, 64, h/2, w/2)
        size_hw = (squares.shape[2], squares.shape[3])
        text = _shortened(conditioning)
        output = parts.denoiser(
            hidden_states=tokens(squares).to(parts.dtype),
            encoder_hidden_states=text["prompt_embeds"].to(parts.dtype),
            encoder_hidden_states_mask=text["prompt_embeds_mask"],
            timestep=parts.schedule.clock(timesteps) / parts.schedule.num_train_timesteps,
            img_shapes=[[(1, *size_hw)]] * len(noisy),
            return_dict=False,
        )[0]
        return unpatchify(grid(output, size_hw))

    def pipeline_inputs(
        self, conditioning: Conditioning, negative: Conditioning, guidance_scale: float
    ) -> dict[str, Any]:
        """See ``Family.pipeline_inputs``; what other families call guidance_scale is ``true_cfg_scale`` here."""
        inputs = embeds_inputs(_shortened(conditioning), _shortened(negative), guidance_scale)
        return {**inputs, "guidance_scale": None, "true_cfg_scale": guidance_scale}


def _shortened(conditioning: Conditioning) -> dict[str, Tensor]:
    """Cut the padding that no row of the batch needs: the net would compute on it."""
    length = int(conditioning["prompt_embeds_mask"].sum(1).max())
    return {name: conditioning[name][:, :length] for name in ("prompt_embeds", "prompt_embeds_mask")}
