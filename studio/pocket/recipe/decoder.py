"""Trains the decoder last, on what the denoiser really makes: features instead of smears.

A latent of a drawing is noised to a middle level and denoised by the model in one step, then decoded and compared with
the clean drawing: by pixels, by the features of the attribute classifier (perceptual loss) and by a discriminator of
patches. The encoder and the cached latents stay as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from studio.diffusion.objectives import Schedule
from studio.pocket.identity import AttributeClassifier, load_classifier
from studio.pocket.recipe.autoencoder import encode, load_autoencoder, middle_weights, psnr, reconstruction_loss
from studio.pocket.recipe.data import open_pictures
from studio.pocket.recipe.denoiser import new_scheduler, new_text_encoder, new_unet, prepare_tokens
from studio.pocket.recipe.files import load_averaged
from studio.pocket.recipe.loop import TimeLimit, TrainingContext, fit
from studio.pocket.recipe.settings import Recipe
from studio.pocket.recipe.sheets import sheet

_REDRAWN = 0.6  # share of the latents that the denoiser has made; the rest are those of the drawings
_EARLIEST, _LATEST = 0.05, 0.45  # share of the schedule to which latents are noised


class Discriminator(nn.Module):
    """Says of each patch of 34 pixels whether it was drawn or decoded."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 2 * width, 4, 2, 1),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 3, 1, 1),
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits ``(B, 1, H / 8, W / 8)`` of pictures in [-1, 1]; above 0 means drawn."""
        return self.layers(pixels)


def perceptual_loss(classifier: AttributeClassifier, made: Tensor, wanted: Tensor) -> Tensor:
    """Compare pictures ``(B, 3, H, W)`` by the first maps of the attribute classifier, each position's features scaled.

    Source: after Zhang et al. 2018, arXiv:1801.03924, section 3.1, with our own net.
    """
    loss = made.new_zeros(())
    h, target = classifier.trunk.stem(made), classifier.trunk.stem(wanted)
    for block in classifier.trunk.blocks[:2]:
        h, target = block(h), block(target)
        loss = loss + (F.normalize(h.float(), dim=1) - F.normalize(target.float(), dim=1)).square().sum(1).mean()
    return loss


def decoder_stage(recipe: Recipe, context: TrainingContext, limit: TimeLimit) -> None:
    """Train the decoder on redrawn latents; write ``DIR/vae``."""
    train, held = open_pictures(context.work, "train"), open_pictures(context.work, "held")
    tokenizer, ids = prepare_tokens(recipe, context, train)
    latents = np.load(context.work / "latents" / "train.npy", mmap_mode="r")
    redraw = Redraw(recipe, context, tokenizer)
    classifier = load_classifier(context.work / "nets" / "attributes").to(context.device)
    vae = load_autoencoder(context)
    scale = float(vae.config["scaling_factor"])
    torch.manual_seed(recipe.seed)
    decoder = vae.decoder.requires_grad_(True).to(memory_format=torch.channels_last)
    discriminator = Discriminator().to(context.device)
    critic = torch.optim.AdamW(discriminator.parameters(), lr=4e-4, betas=(0.5, 0.99))
    middle = middle_weights(recipe.size_px).to(context.device)
    held_pixels = held.batch(np.arange(0, len(held), max(1, len(held) // 64)), context.device)
    with torch.no_grad():
        held_latents = encode(vae, held_pixels, recipe.factor) / scale

    def loss_of() -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(train), (recipe.vae_batch,))
        z = torch.from_numpy(latents[rows.numpy()]).to(context.device).float()
        again = torch.rand(len(rows)) < _REDRAWN
        if again.any():
            z[again] = redraw(z[again], ids[rows[again], 0].long())
        wanted = train.batch(rows, context.device).contiguous(memory_format=torch.channels_last)
        with context.autocast():
            made = decoder((z / scale).contiguous(memory_format=torch.channels_last)).float()
            critic.zero_grad(set_to_none=True)
            # Hinge loss; Lim and Ye 2017, arXiv:1705.02894.
            judged = F.relu(1 - discriminator(wanted)).mean() + F.relu(1 + discriminator(made.detach())).mean()
            judged.backward()
            critic.step()
            adversarial = -discriminator(made).float().mean()
            perceptual = perceptual_loss(classifier, made, wanted)
        pixels = reconstruction_loss(made, wanted, middle)
        parts = {"pixels": pixels, "perceptual": perceptual, "adversarial": adversarial}
        logged = {name: float(part.detach()) for name, part in parts.items()} | {"judged": float(judged.detach())}
        return pixels + perceptual + 0.03 * adversarial, logged

    def observe(step: int, ema: nn.Module) -> dict[str, Any]:
        made = ema(held_latents)
        sheet(torch.stack([held_pixels[:16], made[:16]], 1).flatten(0, 1), 8).save(
            context.work / "decoder" / "reconstructions.png"
        )
        return {"psnr_db": round(float(psnr(made, held_pixels).mean()), 3)}

    ema = fit(
        "decoder",
        decoder,
        loss_of,
        context=context,
        limit=limit,
        lr=recipe.vae_lr / 4,
        batch=recipe.vae_batch,
        flat=0.3,
        warmup_steps=25,
        observe=observe,
    )
    if limit.stop_after is None:
        vae.decoder.load_state_dict(ema.state_dict())
        vae.save_pretrained(context.work / "vae")


class Redraw:
    """Noises latents to middle levels and lets the trained denoiser say what they were.

    Args:
        recipe: of the denoiser.
        context: its work folder.
        tokenizer: that its captions were cut with.
    """

    def __init__(self, recipe: Recipe, context: TrainingContext, tokenizer: CLIPTokenizer) -> None:
        nets = nn.ModuleDict({"unet": new_unet(recipe), "text_encoder": new_text_encoder(recipe, len(tokenizer))})
        load_averaged(context.work / "denoiser", nets).to(context.device)
        self.unet, self.text_encoder, self.context = nets["unet"], nets["text_encoder"], context
        self.schedule = Schedule.from_scheduler(new_scheduler())

    @torch.no_grad()
    def __call__(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Return latents ``(B, C, h, w)`` as the denoiser sees them under captions ``(B, tokens)``."""
        steps = self.schedule.num_train_timesteps
        times = ((_EARLIEST + (_LATEST - _EARLIEST) * torch.rand(len(latents))) * steps).long().to(latents.device)
        noisy = self.schedule.add_noise(latents, torch.randn_like(latents), times)
        with self.context.autocast():
            words = self.text_encoder(tokens.to(latents.device)).last_hidden_state
            said = self.unet(noisy, times, words, return_dict=False)[0]
        return self.schedule.x0(noisy, said.float(), times)
