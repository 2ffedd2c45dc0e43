"""Stable Diffusion checkpoints in one ``.safetensors`` file, converted once into a diffusers folder."""

import hashlib
import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.loaders.single_file_utils import SingleFileComponentError, infer_diffusers_model_type
from huggingface_hub import constants, snapshot_download

from studio.bases.hub import (
    CONVERSION,
    UNWANTED,
    WANTED,
    cached_commit,
    hub_errors,
    last_commit,
    prediction,
    probed,
    scheduler,
)
from studio.bases.local import TIMEOUT_S, LocalBase, base_problem, open_cache
from studio.bases.tensorfile import Header, plain, read_header
from studio.core.catalog import BASES
from studio.core.settings import Settings

_WITHOUT_WEIGHTS = [*UNWANTED, "*.safetensors"]


_SINGLE_FILE_BASES = {"v1": "sd15", "v2": "sd21", "xl_base": "sdxl"}
"""diffusers' name of a checkpoint's architecture -> the base of the catalog whose configuration describes it."""


_UNET_MARK = "model.diffusion_model.input_blocks.0.0.weight"


def from_file(path: Path, settings: Settings) -> LocalBase:
    """Return a single-file checkpoint as a diffusers folder in the cache; made once per state of the file.

    Raises:
        InputError: a pickle, damaged, or no checkpoint of a known kind.
        MissingExtraError: the kind's configuration is not here and the Hub cannot be reached. ResourceError: no room.
    """
    _kind(path)
    stat = path.stat()
    state = f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
    key = f"file-{CONVERSION}--{hashlib.sha256(state.encode()).hexdigest()[:32]}"

    def fill(folder: Path) -> None:
        convert_single_file(path, folder, settings)

    entry = open_cache(settings).put(key, stat.st_size, fill)
    return LocalBase(entry.folder, None, entry.pin)


def _kind(path: Path) -> tuple[str, Header]:
    """Return the base of the catalog whose configuration describes a checkpoint, by the names in its header."""
    header = read_header(path, "base")
    known = " and ".join(BASES[name].title for name in _SINGLE_FILE_BASES.values() if name in BASES)
    if any("lora_" in name for name in header.shapes):
        cure = "choose the base that it was made for; to continue the LoRA, set method.start_from to it"
        raise base_problem(f"{path.name} is a LoRA, not a base", cure, "no_checkpoint")
    kind = None
    if strange := [name for name in header.shapes if name.startswith("edm_")]:
        cure = "use a checkpoint that predicts epsilon or v"
        message = f"{path.name} uses the EDM noise schedule (it contains {plain(strange[0])}), which is not supported"
        raise base_problem(message, cure, "unknown_schedule")
    if _UNET_MARK in header.shapes:
        shapes = {name: torch.empty(shape, device="meta") for name, shape in header.shapes.items()}
        kind = _SINGLE_FILE_BASES.get(infer_diffusers_model_type(shapes))
    if kind not in BASES:
        cure = f"use a checkpoint of {known}, or a diffusers folder"
        raise base_problem(f"{path.name} is not a checkpoint of a supported kind", cure, "unknown_family")
    return str(kind), header


def convert_single_file(path: Path, folder: Path, settings: Settings) -> None:
    """Write a checkpoint as a diffusers folder, in the precision of the file."""
    base, header = _kind(path)
    configuration = _configuration(BASES[base].source, settings)
    index = json.loads((configuration / "model_index.json").read_text(encoding="utf-8"))
    dtype = {"F16": torch.float16, "BF16": torch.bfloat16}.get(header.main_dtype, torch.float32)
    absent = {
        name: None for name, kind in index.items() if isinstance(kind, list) and not (configuration / name).is_dir()
    }
    try:
        pipeline: Any = getattr(diffusers, index["_class_name"]).from_single_file(
            str(path), config=str(configuration), local_files_only=True, dtype=dtype, **absent
        )
        broken = [name for name, component in pipeline.components.items() if not _is_finite(component)]
    except (ValueError, LookupError, TypeError, RuntimeError, AttributeError, SingleFileComponentError) as error:
        reason = " ".join(str(error).split())[:120]
        cure = "use another checkpoint, or a diffusers folder"
        raise base_problem(f"{path.name} is not a complete {BASES[base].title} ({reason})", cure, "bad_base") from None
    if broken:
        raise base_problem(f"{path.name} has NaN or infinity in its {broken[0]}", "download it again", "not_finite")
    said = prediction(header)
    if said is None and base == "sd21":
        said = probed(pipeline.unet)
    pipeline.register_modules(scheduler=scheduler(pipeline.scheduler, said, "ztsnr" in header.shapes))
    pipeline.save_pretrained(folder, safe_serialization=True)


def _is_finite(component: Any) -> bool:
    parameters = component.parameters() if isinstance(component, torch.nn.Module) else ()
    return all(bool(torch.isfinite(parameter).all()) for parameter in parameters)


def _configuration(hub_id: str, settings: Settings) -> Path:
    """Return a folder with a base's configuration and tokenizers, a few megabytes; its weights need not be here."""
    cache = open_cache(settings)
    commit = last_commit(hub_id, None, settings)
    if commit and (found := cached_commit(hub_id, commit, cache)):
        return found.folder

    def fill(folder: Path) -> None:
        with hub_errors(hub_id, None):
            snapshot_download(
                hub_id,
                local_dir=folder,
                allow_patterns=WANTED,
                ignore_patterns=_WITHOUT_WEIGHTS,
                endpoint=constants.ENDPOINT,
                etag_timeout=TIMEOUT_S,
            )

    return cache.put(f"configuration--{hub_id.replace('/', '--')}", 0, fill).folder
