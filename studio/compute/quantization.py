"""The frozen base in 8 or 4 bits through diffusers and bitsandbytes, and the probe for whether that runs here.

The optional package is imported where it is used. The adapter on top learns in float32 as ever.

Sources: Dettmers et al. 2022, arXiv:2208.07339 (8 bit); Dettmers et al. 2023, arXiv:2305.14314 (4 bit, NF4).
"""

import logging
from typing import Any

import torch
from diffusers import BitsAndBytesConfig
from diffusers.quantizers.auto import DiffusersAutoQuantizer

from studio.core.errors import MissingExtraError
from studio.core.train_config import OPTIONAL_PACKAGES, Quantization

_CPU = torch.device("cpu")


def arguments(name: Quantization, dtype: torch.dtype) -> dict[str, Any]:
    """Return diffusers' ``BitsAndBytesConfig`` as plain JSON data; empty for "none"."""
    if name == "none":
        return {}
    if name == "8bit":
        return {"load_in_8bit": True}
    compute = str(dtype).removeprefix("torch.")
    return {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute}


def quantized(name: Quantization, dtype: torch.dtype) -> dict[str, Any]:
    """Return the keyword arguments of ``from_pretrained`` that quantise what it reads; empty for "none".

    On the CPU, as the denoiser is read before the text encoders have left the GPU.
    """
    if name == "none":
        return {}
    return {"quantization_config": BitsAndBytesConfig(**arguments(name, dtype)), "device_map": _CPU}


def require(name: Quantization, device: torch.device) -> None:
    """Quantise one layer and go through it there and back, before anything large is loaded.

    Raises:
        MissingExtraError: the package is missing or does not run here.
    """
    if name == "none":
        return
    # It would say at each layer of each step that 8 bits are computed from float16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    try:
        import bitsandbytes

        settings = quantized(name, torch.float32)
        # diffusers' own conditions: versions, and a GPU.
        DiffusersAutoQuantizer.from_config(settings["quantization_config"]).validate_environment(device_map=None)
        kinds = {"8bit": bitsandbytes.nn.Linear8bitLt, "4bit": bitsandbytes.nn.Linear4bit}
        given = {"has_fp16_weights": False} if name == "8bit" else {"quant_type": "nf4"}
        layer = kinds[name](64, 64, **given).requires_grad_(False).to(device)
        values = torch.ones(2, 64, device=device, requires_grad=True)
        layer(values).sum().backward()
    except (ImportError, OSError, RuntimeError, ValueError, AttributeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise MissingExtraError(
            f"quantization={name} does not run here ({reason}); install it with `pip install "
            f"{OPTIONAL_PACKAGES[f'quantization={name}']}` on a machine with a GPU, or set quantization=none."
        ) from error
