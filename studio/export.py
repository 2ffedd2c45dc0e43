"""The verb ``export``: writes a finished run's adapter in another program's format, with proof that it works there.

The steps: refuse what is impossible -> draw with the trained pipeline -> write -> read back in a fresh process and
compare (``studio.exporting.certificate``) -> move into place, DONE. The formats: ``diffusers`` and ``kohya`` (ComfyUI,
A1111) for the adapter alone, ``merged`` (a diffusers folder) and ``single_file`` (an original checkpoint of Stable
Diffusion or XL) for base and adapter in one. No file names a photo, a caption or a path of this machine.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from studio import __version__
from studio.bases.resolve import Base, resolve_base
from studio.bases.tensorfile import Header, read_header, write_safetensors
from studio.compute.device import cpu_threads, pick_device, pick_dtype
from studio.core import folder as output
from studio.core import records
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME, AdapterInfo, adapter_folder, adapter_sha256, read_info
from studio.core.config import ExportConfig
from studio.core.domain import ExportResult, OnEvent, ShouldStop, ignore_event, never_stop
from studio.core.errors import InputError, Problem
from studio.core.files import full_disk_in_words, write_json
from studio.core.folder import DONE_NAME, REQUEST_NAME
from studio.core.packs import fill
from studio.core.progress import FROM_THE_START, ProgressReporter
from studio.core.settings import load_settings
from studio.exporting.certificate import (
    CERTIFICATE_NAME,
    ExportToVerify,
    Loader,
    TrialPicture,
    certify,
    write_certificate,
)
from studio.families import registry
from studio.families.base import Family
from studio.methods.formats import (
    KOHYA_PREFIXES,
    clip_to_original,
    dora_scales,
    is_magnitude,
    open_clip_to_original,
    portable_name,
    to_kohya,
    unet_to_original,
    vae_to_original,
)
from studio.pictures import render
from studio.pictures.request import public_name

RESULT_NAME = "export.json"

_PART = ".export.part"
_TRIAL_PROMPTS = ("photo of {subject}", "portrait of {subject}, smiling")
_TRIAL_STEPS = 8
_CLIP_VOCABULARY = 49408
_OPEN_CLIP_ACTIVATION = "gelu"  # OpenAI's CLIP has quick_gelu
_HASH_KEY = "modelspec.hash_sha256"
# Source: Stability-AI/ModelSpec 1.0.1, "architecture", and kohya-ss/sd-scripts@48d368fa library/sai_model_spec.py.
_ARCHITECTURES: dict[int, dict[str, tuple[str, str]]] = {
    768: {"epsilon": ("stable-diffusion-v1", "sd_v1"), "v_prediction": ("stable-diffusion-v1", "sd_v1")},
    1024: {
        "epsilon": ("stable-diffusion-v2-512", "sd_v2"),
        "v_prediction": ("stable-diffusion-v2-768-v", "sd_v2_v"),
    },
    2048: {
        "epsilon": ("stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
        "v_prediction": ("stable-diffusion-xl-v1-base", "sdxl_base_v1-0"),
    },
}
"""Width of the text conditioning -> objective -> (ModelSpec's name, kohya's name)."""

_PREDICTION_TYPES = {
    "epsilon": {"modelspec.prediction_type": "epsilon"},
    "v_prediction": {"modelspec.prediction_type": "v"},
}
"""Objective -> ModelSpec's name for it; ModelSpec has none for flow matching."""


# ---------------------------------------------------------------------------------------------------------- the verb


@full_disk_in_words()
def export(
    config: ExportConfig,
    run_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> ExportResult:
    """Write a run's adapter in another program's format and prove it.

    Args:
        config: which format, checkpoint and precision.
        run_dir: a folder that ``train`` wrote.
        out_dir: created if missing; empty, or left by a call with the same config.
        on_event: receives the stages.
        should_stop: polled between the stages.

    Returns:
        The files, relative to ``out_dir``, and what the certificate found.

    Raises:
        NotFoundError: the run is not finished, or has no such checkpoint.
        InputError: the base or the adapter has no such format; all reasons at once, before anything is loaded.
        ConflictError: ``out_dir`` holds other things.
        TrainingError: read back, the file is not the trained model. ResourceError: the disk is full.
        JobCancelled: ``should_stop`` returned True.
    """
    started_s = time.monotonic()
    source = _read_source(config, run_dir)
    finished = _open_folder(out_dir, source)
    if finished is not None:
        return finished

    reporter = ProgressReporter(on_event, should_stop, kept=FROM_THE_START)
    settings = load_settings()
    device = pick_device(settings.device)
    dtype = pick_dtype("auto", device)
    with cpu_threads(settings.threads):
        reporter.stage("loading", "Making reference pictures with the trained pipeline.")
        shots = _trial_shots(source.info)
        pipeline, placement = render.open_pipeline(source.base)
        without_adapter = _drawn(pipeline, shots)
        if placement == "device":
            render.load_adapter(pipeline, source.weights_dir)
        else:
            del pipeline
            pipeline, _ = render.open_pipeline(source.base, source.weights_dir)
        wanted = _drawn(pipeline, shots)
        del pipeline
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the other process needs the room
        part = out_dir / _PART
        try:
            reporter.stage("exporting", f"Writing {config.format}.")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            written = _FORMATS[config.format].write(source, part)
            reporter.stage("certifying", "Checking the export in a fresh process.")
            certificate = certify(
                ExportToVerify(
                    loader=written.loader,
                    path=written.path,
                    base=source.base.folder,
                    pipeline=source.family.spec.pipeline,
                    guidance=source.family.spec.guidance,
                    dtype=dtype,
                    device=device,
                    exact=dtype == written.dtype == torch.float32,
                    embeds=written.embeds,
                    token=source.info.instance_token if written.embeds else None,
                ),
                shots,
                wanted,
                without_adapter=without_adapter,
                threads=settings.threads,
                should_stop=should_stop,
            )
            ruler = {"engine": source.info.likeness_engine, "version": source.info.likeness_version}
            write_certificate(part, {"format": config.format, **certificate, "likeness": ruler})
            for path in part.iterdir():
                os.rename(path, out_dir / path.name)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    files = sorted(path.relative_to(out_dir).as_posix() for path in _result_files(out_dir))
    result = ExportResult(
        format=config.format,
        files=tuple(files),
        certificate=CERTIFICATE_NAME,
        bytes=sum((out_dir / file).stat().st_size for file in files),
        difference_max=certificate["difference_max"],
        difference_mean=certificate["difference_mean"],
        seconds=round(time.monotonic() - started_s, 3),
    )
    records.write(out_dir / RESULT_NAME, result)
    output.finish(out_dir)
    return result


def problems(config: ExportConfig, run_dir: Path) -> list[Problem]:
    """Return why this run cannot be exported with these settings; empty if it can.

    Raises: as ``export`` does for a run or base that does not exist.
    """
    return _FORMATS[config.format].problems(_described(config, run_dir))


# ------------------------------------------------------------------------------------------------- reading the input


@dataclass(frozen=True, slots=True)
class _ExportSource:
    """The run, checkpoint and base to export."""

    config: ExportConfig
    info: AdapterInfo
    base: Base
    family: Family
    weights_dir: Path
    settings: Mapping[str, Any]
    """The adapter file's own ``lora_adapter_metadata``."""
    tensor_names: tuple[str, ...]

    @property
    def title(self) -> str:
        """A file name made of the subject's name."""
        return _slug(self.info.subject)

    @property
    def embeds(self) -> dict[str, Tensor]:
        """The instance token's embedding, ``{token: (D,) or (N, D)}``; empty where the token was not trained."""
        path = self.weights_dir / EMBEDS_NAME
        return load_file(path) if path.is_file() else {}

    def configuration(self, component: str) -> dict[str, Any]:
        """Return a component's config.json."""
        return json.loads((self.base.folder / component / "config.json").read_text(encoding="utf-8"))


def _read_source(config: ExportConfig, run_dir: Path) -> _ExportSource:
    source = _described(config, run_dir)
    found = _FORMATS[config.format].problems(source)
    if found:
        raise InputError.of(found)
    return source


def _described(config: ExportConfig, run_dir: Path) -> _ExportSource:
    weights_dir = adapter_folder(run_dir, config.checkpoint)
    info = read_info(run_dir / "adapter")
    weights = weights_dir / WEIGHTS_NAME
    header = read_header(weights, "run") if weights.is_file() else Header({}, {})  # a full fine-tuning has none
    return _ExportSource(
        config=config,
        info=info,
        base=resolve_base(info.base, info.revision),
        family=registry.family(info.family),
        weights_dir=weights_dir,
        settings=json.loads(header.metadata.get("lora_adapter_metadata") or "{}"),
        tensor_names=tuple(header.shapes),
    )


def _open_folder(out_dir: Path, source: _ExportSource) -> ExportResult | None:
    """Claim the folder for this request; return the result if it is already finished."""
    request = {
        "verb": "export",
        "base": source.info.base,
        "revision": source.info.revision,
        "adapter_sha256": adapter_sha256(source.weights_dir),
    }
    if not output.claim(out_dir, request, what="an export", config=source.config):
        return None
    if output.is_finished(out_dir):
        result = records.read(ExportResult, out_dir / RESULT_NAME)
        if all((out_dir / file).is_file() for file in result.files):
            return result
        output.reopen(out_dir)
    for path in output.contents(out_dir):  # what a kill has left is written again from the start
        if path.name != REQUEST_NAME:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return None


def _trial_shots(info: AdapterInfo) -> list[TrialPicture]:
    return [
        TrialPicture(
            prompt=fill(prompt, instance_token=info.instance_token, class_noun=info.class_noun),
            seed=seed,
            size_hw=(info.resolution_px, info.resolution_px),
            num_inference_steps=min(info.num_inference_steps, _TRIAL_STEPS),
            guidance_scale=info.guidance_scale,
        )
        for seed, prompt in enumerate(_TRIAL_PROMPTS)
    ]


def _drawn(pipeline: Any, shots: list[TrialPicture]) -> list[Any]:
    first = shots[0]
    return render.render_prompts(
        pipeline,
        [shot.prompt for shot in shots],
        [shot.seed for shot in shots],
        size_hw=first.size_hw,
        num_inference_steps=first.num_inference_steps,
        guidance_scale=first.guidance_scale,
        batch_size=1,
    )


# --------------------------------------------------------------------------------------------------------- formats


@dataclass(frozen=True, slots=True)
class _WrittenExport:
    """The files a format has written, and how to read them back."""

    loader: Loader
    path: Path
    dtype: torch.dtype
    """Of the tensors in the file."""
    embeds: Path | None = None


def _lora_dtype(source: _ExportSource) -> torch.dtype:
    return torch.float32 if source.config.dtype == "auto" else getattr(torch, source.config.dtype)


def _merged_dtype(source: _ExportSource) -> torch.dtype:
    return torch.float16 if source.config.dtype == "auto" else getattr(torch, source.config.dtype)


def _lora_tensors(source: _ExportSource) -> dict[str, Tensor]:
    dtype = _lora_dtype(source)
    tensors = load_file(source.weights_dir / WEIGHTS_NAME)
    return {portable_name(name): tensor.to(dtype).contiguous() for name, tensor in tensors.items()}


def _write_embeds(source: _ExportSource, path: Path, dtype: torch.dtype) -> Path | None:
    """Write the trained token for ``load_textual_inversion``, and for the other programs, which take any one tensor."""
    tensors = {token: vector.reshape(-1, vector.shape[-1]).to(dtype) for token, vector in source.embeds.items()}
    if not tensors:
        return None
    path.parent.mkdir(exist_ok=True)
    write_safetensors(path, tensors, {"format": "pt"})
    return path


def _write_diffusers(source: _ExportSource, folder: Path) -> _WrittenExport:
    metadata = {
        **_metadata(source, lora=True),
        "format": "pt",
        "lora_adapter_metadata": json.dumps(dict(source.settings), sort_keys=True),
    }
    path = folder / WEIGHTS_NAME
    write_safetensors(path, _lora_tensors(source), metadata, hash_key=_HASH_KEY)
    embeds = _write_embeds(source, folder / EMBEDS_NAME, _lora_dtype(source))
    return _WrittenExport("lora", path, _lora_dtype(source), embeds)


def _write_kohya(source: _ExportSource, folder: Path) -> _WrittenExport:
    own = _lora_tensors(source)
    halves = {name: tensor for name, tensor in own.items() if not is_magnitude(name)}
    tensors = to_kohya(halves, source.settings, source.info.family)
    is_dora = len(halves) < len(own)
    if is_dora:
        scales = dora_scales(own, source.settings, source.info.family, _base_weights(source))
        tensors |= {name: tensor.to(_lora_dtype(source)) for name, tensor in scales.items()}
    path = folder / f"{source.title}.safetensors"
    metadata = {**_metadata(source, lora=True), **_kohya_metadata(source, tensors)}
    write_safetensors(path, tensors, metadata, hash_key=_HASH_KEY)
    # The other programs call an embedding by its file's name.
    name = f"{_slug(source.info.instance_token)}.safetensors"
    embeds = _write_embeds(source, folder / "embeddings" / name, _lora_dtype(source))
    return _WrittenExport("dora_scale" if is_dora else "lora", path, _lora_dtype(source), embeds)


def _base_weights(source: _ExportSource) -> dict[str, Tensor]:
    """Return the weights of the parts that an adapter may change, by component and layer, float32."""
    parts = source.family.load(source.base.folder, dtype=torch.float32, device=torch.device("cpu"))
    pipeline: Any = source.family.pipeline(parts)
    return {
        portable_name(f"{component}.{name}"): tensor
        for component in KOHYA_PREFIXES[source.info.family]
        for name, tensor in getattr(pipeline, component).state_dict().items()
    }


def _merged(source: _ExportSource) -> Any:
    """Return the pipeline with the adapter added to its weights, in float32 on the CPU, where adding is exact."""
    cpu = torch.device("cpu")
    pipeline: Any = source.family.pipeline(source.family.load(source.base.folder, dtype=torch.float32, device=cpu))
    render.load_adapter(pipeline, source.weights_dir)
    pipeline.unload_lora_weights()
    return pipeline


def _write_merged(source: _ExportSource, folder: Path) -> _WrittenExport:
    dtype = _merged_dtype(source)
    path = folder / "pipeline"
    _merged(source).to(dtype).save_pretrained(path, safe_serialization=True)
    for file in path.rglob("*.json"):
        _drop_paths(file)
    return _WrittenExport("pipeline", path, dtype)


def _write_single_file(source: _ExportSource, folder: Path) -> _WrittenExport:
    dtype = _merged_dtype(source)
    pipeline = _merged(source)
    tensors = {
        **unet_to_original(pipeline.unet.state_dict(), pipeline.unet.config.layers_per_block),
        **vae_to_original(pipeline.vae.state_dict()),
        **_TEXT_LAYOUTS[source.info.family](source, pipeline),
    }
    path = folder / f"{source.title}.safetensors"
    halved = {name: tensor.detach().to(dtype).contiguous() for name, tensor in tensors.items()} | _marks(source)
    write_safetensors(path, halved, {**_metadata(source, lora=False), "format": "pt"}, hash_key=_HASH_KEY)
    name = f"{_slug(source.info.instance_token)}.safetensors"
    embeds = _write_embeds(source, folder / "embeddings" / name, torch.float32)
    return _WrittenExport("single_file", path, dtype, embeds)


def _marks(source: _ExportSource) -> dict[str, Tensor]:
    """Return the empty tensors by which other programs know v-prediction and zero terminal SNR."""
    config = json.loads((source.base.folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    marks = {
        "v_pred": config.get("prediction_type") == "v_prediction",
        "ztsnr": bool(config.get("rescale_betas_zero_snr")),
    }
    return {name: torch.empty(0) for name, applies in marks.items() if applies}


def _text_of_sd(source: _ExportSource, pipeline: Any) -> dict[str, Tensor]:
    text_encoder = dict(pipeline.text_encoder.state_dict())
    table = next(name for name in text_encoder if name.endswith("token_embedding.weight"))
    # The layout has no room for a new word; it lies beside, as an embedding.
    text_encoder[table] = text_encoder[table][:_CLIP_VOCABULARY]
    if source.configuration("text_encoder").get("hidden_act") == _OPEN_CLIP_ACTIVATION:
        return open_clip_to_original(text_encoder, "cond_stage_model.model.")
    return clip_to_original(text_encoder, "cond_stage_model.transformer.")


def _text_of_sdxl(source: _ExportSource, pipeline: Any) -> dict[str, Tensor]:
    return {
        **clip_to_original(pipeline.text_encoder.state_dict(), "conditioner.embedders.0.transformer."),
        **open_clip_to_original(pipeline.text_encoder_2.state_dict(), "conditioner.embedders.1.model."),
    }


_TEXT_LAYOUTS: dict[str, Callable[[_ExportSource, Any], dict[str, Tensor]]] = {"sd": _text_of_sd, "sdxl": _text_of_sdxl}
"""Family -> its text encoders in the original layout; other families have no such layout here."""


def _no_problems(source: _ExportSource) -> list[Problem]:
    return []


def _diffusers_problems(source: _ExportSource) -> list[Problem]:
    if all("lora_" in name for name in source.tensor_names) and source.tensor_names:
        return []
    return [Problem("format", "this run trained no LoRA, so there is none to export", "use format merged", "no_format")]


def _kohya_problems(source: _ExportSource) -> list[Problem]:
    if source.info.family not in KOHYA_PREFIXES:
        known = " and ".join(KOHYA_PREFIXES)
        message = f"the kohya format supports {known}, not {source.info.family}"
        # Of peft's DoRA ComfyUI would read the halves and not the magnitudes, without a word.
        is_dora = any(is_magnitude(name) for name in source.tensor_names)
        cure = "use format diffusers, which ComfyUI reads too"
        if is_dora:
            cure = "use format merged: of a DoRA in the format diffusers ComfyUI reads a part"
        return [Problem("format", message, cure, "no_format")]
    return _diffusers_problems(source)


def _single_file_problems(source: _ExportSource) -> list[Problem]:
    cure = "use format merged, a folder that diffusers opens"
    if source.info.family not in _TEXT_LAYOUTS:
        known = " and ".join(_TEXT_LAYOUTS)
        message = f"format single_file supports {known}, not {source.info.family}"
        return [Problem("format", message, cure, "no_format")]
    problems = []
    autoencoder = source.configuration("vae").get("_class_name")
    if autoencoder != "AutoencoderKL":
        problems.append(Problem("format", f"format single_file cannot hold an {autoencoder}", cure, "no_format"))
    for encoder in sorted(path.name for path in source.base.folder.glob("text_encoder*")):
        words = source.configuration(encoder).get("vocab_size")
        if words != _CLIP_VOCABULARY:
            message = f"format single_file holds no tokenizer, and this base has its own ({words} words, not CLIP's)"
            problems.append(Problem("format", message, cure, "no_format"))
            break
    return problems


@dataclass(frozen=True, slots=True)
class _ExportFormat:
    problems: Callable[[_ExportSource], list[Problem]]
    """Return why this source cannot be written in this format; empty if it can."""
    write: Callable[[_ExportSource, Path], _WrittenExport]


_FORMATS: dict[str, _ExportFormat] = {
    "diffusers": _ExportFormat(_diffusers_problems, _write_diffusers),
    "kohya": _ExportFormat(_kohya_problems, _write_kohya),
    "merged": _ExportFormat(_no_problems, _write_merged),
    "single_file": _ExportFormat(_single_file_problems, _write_single_file),
}


# -------------------------------------------------------------------------------------------------------- metadata


def _metadata(source: _ExportSource, *, lora: bool) -> dict[str, str]:
    """Return ModelSpec's description.

    Source: Stability-AI/ModelSpec 1.0.1. No date: the same run gives the same bytes.
    """
    info = source.info
    subject = f"{info.instance_token} {info.class_noun}"
    architecture = _architecture(source)[0]
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/lora" if lora else architecture,
        "modelspec.implementation": "diffusers",
        "modelspec.title": info.subject,
        "modelspec.description": f"Trained by Likeness Studio {__version__} on {public_name(info.base)}.",
        "modelspec.trigger_phrase": subject,
        "modelspec.usage_hint": f"Write {subject} in the prompt.",
        "modelspec.resolution": f"{info.resolution_px}x{info.resolution_px}",
        **_PREDICTION_TYPES.get(_objective(source), {}),
        "modelspec.license": source.base.spec.licence,
    }


def _kohya_metadata(source: _ExportSource, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the few ``ss_`` strings that other programs read; those that name photos and captions are left out."""
    rank = next(tensor.shape[0] for name, tensor in tensors.items() if name.endswith("lora_down.weight"))
    alpha = next(float(tensor) for name, tensor in tensors.items() if name.endswith(".alpha"))
    version = _architecture(source)[1]
    has_conv = any(tensor.ndim == 4 and tensor.shape[-1] > 1 for tensor in tensors.values())
    return {
        "ss_v2": str(version.startswith("sd_v2")),
        "ss_base_model_version": version,
        # kohya's own module knows no magnitudes.
        "ss_network_module": "lycoris.kohya" if any(n.endswith(".dora_scale") for n in tensors) else "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{alpha:g}",
        "ss_network_args": json.dumps({"conv_dim": str(rank), "conv_alpha": f"{alpha:g}"} if has_conv else {}),
        "ss_output_name": source.title,
        "ss_sd_model_name": public_name(source.info.base),
        "ss_steps": str(source.info.step),
    }


def _objective(source: _ExportSource) -> str:
    path = source.base.folder / "scheduler" / "scheduler_config.json"
    scheduler = json.loads(path.read_text(encoding="utf-8"))
    return "flow" if "FlowMatch" in scheduler["_class_name"] else scheduler.get("prediction_type", "epsilon")


def _architecture(source: _ExportSource) -> tuple[str, str]:
    """Return ModelSpec's and kohya's name of the base's architecture; the studio's own for others."""
    unet = source.base.folder / "unet" / "config.json"
    width = source.configuration("unet").get("cross_attention_dim") if unet.is_file() else None
    known = _ARCHITECTURES.get(width, {}) if isinstance(width, int) else {}
    own = f"likeness-studio-{source.info.family}"
    return known.get(_objective(source), (own, own))


def _drop_paths(file: Path) -> None:
    """Take out what diffusers and transformers write about where a component came from."""
    data = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(data, dict) and data.keys() & {"_name_or_path", "name_or_path"}:
        kept = {key: value for key, value in data.items() if key not in ("_name_or_path", "name_or_path")}
        write_json(file, kept, indent=2, sort_keys=True)


def _result_files(out_dir: Path) -> list[Path]:
    own = {REQUEST_NAME, RESULT_NAME, DONE_NAME}
    return [path for path in output.files_below(out_dir) if path.relative_to(out_dir).as_posix() not in own]


def _slug(name: str) -> str:
    return re.sub(r"[^\w\-]+", "_", name).strip("_") or "subject"
