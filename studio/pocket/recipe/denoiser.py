"""Trains text encoder and UNet together on cached latents and captions (v-prediction)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from studio.diffusion.losses import squared_error
from studio.diffusion.objectives import Schedule
from studio.pocket.faces import load_detector
from studio.pocket.identity import load_classifier
from studio.pocket.recipe.autoencoder import load_autoencoder, middle_weights, prepare_latents
from studio.pocket.recipe.data import Pictures, open_pictures
from studio.pocket.recipe.files import write_atomic
from studio.pocket.recipe.loop import TimeLimit, TrainingContext, fit
from studio.pocket.recipe.sampling import assemble, followed, found_faces, generate, held_out_prompts
from studio.pocket.recipe.settings import Recipe
from studio.pocket.recipe.sheets import sheet
from studio.pocket.tokenizer import train_tokenizer

NOISE_SCHEDULE: dict[str, Any] = {
    # DDPM's linear schedule ends at a signal of 0.006: practically pure noise, so a generation that starts from pure
    # noise starts where training ended, without the special cases of a zero terminal SNR.
    "num_train_timesteps": 1000,
    "beta_schedule": "linear",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "v_prediction",
}


def new_text_encoder(recipe: Recipe, tokens: int) -> CLIPTextModel:
    """Build CLIP's text tower at our size; like CLIP's, it sees the padding (no attention mask)."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=tokens,
            hidden_size=recipe.text_width,
            intermediate_size=4 * recipe.text_width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=recipe.prompt_tokens,
            projection_dim=recipe.text_width,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def new_unet(recipe: Recipe) -> UNet2DConditionModel:
    """Build the UNet; cross-attention at all resolutions but the first."""
    attending = len(recipe.unet_channels) - 1
    return UNet2DConditionModel(
        sample_size=recipe.size_px // recipe.factor,
        in_channels=recipe.latent_channels,
        out_channels=recipe.latent_channels,
        block_out_channels=recipe.unet_channels,
        layers_per_block=recipe.unet_layers,
        cross_attention_dim=recipe.text_width,
        attention_head_dim=4,  # in diffusers' UNet this is the number of heads
        norm_num_groups=16,
        # Attention among 16x16 positions costs as much as all the rest, and words act well at 8x8 and 4x4.
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * attending),
        up_block_types=(*("CrossAttnUpBlock2D",) * attending, "UpBlock2D"),
    )


def new_scheduler() -> DPMSolverMultistepScheduler:
    """Build the scheduler that ships: second-order DPM-Solver++, good in 20 steps."""
    return DPMSolverMultistepScheduler(**NOISE_SCHEDULE, timestep_spacing="trailing", steps_offset=1)


def v_weights(signal: Tensor, gamma: float) -> Tensor:
    """Weigh the v-loss so that nearly clean timesteps do not dominate and nearly pure noise still counts.

    The v-loss at weight 1 is the x-loss at weight SNR + 1; this caps SNR at ``gamma`` (min-SNR) but keeps the + 1,
    because on such small latents the composition and all colours are decided at SNR far below 1.

    Args:
        signal: coefficient of the clean sample at the timesteps, ``(B,)`` in (0, 1).
        gamma: cap on the SNR, dimensionless; 5 in the paper.

    Source: after Hang et al. 2023, arXiv:2303.09556, section 3.4.
    """
    snr = signal.square() / (1 - signal.square())
    return (snr.clamp(max=gamma) + 1) / (snr + 1)


def tokenise(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> Tensor:
    """Turn prompts into padded token ids ``(B, tokens)`` as Stable Diffusion's pipeline does."""
    output = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )
    ids = output["input_ids"]
    assert isinstance(ids, Tensor)
    return ids


def prepare_tokens(recipe: Recipe, context: TrainingContext, train: Pictures) -> tuple[CLIPTokenizer, Tensor]:
    """Train the tokenizer (or read ``DIR/tokenizer``) and tokenise all captions.

    Returns:
        The tokenizer and ids ``(N, variants, tokens)``, int16.
    """
    folder = context.work / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        trained = train_tokenizer((c for row in train.captions for c in row), recipe.vocabulary, recipe.prompt_tokens)
        trained.save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    cache = context.work / "tokens.npy"
    shape = (len(train), recipe.captions_per_picture, tokenizer.model_max_length)
    if not cache.exists() or np.load(cache, mmap_mode="r").shape != shape:
        flat = [c for row in train.captions for c in row]
        parts = [tokenise(tokenizer, flat[i : i + 10_000]).to(torch.int16) for i in range(0, len(flat), 10_000)]
        ids = torch.cat(parts).unflatten(0, (len(train), -1)).numpy()

        def write(path: Path) -> None:
            with path.open("wb") as file:
                np.save(file, ids)

        write_atomic(cache, write)
    return tokenizer, torch.from_numpy(np.load(cache))


def spread_timesteps(count: int, steps: int) -> Tensor:
    """Draw timesteps ``(count,)``, evenly spread within the batch: the loss is less noisy than with independent ones.

    Fewer of them lie at the noisy end, where half of the schedule's steps decide little more than the mean colour.
    """
    spread = ((torch.arange(count) + torch.rand(count)) / count) ** 1.5
    return (spread * steps).long().clamp(max=steps - 1)


def denoiser_stage(recipe: Recipe, context: TrainingContext, limit: TimeLimit) -> None:
    """Train UNet and text encoder together on cached latents and captions."""
    prepare_latents(recipe, context)
    train = open_pictures(context.work, "train")
    tokenizer, ids = prepare_tokens(recipe, context, train)
    empty = tokenise(tokenizer, [""])[0]
    latents = np.load(context.work / "latents" / "train.npy")
    torch.manual_seed(recipe.seed)
    unet, text_encoder = new_unet(recipe), new_text_encoder(recipe, len(tokenizer))
    nets = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    if context.device.type == "cpu":
        # On so few positions the CPU's fused attention is slow backwards: plain products make a step 1.45 times faster.
        unet.set_attn_processor(AttnProcessor())
        text_encoder.set_attn_implementation("eager")
    schedule = Schedule.from_scheduler(new_scheduler())
    middle = middle_weights(latents.shape[-1]).to(context.device)[None, None]

    def loss_of() -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(train), (recipe.denoiser_batch,))
        x = torch.from_numpy(latents[rows.numpy()]).to(context.device).float()  # (B, C, h, w)
        tokens = ids[rows, torch.randint(ids.shape[1], (len(rows),))].long()  # (B, tokens)
        tokens[torch.rand(len(rows)) < recipe.empty_captions] = empty
        times = spread_timesteps(len(rows), schedule.num_train_timesteps).to(context.device)
        noise = torch.randn_like(x)
        with context.autocast():
            words = text_encoder(tokens.to(context.device)).last_hidden_state
            made = unet(schedule.add_noise(x, noise, times), times, words, return_dict=False)[0]
        errors = squared_error(made, schedule.target(x, noise, times), middle)
        weights = v_weights(schedule.signal[times.cpu()].to(context.device), recipe.snr_gamma)
        return (errors * weights).mean(), {"v_error": float(errors.detach().mean())}

    def observe(step: int, ema: nn.Module) -> dict[str, Any]:
        assert isinstance(ema, nn.ModuleDict)
        unet, text_encoder = ema["unet"], ema["text_encoder"]
        assert isinstance(unet, UNet2DConditionModel) and isinstance(text_encoder, CLIPTextModel)
        pipeline = assemble(load_autoencoder(context), text_encoder, tokenizer, unet, new_scheduler())
        prompts, wanted = held_out_prompts(32)
        made = generate(pipeline, prompts)
        sheet(made, 8).save(context.work / "denoiser" / f"samples-{step:08d}.png")
        nets_folder, result = context.work / "nets", {}
        if (nets_folder / "attributes").exists():
            result["followed"] = followed(load_classifier(nets_folder / "attributes"), made, wanted)
        if (nets_folder / "faces").exists():
            result["faces"] = found_faces(load_detector(nets_folder / "faces"), made)
        return result

    fit(
        "denoiser",
        nets,
        loss_of,
        context=context,
        limit=limit,
        lr=recipe.denoiser_lr,
        batch=recipe.denoiser_batch,
        flat=0.4,
        observe=observe,
    )
