"""The x4 upscaler with a prompt, on a tiny pipeline with random weights."""

import numpy as np
import pytest
import torch

from studio.core.errors import InputError, MissingExtraError
from studio.finishing.upscaling.diffusion import HUB_ID, DiffusionUpscaler

PICTURE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tiny_base, tmp_path_factory):
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DDPMScheduler,
        StableDiffusionUpscalePipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextModel, CLIPTokenizer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8,
            in_channels=7,
            out_channels=4,
            layers_per_block=1,
            block_out_channels=(32, 64),
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=4,
            norm_num_groups=8,
            num_class_embeds=1000,
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 8),
            latent_channels=4,
            norm_num_groups=4,
            scaling_factor=0.08333,
        )
    path = tmp_path_factory.mktemp("upscaler") / "tiny"
    StableDiffusionUpscalePipeline(
        vae=vae,
        text_encoder=CLIPTextModel.from_pretrained(tiny_base, subfolder="text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(tiny_base, subfolder="tokenizer"),
        unet=unet,
        low_res_scheduler=DDPMScheduler(),
        scheduler=DDIMScheduler(),
    ).save_pretrained(path)
    return path


def upscaler(folder, **more):
    settings = {"prompt": "a photo", "seed": 1, "num_inference_steps": 2, "guidance_scale": 4.0, **more}
    return DiffusionUpscaler(str(folder), device=torch.device("cpu"), **settings)


def test_four_times_larger_whatever_the_size_and_the_same_again(folder):
    ticks = []
    made = upscaler(folder).enlarge(PICTURE, tick=lambda: ticks.append(1))
    assert made.shape == (48, 80, 3) and len(ticks) == 2
    assert np.array_equal(upscaler(folder).enlarge(PICTURE, tick=lambda: None), made)
    assert not np.array_equal(upscaler(folder, seed=2).enlarge(PICTURE, tick=lambda: None), made)


def test_a_picture_that_is_too_large_is_refused_before_anything_is_computed(folder):
    with pytest.raises(InputError, match="1024 or 2048"):
        upscaler(folder).enlarge(np.zeros((8, 520, 3), np.uint8), tick=lambda: None)


def test_what_a_tick_raises_ends_the_work(folder):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscaler(folder).enlarge(PICTURE, tick=stop)


def test_absent_weights_and_wrong_folders_are_refused_kindly(tmp_path):
    with pytest.raises(MissingExtraError, match="RAIL"):
        upscaler(HUB_ID)
    with pytest.raises(InputError, match="no folder of the x4 upscaler"):
        upscaler(tmp_path)
