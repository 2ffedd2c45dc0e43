"""Stable Diffusion 3 and 3.5: a transformer on unpacked latents, two CLIP encoders and T5.

Training follows diffusers' train_dreambooth_lora_sd3.py:
https://github.com/huggingface/diffusers/blob/58eb52c0803ea9af3abec60841c2a093bdf1f951/examples/dreambooth/train_dreambooth_lora_sd3.py#L1722-L1847
"""

from collections.abc import Sequence

from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5Tokenizer

from studio.families.base import Conditioning, Parts
from studio.families.loading import DiffusersFamily, text_pipeline


class StableDiffusion3(DiffusersFamily):
    """The verbs for the Stable Diffusion 3 classes."""

    denoiser = SD3Transformer2DModel
    text_encoders = (CLIPTextModelWithProjection, CLIPTextModelWithProjection, T5EncoderModel)
    tokenizers = (CLIPTokenizer, CLIPTokenizer, T5Tokenizer)
    pipeline_class = StableDiffusion3Pipeline

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, 333, 4096)`` and ``pooled_prompt_embeds`` ``(B, 2048)``.

        T5 reads 256 tokens, as the pipeline lets it; the official example trains with 77.
        """
        texts = list(prompts)
        pipeline = text_pipeline(StableDiffusion3Pipeline, parts, self.spec)
        embeds, _, pooled, _ = pipeline.encode_prompt(
            texts, texts, texts, device=parts.device, do_classifier_free_guidance=False
        )
        return {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the transformer's output for ``noisy`` ``(B, 16, h, w)`` at ``timesteps`` ``(B,)``; same shape."""
        return parts.denoiser(
            hidden_states=noisy.to(parts.dtype),
            timestep=parts.schedule.clock(timesteps),
            encoder_hidden_states=conditioning["prompt_embeds"].to(parts.dtype),
            pooled_projections=conditioning["pooled_prompt_embeds"].to(parts.dtype),
            return_dict=False,
        )[0]
