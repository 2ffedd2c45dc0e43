"""FLUX.2 klein: a transformer on packed, normalised latents, and three layers of Qwen3 as its text.

Training follows diffusers' train_dreambooth_lora_flux2_klein.py:
https://github.com/huggingface/diffusers/blob/58eb52c0803ea9af3abec60841c2a093bdf1f951/examples/dreambooth/train_dreambooth_lora_flux2_klein.py#L1778-L1908
"""

from collections.abc import Sequence

import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel
from torch import Tensor
from transformers import Qwen2Tokenizer, Qwen3ForCausalLM

from studio.diffusion.packing import grid, patchify, positions, tokens
from studio.families.base import Conditioning, Parts
from studio.families.loading import DiffusersFamily, raw_latents, text_pipeline, vae_of


class Flux2Klein(DiffusersFamily):
    """The verbs for the FLUX.2 klein classes."""

    denoiser = Flux2Transformer2DModel
    text_encoders = (Qwen3ForCausalLM,)
    tokenizers = (Qwen2Tokenizer,)
    pipeline_class = Flux2KleinPipeline

    def encode_images(self, parts: Parts, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See ``Family.encode_images``; latents are ``(B, 128, H/16, W/16)``, each channel normalised."""
        latents = patchify(raw_latents(parts, pixels, generator))
        vae = vae_of(parts)
        mean = vae.bn.running_mean.view(1, -1, 1, 1)
        deviation = torch.sqrt(vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps)
        return ((latents - mean) / deviation).float()

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, 512, 3 D)``: layers 9, 18 and 27, as the pipeline takes them.

        The official example's default of 10, 20 and 30 is that of the larger FLUX.2 dev.
        """
        pipeline = text_pipeline(Flux2KleinPipeline, parts, self.spec)
        embeds, _ = pipeline.encode_prompt(list(prompts), device=parts.device)
        return {"prompt_embeds": embeds}

    def predict(self, parts: Parts, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """Return the transformer's output for ``noisy`` ``(B, 128, h, w)`` at ``timesteps`` ``(B,)``; same shape."""
        size_hw = (noisy.shape[2], noisy.shape[3])
        embeds = conditioning["prompt_embeds"].to(parts.dtype)
        text_ids = torch.zeros(embeds.shape[1], 4, device=noisy.device)
        text_ids[:, 3] = torch.arange(embeds.shape[1], device=noisy.device)
        output = parts.denoiser(
            hidden_states=tokens(noisy).to(parts.dtype),
            timestep=parts.schedule.clock(timesteps) / parts.schedule.num_train_timesteps,
            guidance=None,
            encoder_hidden_states=embeds,
            txt_ids=text_ids,
            img_ids=positions(size_hw, 4, noisy.device),
            return_dict=False,
        )[0]
        return grid(output, size_hw)
