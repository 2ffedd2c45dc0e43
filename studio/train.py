"""The verb ``train``: a dataset folder in, an adapter out, with likeness measured on the way.

A straight road: read the dataset -> find the base -> load -> attach -> cache latents and prompts -> loop (step,
checkpoint, samples, likeness) -> choose the best -> export. Runs in a worker's child process or from a notebook::

    train(TrainConfig(class_noun="woman"), Path("dataset"), Path("run"))

One optimizer step is in ``studio.steps``, samples and scores are in ``studio.evaluate``, what survives a kill is in
``studio.checkpoints``. A run that was killed goes on from its newest checkpoint as if nothing had happened: on the CPU,
with the same number of threads, bit for bit.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from torch import Tensor

from studio import __version__, checkpoints
from studio.adapters import AdapterInfo, write_info
from studio.catalog import FamilySpec
from studio.config import TrainConfig
from studio.curve import draw_curve
from studio.device import pick_device, pick_dtype
from studio.domain import Dataset, OnEvent, ShouldStop, TrainResult, ignore_event, never_stop
from studio.errors import ConflictError, InputError, JobCancelled, Problem, ResourceError
from studio.evaluate import (
    Reference,
    choose_best,
    class_pictures,
    evaluate,
    find_reference,
    require_finite,
    require_health,
)
from studio.families import registry as families
from studio.imaging.bucket import buckets
from studio.listener import Listener
from studio.methods import registry as methods
from studio.presets import dump, fill
from studio.settings import load_settings
from studio.steps import (
    Model,
    PreparedPhoto,
    Run,
    cache,
    class_caption,
    exact_arithmetic,
    learning_rate_factor,
    train_step,
    validation_loss,
)
from studio.weights import Base, resolve_base

CONFIG_NAME = "config.yaml"
INPUTS_NAME = "inputs.json"
REPORT_NAME = "report.json"
DONE_NAME = "DONE"

_CHECKPOINTS = 5
_LOOK_PX = 512


# ---------------------------------------------------------------------------------------------------------- the verb


def train(
    config: TrainConfig,
    dataset_dir: Path,
    out_dir: Path,
    *,
    on_event: OnEvent = ignore_event,
    should_stop: ShouldStop = never_stop,
) -> TrainResult:
    """Train an adapter on a checked dataset; a folder that holds a run of the same settings and photos goes on.

    Args:
        config: the settings.
        dataset_dir: what ``check`` wrote.
        out_dir: the run folder.
        on_event: hears of progress, metrics and sample pictures.
        should_stop: asked at every step, of training and of sampling.

    Raises:
        InputError: the dataset, the base or a setting cannot be used.
        NotFoundError: there is no such base.
        MissingExtraError: the base or an engine asked for by name is not on this machine.
        ConflictError: ``out_dir`` holds a run of other settings or photos.
        TrainingError: the run could not have become good; says why.
        ResourceError: memory or disk gave out.
        JobCancelled: ``should_stop`` answered True; a checkpoint is kept.
    """
    started_s = time.monotonic()
    listener = Listener(on_event, should_stop)
    listener.stage("validating", "Reading the dataset.")
    dataset = _read_dataset(dataset_dir)
    inputs = _inputs(config, dataset)
    before = _inputs_before(out_dir, inputs)
    if before and (out_dir / DONE_NAME).exists():
        return _read_result(out_dir)
    # The revision of the run's first start is kept, whatever the Hub has got since.
    base = resolve_base(config.base, before.get("revision") or config.revision)
    _require_fit(config, families.family(base.family).spec)
    settings = load_settings()
    device = pick_device(settings.device)
    run = Run(
        config=config,
        out_dir=out_dir,
        base=base,
        photos=_read_photos(config, dataset, dataset_dir, base),
        device=device,
        dtype=pick_dtype(config.dtype, device),
        steps=config.total_steps(len(dataset.photos)),
    )
    if not before:
        out_dir.mkdir(parents=True, exist_ok=True)
        checkpoints.write_text(out_dir / CONFIG_NAME, dump(config))
        checkpoints.write_text(out_dir / INPUTS_NAME, json.dumps({**inputs, "revision": base.revision}, indent=1))
    try:
        with exact_arithmetic(device, settings.threads):
            result = _train(run, listener, started_s)
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            "The device's memory gave out; set gradient_checkpointing=true and micro_batch_size=1, or take a smaller "
            "resolution_px."
        ) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ResourceError("The disk is full; free space and start again: the run goes on.") from error
    checkpoints.write_text(out_dir / DONE_NAME, "")
    return result


def _train(run: Run, listener: Listener, started_s: float) -> TrainResult:
    config = run.config
    listener.stage("loading", f"Loading the base {config.base}.")
    family = families.family(run.base.family)
    method = methods.method(config.method.name)
    parts = family.load(run.base.folder, dtype=run.dtype, device=run.device)
    groups: list[Any] = method.attach(parts, family.spec, config)
    if config.gradient_checkpointing:
        parts.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]  # diffusers' ModelMixin
    # fused: a step over hundreds of small LoRA tensors one by one costs more than the arithmetic.
    optimizer = torch.optim.AdamW(groups, fused=run.device.type in ("cpu", "cuda"))
    scaler = torch.amp.GradScaler(run.device.type, enabled=run.dtype == torch.float16)
    rates = [group["lr"] for group in optimizer.param_groups]
    untouched = {name: parameter.detach().clone() for name, parameter in method.trainable(parts).items()}

    listener.stage("caching", "Encoding photos and prompts once.")
    model = Model(run, family, method, parts)
    if not model.prompts.learns:
        parts.text_encoders = []
    parts.denoiser.to(run.device)  # now that large text encoders have gone
    reference, engine_reason = find_reference(run, listener)
    data = cache(run, model, class_pictures(run, model, listener))
    parts.vae = None

    step = _resume(run, model, optimizer, scaler, listener)
    due = {0, *_checkpoint_steps(config, run.steps)}
    rows = checkpoints.read_scores(run.out_dir, step)
    listener.stage("training", f"{run.steps} steps on {len(run.photos)} photos.")
    # Buffered by lines: a kill loses none that a checkpoint relies on.
    with (run.out_dir / checkpoints.METRICS_NAME).open("a", buffering=1, encoding="utf-8") as log:
        while True:
            if step in due and step not in rows:
                val_loss = validation_loss(run, model, data)
                if step:
                    require_health(model, untouched, val_loss, rows[0]["val_loss"], step)
                    _save(run, model, optimizer, scaler, step)
                    checkpoints.prune(run.out_dir, config.keep_checkpoints, due)
                listener.stage("sampling", f"Pictures at step {step}.")
                rows[step] = evaluate(run, model, reference, step, val_loss, rows.get(0), log, listener)
                listener.stage("training", f"Step {step} of {run.steps}.")
            if step == run.steps:
                break
            if listener.should_stop():
                if step not in due:
                    _save(run, model, optimizer, scaler, step)
                raise JobCancelled(f"Stopped at step {step} of {run.steps}; start again to go on from there.")
            begun_s = time.perf_counter()
            factor = learning_rate_factor(config.lr_scheduler, step, config.lr_warmup_steps, run.steps)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            loss = train_step(model, data, optimizer, scaler, step)
            step += 1
            require_finite(loss, step)
            step_s = time.perf_counter() - begun_s
            metrics = {"step": step, "loss": loss, "learning_rate": rates[0] * factor, "step_s": round(step_s, 4)}
            log.write(json.dumps(metrics) + "\n")
            listener.step(metrics, step_s, run.steps, sum(later >= step for later in due))

    listener.stage("exporting", "Choosing the best checkpoint.")
    return _export(run, rows, reference, engine_reason, started_s)


# ------------------------------------------------------------------------------------------------- reading the input


def _read_dataset(dataset_dir: Path) -> Dataset:
    path = dataset_dir / "dataset.json"
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["version"]
        if version != 1:
            raise _problem("dataset.json", f"is of version {version}, not 1", "check the photos again", "version")
        dataset = Dataset.from_json(data)
    except FileNotFoundError:
        raise _problem(
            str(dataset_dir.name), "holds no dataset.json", "check the photos first: check DIR", "no_dataset"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        raise _problem("dataset.json", "is damaged", "check the photos again", "bad_dataset") from None
    if not dataset.photos:
        raise _problem("dataset.json", "holds no usable photo", "add photos and check them again", "no_photos")
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
                f"no text encoder of {config.base} learns",
                "set method.text_encoder=false",
                "text_encoder",
            )
        )
    if config.token_learning_rate is not None and not spec.learns_token:
        problems.append(
            Problem(
                "token_learning_rate",
                f"{config.base} has no embedding for a token of its own",
                "leave token_learning_rate out",
                "token",
            )
        )
    if problems:
        raise InputError.of(problems)


def _read_photos(config: TrainConfig, dataset: Dataset, dataset_dir: Path, base: Base) -> tuple[PreparedPhoto, ...]:
    """Decode and resize every photo before any weight is loaded; all problems in one answer."""
    multiple_px = families.family(base.family).spec.bucket_multiple_px
    resolution_px = config.resolution_px or base.spec.resolution_px
    problems, found = [], []
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
            with Image.open(path) as image:
                whole = image.convert("RGB")
                picture = ImageOps.fit(whole, (width, height), Image.Resampling.LANCZOS)
                look = ImageOps.contain(whole, (_LOOK_PX, _LOOK_PX)) if max(whole.size) > _LOOK_PX else whole
        except (OSError, ValueError, SyntaxError):
            problems.append(
                Problem(photo.name, "its prepared picture cannot be read", "check the photos again", "unreadable")
            )
            continue
        caption = fill(photo.caption, instance_token=config.instance_token, class_noun=config.class_noun)
        found.append(
            PreparedPhoto(
                picture,
                look,
                photo.bucket,
                caption,
                class_caption(photo.caption, config.class_noun),
                source_hw=photo.crop_yxhw[2:],
            )
        )
    if problems:
        raise InputError.of(problems)
    return tuple(found)


def _inputs(config: TrainConfig, dataset: Dataset) -> dict[str, str]:
    """Return what a run depends on, as digests."""
    rows = [(photo.sha256, photo.caption, photo.bucket) for photo in dataset.photos]
    return {
        "settings": hashlib.sha256(config.model_dump_json().encode()).hexdigest(),
        "photos": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


def _inputs_before(out_dir: Path, inputs: Mapping[str, str]) -> dict[str, Any]:
    """Return the inputs of the run that ``out_dir`` holds, with the base's revision; empty if it holds none.

    Raises:
        ConflictError: they are not the same, or something else lies there.
    """
    if not (out_dir / INPUTS_NAME).exists():
        if out_dir.is_dir() and any(path.suffix != ".part" and path.name != CONFIG_NAME for path in out_dir.iterdir()):
            raise ConflictError(f"{out_dir.name} is not empty and holds no training run; choose another output folder.")
        return {}
    before = json.loads((out_dir / INPUTS_NAME).read_text(encoding="utf-8"))
    for name, digest in inputs.items():
        if before[name] != digest:
            raise ConflictError(f"{out_dir.name} holds a run with other {name}; choose another output folder.")
    return before


def _read_result(out_dir: Path) -> TrainResult:
    report = json.loads((out_dir / REPORT_NAME).read_text(encoding="utf-8"))
    kept = {field.name: report[field.name] for field in fields(TrainResult)}
    return TrainResult(**{**kept, "checkpoints": tuple(kept["checkpoints"])})


# ------------------------------------------------------------------------------------------------------- checkpoints


def _checkpoint_steps(config: TrainConfig, steps: int) -> list[int]:
    every = config.checkpoint_every_steps or max(1, -(-steps // _CHECKPOINTS))
    return sorted({*range(every, steps + 1, every), steps})


def _save(run: Run, model: Model, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, step: int) -> None:
    method, parts = model.method, model.parts
    tensors = {f"adapter.{name}": tensor for name, tensor in method.adapter_state(parts).items()}
    for name, parameter in method.trainable(parts).items():
        for key, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{key}.{name}"] = value.detach().to("cpu", copy=True).contiguous()
    checkpoints.save(
        run.out_dir,
        step,
        tensors,
        {"scaler": scaler.state_dict(), "torch": torch.__version__},
        lambda folder: method.write(parts, model.family, folder),
    )


def _resume(
    run: Run, model: Model, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, listener: Listener
) -> int:
    """Put the newest whole checkpoint back; returns the steps done, 0 without one."""
    checkpoint = checkpoints.newest(run.out_dir)
    step = checkpoint.step if checkpoint else 0
    if checkpoint:
        by_kind: dict[str, dict[str, Tensor]] = {"adapter": {}, "optimizer": {}}
        for name, tensor in checkpoint.tensors.items():
            kind, _, rest = name.partition(".")
            by_kind[kind][rest] = tensor
        model.method.load_adapter_state(model.parts, by_kind["adapter"])
        trainable = model.method.trainable(model.parts)
        for name, tensor in by_kind["optimizer"].items():
            key, _, parameter = name.partition(".")
            optimizer.state[trainable[parameter]][key] = tensor.to(run.device)
        scaler.load_state_dict(checkpoint.state["scaler"])
        listener.message(f"Going on from step {step}.")
    checkpoints.rewind_metrics(run.out_dir, step, scored=step in checkpoints.read_scores(run.out_dir, step))
    return step


# ------------------------------------------------------------------------------------------------------------ export


def _export(
    run: Run,
    rows: Mapping[int, Mapping[str, Any]],
    reference: Reference | None,
    engine_reason: str,
    started_s: float,
) -> TrainResult:
    """Copy the best checkpoint's adapter to ``adapter/``, describe it, and write the report."""
    config, out_dir = run.config, run.out_dir
    candidates = [
        row for step, row in rows.items() if step and checkpoints.is_whole(checkpoints.folder_of(out_dir, step))
    ]
    best_step, reason = choose_best(candidates)
    part = out_dir / ".adapter.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    for path in checkpoints.adapter_files(checkpoints.folder_of(out_dir, best_step)):
        shutil.copyfile(path, part / path.name)
    info = AdapterInfo(
        base=run.base.spec.name,
        revision=run.base.revision,
        family=run.base.family,
        subject=config.subject,
        class_noun=config.class_noun,
        instance_token=config.instance_token,
        resolution_px=run.resolution_px,
        guidance_scale=run.guidance_scale,
        num_inference_steps=run.base.spec.num_inference_steps,
        likeness_engine=reference.engine.name if reference else None,
        centroid=tuple(float(value) for value in reference.centroid) if reference else None,
        step=best_step,
    )
    write_info(part, info)
    shutil.rmtree(out_dir / "adapter", ignore_errors=True)
    os.rename(part, out_dir / "adapter")

    best = rows[best_step]
    result = TrainResult(
        adapter="adapter",
        best_step=best_step,
        best_reason=reason,
        steps=run.steps,
        seconds=round(time.monotonic() - started_s, 3),
        likeness_before=rows[0]["likeness"],
        likeness_after=best["likeness"],
        bleed=best["bleed"],
        likeness_engine=info.likeness_engine,
        checkpoints=tuple({key: row[key] for key in ("step", "likeness", "bleed", "val_loss")} for row in candidates),
    )
    report = {
        **asdict(result),
        "likeness_engine_reason": engine_reason,
        "base": config.base,
        "revision": run.base.revision,
        "photos": len(run.photos),
        "device": str(run.device),
        "dtype": str(run.dtype).removeprefix("torch."),
        "versions": {"likeness-studio": __version__, "torch": torch.__version__},
    }
    draw_curve(out_dir / checkpoints.METRICS_NAME, out_dir / "curve.png")
    checkpoints.write_text(out_dir / REPORT_NAME, json.dumps(report, indent=1) + "\n")
    return result


def _problem(where: str, message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem(where, message, cure, code)])
