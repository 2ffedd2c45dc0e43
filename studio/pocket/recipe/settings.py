"""Everything that decides what the embedded base becomes; times and folders are not part of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Sizes, rates and shares of all stages."""

    size_px: int = 128
    """Side of a picture; a multiple of ``factor``."""
    pictures: int = 64_000
    """Pictures to train on."""
    held_out: int = 1_024
    """Pictures of other identities, to measure on."""
    family: tuple[int, int, int] = (8, 4, 4)
    """Pictures of a person, of the person's twin, of a near twin."""
    captions_per_picture: int = 3
    """Texts for each picture; a step takes one at random."""
    factor: int = 8
    """How many times smaller than the picture's the sides of the latents are; a power of two."""
    latent_channels: int = 24
    """Channels of the latents."""
    vae_channels: int = 48
    """Width of the decoder (AutoencoderTiny has one width for all its stages)."""
    vae_decoder_blocks: tuple[int, ...] = (4, 4, 2, 0)
    """Residual blocks of the decoder, from the latents' to full resolution; each stage doubles the sides."""
    vae_batch: int = 12
    """Pictures in a step of the autoencoder."""
    vae_lr: float = 2.5e-3
    """Peak learning rate of the autoencoder."""
    faces_batch: int = 48
    """Pictures in a step of the face detector."""
    faces_lr: float = 2e-3
    """Peak learning rate of the face detector."""
    families: int = 8
    """Families in a step of the identity encoder: a person, the twin and the near twin of each."""
    pictures_per_person: int = 3
    """Pictures of each person in a step of the identity encoder."""
    calibration_subjects: int = 48
    """Held-out subjects of each class noun that fix the likeness scale."""
    identity_lr: float = 1.5e-3
    """Peak learning rate of identity encoder and classifier."""
    vocabulary: int = 2048
    """Tokens of the text encoder at most."""
    prompt_tokens: int = 48
    """Tokens of a prompt, start and end included."""
    text_width: int = 192
    """Width of the text encoder."""
    text_layers: int = 3
    """Layers of the text encoder."""
    unet_channels: tuple[int, ...] = (96, 128, 192)
    """Widths of the UNet, from 16x16 to 4x4; the first stage has no attention."""
    unet_layers: int = 1
    """Residual blocks in each stage of the UNet."""
    denoiser_batch: int = 96
    """Latents in a step of the denoiser."""
    denoiser_lr: float = 1.5e-3
    """Peak learning rate of UNet and text encoder."""
    empty_captions: float = 0.1
    """Share of captions replaced by the empty one, for classifier-free guidance."""
    snr_gamma: float = 5.0
    """Cap on the weight of nearly clean timesteps."""
    seed: int = 0
    """Of initial weights, batches and noise."""
