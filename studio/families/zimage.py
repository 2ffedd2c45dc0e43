"""Z-Image: a transformer that reads each picture with a caption of its own length, in Qwen3's words.

Training follows diffusers' train_dreambooth_lora_z_image.py:
https://github.com/huggingface/diffusers/blob/58eb52c0803ea9af3abec60841c2a093bdf1f951/examples/dreambooth/train_dreambooth_lora_z_image.py#L1705-L1794
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ZImagePipeline, ZImageTransformer2DModel
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3Model

from studio.families.base import Conditioning, Parts
from studio.families.loading import DiffusersFamily, padded, text_pipeline

MAX_TOKENS = 512
"""Length to which the pipeline cuts a caption."""


class ZImage(DiffusersFamily):
    """The verbs for the Z-Image classes."""

    denoiser = ZImageTransformer2DModel
    text_encoders = (Qwen3Model,)
    tokenizers = (Qwen2Tokenizer,)
    pipeline_class = ZImagePipeline

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, 512, D)`` and their ``prompt_embeds_mask`` ``(B, 512)`` int64."""
        pipeline = text_pipeline(ZImagePipeline, parts, self.spec)
        rows, _ = pipeline.encode_prompt(list(prompts), device=parts.device, do_classifier_free_guidance=False)
        return padded(rows, MAX_TOKENS)

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the direction from data to noise for ``noisy`` ``(B, 16, h, w)`` at ``timesteps`` ``(B,)``."""
        total = parts.schedule.num_train_timesteps
        output = parts.denoiser(
            list(noisy.to(parts.dtype).unsqueeze(2)),  # B pictures of (16, 1, h, w)
            (total - parts.schedule.clock(timesteps)) / total,  # its clock runs from noise to data
            [row.to(parts.dtype) for row in _captions(conditioning)],
            return_dict=False,
        )[0]
        return -torch.stack(output).squeeze(2)  # the net's own direction is from noise to data

    def pipeline_inputs(
        self, conditioning: Conditioning, negative: Conditioning, guidance_scale: float
    ) -> dict[str, Any]:
        """See ``Family.pipeline_inputs``; here 0 is no guidance, one less than elsewhere."""
        return {
            "prompt_embeds": _captions(conditioning),
            "negative_prompt_embeds": _captions(negative),
            "guidance_scale": guidance_scale,
        }


def _captions(conditioning: Conditioning) -> list[Tensor]:
    """Return each row of the prompts without its padding, ``(length, D)``."""
    lengths = conditioning["prompt_embeds_mask"].sum(1).tolist()
    return [row[:length] for row, length in zip(conditioning["prompt_embeds"], lengths, strict=True)]
