"""The autoencoder: a linear encoder that is fitted, and a decoder that learns.

The encoder's code are the principal components of patches, ordered from coarse to fine. A learned encoder packs what it
needs to know into channels that are all equally loud, and after 175 thousand pictures a denoiser of this size still
drew smudges for faces; this one shifts with the picture and costs no training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

# Not from diffusers itself: its lazy names are placeholders to a type checker.
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from torch import Tensor, nn

from studio.pocket.recipe.data import Pictures, open_pictures
from studio.pocket.recipe.files import write_atomic
from studio.pocket.recipe.loop import TimeLimit, TrainingContext, fit
from studio.pocket.recipe.settings import Recipe
from studio.pocket.recipe.sheets import sheet

SCALING_FACTOR = 3.0
"""The decoder squeezes its input into (-3, 3); at a third of their size the latents stay where that is harmless."""


@dataclass(frozen=True)
class Patches:
    """A linear code of patches of ``factor`` x ``factor`` pixels, fitted by :func:`fit_patches`."""

    mean: Tensor
    """``(3 * factor**2,)``, in [-1, 1]."""
    code: Tensor
    """``(3 * factor**2, channels)``: latent = (patch - mean) @ code."""
    factor: int


def fit_patches(pixels: Tensor, channels: int, factor: int) -> Patches:
    """Fit the principal components of a picture's patches; the latents' overall deviation becomes 1.

    Each component is scaled by the square root of what would make its deviation 1. Left as they are, fine detail lies
    so far below the coarse forms that it is decided at noise levels which training hardly visits; made all equal,
    nothing tells the denoiser what matters.

    Args:
        pixels: ``(N, 3, H, W)`` in [-1, 1].
        channels: components to keep, at most ``3 * factor**2``.
        factor: side of a patch.
    """
    patches = F.unfold(pixels, factor, stride=factor).mT.reshape(-1, 3 * factor**2).double()
    mean = patches.mean(0)
    variances, axes = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    variances, axes = variances.flip(0)[:channels].clamp(min=1e-8), axes.flip(1)[:, :channels]
    # An eigenvector's sign is the solver's whim: its largest entry is made positive, so that a fit can be repeated.
    axes = axes * torch.sign(axes.gather(0, axes.abs().argmax(0, keepdim=True)))
    scales = variances**-0.25
    scales = scales / (variances * scales**2).mean().sqrt()
    return Patches(mean.float(), (axes * scales).float(), factor)


def new_autoencoder(recipe: Recipe, patches: Patches) -> AutoencoderTiny:
    """Build the autoencoder: a linear encoder that is finished, and a decoder of convolutions and ReLU that learns."""
    stages = len(recipe.vae_decoder_blocks)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(3 * recipe.factor**2,) * stages,
        decoder_block_out_channels=(recipe.vae_channels,) * stages,
        # Without blocks AutoencoderTiny's encoder is a chain of convolutions, without anything between them.
        num_encoder_blocks=(0,) * stages,
        num_decoder_blocks=recipe.vae_decoder_blocks,
        latent_channels=recipe.latent_channels,
        scaling_factor=SCALING_FACTOR,
    )
    # Without norms, PyTorch's own initial weights lose the signal on the way. These keep its size, and each residual
    # block starts as (nearly) nothing but its skip: half the pictures for the same loss.
    for module in vae.decoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in vae.decoder.modules():
        if isinstance(module, AutoencoderTinyBlock):
            nn.init.normal_(module.conv[-1].weight, std=1e-3)
    nn.init.constant_(vae.decoder.layers[-1].bias, 0.5)  # mid grey
    _write_encoder(vae, patches)
    return vae


@torch.no_grad()
def _write_encoder(vae: AutoencoderTiny, patches: Patches) -> None:
    """Write the linear code as AutoencoderTiny's convolutions: all but the last gather patches, the last codes them."""
    layers: Any = vae.encoder.layers
    first, *gathering, last = layers
    for layer in layers:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for colour in range(3):
        first.weight[colour, colour, 1, 1] = 1
    # After each gathering the channels are (row, column, what was there); a 3x3 kernel of stride 2 with a border of 1
    # sees the pixels (2i, 2i + 1) at its taps 1 and 2.
    places = [(0, 0)]
    for layer in gathering:
        known = 3 * len(places)
        for row in (0, 1):
            for column in (0, 1):
                for channel in range(known):
                    layer.weight[(2 * row + column) * known + channel, channel, 1 + row, 1 + column] = 1
        side = int(len(places) ** 0.5)
        places = [(y + side * row, x + side * column) for row in (0, 1) for column in (0, 1) for y, x in places]
    # F.unfold orders a patch's entries by (colour, y, x); the encoder sees pixels in [0, 1] instead of [-1, 1].
    factor = patches.factor
    order = [colour * factor**2 + y * factor + x for y, x in places for colour in range(3)]
    code = patches.code / vae.config["scaling_factor"]
    last.weight[:, :, 1, 1] = 2 * code[order].T
    last.bias.copy_(-(patches.mean + 1) @ code)


def _edges(pictures: Tensor) -> tuple[Tensor, Tensor]:
    return pictures[..., 1:, :] - pictures[..., :-1, :], pictures[..., :, 1:] - pictures[..., :, :-1]


def reconstruction_loss(made: Tensor, wanted: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compare pictures ``(B, 3, H, W)``: Charbonnier (a smooth L1), squares, and L1 of the edges.

    Args:
        made: what the decoder draws.
        wanted: what it should draw.
        weights: of each place, ``(H, W)``, mean 1; ``None`` counts all alike.
    """
    place = torch.ones(made.shape[-2:], device=made.device) if weights is None else weights
    difference = made - wanted
    smooth = ((difference.square() + 1e-4).sqrt() * place).mean()
    squares = (difference.square() * place).mean()
    down, right = ((a - b).abs() for a, b in zip(_edges(made), _edges(wanted), strict=True))
    return smooth + 16 * squares + 0.5 * ((down * place[1:]).mean() + (right * place[:, 1:]).mean())


def psnr(made: Tensor, wanted: Tensor) -> Tensor:
    """Return each picture's peak signal-to-noise ratio, ``(B,)`` in dB, of pictures in [-1, 1] cut to that range."""
    error = (made.clamp(-1, 1) - wanted).float().square().mean((1, 2, 3))
    return 10 * torch.log10(4 / error.clamp(min=1e-10))


def middle_weights(side: int) -> Tensor:
    """Return weights ``(side, side)`` with mean 1 that count the middle, where the face is, four times the rim."""
    place = torch.linspace(-1, 1, side)
    hill = torch.exp(-((place[None, :] / 0.45) ** 2) - ((place[:, None] + 0.1) / 0.5) ** 2)
    weights = 1 + 3 * hill
    return weights / weights.mean()


def prepare_latents(recipe: Recipe, context: TrainingContext) -> AutoencoderTiny:
    """Fit the encoder (or read ``DIR/vae``) and write all pictures' latents to ``DIR/latents``.

    The encoder and with it all cached latents stay as they are, whatever is trained later.
    """
    train = open_pictures(context.work, "train")
    if not (context.work / "vae" / "config.json").exists():
        torch.manual_seed(recipe.seed)
        sample = train.batch(np.arange(0, len(train), max(1, len(train) // 2000)), torch.device("cpu"))
        fresh: Any = new_autoencoder(recipe, fit_patches(sample, recipe.latent_channels, recipe.factor))
        fresh.save_pretrained(context.work / "vae")
    vae = load_autoencoder(context)
    cache_latents(recipe, context, vae, train)
    return vae


@torch.no_grad()
def cache_latents(recipe: Recipe, context: TrainingContext, vae: AutoencoderTiny, train: Pictures) -> None:
    """Write the scaled latents of all pictures to ``DIR/latents/train.npy`` (fp16), unless they are there."""
    path = context.work / "latents" / "train.npy"
    side = recipe.size_px // recipe.factor
    shape = (len(train), recipe.latent_channels, side, side)
    if path.exists() and np.load(path, mmap_mode="r").shape == shape:
        return

    def fill(temporary: Path) -> None:
        latents = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        for first in range(0, len(train), 200):
            rows = np.arange(first, min(first + 200, len(train)))
            latents[rows] = encode(vae, train.batch(rows, context.device), recipe.factor).half().cpu()
        latents.flush()

    write_atomic(path, fill)


@torch.no_grad()
def encode(vae: AutoencoderTiny, pixels: Tensor, factor: int) -> Tensor:
    """Return the scaled latents ``(B, C, H / factor, W / factor)`` of pictures ``(B, 3, H, W)`` in [-1, 1].

    Since the encoder is linear, one product with the code of all unit patches replaces its convolutions, which multiply
    mostly by zero: a hundredth of the time.
    """
    units = torch.eye(3 * factor**2, device=pixels.device).unflatten(1, (3, factor, factor))
    offset = vae.encode(torch.zeros_like(units[:1])).latents[:, :, 0, 0]  # (1, C)
    code = vae.encode(units).latents[:, :, 0, 0] - offset  # (3 * factor**2, C)
    patches = F.unfold(pixels.float(), factor, stride=factor).mT  # (B, h w, 3 * factor**2)
    latents = (patches @ code + offset) * float(vae.config["scaling_factor"])
    return latents.mT.unflatten(2, (pixels.shape[-2] // factor, pixels.shape[-1] // factor))


def load_autoencoder(context: TrainingContext) -> AutoencoderTiny:
    """Read the autoencoder that the cached latents belong to."""
    vae = AutoencoderTiny.from_pretrained(context.work / "vae").to(context.device)
    assert isinstance(vae, AutoencoderTiny)
    return vae.eval().requires_grad_(False)


def autoencoder_stage(recipe: Recipe, context: TrainingContext, limit: TimeLimit) -> None:
    """Prepare the latents and train the decoder on them; write ``DIR/vae``."""
    vae = prepare_latents(recipe, context)
    train, held = open_pictures(context.work, "train"), open_pictures(context.work, "held")
    torch.manual_seed(recipe.seed)
    latents = np.load(context.work / "latents" / "train.npy", mmap_mode="r")
    scale = float(vae.config["scaling_factor"])
    decoder = vae.decoder.requires_grad_(True)
    decoder = decoder.to(memory_format=torch.channels_last)  # 1.4 times faster than NCHW on Zen 4
    middle = middle_weights(recipe.size_px).to(context.device)
    with torch.no_grad():
        held_pixels = held.batch(np.arange(0, len(held), max(1, len(held) // 128)), context.device)
        held_latents = encode(vae, held_pixels, recipe.factor) / scale

    def loss_of() -> tuple[Tensor, dict[str, float]]:
        rows = torch.randint(len(train), (recipe.vae_batch,))
        z = torch.from_numpy(latents[rows.numpy()]).to(context.device).float()
        # The denoiser's latents are never exact; a decoder that has seen noise forgives them.
        z = z + 0.15 * torch.rand(len(rows), 1, 1, 1, device=context.device) * torch.randn_like(z)
        with context.autocast():
            made = decoder((z / scale).contiguous(memory_format=torch.channels_last))
        return reconstruction_loss(made.float(), train.batch(rows, context.device), middle), {}

    def observe(step: int, ema: nn.Module) -> dict[str, Any]:
        made = torch.cat([ema(part) for part in held_latents.split(32)])
        folder = context.work / "autoencoder"
        folder.mkdir(parents=True, exist_ok=True)
        sheet(torch.stack([held_pixels[:16], made[:16]], 1).flatten(0, 1), 8).save(folder / "reconstructions.png")
        return {"psnr_db": round(float(psnr(made, held_pixels).mean()), 3)}

    ema = fit(
        "autoencoder",
        decoder,
        loss_of,
        context=context,
        limit=limit,
        lr=recipe.vae_lr,
        batch=recipe.vae_batch,
        flat=0.3,
        observe=observe,
    )
    if limit.stop_after is None:
        vae.decoder.load_state_dict(ema.state_dict())
        vae.save_pretrained(context.work / "vae")
