"""Upscalers by name, or by the file of a network."""

from pathlib import Path

import torch

from studio.bases.weight_files import FOLDER_NAME, UPSCALING, OnBytes, from_hub, resolve
from studio.core.errors import InputError, Problem
from studio.core.settings import load_settings
from studio.finishing.networks.read import mix, read_weights
from studio.finishing.upscaling.base import Upscaler
from studio.finishing.upscaling.diffusion import DiffusionUpscaler
from studio.finishing.upscaling.faces import FaceRestorer, NetworkFaceRestorer
from studio.finishing.upscaling.network import NetworkUpscaler

DIFFUSION = "sd-x4"
_PAIRS = {"general-x4v3": "general-wdn-x4v3"}
"""Network that removes noise -> the one that keeps it, of the same shape."""
NAMES = (*(row.name for row in UPSCALING if row.name not in _PAIRS.values()), DIFFUSION)
"""Models by name."""


def open_upscaler(
    model: str,
    home: Path,
    *,
    device: torch.device,
    tile_px: int | None = None,
    denoise: float | None = None,
    prompt: str = "",
    seed: int = 0,
    num_inference_steps: int = 50,
    guidance_scale: float = 9.0,
    on_bytes: OnBytes = lambda done, total: None,
) -> Upscaler:
    """Load an upscaler, fetching its weights if need be.

    Args:
        model: a name, a path, the name of a file in the studio's weights folder, or hf:owner/name/file.
        home: the studio's home, where weights are kept.
        device: where it computes.
        tile_px: side of a tile, pixels of the input; None suits the network.
        denoise: 1 removes noise, 0 keeps it; only where a pair of networks exists.
        prompt: what the picture shows; only for sd-x4, as are the next three.
        seed: of the noise.
        num_inference_steps: denoising steps.
        guidance_scale: how closely the prompt is followed.
        on_bytes: told while weights are fetched.

    Raises:
        InputError: no such model; a file that is no known network; denoise where there is no pair.
        NotFoundError: the Hub has no such file.
        MissingExtraError: the weights are not on this machine and cannot be had.
    """
    if denoise is not None and model not in _PAIRS:
        problem = Problem(
            "denoise", f"{model} has no second version to mix with", f"use {', '.join(_PAIRS)}", "no_pair"
        )
        raise InputError.of([problem])
    if model == DIFFUSION:
        return DiffusionUpscaler(
            device=device,
            prompt=prompt,
            seed=seed,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
        )
    if model not in NAMES:
        path = weights_path(model, home, f"use one of {', '.join(NAMES)}, or a .pth or .safetensors file")
        return NetworkUpscaler(path.name, read_weights(path), device=device, tile_px=tile_px)
    weights = read_weights(resolve(model, home, on_bytes=on_bytes).path)
    if denoise is not None and denoise < 1:
        weights = mix(weights, read_weights(resolve(_PAIRS[model], home, on_bytes=on_bytes).path), denoise)
    return NetworkUpscaler(model, weights, device=device, tile_px=tile_px)


def open_face_restorer(model: str, home: Path, *, device: torch.device, seed: int = 0) -> FaceRestorer:
    """Load a face-restoration network from a path, a file of the studio's weights folder, or hf:owner/name/file.

    Raises:
        NotFoundError: the Hub has no such file.
        InputError: the file is not there, or is no face-restoration network.
        MissingExtraError: it is on the Hub only, which cannot be reached.
    """
    cure = f"put a GFPGAN or RestoreFormer network into {home / FOLDER_NAME}, or give its path or hf:owner/name/file"
    return NetworkFaceRestorer(weights_path(model, home, cure), device=device, seed=seed)


def weights_path(model: str, home: Path, cure: str) -> Path:
    """Return the file that a model's text means; raises InputError if there is none, and as ``from_hub``."""
    if model.startswith("hf:"):
        return from_hub(model, load_settings())
    for path in (Path(model).expanduser(), home / FOLDER_NAME / model):
        if path.suffix in (".pth", ".safetensors") and path.is_file():
            return path
    raise InputError.of(
        [Problem("model", f"{model!r} is neither a known model nor a file here", cure, "unknown_model")]
    )
