"""What training a LoRA takes of a GPU's memory, counted without a GPU: the figures of ``catalog.MemorySpec``.

    python -m benchmarks.memory [--base sd15] [--out benchmarks/results/memory.json]

Each base's denoiser is built in its true shape on fake tensors, which have sizes and no contents. One training step
(forward, backward, AdamW, autocast to bfloat16 over bfloat16 weights, as ``studio.training.steps`` does) runs on them
while every tensor that is made and dropped is counted. What one more picture adds is told with and without recomputed
activations. Attention is counted as a fused kernel keeps it: queries, keys, values, output and one number per row. The
context of the driver and the allocator's gaps come on top (``studio.core.fit``).
"""

import argparse
import json
import weakref
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from peft import LoraConfig
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

from studio.core.catalog import BASES, FAMILIES
from studio.families import qwen_image, zimage
from studio.families.registry import family

RANK = 16
GB = 10**9

_SD = {"sample_size": 64, "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]}
# Source: config.json of each base's denoiser on the Hub; what is not named is the class's default.
SHAPES: dict[str, tuple[str, dict[str, Any], int, dict[str, tuple[int, ...]]]] = {
    "sd15": ("UNet2DConditionModel", {**_SD, "cross_attention_dim": 768}, 4, {"prompt_embeds": (77, 768)}),
    "sd21": (
        "UNet2DConditionModel",
        {
            **_SD, "cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True,
        },
        4,
        {"prompt_embeds": (77, 1024)},
    ),
    "sdxl": (
        "UNet2DConditionModel",
        {
            "sample_size": 128, "block_out_channels": [320, 640, 1280], "cross_attention_dim": 2048,
            "attention_head_dim": [5, 10, 20], "use_linear_projection": True,
            "transformer_layers_per_block": [1, 2, 10],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        4,
        {"prompt_embeds": (77, 2048), "pooled_prompt_embeds": (1280,)},
    ),
    "sd35": (
        "SD3Transformer2DModel",
        {
            "num_layers": 38, "num_attention_heads": 38, "attention_head_dim": 64, "caption_projection_dim": 2432,
            "joint_attention_dim": 4096, "pooled_projection_dim": 2048, "pos_embed_max_size": 192,
            "qk_norm": "rms_norm", "in_channels": 16, "out_channels": 16,
        },
        16,
        {"prompt_embeds": (333, 4096), "pooled_prompt_embeds": (2048,)},
    ),
    "flux": (
        "FluxTransformer2DModel",
        {"guidance_embeds": True},
        16,
        {"prompt_embeds": (512, 4096), "pooled_prompt_embeds": (768,)},
    ),
    "flux2_klein": (
        "Flux2Transformer2DModel",
        {
            "num_layers": 5, "num_single_layers": 20, "num_attention_heads": 24, "joint_attention_dim": 7680,
            "guidance_embeds": False,
        },
        128,
        {"prompt_embeds": (512, 7680)},
    ),
    "zimage": (
        "ZImageTransformer2DModel",
        {},
        16,
        {"prompt_embeds": (64, 2560)},
    ),
    "qwen_image": (
        "QwenImageTransformer2DModel",
        {},
        16,
        {"prompt_embeds": (64, 3584)},
    ),
}  # fmt: skip
"""Base -> class of the denoiser, its configuration, channels of the latents, shapes of one prompt's conditioning."""


class FusedAttention(torch.autograd.Function):
    """What a fused kernel keeps; it computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Keep what the gradients are computed from."""
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """Return gradients of the right sizes."""
        return tuple(torch.empty_like(saved) for saved in ctx.saved_tensors[:3])


def attention(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    if query.shape[-3] != key.shape[-3]:
        key, value = (part.repeat_interleave(query.shape[-3] // part.shape[-3], -3) for part in (key, value))
    return FusedAttention.apply(query, key, value)


class Count(TorchDispatchMode):
    """Follows every tensor that is made and dropped; torch's own MemTracker cannot follow frozen parameters."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known: WeakIdKeyDictionary = WeakIdKeyDictionary()
        for tensor in (*model.parameters(), *model.buffers()):  # there before; views of them are nothing new
            self.known[tensor.untyped_storage()] = None

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self.known:
                self.known[storage] = weakref.finalize(storage, self._dropped, storage.nbytes())
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
        return result

    def _dropped(self, size: int) -> None:
        self.now -= size


def convert(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Stand in for ``nn.Module._apply``, which cannot exchange fake parameters."""
    for inner in module.modules() if recurse else [module]:
        for name, parameter in inner._parameters.items():
            if parameter is not None:
                inner._parameters[name] = nn.Parameter(change(parameter.detach()), parameter.requires_grad)
        for name, buffer in inner._buffers.items():
            if buffer is not None:
                inner._buffers[name] = change(buffer)
    return module


def in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return what autocast makes of a normalisation on a GPU; on the CPU it leaves them alone."""

    def call(*args: Any, **kwargs: Any) -> Tensor:
        def raised(value: Any) -> Any:
            return value.float() if isinstance(value, Tensor) else value

        return function(*map(raised, args), **{name: raised(value) for name, value in kwargs.items()})

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", choices=SHAPES, action="append", help="only this one; repeatable")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/memory.json"))
    arguments = parser.parse_args()
    nn.functional.scaled_dot_product_attention = attention
    nn.functional.layer_norm, nn.functional.group_norm = map(
        in_float32, (nn.functional.layer_norm, nn.functional.group_norm)
    )
    nn.Module._apply = convert
    # Prompts without padding: how long one is cannot be read from a tensor that has no contents.
    zimage._captions = lambda given: list(given["prompt_embeds"])
    qwen_image._shortened = lambda given: {**given, "prompt_embeds_mask": None}
    rows = json.loads(arguments.out.read_text(encoding="utf-8"))["bases"] if arguments.out.exists() else {}
    for base in arguments.base or SHAPES:
        rows[base] = measure(base)
        print(base, json.dumps(rows[base]), flush=True)
    result = {
        "rank": RANK,
        "bases": rows,
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(base: str) -> dict[str, float]:
    """Return gigabytes of the denoiser, and of what one picture at the base's resolution adds to a step."""
    found: dict[str, float] = {}
    for name, recompute in (("kept_gb", False), ("recomputed_gb", True)):
        one, two = (peak(base, count, recompute=recompute) for count in (1, 2))
        found[name] = round((two["peak"] - one["peak"]) / GB, 2)
        found["denoiser_gb"] = round(one["weights"] / GB, 2)
    return found


def peak(base: str, pictures: int, *, recompute: bool) -> dict[str, int]:
    """Return bytes of the frozen weights, and the most bytes at any moment of one training step."""
    kind, config, channels, conditioning = SHAPES[base]
    row, spec = BASES[base], FAMILIES[BASES[base].family]
    speaks = family(spec.name)
    with FakeTensorMode():
        torch.set_default_dtype(torch.bfloat16)
        model: Any = getattr(diffusers, kind).from_config(config)
        torch.set_default_dtype(torch.float32)
        model.requires_grad_(False)
        weights = sum(parameter.nbytes for parameter in model.parameters())
        model.add_adapter(LoraConfig(r=RANK, target_modules=list(dict(spec.lora_targets)["attention"])))
        for name, module in model.named_modules():
            if "lora_" in name:
                module.float()
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if recompute:
            model.enable_gradient_checkpointing()
        model.train()
        optimizer = torch.optim.AdamW(trainable, fused=False, foreach=False)
        parts: Any = SimpleNamespace(
            denoiser=model, dtype=torch.bfloat16, device=torch.device("cpu"), schedule=FakeSchedule()
        )
        side = row.resolution_px // (16 if channels == 128 else 8)
        with Count(model) as count:
            noisy = torch.empty(pictures, channels, side, side)
            given = {name: torch.empty(pictures, *shape) for name, shape in conditioning.items()}
            given["framing"] = torch.empty(pictures, 6)
            timesteps = torch.empty(pictures, dtype=torch.long)
            with torch.autocast("cpu", torch.bfloat16):
                output = speaks.predict(parts, noisy, timesteps, given)
            output.float().square().mean().backward()
            optimizer.step()
    return {"weights": weights, "peak": weights + count.most}


class FakeSchedule:
    """The clock of ``studio.diffusion.objectives.Schedule`` where numbers have no values."""

    num_train_timesteps = 1000

    def clock(self, timesteps: Tensor) -> Tensor:
        """Return a time for each timestep."""
        return timesteps.float()


if __name__ == "__main__":
    main()
