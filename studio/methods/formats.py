"""How other programs name the same tensors: kohya's LoRA keys and the original Stable Diffusion checkpoint layout.

Pure renaming, kept as data; nothing here reads or writes a file. ``studio.export`` applies it and proves the result by
loading it with diffusers, whose own readers go the other way.

Source: LoRA keys: kohya-ss/sd-scripts@48d368fa networks/lora.py (prefixes at class LoRANetwork). Checkpoint layout:
CompVis/stable-diffusion@21f890f9 ldm/modules/diffusionmodules/openaimodel.py (UNetModel) and model.py (Encoder,
Decoder); the OpenCLIP text encoder: mlfoundations/open_clip src/open_clip/transformer.py (TextTransformer).
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from studio.core.errors import InputError, Problem

# ------------------------------------------------------------------------------------------------------------- LoRA

KOHYA_PREFIXES: dict[str, dict[str, str]] = {
    "sd": {"unet": "lora_unet", "text_encoder": "lora_te"},
    "sdxl": {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
}
"""Family -> component in diffusers -> prefix in kohya's files; other families have no such layout."""

_ENDS = {"lora_A.weight": "lora_down.weight", "lora_B.weight": "lora_up.weight"}
_MAGNITUDE = "lora_magnitude_vector"


def portable_name(name: str) -> str:
    """Return an adapter tensor's name as every release of diffusers reads it.

    transformers 5.6 took the ``text_model`` level out of CLIPTextModel; diffusers reads names with it everywhere, names
    without it only beside a new transformers.
    """
    return re.sub(r"^(text_encoder(?:_\d)?)\.encoder\.layers\.", r"\1.text_model.encoder.layers.", name)


def to_kohya(tensors: Mapping[str, Tensor], settings: Mapping[str, Any], family: str) -> dict[str, Tensor]:
    """Rename a diffusers LoRA as kohya's trainer names it, with an ``alpha`` per layer.

    kohya scales an update by alpha / rank. With rslora ours is alpha / sqrt(rank), so alpha * sqrt(rank) is written.

    Args:
        tensors: as ``load_lora_weights`` reads them, peft names.
        settings: the file's ``lora_adapter_metadata``: ``<component>.lora_alpha`` and so on.
        family: name of the family.

    Raises:
        InputError: a kind of layer that kohya's layout does not have.
    """
    prefixes = KOHYA_PREFIXES[family]
    found: dict[str, Tensor] = {}
    for name, tensor in sorted(tensors.items()):
        component, _, rest = portable_name(name).partition(".")
        module, end = _split(rest)
        if component not in prefixes or end not in _ENDS:
            raise InputError.of(
                [Problem("format", f"the layer {name} has no name in kohya's layout", "use diffusers", "no_such_layer")]
            )
        key = f"{prefixes[component]}_{module.replace('.', '_')}"
        found[f"{key}.{_ENDS[end]}"] = tensor.contiguous()
        if end == "lora_A.weight":
            found[f"{key}.alpha"] = torch.tensor(_kohya_alpha(component, module, tensor.shape[0], settings))
    return found


def is_magnitude(name: str) -> bool:
    """Return True for the magnitudes of a DoRA's layer, by peft's name."""
    return _MAGNITUDE in name.split(".")


def dora_scales(
    tensors: Mapping[str, Tensor], settings: Mapping[str, Any], family: str, base: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the ``dora_scale`` of each layer of a DoRA, by which ComfyUI arrives at the trained weights.

    peft's weights are M = W + scale * B @ A, each row (output) brought to the length m. ComfyUI multiplies the rows
    of M by ``dora_scale`` / |W|, the rows of the weights *before* the update, where the first side of ``dora_scale`` is
    as long as that of W. So m * |W| / |M| is written; m itself would leave each row longer by |M| / |W|.

    Source: Comfy-Org/ComfyUI@9c0cf36c comfy/weight_adapter/base.py (weight_decompose); peft@5d602fdbf
    src/peft/tuners/lora/dora.py (get_weight_norm); DoRA: Liu et al. 2024, arXiv:2402.09353, equation 5.

    Args:
        tensors: all of the adapter, peft names.
        settings: as for ``to_kohya``.
        family: name of the family.
        base: the base's weights, float32, by ``portable_name`` of component and layer.

    Returns:
        One tensor per layer, ``(out, 1)`` or for a convolution ``(out, 1, 1, 1)``, float32.
    """
    found = {}
    for name, magnitude in tensors.items():
        if not is_magnitude(name):
            continue
        layer = portable_name(name).partition(f".{_MAGNITUDE}")[0]
        component, _, module = layer.partition(".")
        down, up = (tensors[f"{layer}.{end}"].float().flatten(1) for end in _ENDS)
        weight = base[f"{layer}.weight"].float()
        update = layer_scale(settings, component, module, down.shape[0]) * (up @ down)
        rows = weight.flatten(1)
        scale = magnitude.float().flatten() * rows.norm(dim=1) / (rows + update).norm(dim=1)
        key = f"{KOHYA_PREFIXES[family][component]}_{module.replace('.', '_')}"
        found[f"{key}.dora_scale"] = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return found


def _split(name: str) -> tuple[str, str]:
    for end in _ENDS:
        if name.endswith(f".{end}"):
            return name.removesuffix(f".{end}"), end
    return name, ""


def layer_scale(settings: Mapping[str, Any], component: str, module: str, rank: int) -> float:
    """Return what a layer multiplies its update by, as peft does it; 1 without settings.

    Args:
        settings: from ``lora_settings``.
        component: such as ``unet``.
        module: name of the layer in it.
        rank: of the layer.
    """
    alpha = settings.get(f"{component}.lora_alpha", rank)
    for key, special in settings.get(f"{component}.alpha_pattern", {}).items():
        # As peft matches it: at the end of a module's name, at the border of a part.
        if f".{module}".endswith(f".{key}"):
            alpha = special
            break
    return float(alpha / (math.sqrt(rank) if settings.get(f"{component}.use_rslora") else rank))


def _kohya_alpha(component: str, module: str, rank: int, settings: Mapping[str, Any]) -> float:
    return layer_scale(settings, component, module, rank) * rank


_MOST_RANK = 4096
_MOST_ALPHA = 2.0**20
_NAME = re.compile(r"\w[\w.-]{0,299}", re.ASCII)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 < abs(value) <= _MOST_ALPHA


def _is_rank(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MOST_RANK


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_pattern(value: Any, good: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(_is_name(key) and good(number) for key, number in value.items())


_SETTINGS: dict[str, Callable[[Any], bool]] = {
    "r": _is_rank,
    "lora_alpha": _is_number,
    "alpha": _is_number,
    "use_rslora": lambda value: isinstance(value, bool),
    "use_dora": lambda value: isinstance(value, bool),
    "bias": lambda value: value == "none",
    "decompose_factor": lambda value: type(value) is int and -1 <= value <= _MOST_RANK,
    "rank_pattern": lambda value: _is_pattern(value, _is_rank),
    "alpha_pattern": lambda value: _is_pattern(value, _is_number),
    # A text would be a regular expression.
    "target_modules": lambda value: isinstance(value, list) and all(map(_is_name, value)),
}
"""peft's setting -> its allowed values in an untrusted file; adapters are rebuilt from these settings only."""


SCALE_SETTINGS = ("lora_alpha", "alpha_pattern", "use_rslora", "use_dora")
"""Those that ``layer_scale`` asks for, and the one that says that there is more than a scale."""


def lora_settings(metadata: Mapping[str, str], wanted: Collection[str] = tuple(_SETTINGS)) -> dict[str, Any]:
    """Return peft's settings in a file's ``lora_adapter_metadata``, looked over.

    peft takes the keys of patterns for regular expressions, and some settings for names of modules to import.

    Args:
        metadata: of the file.
        wanted: settings to read; the others may be anything.

    Returns:
        ``<component>.<setting>`` -> value, of the wanted settings only; empty where the file has none.

    Raises:
        ValueError: in words; a setting is not what it can be.
    """
    try:
        found = json.loads(metadata.get("lora_adapter_metadata") or "{}")
    except (ValueError, RecursionError):
        raise ValueError("its lora_adapter_metadata is not JSON") from None
    if not isinstance(found, dict):
        raise ValueError("its lora_adapter_metadata is not a JSON object")
    settings = {}
    for name, value in found.items():
        component, _, key = str(name).rpartition(".")
        if key not in wanted or value is None:
            continue
        if key in ("rank_pattern", "alpha_pattern") and isinstance(value, dict):
            # diffusers marks a whole name with ^, others write dots as \. ; both mean plain names.
            value = {str(module).removeprefix("^").replace("\\.", "."): number for module, number in value.items()}
        if not _is_name(component) or not _SETTINGS[key](value):
            shown = re.sub(r"[^\w.]", "", str(name))[:60]
            raise ValueError(f"its lora_adapter_metadata has an invalid {shown}")
        settings[f"{component}.{key}"] = value
    return settings


# ------------------------------------------------------------------------------------- the single-file checkpoint

_UNET_TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_VAE_MID = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.1": "mid.block_2",
}
_VAE_TOP = {"conv_norm_out": "norm_out"}
_VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def unet_to_original(tensors: Mapping[str, Tensor], layers_per_block: int) -> dict[str, Tensor]:
    """Rename a UNet2DConditionModel's tensors as ``model.diffusion_model.*``.

    The original numbers its blocks through: each level holds ``layers_per_block`` layers on the way down and one more
    on the way up, and a level's down- or upsampling is one more block, or a further part of its last one.
    """
    per_level = layers_per_block + 1
    with_attention = {match[1] for name in tensors if (match := re.match(r"up_blocks\.(\d+)\.attentions\.", name))}

    def placed(name: str) -> str:
        match = re.fullmatch(
            r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", name
        )
        if match is None:
            return _renamed_head(name, _UNET_TOP)
        way, level, kind, index, rest = match[1], int(match[2]), match[3], int(match[4]), match[5]
        if kind == "downsamplers":
            return f"input_blocks.{(level + 1) * per_level}.0.{rest.replace('conv.', 'op.', 1)}"
        if kind == "upsamplers":
            return f"output_blocks.{(level + 1) * per_level - 1}.{2 if match[2] in with_attention else 1}.{rest}"
        block = f"input_blocks.{1 + level * per_level + index}" if way == "down" else None
        block = block or f"output_blocks.{level * per_level + index}"
        return f"{block}.{0 if kind == 'resnets' else 1}.{rest}"

    found = {}
    for name, tensor in tensors.items():
        new = placed(name)
        if ".resnets." in name:
            head, _, tail = new.rpartition(".")
            stem, _, layer = head.rpartition(".")
            new = f"{stem}.{_UNET_RESNET[layer]}.{tail}"
        found[f"model.diffusion_model.{new}"] = tensor
    return found


def vae_to_original(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename an AutoencoderKL's tensors as ``first_stage_model.*``; its attention layers were 1x1 convolutions."""
    levels = 1 + max(int(match[1]) for name in tensors if (match := re.match(r"decoder\.up_blocks\.(\d+)\.", name)))
    found = {}
    for name, tensor in tensors.items():
        half, _, rest = name.partition(".")
        if match := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)", rest):
            way, level, kind, index, tail = match[1], int(match[2]), match[3], match[4], match[5]
            level = level if way == "down" else levels - 1 - level  # the original counts from the finest level
            part = f"block.{index}" if kind == "resnets" else f"{way}sample"
            rest = f"{way}.{level}.{part}.{tail}"
        rest = _renamed_head(_renamed_head(rest, _VAE_MID), _VAE_TOP)
        if ".attentions." in name:
            rest = _renamed_inside(rest, _VAE_ATTENTION)
            tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
        else:
            rest = _renamed_inside(rest, _VAE_RESNET)
        found[f"first_stage_model.{half}.{rest}" if rest else f"first_stage_model.{name}"] = tensor
    return found


def clip_to_original(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Rename a CLIPTextModel's tensors for the layout of OpenAI's CLIP (Stable Diffusion 1, first encoder of XL)."""
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in tensors.items()}


def open_clip_to_original(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Rename a CLIPTextModel's tensors for OpenCLIP's layout (Stable Diffusion 2, second encoder of XL).

    OpenCLIP holds query, key and value in one matrix, and its text projection transposed.
    """
    plain = {name.removeprefix("text_model."): tensor for name, tensor in tensors.items()}
    found = {}
    for name, tensor in plain.items():
        if name == "text_projection.weight":
            found[f"{prefix}text_projection"] = tensor.T.contiguous()
        elif ".self_attn.q_proj." in name:
            parts = [plain[name.replace("q_proj", f"{which}_proj")] for which in "qkv"]
            key = name.replace("encoder.layers.", "transformer.resblocks.").replace(
                "self_attn.q_proj.", "attn.in_proj_"
            )
            found[prefix + key] = torch.cat(parts)
        elif ".self_attn.k_proj." not in name and ".self_attn.v_proj." not in name:
            renamed = _renamed_inside(name, _OPEN_CLIP)
            found[prefix + renamed.replace("encoder.layers.", "transformer.resblocks.")] = tensor
    return found


def _renamed_head(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        if name.startswith(f"{old}."):
            return new + name.removeprefix(old)
    return name


def _renamed_inside(name: str, table: Mapping[str, str]) -> str:
    for old, new in table.items():
        name = re.sub(rf"(^|\.){re.escape(old)}(?=\.|$)", rf"\g<1>{new}", name)
    return name
