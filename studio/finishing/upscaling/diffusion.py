"""Upscaling with Stable Diffusion's x4 upscaler, which is told in words what the picture shows."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from studio.core.errors import InputError, MissingExtraError, Problem, ResourceError
from studio.finishing.upscaling.base import Pixels, Tick

HUB_ID = "stabilityai/stable-diffusion-x4-upscaler"
LONGEST_PX = 512
"""Longer side of the picture that goes in: 256 gives 1024, 512 gives 2048; beyond it no device is sure to suffice."""
_MULTIPLE_PX = 8
_WORKING_BYTES = 12 * 2**30


class DiffusionUpscaler:
    """The pipeline, loaded.

    Args:
        source: a local diffusers folder, or a Hub id whose files are on this machine or can be fetched.
        device: where it computes.
        prompt: what the picture shows.
        seed: of the noise.
        num_inference_steps: denoising steps.
        guidance_scale: how closely the prompt is followed.

    Raises:
        MissingExtraError: the weights are not here and cannot be fetched.
        InputError: the folder holds something else.
    """

    name = "sd-x4"
    scale = 4

    def __init__(
        self,
        source: str = HUB_ID,
        *,
        device: torch.device,
        prompt: str,
        seed: int,
        num_inference_steps: int,
        guidance_scale: float,
    ) -> None:
        self._pipeline = _load(source, device)
        self._prompt, self._seed = prompt, seed
        self._steps, self._guidance = num_inference_steps, guidance_scale

    def ticks(self, size_hw: tuple[int, int]) -> int:
        """Return the number of denoising steps, whatever the size."""
        return self._steps

    def working_bytes(self, size_hw: tuple[int, int]) -> int:
        """Return what the largest picture needs, bytes."""
        return _WORKING_BYTES

    def enlarge(self, picture: Pixels, *, tick: Tick) -> Pixels:
        """Return ``(4 H, 4 W, 3)`` sRGB levels; ``tick`` is called at each denoising step.

        Raises:
            InputError: the picture's longer side is above ``LONGEST_PX``.
            ResourceError: the device's memory does not suffice.
        """
        height, width, _ = picture.shape
        if max(height, width) > LONGEST_PX:
            text = f"takes at most {LONGEST_PX} px on the longer side, not {max(height, width)}"
            raise InputError.of([Problem("sd-x4", text, "ask for long_side_px 1024 or 2048", "too_large")])
        # The pipeline would shrink the picture to a multiple of 8; it is filled up instead, and cut afterwards.
        padding = ((0, -height % _MULTIPLE_PX), (0, -width % _MULTIPLE_PX), (0, 0))
        padded = np.pad(picture, padding, mode="edge")

        def on_step(step: int, timestep: int, latents: Any) -> None:
            tick()

        try:
            with torch.no_grad():
                made = self._pipeline(
                    prompt=self._prompt,
                    image=Image.fromarray(padded),
                    num_inference_steps=self._steps,
                    guidance_scale=self._guidance,
                    generator=torch.Generator("cpu").manual_seed(self._seed),
                    callback=on_step,
                    callback_steps=1,
                ).images[0]
        except torch.OutOfMemoryError:
            raise ResourceError("sd-x4 does not fit into the device's memory; ask for long_side_px 1024.") from None
        return np.asarray(made.convert("RGB"))[: height * 4, : width * 4]


def _load(source: str, device: torch.device) -> Any:
    from diffusers import StableDiffusionUpscalePipeline

    dtype = torch.float16 if device.type == "cuda" else torch.float32
    try:
        pipeline = StableDiffusionUpscalePipeline.from_pretrained(
            source, dtype=dtype, use_safetensors=True, safety_checker=None
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        if Path(source).expanduser().is_dir():
            problem = Problem(
                source, "is no folder of the x4 upscaler", "give a folder that diffusers wrote", "bad_base"
            )
            raise InputError.of([problem]) from error
        raise MissingExtraError(
            f"{source} (about 3.5 GB, CreativeML Open RAIL++-M) is not on this machine and cannot be fetched; run "
            f"`hf download {source}` once, or choose x4plus."
        ) from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
