"""A dataset folder as a training run reads it: rows, photos, masks and whether the run fits this machine."""

from pathlib import Path

import torch
from PIL import Image, ImageOps

from studio.bases.resolve import Base
from studio.compute.device import pick_dtype
from studio.compute.offload import keep_blocks_away
from studio.core import records
from studio.core.catalog import FamilySpec
from studio.core.domain import Dataset
from studio.core.errors import InputError, Problem, ResourceError
from studio.core.files import read_json
from studio.core.packs import fill, token_as_placeholder
from studio.core.train_config import TrainConfig
from studio.families import registry as families
from studio.families.base import Parts
from studio.imaging.bucket import buckets
from studio.training import memory_fallback
from studio.training.run import PreparedPhoto, TrainingRun, class_caption

MASKS_FOLDER = "masks"


_LOOK_PX = 512


def fallback_after(error: Exception, run: TrainingRun) -> memory_fallback.MemoryFallback:
    """Return what to give up after ``error``.

    Raises:
        Exception: the error itself, if it is no want of memory.
        ResourceError: there is nothing left to give up.
    """
    if not memory_fallback.is_out_of_memory(error):
        raise error
    multiple_px = families.family(run.base.family).spec.bucket_multiple_px
    fallback = memory_fallback.next_fallback(
        run.config, run.resolution_px, multiple_px, on_gpu=run.device.type == "cuda"
    )
    if fallback is None:
        raise ResourceError(
            "The device ran out of memory with one photo at a time and gradient checkpointing; use a smaller "
            "resolution_px, a smaller base, or method.name=lora."
        ) from error
    return fallback


def prepare(
    config: TrainConfig, dataset: Dataset, dataset_dir: Path, out_dir: Path, base: Base, device: torch.device
) -> TrainingRun:
    """Return what stays the same during a run, its photos read.

    Raises:
        InputError: settings that the base has no use for; photos, masks or a resolution that cannot be used.
    """
    _require_fit(config, families.family(base.family).spec)
    return TrainingRun(
        config=config,
        out_dir=out_dir,
        base=base,
        photos=_read_photos(config, dataset, dataset_dir, base),
        device=device,
        dtype=pick_dtype(config.dtype, device),
        steps=config.total_steps(len(dataset.photos)),
    )


def settle(run: TrainingRun, parts: Parts) -> None:
    """Put the denoiser where it will train, now that large text encoders have gone."""
    if run.config.block_offload:
        keep_blocks_away(parts.denoiser, run.device)
    else:
        parts.denoiser.to(run.device)
    if run.config.attention == "xformers":
        parts.denoiser.enable_xformers_memory_efficient_attention()  # type: ignore[operator]  # diffusers' ModelMixin
    if run.config.compile_blocks:
        parts.denoiser.compile_repeated_blocks()  # type: ignore[operator]  # diffusers' ModelMixin


def read_dataset(dataset_dir: Path) -> Dataset:
    """Read what ``check`` wrote.

    Raises:
        InputError: there is no dataset, it is damaged, or it holds no photo.
    """
    path = dataset_dir / "dataset.json"
    if not path.is_file():
        raise _problem(
            str(dataset_dir.name), "contains no dataset.json", "check the photos first: check DIR", "no_dataset"
        )
    raw = read_json(path)
    version = raw.get("version") if isinstance(raw, dict) else 1
    if version != 1:  # told before the fields, which another version has other ones of
        raise _problem("dataset.json", f"has version {version}, not 1", "check the photos again", "version")
    dataset = records.read(Dataset, path, cure="check the photos again", code="bad_dataset")
    if not dataset.photos:
        raise _problem("dataset.json", "contains no usable photo", "add photos and check them again", "no_photos")
    return dataset


def _require_fit(config: TrainConfig, spec: FamilySpec) -> None:
    """Refuse settings that this family has no use for, before any weight is loaded.

    Raises:
        InputError: each of them.
    """
    problems = []
    if config.method.text_encoder and not spec.learning_text_encoders:
        problems.append(
            Problem(
                "method.text_encoder",
                f"{config.base} has no text encoder that can be trained",
                "set method.text_encoder=false",
                "text_encoder",
            )
        )
    if config.token_learning_rate is not None and not spec.learns_token:
        problems.append(
            Problem(
                "token_learning_rate",
                f"{config.base} cannot learn an instance token",
                "leave token_learning_rate out",
                "token",
            )
        )
    if config.compile_blocks and not spec.compiles:
        message = f"the blocks of {config.base} cannot be compiled one by one"
        problems.append(Problem("compile_blocks", message, "set compile_blocks=false", "compile"))
    if config.quantization != "none" and not spec.quantizes:
        message = f"{config.base} also has convolutions, which are not quantised: little memory would be saved"
        problems.append(Problem("quantization", message, "set quantization=none", "quantization"))
    if problems:
        raise InputError.of(problems)


def _read_photos(config: TrainConfig, dataset: Dataset, dataset_dir: Path, base: Base) -> tuple[PreparedPhoto, ...]:
    """Decode and resize every photo before any weight is loaded; all problems in one answer."""
    multiple_px = families.family(base.family).spec.bucket_multiple_px
    resolution_px = config.resolution_px or base.spec.resolution_px
    problems, found, masked = [], [], 0
    if resolution_px % multiple_px:
        cure = f"use a multiple of {multiple_px}, such as {max(1, round(resolution_px / multiple_px)) * multiple_px}"
        problems.append(Problem("resolution_px", f"{resolution_px} does not fit this base", cure, "resolution"))
    sizes_hw = buckets(resolution_px, multiple_px)
    for photo in dataset.photos:
        path = (dataset_dir / photo.file).resolve()
        if photo.bucket not in sizes_hw or not path.is_relative_to(dataset_dir.resolve()):
            problems.append(Problem(photo.name, "has a damaged row in dataset.json", "check the photos again"))
            continue
        height, width = sizes_hw[photo.bucket]
        try:
            with Image.open(path, formats=["PNG"]) as image:
                whole = image.convert("RGB")
                picture = ImageOps.fit(whole, (width, height), Image.Resampling.LANCZOS)
                look = ImageOps.contain(whole, (_LOOK_PX, _LOOK_PX)) if max(whole.size) > _LOOK_PX else whole
        except (OSError, ValueError, SyntaxError):
            problems.append(
                Problem(photo.name, "its prepared picture cannot be read", "check the photos again", "unreadable")
            )
            continue
        mask, wrong = _read_mask(config, dataset_dir, path.name, whole.size, (width, height))
        if wrong:
            problems.append(Problem(photo.name, wrong, "make the masks again, or leave background_weight out", "mask"))
        masked += mask is not None
        template = token_as_placeholder(photo.caption, config.instance_token)
        caption = fill(template, instance_token=config.instance_token, class_noun=config.class_noun)
        found.append(
            PreparedPhoto(
                picture,
                look,
                photo.bucket,
                caption,
                class_caption(template, config.class_noun),
                source_hw=photo.crop_yxhw[2:],
                mask=mask,
                name=photo.name,
            )
        )
    if config.background_weight is not None and not masked and not problems:
        cure = "put masks/NNN.png (white where the subject is) beside photos/NNN.png, or leave it out"
        problems.append(Problem("background_weight", "the dataset contains no masks", cure, "no_masks"))
    if problems:
        raise InputError.of(problems)
    return tuple(found)


def _read_mask(
    config: TrainConfig, dataset_dir: Path, name: str, photo_wh: tuple[int, int], size_wh: tuple[int, int]
) -> tuple[Image.Image | None, str]:
    """Return a photo's mask at its training size, None without one, and what is wrong with it."""
    path = dataset_dir / MASKS_FOLDER / name
    if config.background_weight is None or not path.is_file():
        return None, ""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            mask = image.convert("L")
    except (OSError, ValueError, SyntaxError):
        return None, "its mask cannot be read"
    if mask.size != photo_wh:
        return None, f"its mask has {mask.size[0]} x {mask.size[1]} px, but the photo has another size"
    return ImageOps.fit(mask, size_wh, Image.Resampling.BILINEAR), ""


def _problem(where: str, message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem(where, message, cure, code)])
