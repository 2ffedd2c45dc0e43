"""Our names against the readers of diffusers, which go the other way."""

import math

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import _convert_non_diffusers_lora_to_diffusers
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from studio.core.errors import InputError
from studio.methods.formats import open_clip_to_original, portable_name, to_kohya, unet_to_original, vae_to_original


def unet(**changes: object) -> UNet2DConditionModel:
    given: dict = {
        "sample_size": 8,
        "layers_per_block": 2,
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 8,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**given, **changes})


XL = {
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 32,
    "transformer_layers_per_block": (1, 2, 1),
}


@pytest.mark.parametrize("changes", [{}, {"layers_per_block": 1}, XL], ids=["sd", "one layer", "sdxl"])
def test_diffusers_reads_our_unet_back_name_for_name(changes: dict) -> None:
    model = unet(**changes)
    state = model.state_dict()
    original = unet_to_original(state, model.config.layers_per_block)
    back = convert_ldm_unet_checkpoint(dict(original), model.config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_the_unet_has_the_names_that_tell_stable_diffusion_1_apart() -> None:
    original = unet_to_original(unet().state_dict(), 2)
    assert "model.diffusion_model.input_blocks.0.0.weight" in original
    assert "model.diffusion_model.input_blocks.3.0.op.weight" in original
    assert "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight" in original
    assert "model.diffusion_model.output_blocks.2.1.conv.weight" in original  # a level without attention
    assert "model.diffusion_model.output_blocks.5.2.conv.weight" in original  # a level with it


def test_diffusers_reads_our_autoencoder_back_name_for_name() -> None:
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 8, 8),
        norm_num_groups=4,
    )
    state = model.state_dict()
    original = vae_to_original(state)
    assert original["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (8, 8, 1, 1)
    back = convert_ldm_vae_checkpoint(dict(original), model.config)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_diffusers_reads_our_open_clip_back_name_for_name() -> None:
    model = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=8,
            projection_dim=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    state = model.state_dict()
    original = open_clip_to_original(state, "conditioner.embedders.1.model.")
    assert original["conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"].shape == (24, 8)
    back = convert_open_clip_checkpoint(model, dict(original), prefix="conditioner.embedders.1.model.")
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def lora(*modules: str, rank: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"{module}.lora_{which}.weight": torch.randn((rank, 8) if which == "A" else (8, rank), generator=generator)
        for module in modules
        for which in "AB"
    }


@pytest.mark.parametrize(
    ("settings", "alpha"),
    [
        ({}, 4),
        ({"unet.lora_alpha": 8}, 8),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 16),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 2}}, 2),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"ttn1.to_q": 2}}, 8),
    ],
)
def test_alpha_over_rank_is_the_scale_that_was_trained(settings: dict, alpha: float) -> None:
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    found = to_kohya(lora(name), settings, "sd")
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    assert set(found) == {f"{key}.alpha", f"{key}.lora_down.weight", f"{key}.lora_up.weight"}
    assert math.isclose(float(found[f"{key}.alpha"]), alpha)


def test_xl_has_two_text_encoders_and_diffusers_reads_both_back() -> None:
    encoders = ("text_encoder.encoder.layers.0.self_attn.q_proj", "text_encoder_2.text_model.encoder.layers.0.mlp.fc1")
    tensors = lora("unet.mid_block.attentions.0.proj_in", *encoders)
    settings = {"unet.lora_alpha": 2, "text_encoder.lora_alpha": 8, "text_encoder_2.lora_alpha": 16}
    found = to_kohya(tensors, settings, "sdxl")
    assert "lora_te1_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight" in found
    assert "lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_up.weight" in found
    back, alphas = _convert_non_diffusers_lora_to_diffusers(dict(found))
    assert len(back) == 6
    assert sorted(alphas.values()) == [2, 8, 16]


def test_a_layer_without_a_name_is_refused() -> None:
    for name in ("transformer.blocks.0.attn.lora_A.weight", "unet.mid_block.lokr_w1"):
        with pytest.raises(InputError, match="no name in kohya's layout"):
            to_kohya({name: torch.zeros(4, 8)}, {}, "sd")


def test_names_are_those_that_every_diffusers_reads() -> None:
    assert portable_name("text_encoder_2.encoder.layers.0.mlp.fc1.lora_A.weight").startswith(
        "text_encoder_2.text_model.e"
    )
    for name in ("unet.mid_block.attentions.0.proj_in.lora_A.weight", "text_encoder.text_model.encoder.layers.0.x"):
        assert portable_name(name) == name
