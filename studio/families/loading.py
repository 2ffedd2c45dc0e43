"""What the families share in reading a base's folder and handing its parts to diffusers."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import diffusers.schedulers
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, AutoencoderKLQwenImage, AutoencoderTiny, DiffusionPipeline
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoTokenizer
from transformers.utils import logging as transformers_logging

from studio.compute.device import Placement
from studio.compute.quantization import quantized
from studio.core.catalog import FamilySpec
from studio.core.errors import InputError, Problem
from studio.core.train_config import Quantization
from studio.diffusion.objectives import Schedule
from studio.families.base import Conditioning, Parts
from studio.families.words import MOST_PIECES, pieces_of

AUTOENCODERS: dict[str, Any] = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderKLFlux2": AutoencoderKLFlux2,
    "AutoencoderKLQwenImage": AutoencoderKLQwenImage,
    "AutoencoderTiny": AutoencoderTiny,
}
_GUIDED = 1.0  # up to this guidance_scale diffusers leaves negative prompts alone


def load_parts(
    folder: Path,
    spec: FamilySpec,
    *,
    denoiser: Any,
    text_encoders: Sequence[Any],
    tokenizers: Sequence[Any],
    dtype: torch.dtype,
    device: torch.device,
    quantization: Quantization = "none",
) -> Parts:
    """Read a local diffusers folder in safetensors, frozen and in evaluation mode.

    Args:
        folder: holds ``model_index.json`` and one folder for each part.
        spec: of the family that asks.
        denoiser: diffusers' class.
        text_encoders: transformers' classes of text_encoder, text_encoder_2 ...
        tokenizers: likewise, as many.
        dtype: of denoiser and text encoders; the autoencoder is read in float32, which it needs to encode.
        device: of text encoders and autoencoder. The denoiser stays on the CPU.
        quantization: of the denoiser's linear layers.

    Raises:
        InputError: another family's folder, or files are missing or damaged.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        if index.get("_class_name") != spec.pipeline:
            raise unusable(folder, f"contains a {index.get('_class_name')}, not a {spec.pipeline}")
        _require_known_latents(folder, spec)
        scheduler_class = getattr(diffusers.schedulers, index["scheduler"][1])
        scheduler = scheduler_class.from_pretrained(folder / "scheduler", local_files_only=True)
        module = _whole(denoiser, folder / spec.denoiser, torch_dtype=dtype, **quantized(quantization, dtype))
        encoder_folders = [folder / name for name in _numbered("text_encoder", len(text_encoders))]
        tokenizer_folders = [folder / name for name in _numbered("tokenizer", len(tokenizers))]
        return Parts(
            denoiser=module.requires_grad_(False).eval(),
            vae=autoencoder(folder, torch.float32, device),
            text_encoders=[
                _text_encoder(kind, path, dtype, device)
                for kind, path in zip(text_encoders, encoder_folders, strict=True)
            ],
            tokenizers=[
                kind.from_pretrained(path, local_files_only=True)
                for kind, path in zip(tokenizers, tokenizer_folders, strict=True)
            ],
            scheduler=scheduler,
            schedule=Schedule.from_scheduler(scheduler),
            device=device,
            dtype=dtype,
            folder=folder,
            settings=_settings(index),
        )
    except (OSError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise unusable(folder, f"cannot be read ({reason[:200]})") from error


def _require_known_latents(folder: Path, spec: FamilySpec) -> None:
    """Refuse an autoencoder whose pipeline would not undo what it says of its latents.

    Raises:
        InputError: it has a mean or deviation of its own and the pipeline knows none.
    """
    config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    given = config.get("latents_mean") or config.get("latents_std")
    if given and config["_class_name"] == "AutoencoderKL" and not spec.normalised_latents:
        raise unusable(folder, f"has an autoencoder with latents_mean and latents_std, which {spec.pipeline} ignores")


def tokenizers_of(folder: Path, spec: FamilySpec) -> list[Any]:
    """Read the tokenizers of a base and nothing else of it.

    Raises:
        InputError: they are missing or damaged.
    """
    try:
        names = _numbered("tokenizer", len(spec.prompt_tokens))
        return [AutoTokenizer.from_pretrained(folder / name, local_files_only=True) for name in names]
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise unusable(folder, f"its tokenizers cannot be read ({' '.join(str(error).split())[:200]})") from error


def parts_of(pipeline: Any, spec: FamilySpec) -> Parts:
    """Split a loaded pipeline, with its adapter, into the parts that a family works on."""
    components: Mapping[str, Any] = pipeline.components
    return Parts(
        denoiser=components[spec.denoiser],
        vae=components["vae"],
        text_encoders=_present(components, "text_encoder"),
        tokenizers=_present(components, "tokenizer"),
        scheduler=pipeline.scheduler,
        schedule=Schedule.from_scheduler(pipeline.scheduler),
        device=pipeline._execution_device,  # pipeline.device is the CPU while parts wait there for their turn
        dtype=components[spec.denoiser].dtype,
        folder=Path(pipeline.config.get("_name_or_path") or "."),
        settings=_settings(pipeline.config),
    )


def assemble(pipeline_class: Any, parts: Parts, spec: FamilySpec, **settings: Any) -> Any:
    """Return diffusers' pipeline over these parts, with the progress bar off.

    The autoencoder is read again from the folder if it was dropped or is kept in float32 for encoding; dropped text
    encoders stay out, because those of large bases would not fit beside the denoiser.

    Args:
        pipeline_class: diffusers' class.
        parts: a loaded base.
        spec: of the family.
        settings: further arguments of the pipeline, over those of model_index.json.
    """
    vae: Any = parts.vae
    if vae is None or vae.dtype != parts.dtype:
        vae = autoencoder(parts.folder, parts.dtype, parts.device)
    return _build(pipeline_class, parts, {spec.denoiser: parts.denoiser, "vae": vae, **settings})


def text_pipeline(pipeline_class: Any, parts: Parts, spec: FamilySpec, **settings: Any) -> Any:
    """Return a pipeline that can only encode prompts, so that training and generation encode them alike."""
    return _build(pipeline_class, parts, {spec.denoiser: None, "vae": None, **settings})


def _build(pipeline_class: Any, parts: Parts, modules: Mapping[str, Any]) -> Any:
    count = len(parts.tokenizers)
    encoders: list[Any] = [*parts.text_encoders] or [None] * count
    pipeline = pipeline_class(
        scheduler=parts.scheduler,
        **dict(zip(_numbered("text_encoder", count), encoders, strict=True)),
        **dict(zip(_numbered("tokenizer", count), parts.tokenizers, strict=True)),
        **{**parts.settings, **modules},
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def part_bytes(pipeline: Any) -> dict[str, int]:
    """Return the size of each part's weights, by name."""
    return {
        name: sum(tensor.nbytes for tensor in (*part.parameters(), *part.buffers()))
        for name, part in pipeline.components.items()
        if isinstance(part, nn.Module)
    }


def move_parts(pipeline: Any, device: torch.device) -> None:
    """Move all weights of a pipeline that lies on one device, also to one where it could not draw."""
    for part in pipeline.components.values():
        if isinstance(part, nn.Module):
            part.to(device)


def place(pipeline: Any, device: torch.device, placement: Placement) -> None:
    """Put a pipeline where it will draw. Its weights must not change afterwards, unless all of it is on the device."""
    if placement == "device":
        pipeline.to(device)
    elif placement == "model_offload":
        pipeline.enable_model_cpu_offload(device=device)
    else:
        # Streams copy the next layer while this one computes; pinning all weights at once could take all memory.
        streams = device.type == "cuda"
        pipeline.enable_group_offload(
            onload_device=device, offload_type="leaf_level", use_stream=streams, low_cpu_mem_usage=streams
        )


def scaled_latents(parts: Parts, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
    """Turn pixels ``(B, 3, H, W)`` in [-1, 1] into ``(latents - shift) * scale``, ``(B, C, h, w)`` float32.

    Where the autoencoder says them, each channel's mean and deviation take the place of the shift, as in the pipeline.
    """
    latents = raw_latents(parts, pixels, generator)
    config = vae_of(parts).config
    if config.get("latents_mean") and config.get("latents_std"):
        mean, deviation = (
            torch.tensor(values, device=latents.device).view(1, -1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return ((latents - mean) * config.scaling_factor / deviation).float()
    shift = config.get("shift_factor") or 0.0
    return ((latents - shift) * config.scaling_factor).float()


def raw_latents(parts: Parts, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
    """Turn pixels into latents as the autoencoder says them, unscaled.

    Without a generator the mean of the latent distribution is taken; AutoencoderTiny has no distribution.
    """
    vae = vae_of(parts)
    encoded = vae.encode(pixels.to(parts.device, vae.dtype))
    if not hasattr(encoded, "latent_dist"):
        return encoded.latents
    distribution = encoded.latent_dist
    return distribution.mode() if generator is None else distribution.sample(generator)


def vae_of(parts: Parts) -> Any:
    """Return the autoencoder; one that was dropped is read again and kept."""
    if parts.vae is None:
        parts.vae = autoencoder(parts.folder, torch.float32, parts.device)
    return parts.vae


def padded(rows: Sequence[Tensor], length: int) -> dict[str, Tensor]:
    """Stack prompts of different lengths, so that they can be kept and batched.

    Args:
        rows: B embeddings ``(l, D)`` with l <= length.
        length: L.

    Returns:
        ``prompt_embeds`` ``(B, L, D)``, zeros behind each prompt, and ``prompt_embeds_mask`` ``(B, L)`` int64.
    """
    embeds = torch.stack([nn.functional.pad(row, (0, 0, 0, length - len(row))) for row in rows])
    lengths = torch.tensor([len(row) for row in rows], device=embeds.device)
    mask = torch.arange(length, device=embeds.device)[None] < lengths[:, None]
    return {"prompt_embeds": embeds, "prompt_embeds_mask": mask.long()}


def embeds_inputs(conditioning: Conditioning, negative: Conditioning, guidance_scale: float) -> dict[str, Any]:
    """Return ``Family.pipeline_inputs`` for pipelines that take conditioning by its own names and guide by it."""
    guided = {f"negative_{name}": rows for name, rows in negative.items()} if guidance_scale > _GUIDED else {}
    return {**conditioning, **guided, "guidance_scale": guidance_scale}


def prefixed(state: Mapping[str, Tensor], spec: FamilySpec) -> dict[str, Tensor]:
    """Rename ``denoiser.`` as ``load_lora_weights`` expects it; text encoders are called alike on both sides."""
    exported = {}
    for name, tensor in state.items():
        part, _, rest = name.partition(".")
        exported[f"{spec.denoiser if part == 'denoiser' else part}.{rest}"] = tensor.contiguous()
    return exported


def autoencoder(folder: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    """Read a base's autoencoder of whichever class, frozen and in evaluation mode."""
    config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
    kind = AUTOENCODERS[config["_class_name"]]
    return _whole(kind, folder / "vae", torch_dtype=dtype).to(device).requires_grad_(False).eval()


def unusable(folder: Path, message: str) -> InputError:
    """Return the error for a folder that is no base of the family."""
    return InputError.of(
        [Problem(f"base {folder.name}", message, "choose a complete diffusers folder in safetensors", "bad_base")]
    )


def _text_encoder(kind: Any, path: Path, dtype: torch.dtype, device: torch.device) -> nn.Module:
    with _without_progress_bar():
        encoder = _whole(kind, path, dtype=dtype, ignore_mismatched_sizes=True)
    return encoder.to(device).requires_grad_(False).eval()


def _whole(kind: Any, folder: Path, **arguments: Any) -> Any:
    """Read one part; what its files lack, both libraries would fill with random numbers and a warning.

    Raises:
        ValueError: weights are missing or of other shapes.
    """
    part, found = kind.from_pretrained(
        folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **arguments
    )
    lost = sorted({*found["missing_keys"], *(row[0] for row in found["mismatched_keys"])})
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise ValueError(f"{folder.name} has no matching weights for {lost[0]}{more}")
    return part


def _settings(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a pipeline's configuration says beside its parts."""
    return {name: value for name, value in index.items() if name[0] != "_" and not isinstance(value, list | tuple)}


def _present(components: Mapping[str, Any], name: str) -> list[Any]:
    found = (components.get(key) for key in _numbered(name, 4))
    return [component for component in found if component is not None]


def _numbered(name: str, count: int) -> list[str]:
    """Return diffusers' names: text_encoder, text_encoder_2 ..."""
    return [name if number == 1 else f"{name}_{number}" for number in range(1, count + 1)]


@contextmanager
def _without_progress_bar() -> Iterator[None]:
    """Keep transformers from drawing a bar on the terminal for a second of loading."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


class DiffusersFamily:
    """What most families do alike; a family declines any of it with a method of its own."""

    denoiser: ClassVar[Any]
    """diffusers' class of the UNet or transformer."""
    text_encoders: ClassVar[tuple[Any, ...]]
    """transformers' classes of text_encoder, text_encoder_2 ..."""
    tokenizers: ClassVar[tuple[Any, ...]]
    """Likewise, as many."""
    pipeline_class: ClassVar[Any]
    """diffusers' class that generates."""
    pipeline_settings: ClassVar[Mapping[str, Any]] = {}
    """Further arguments of that class."""

    def __init__(self, spec: FamilySpec) -> None:
        self.spec = spec

    def load(
        self, folder: Path, *, dtype: torch.dtype, device: torch.device, quantization: Quantization = "none"
    ) -> Parts:
        """See ``Family.load``."""
        return load_parts(
            folder,
            self.spec,
            denoiser=self.denoiser,
            text_encoders=self.text_encoders,
            tokenizers=self.tokenizers,
            dtype=dtype,
            device=device,
            quantization=quantization,
        )

    def pieces(self, parts: Parts, prompt: str) -> int:
        """See ``Family.pieces``."""
        return min(MOST_PIECES, len(pieces_of(prompt, parts.tokenizers))) if self.spec.in_pieces else 1

    def encode_prompts(self, parts: Parts, prompts: Sequence[str]) -> Conditioning:
        """See ``Family.encode_prompts``; all have as many pieces as the longest of them."""
        return self.encode_in_pieces(parts, prompts, max(self.pieces(parts, prompt) for prompt in prompts))

    def encode_in_pieces(self, parts: Parts, prompts: Sequence[str], count: int) -> Conditioning:
        """See ``Family.encode_in_pieces``; the prompts of most families are never divided."""
        return self.encode_prompts(parts, prompts)

    def encode_images(self, parts: Parts, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """See ``Family.encode_images``; latents are ``(B, C, H/8, W/8)``."""
        return scaled_latents(parts, pixels, generator)

    def pipeline(self, parts: Parts) -> DiffusionPipeline:
        """See ``Family.pipeline``."""
        return assemble(self.pipeline_class, parts, self.spec, **self.pipeline_settings)

    def pipeline_inputs(
        self, conditioning: Conditioning, negative: Conditioning, guidance_scale: float
    ) -> dict[str, Any]:
        """See ``Family.pipeline_inputs``."""
        return embeds_inputs(conditioning, negative, guidance_scale)

    def export(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See ``Family.export``."""
        return prefixed(state, self.spec)
