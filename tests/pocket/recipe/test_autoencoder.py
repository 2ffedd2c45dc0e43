"""The encoder is the linear code that was fitted, and the decoder learns without moving the latents."""

import shutil

import numpy as np
import pytest
import torch

from studio.pocket.recipe.autoencoder import (
    autoencoder_stage,
    encode,
    fit_patches,
    load_autoencoder,
    middle_weights,
    new_autoencoder,
    psnr,
)
from studio.pocket.recipe.loop import TimeLimit, TrainingContext
from studio.pocket.recipe.settings import Recipe


def test_convolutions_of_the_encoder_are_the_linear_code_that_was_fitted(tiny: Recipe) -> None:
    torch.manual_seed(0)
    pixels = torch.rand(6, 3, 32, 32) * 2 - 1
    patches = fit_patches(pixels, tiny.latent_channels, tiny.factor)
    vae = new_autoencoder(tiny, patches)
    with torch.no_grad():
        latents = vae.encode(pixels).latents * vae.config["scaling_factor"]
    blocks = pixels.unfold(2, 8, 8).unfold(3, 8, 8)  # (B, 3, 4, 4, 8, 8)
    flat = blocks.permute(0, 2, 3, 1, 4, 5).reshape(6, 4, 4, 192)
    wanted = ((flat - patches.mean) @ patches.code).permute(0, 3, 1, 2)
    assert torch.allclose(latents, wanted, atol=1e-5)
    assert torch.allclose(encode(vae, pixels, tiny.factor), wanted, atol=1e-5)
    assert latents.std().item() == pytest.approx(1, rel=0.02)


def test_cached_latents_are_those_of_the_autoencoder_that_ships(tiny: Recipe, trained: TrainingContext) -> None:
    from studio.pocket.recipe.data import open_pictures

    vae, rows = load_autoencoder(trained), np.arange(3)
    latents = vae.encode(open_pictures(trained.work, "train").batch(rows, trained.device)).latents
    cached = torch.from_numpy(np.load(trained.work / "latents" / "train.npy")[rows]).float()
    assert torch.allclose(latents * vae.config["scaling_factor"], cached, atol=0.01)


def test_extended_autoencoder_changes_the_decoder_and_leaves_the_latents_alone(
    tiny: Recipe, trained: TrainingContext, fresh: TrainingContext
) -> None:
    for name in ("vae", "latents", "autoencoder"):
        shutil.copytree(trained.work / name, fresh.work / name)
    stamp = (fresh.work / "latents" / "train.npy").stat().st_mtime_ns
    autoencoder_stage(tiny, fresh, TimeLimit(steps=4, observe_s=float("inf")))
    before, after = load_autoencoder(trained).state_dict(), load_autoencoder(fresh).state_dict()
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"decoder"}
    assert (fresh.work / "latents" / "train.npy").stat().st_mtime_ns == stamp


def test_middle_of_a_picture_counts_more_than_its_corners() -> None:
    weights = middle_weights(16)
    assert weights.mean().item() == pytest.approx(1)
    assert weights[7, 8] > 1.5 * weights[0, 0]


def test_psnr_of_known_errors() -> None:
    wanted = torch.zeros(2, 3, 4, 4)
    made = torch.stack([torch.full((3, 4, 4), 0.2), torch.full((3, 4, 4), 2.0)])  # the second is cut to 1
    assert psnr(made, wanted).tolist() == pytest.approx([20.0, 6.0206], abs=1e-3)


def test_reconstructions_can_be_looked_at(tiny: Recipe, trained: TrainingContext, fresh: TrainingContext) -> None:
    for name in ("vae", "latents"):
        shutil.copytree(trained.work / name, fresh.work / name)
    autoencoder_stage(tiny, fresh, TimeLimit(steps=1, observe_s=1e6))
    assert (fresh.work / "autoencoder" / "reconstructions.png").exists()
