"""Whole diffusers folders of every family, tiny, with weights that a formula gives: no download, the same everywhere.

``write(name, folder)`` is called by the fixtures and by the reference scripts beside this file, so this module knows
nothing of the studio. All bases make pictures of 64 x 64 px from latents of 8 x 8.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderTiny,
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

PROMPT_WORDS = ("a", "photo", "of", "woman", "man", "dog", "portrait", "at", "the", "beach", "in", "forest")
_T5_WIDTH = 40
_QWEN_WIDTH = 16
_BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write(name: str, folder: Path, **changes: Any) -> Path:
    """Write the tiny base of a family into ``folder``; returns the folder. ``changes`` are its function's arguments."""
    pipeline = _PIPELINES[name](**changes)
    for part, module in sorted(pipeline.components.items()):
        if isinstance(module, torch.nn.Module):
            fill(module, part)
    pipeline.save_pretrained(folder)
    return folder


@torch.no_grad()
def fill(module: torch.nn.Module, salt: str, only: str = "") -> None:
    """Give each parameter whose name holds ``only`` values that depend on its name, its shape and ``salt`` alone."""
    named = [*module.named_parameters(), *((n, b) for n, b in module.named_buffers() if "running_" in n)]
    for name, tensor in named:
        if only in name:
            values = normal(tuple(tensor.shape), f"{salt}.{name}")
            is_scale = tensor.ndim < 2 and "norm" in name and name.endswith("weight")
            if is_scale or name.endswith(("gamma", "running_var")):
                values = 1.0 + 0.1 * values
            elif tensor.ndim < 2:
                values = 0.1 * values
            else:
                values = values / max(1, tensor[0].numel()) ** 0.5
            tensor.copy_(values)


def normal(shape: tuple[int, ...], salt: str) -> torch.Tensor:
    """Return standard normal float32 numbers; numpy promises that RandomState never changes."""
    values = np.random.RandomState(crc32(salt.encode())).standard_normal(shape)
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def stable_diffusion(
    vae: str = "AutoencoderKL",
    prediction_type: str = "v_prediction",
    max_length: int = 32,
    *,
    words: int = 0,
    hidden_act: str = "quick_gelu",
) -> Any:
    """Return a pipeline like Stable Diffusion 1 and 2, with random weights that are always the same.

    ``words`` fills the vocabulary up to a size with words that mean nothing.
    """
    tokenizer = _clip_tokenizer(max_length, words)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(_clip_config(len(tokenizer), 32, max_length, hidden_act))
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=8,
        )
        autoencoder = _tiny_autoencoder() if vae == "AutoencoderTiny" else _autoencoder()
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(
            **_BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1, prediction_type=prediction_type
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _stable_diffusion_xl(*, words: int = 0, second_width: int = 16) -> Any:
    """Return a pipeline like Stable Diffusion XL; ``words`` as in ``stable_diffusion``.

    Readers of single files tell the two text encoders by their widths, which in XL differ.
    """
    tokenizer = _clip_tokenizer(77, words)
    config = _clip_config(len(tokenizer), 16, 77)
    return StableDiffusionXLPipeline(
        vae=_autoencoder(),
        text_encoder=CLIPTextModel(config),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config(len(tokenizer), second_width, 77)),
        tokenizer=tokenizer,
        tokenizer_2=_clip_tokenizer(77, words),
        unet=UNet2DConditionModel(
            sample_size=8,
            in_channels=4,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16 + second_width,
            attention_head_dim=(2, 4),
            norm_num_groups=8,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
        ),
        scheduler=EulerDiscreteScheduler(**_BETAS, steps_offset=1, timestep_spacing="leading"),
        add_watermarker=False,
    )


def _stable_diffusion_3() -> Any:
    tokenizer = _clip_tokenizer(77)
    config = _clip_config(len(tokenizer), 16, 77)
    t5_tokenizer = _t5_tokenizer()
    return StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=_T5_WIDTH,
            caption_projection_dim=32,
            pooled_projection_dim=32,
            pos_embed_max_size=16,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_autoencoder(scaling_factor=1.5305, shift_factor=0.0609),
        text_encoder=CLIPTextModelWithProjection(config),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(config),
        tokenizer_2=_clip_tokenizer(77),
        text_encoder_3=T5EncoderModel(_t5_config(len(t5_tokenizer))),
        tokenizer_3=t5_tokenizer,
    )


def _flux() -> Any:
    tokenizer = _clip_tokenizer(77)
    t5_tokenizer = _t5_tokenizer()
    return FluxPipeline(
        transformer=FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=_T5_WIDTH,
            pooled_projection_dim=16,
            guidance_embeds=True,
            axes_dims_rope=(4, 4, 8),
        ),
        scheduler=_dynamic_scheduler(shift=3.0, base_shift=0.5, max_shift=1.15),
        vae=_autoencoder(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=CLIPTextModel(_clip_config(len(tokenizer), 16, 77)),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(_t5_config(len(t5_tokenizer))),
        tokenizer_2=t5_tokenizer,
    )


def _flux2_klein() -> Any:
    tokenizer = _qwen_tokenizer()
    return Flux2KleinPipeline(
        transformer=Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * _QWEN_WIDTH,
            timestep_guidance_channels=32,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        scheduler=_dynamic_scheduler(shift=3.0, time_shift_type="exponential"),
        vae=AutoencoderKLFlux2(**_VAE, layers_per_block=1, use_quant_conv=True, use_post_quant_conv=True),
        text_encoder=Qwen3ForCausalLM(_qwen3_config(len(tokenizer), layers=28)),  # layers 9, 18 and 27 are read
        tokenizer=tokenizer,
    )


def _z_image() -> Any:
    tokenizer = _qwen_tokenizer()
    return ZImagePipeline(
        transformer=ZImageTransformer2DModel(
            in_channels=4,
            dim=32,
            n_layers=1,
            n_refiner_layers=1,
            n_heads=2,
            n_kv_heads=2,
            cap_feat_dim=_QWEN_WIDTH,
            axes_dims=[8, 4, 4],
            axes_lens=[1024, 32, 32],
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        vae=_autoencoder(scaling_factor=0.3611, shift_factor=0.1159),
        text_encoder=Qwen3Model(_qwen3_config(len(tokenizer), layers=2)),
        tokenizer=tokenizer,
    )


def _qwen_image() -> Any:
    tokenizer = _qwen_tokenizer()
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": _QWEN_WIDTH,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": _QWEN_WIDTH}
    return QwenImagePipeline(
        transformer=QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=_QWEN_WIDTH,
            axes_dims_rope=(8, 4, 4),
        ),
        scheduler=_dynamic_scheduler(base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02),
        vae=AutoencoderKLQwenImage(
            base_dim=8,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.5, 2.0, 0.5, 1.0],
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        tokenizer=tokenizer,
    )


_PIPELINES: dict[str, Callable[..., Any]] = {
    "sd": stable_diffusion,
    "sdxl": _stable_diffusion_xl,
    "sd3": _stable_diffusion_3,
    "flux": _flux,
    "flux2": _flux2_klein,
    "zimage": _z_image,
    "qwen_image": _qwen_image,
}
NAMES = tuple(_PIPELINES)
"""Families that ``write`` knows."""

_VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (8, 8, 8, 8),
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": 64,
}


def _autoencoder(**changes: Any) -> AutoencoderKL:
    return AutoencoderKL(**_VAE, **changes)


def _tiny_autoencoder() -> AutoencoderTiny:
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=4,
    )


def _dynamic_scheduler(**changes: Any) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, **changes)


def _clip_config(words: int, width: int, max_length: int, hidden_act: str = "quick_gelu") -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        hidden_act=hidden_act,
        intermediate_size=2 * width,
        projection_dim=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=max_length,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )


def _t5_config(words: int) -> T5Config:
    return T5Config(
        vocab_size=words, d_model=_T5_WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"
    )


def _qwen3_config(words: int, layers: int) -> Qwen3Config:
    return Qwen3Config(
        vocab_size=words,
        hidden_size=_QWEN_WIDTH,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
    )


def _clip_tokenizer(max_length: int, words: int = 0) -> CLIPTokenizer:
    letters = sorted(ByteLevel.alphabet())
    vocabulary = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in PROMPT_WORDS:
        left = word[0] + ("</w>" if len(word) == 1 else "")
        for letter in [*word[1:-1], *([word[-1] + "</w>"] if len(word) > 1 else [])]:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
            vocabulary.append(left)
    vocabulary = list(dict.fromkeys(vocabulary))
    vocabulary += [f"filler{number}</w>" for number in range(words - len(vocabulary))]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(vocabulary)},
        merges=merges,
        model_max_length=max_length,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )


def _t5_tokenizer() -> T5Tokenizer:
    pieces = [*(chr(code) for code in range(33, 127)), *("\u2581" + word for word in PROMPT_WORDS)]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *((piece, -3.0) for piece in pieces)]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0)


def _qwen_tokenizer() -> Qwen2Tokenizer:
    letters = sorted(ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<|endoftext|>", *letters])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, chat_template=_CHAT)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    return tokenizer
