"""Pictures from the base, and whether they show what was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

# Not from diffusers itself: its lazy names are placeholders to a type checker.
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from studio.pocket.faces import LANDMARKS, FaceDetector
from studio.pocket.identity import AttributeClassifier
from studio.pocket.recipe.data import HEADS
from studio.pocket.renderer import captions, words

FOLLOWED = ("background", "accessory", "hair_colour", "clothing_colour", "expression")
"""The attributes that a generated picture must follow (the report's hard targets)."""


def assemble(
    vae: AutoencoderTiny,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    unet: UNet2DConditionModel,
    scheduler: DPMSolverMultistepScheduler,
) -> StableDiffusionPipeline:
    """Put the parts into Stable Diffusion's pipeline."""
    # Its annotations know neither AutoencoderTiny nor that the safety checker is optional.
    parts: dict[str, Any] = {"vae": vae, "scheduler": scheduler, "safety_checker": None, "feature_extractor": None}
    pipeline = StableDiffusionPipeline(
        text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, requires_safety_checker=False, **parts
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def generate(
    pipeline: StableDiffusionPipeline,
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = 20,
    guidance: float = 3.0,
    batch: int = 32,
) -> Tensor:
    """Generate one picture for each prompt.

    Returns:
        Pictures ``(B, 3, H, W)``, float32 in [-1, 1], on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    made = []
    for first in range(0, len(prompts), batch):
        output = pipeline(
            list(prompts[first : first + batch]),
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=generator,
            output_type="pt",
        )
        made.append(output.images.float().cpu() * 2 - 1)
    return torch.cat(made)


def held_out_prompts(count: int) -> tuple[list[str], dict[str, list[str]]]:
    """Return prompts that name all followed attributes at once, and what each asks for.

    The values are drawn independently and evenly; a combination of them is hardly ever in the training pictures.
    """
    draw = np.random.default_rng(words.HELD_OUT_SEED)
    prompts, wanted = [], {head: [""] * count for head in FOLLOWED}
    for i in range(count):
        noun = str(draw.choice(HEADS["class_noun"]))
        asked = {head: str(draw.choice(HEADS[head])) for head in FOLLOWED}
        for head, value in asked.items():
            wanted[head][i] = value
        prompts.append(captions.prompt_for(noun, **asked))
    return prompts, wanted


def followed(
    classifier: AttributeClassifier, pictures: Tensor, wanted: Mapping[str, Sequence[str]]
) -> dict[str, float]:
    """Return the share of pictures ``(B, 3, H, W)`` in which the classifier finds what was asked for."""
    found: dict[str, list[str]] = {head: [] for head in wanted}
    for part in pictures.split(64):
        for head, names in classifier.classify(part).items():
            if head in found:
                found[head] += names
    return {
        head: round(sum(a == b for a, b in zip(found[head], wanted[head], strict=True)) / len(pictures), 4)
        for head in wanted
    }


def found_faces(detector: FaceDetector, pictures: Tensor, accessories: Sequence[str] | None = None) -> dict[str, float]:
    """Return how whole the faces of pictures ``(B, 3, H, W)`` are, as the detector sees them.

    Args:
        detector: must not have trained what drew the pictures.
        pictures: generated or rendered.
        accessories: what each picture was asked to show; those that cover an eye do not count for the landmarks.

    Returns:
        ``readable``: share with a readable face; ``complete``: share, of the pictures with bare eyes, in which both
        eyes, nose and mouth are found; and the share for each landmark.
    """
    faces = [detector.find(part) for part in pictures.split(64)]
    readable = torch.cat([f.readable for f in faces]).cpu()
    seen = (torch.cat([f.confidence for f in faces]).cpu() > 0.5) & readable[:, None]
    bare = torch.tensor([a not in ("sunglasses", "eye patch") for a in accessories or ["none"] * len(pictures)])
    seen = seen[bare]
    result = {"readable": readable.float().mean(), "complete": seen.all(1).float().mean()}
    result |= {name: seen[:, i].float().mean() for i, name in enumerate(LANDMARKS)}
    return {name: round(float(value), 4) for name, value in result.items()}


def frechet_distance(features: Tensor, reference: Tensor) -> float:
    """Return the Frechet distance between two sets of features, ``(N, F)`` and ``(M, F)``, taken as normal.

    Source: Heusel et al. 2017, arXiv:1706.08500, equation 6.
    """
    a, b = features.double(), reference.double()
    difference = (a.mean(0) - b.mean(0)).square().sum()
    one, other = torch.cov(a.T), torch.cov(b.T)
    # The product of two covariances has the eigenvalues of a symmetric, positive matrix: its root's trace is their sum.
    values, axes = torch.linalg.eigh(one)
    root = axes * values.clamp(min=0).sqrt() @ axes.T
    mixed = torch.linalg.eigvalsh(root @ other @ root).clamp(min=0).sqrt().sum()
    return float(difference + one.trace() + other.trace() - 2 * mixed)
