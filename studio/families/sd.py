"""Stable Diffusion 1.x and 2.x, and every base made of the same classes.

These are UNet2DConditionModel, CLIPTextModel, CLIPTokenizer and an autoencoder (AutoencoderKL or AutoencoderTiny).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers.schedulers
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    DiffusionPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from studio.catalog import FamilySpec
from studio.diffusion.objectives import Schedule
from studio.errors import InputError, Problem
from studio.families.base import Conditioning, Parts

_AUTOENCODERS: dict[str, Any] = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}


class StableDiffusion:
    """The six verbs for the Stable Diffusion 1 and 2 classes."""

    def __init__(self, spec: FamilySpec) -> None:
        self.spec = spec

    def load(self, folder: Path, *, dtype: torch.dtype, device: torch.device) -> Parts:
        """Read a local diffusers folder in safetensors, frozen and in evaluation mode.

        Raises:
            InputError: another family's folder, or files are missing or damaged.
        """
        try:
            index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
            if index.get("_class_name") != self.spec.pipeline:
                raise _unusable(folder, f"holds a {index.get('_class_name')}, not a {self.spec.pipeline}")
            unet = UNet2DConditionModel.from_pretrained(
                folder / "unet", torch_dtype=dtype, use_safetensors=True, local_files_only=True
            )
            scheduler_class = getattr(diffusers.schedulers, index["scheduler"][1])
            scheduler = scheduler_class.from_pretrained(folder / "scheduler", local_files_only=True)
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
            parts = Parts(
                denoiser=unet.to(device).requires_grad_(False).eval(),
                vae=_autoencoder(folder, torch.float32, device),
                text_encoders=[_text_encoder(folder, dtype, device)],
                tokenizers=[tokenizer],
                scheduler=scheduler,
                schedule=Schedule.from_scheduler(scheduler),
                device=device,
                dtype=dtype,
                folder=folder,
            )
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
            reason = " ".join(str(error).split())
            raise _unusable(folder, f"cannot be read ({reason[:200]})") from error
        return parts

    def encode_images(self, parts: Parts, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Turn pixels ``(B, 3, H, W)`` in [-1, 1] into scaled latents ``(B, C, H/f, W/f)``, float32.

        Without a generator the mean of the latent distribution is taken; AutoencoderTiny has no distribution.
        """
        vae: Any = parts.vae if parts.vae is not None else _autoencoder(parts.folder, torch.float32, parts.device)
        encoded = vae.encode(pixels.to(parts.device, vae.dtype))
        if hasattr(encoded, "latent_dist"):
            distribution = encoded.latent_dist
            latents = distribution.mode() if generator is None else distribution.sample(generator)
        else:
            latents = encoded.latents
        shift = vae.config.get("shift_factor") or 0.0
        return ((latents - shift) * vae.config.scaling_factor).float()

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """Return ``prompt_embeds`` ``(B, L, D)`` in the text encoder's dtype; gradients follow its parameters."""
        tokenizer, text_encoder = parts.tokenizers[0], parts.text_encoders[0]
        tokens = tokenizer(
            list(prompts),
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
        """Return a StableDiffusionPipeline over these parts; what was dropped is read again from the folder."""
        text_encoder = (
            parts.text_encoders[0] if parts.text_encoders else _text_encoder(parts.folder, parts.dtype, parts.device)
        )
        vae: Any = parts.vae if parts.vae is not None else _autoencoder(parts.folder, parts.dtype, parts.device)
        if vae.dtype != parts.dtype:
            vae = vae.to(parts.dtype)
        pipeline: Any = StableDiffusionPipeline(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=parts.tokenizers[0],
            unet=parts.denoiser,
            scheduler=parts.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def export(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rename the method's ``denoiser.`` and ``text_encoder.`` tensors as ``load_lora_weights`` expects them."""
        prefixes = {"denoiser": "unet", "text_encoder": "text_encoder"}
        exported = {}
        for name, tensor in state.items():
            part, _, rest = name.partition(".")
            exported[f"{prefixes[part]}.{rest}"] = tensor.contiguous()
        return exported


def _autoencoder(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    autoencoder = _AUTOENCODERS[config["_class_name"]]
    vae = autoencoder.from_pretrained(folder / "vae", torch_dtype=dtype, use_safetensors=True, local_files_only=True)
    return vae.to(device).requires_grad_(False).eval()


def _text_encoder(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    with _without_progress_bar():
        text_encoder: Any = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=dtype, use_safetensors=True, local_files_only=True
        )
    return text_encoder.to(device).requires_grad_(False).eval()


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar on the terminal for a second of loading."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _unusable(folder: Path, message: str) -> InputError:
    return InputError.of(
        [Problem(f"base {folder.name}", message, "choose a complete diffusers folder in safetensors", "bad_base")]
    )
