"""The verb ``train``: a dataset folder in, an adapter out, with likeness measured on the way.

A straight road: read the dataset -> find the base -> load -> attach -> cache latents and prompts -> loop (step,
checkpoint, samples, likeness) -> choose the best -> export. Runs in a worker's child process or from a notebook::

    train(TrainConfig(class_noun="woman"), Path("dataset"), Path("run"))

One optimizer step is in ``studio.steps``, samples and scores are in ``studio.evaluate``, what survives a kill is in
``studio.checkpoints``. A run that was killed goes on from its newest checkpoint as if nothing had happened: on the CPU,
with the same number of threads, bit for bit.
"""

import hashlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from diffusers.training_utils import free_memory
from PIL import Image, ImageOps
from torch import Tensor, nn

from studio import __version__, checkpoints, fit, ladder, optimizers, quantization
from studio.adapters import EMBEDS_NAME, READ_WITH, WEIGHTS_NAME, AdapterInfo, write_info
from studio.catalog import FamilySpec
from studio.certificate import Export, TrialShot, certify, is_lora, write_certificate
from studio.config import TrainConfig
from studio.core import folder as output
from studio.core.files import full_disk_in_words, sha256_of, write_json, write_text
from studio.core.progress import GO_ON, TrainingReporter, stopped
from studio.curve import draw_curve
from studio.device import (
    device_name,
    pick_device,
    pick_dtype,
    require_compiler,
    require_xformers,
    room_bytes,
    used_bytes,
)
from studio.domain import Dataset, OnEvent, ShouldStop, TrainResult, ignore_event, never_stop
from studio.errors import InputError, Problem, ResourceError
from studio.evaluate import (
    EARLY_LOOK_STEPS,
    LossWatch,
    Reference,
    choose_best,
    class_pictures,
    evaluate,
    find_reference,
    fingerprints,
    require_movement,
    require_sane_validation,
)
from studio.families import registry as families
from studio.families.base import Parts
from studio.fit import Measured, checkpoint_steps
from studio.imaging.bucket import buckets
from studio.imports import Start, apply_start, read_start
from studio.methods import registry as methods
from studio.methods.groups import TOKEN_PART
from studio.offload import keep_blocks_away
from studio.packs import fill
from studio.presets import dump
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
MASKS_FOLDER = "masks"

_ADAPTER_PART = ".adapter.part"
_LOOK_PX = 512


# ---------------------------------------------------------------------------------------------------------- the verb


@full_disk_in_words()
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
        MissingExtraError: the base, the optimizer or an engine asked for by name is not on this machine.
        ConflictError: ``out_dir`` holds a run of other settings or photos.
        TrainingError: the run could not have become good; says why.
        ResourceError: memory or disk gave out.
        JobCancelled: ``should_stop`` answered True; a checkpoint is kept.
    """
    started_s = time.monotonic()
    reporter = TrainingReporter(on_event, should_stop)
    reporter.stage("validating", "Reading the dataset.")
    dataset = read_dataset(dataset_dir)
    inputs = _inputs(config, dataset, dataset_dir)
    claimed = output.look(out_dir, inputs, what="a run", name=INPUTS_NAME, scratch={CONFIG_NAME})
    before = claimed or {}
    if before and output.is_finished(out_dir):
        return _read_result(out_dir)
    settings = load_settings()
    device = pick_device(settings.device)
    optimizers.require(config.optimizer, device)
    quantization.require(config.quantization, device)
    require_compiler(config.compile_blocks, device)
    require_xformers(config.attention == "xformers", device)
    # The revision of the run's first start is kept, whatever the Hub has got since.
    base = resolve_base(config.base, before.get("revision") or config.revision)
    # A checkpoint holds what the run started from; its file may be gone by then.
    begun = any((out_dir / "checkpoints").glob("*/DONE"))
    start = None if begun else read_start(config, base, families.family(base.family).spec)
    rungs = ladder.read(out_dir)
    run = prepare(ladder.climbed(config, rungs), dataset, dataset_dir, out_dir, base, device)
    _tell_plan(run, settings.home.expanduser(), reporter, starts=not before)
    if not before:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_text(out_dir / CONFIG_NAME, dump(config))
        write_json(out_dir / INPUTS_NAME, {**inputs, "revision": base.revision})
    while True:
        try:
            with exact_arithmetic(device, settings.threads):
                result = _train(run, start, reporter, started_s)
            break
        except (RuntimeError, MemoryError) as error:
            rung = rung_after(error, run)
        # Out of the except clause, whose traceback would keep the tensors of the failed step.
        free_memory()
        rungs.update(rung.changes)
        write_json(out_dir / ladder.LADDER_NAME, rungs)
        reporter.message(f"The device's memory gave out. Going on with {rung.words}.", level="warning")
        run = prepare(ladder.climbed(config, rungs), dataset, dataset_dir, out_dir, base, device)
    _publish(run, result, settings.threads, reporter)
    output.finish(out_dir)
    return result


def rung_after(error: Exception, run: Run) -> ladder.Rung:
    """Return what to give up after ``error``.

    Raises:
        Exception: the error itself, if it is no want of memory.
        ResourceError: there is nothing left to give up.
    """
    if not ladder.is_out_of_memory(error):
        raise error
    multiple_px = families.family(run.base.family).spec.bucket_multiple_px
    rung = ladder.next_rung(run.config, run.resolution_px, multiple_px, on_gpu=run.device.type == "cuda")
    if rung is None:
        raise ResourceError(
            "The device's memory gave out with one photo at a time and recomputed activations; take a smaller "
            "resolution_px, a smaller base, or method.name=lora."
        ) from error
    return rung


def _tell_plan(run: Run, home: Path, reporter: TrainingReporter, *, starts: bool) -> None:
    """Say what the run will take, where that is known.

    Raises:
        ResourceError: the disk has no room for it.
    """
    plan = fit.plan_of(run.config, len(run.photos), fit.recall(home, run.config), room_bytes=room_bytes(run.device))
    if plan.peak_bytes is not None:
        reporter.message(f"Plan: {plan.words()}", level="warning" if plan.fits is False else "info")
    place = next(folder for folder in (run.out_dir, *run.out_dir.absolute().parents) if folder.is_dir())
    free_bytes = shutil.disk_usage(place).free
    if starts and plan.disk_bytes is not None and plan.disk_bytes > free_bytes:
        needed, free = (f"{count / 2**30:.1f} GB" for count in (plan.disk_bytes, free_bytes))
        raise ResourceError(
            f"The run needs {needed} on the disk and {free} are free; free space, or set a larger "
            "checkpoint_every_steps or a smaller method.rank."
        )


def prepare(
    config: TrainConfig, dataset: Dataset, dataset_dir: Path, out_dir: Path, base: Base, device: torch.device
) -> Run:
    """Return what stays the same during a run, its photos read.

    Raises:
        InputError: settings that the base has no use for; photos, masks or a resolution that cannot be used.
    """
    _require_fit(config, families.family(base.family).spec)
    return Run(
        config=config,
        out_dir=out_dir,
        base=base,
        photos=_read_photos(config, dataset, dataset_dir, base),
        device=device,
        dtype=pick_dtype(config.dtype, device),
        steps=config.total_steps(len(dataset.photos)),
    )


def settle(run: Run, parts: Parts) -> None:
    """Put the denoiser where it will train, now that large text encoders have gone."""
    if run.config.block_offload:
        keep_blocks_away(parts.denoiser, run.device)
    else:
        parts.denoiser.to(run.device)
    if run.config.attention == "xformers":
        parts.denoiser.enable_xformers_memory_efficient_attention()  # type: ignore[operator]  # diffusers' ModelMixin
    if run.config.compile_blocks:
        parts.denoiser.compile_repeated_blocks()  # type: ignore[operator]  # diffusers' ModelMixin


def _train(run: Run, start: Start | None, reporter: TrainingReporter, started_s: float) -> TrainResult:
    config = run.config
    reporter.stage("loading", f"Loading the base {config.base}.")
    begun_loading_s = time.monotonic()
    family = families.family(run.base.family)
    method = methods.method(config.method.name)
    parts = family.load(run.base.folder, dtype=run.dtype, device=run.device, quantization=run.config.quantization)
    groups: list[Any] = method.attach(parts, family.spec, config)
    if start is not None:
        apply_start(start, family, method, parts)
    if config.gradient_checkpointing:
        parts.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]  # diffusers' ModelMixin
    load_s = time.monotonic() - begun_loading_s
    reporter.stage("caching", "Encoding photos and prompts once.")
    model = Model(run, family, method, parts)
    if not model.prompts.learns:
        parts.text_encoders = []
    settle(run, parts)
    reference, engine_reason = find_reference(run, reporter)
    data = cache(run, model, class_pictures(run, model, reporter))
    parts.vae = None
    learner = Learner(run, groups, method.trainable(parts))
    untouched = fingerprints(learner.trainable)

    step = _resume(run, model, learner, reporter)
    due = {0, *checkpoint_steps(config, run.steps)}
    rows = checkpoints.read_scores(run.out_dir, step)
    watch = LossWatch(checkpoints.read_losses(run.out_dir))
    reporter.stage("training", f"{run.steps} steps on {len(run.photos)} photos.")
    # Buffered by lines: a kill loses none that a checkpoint relies on.
    with (run.out_dir / checkpoints.METRICS_NAME).open("a", buffering=1, encoding="utf-8") as log:
        while True:
            if step == EARLY_LOOK_STEPS or (step in due and step not in rows and step):
                require_movement(model, untouched, step)
            if step in due and step not in rows:
                with learner.averaged():
                    val_loss = validation_loss(run, model, data)
                require_sane_validation(val_loss, rows[0]["val_loss"] if step else val_loss, step)
                if step:
                    _save(run, model, learner, step)
                    checkpoints.prune(run.out_dir, config.keep_checkpoints, due)
                reporter.stage("sampling", f"Pictures at step {step}.")
                with learner.averaged():
                    rows[step] = evaluate(run, model, reference, step, val_loss, rows.get(0), log, reporter)
                reporter.stage("training", f"Step {step} of {run.steps}.")
            if step == run.steps:
                break
            if reporter.should_stop():
                if step not in due:
                    _save(run, model, learner, step)
                raise stopped(GO_ON, f"at step {step} of {run.steps}")
            begun_s = time.perf_counter()
            learning_rate = learner.set_rates(step)
            try:
                loss = train_step(model, data, learner.optimizer, learner.scaler, step)
            except RuntimeError as error:
                # Nothing has moved in this step: the next rung goes on from here and repeats none.
                if ladder.is_out_of_memory(error) and step and step not in due:
                    learner.optimizer.zero_grad(set_to_none=True)
                    _save(run, model, learner, step)
                raise
            step += 1
            learner.moved(step)
            watch.see(loss, step)
            step_s = time.perf_counter() - begun_s
            metrics = {"step": step, "loss": loss, "learning_rate": learning_rate, "step_s": round(step_s, 4)}
            log.write(json.dumps(metrics) + "\n")
            reporter.trained(metrics, step_s, run.steps, sum(later >= step for later in due))

    if reporter.evaluation_s:  # not where a run only had its export left to do
        fit.remember(load_settings().home.expanduser(), run.config, _measured(run, rows[step], reporter, load_s))
    reporter.stage("exporting", "Choosing the best checkpoint.")
    return _export(run, rows, reference, engine_reason, started_s)


# ------------------------------------------------------------------------------------------------- reading the input


def read_dataset(dataset_dir: Path) -> Dataset:
    """Read what ``check`` wrote.

    Raises:
        InputError: there is no dataset, it is damaged, or it holds no photo.
    """
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
    if config.compile_blocks and not spec.compiles:
        message = f"the blocks of {config.base} cannot be compiled one by one"
        problems.append(Problem("compile_blocks", message, "set compile_blocks=false", "compile"))
    if config.quantization != "none" and not spec.quantizes:
        message = f"{config.base} is made of convolutions too, which stay whole: there is little to win"
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
            with Image.open(path) as image:
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
        caption = fill(photo.caption, instance_token=config.instance_token, class_noun=config.class_noun)
        found.append(
            PreparedPhoto(
                picture,
                look,
                photo.bucket,
                caption,
                class_caption(photo.caption, config.class_noun),
                source_hw=photo.crop_yxhw[2:],
                mask=mask,
            )
        )
    if config.background_weight is not None and not masked and not problems:
        cure = "put masks/NNN.png (white where the subject is) beside photos/NNN.png, or leave it out"
        problems.append(Problem("background_weight", "the dataset holds no masks", cure, "no_masks"))
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
        with Image.open(path) as image:
            mask = image.convert("L")
    except (OSError, ValueError, SyntaxError):
        return None, "its mask cannot be read"
    if mask.size != photo_wh:
        return None, f"its mask is of {mask.size[0]} x {mask.size[1]} px and the photo is not"
    return ImageOps.fit(mask, size_wh, Image.Resampling.BILINEAR), ""


def _inputs(config: TrainConfig, dataset: Dataset, dataset_dir: Path) -> dict[str, str]:
    """Return what a run depends on, as digests."""
    masks = dataset_dir / MASKS_FOLDER if config.background_weight is not None else Path()
    rows = [
        (photo.sha256, photo.caption, photo.bucket, *_mask_digest(masks / Path(photo.file).name))
        for photo in dataset.photos
    ]
    return {
        "settings": hashlib.sha256(config.model_dump_json().encode()).hexdigest(),
        "photos": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


def _mask_digest(path: Path) -> tuple[str, ...]:
    return (sha256_of(path),) if path.is_file() else ()


def _read_result(out_dir: Path) -> TrainResult:
    report = json.loads((out_dir / REPORT_NAME).read_text(encoding="utf-8"))
    kept = {field.name: report[field.name] for field in fields(TrainResult)}
    return TrainResult(**{**kept, "checkpoints": tuple(kept["checkpoints"])})


# ------------------------------------------------------------------------------------------------------- checkpoints


class Learner:
    """Everything that moves the trainable parameters of a run, and what a checkpoint has to know of it."""

    def __init__(self, run: Run, groups: list[Any], trainable: Mapping[str, nn.Parameter]) -> None:
        self.run, self.trainable = run, trainable
        self.optimizer = optimizers.make(run.config.optimizer, groups, run.device)
        self.scaler = torch.amp.GradScaler(run.device.type, enabled=run.dtype == torch.float16)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        decay = run.config.ema_decay
        self._average = None if decay is None else optimizers.Average(trainable, decay)

    def set_rates(self, step: int) -> float:
        """Set the learning rates for the step after ``step`` steps; returns the first group's."""
        config, steps = self.run.config, self.run.steps
        factor = learning_rate_factor(config.lr_scheduler, step, config.lr_warmup_steps, steps)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            rests = group["part"] == TOKEN_PART and step >= config.token_share * steps
            group["lr"] = 0.0 if rests else rate * factor
        return float(self._rates[0] * factor)

    def moved(self, step: int) -> None:
        """Take up the parameters after ``step`` steps into the average, if one is kept."""
        if self._average is not None:
            self._average.update(self.trainable, step)

    def averaged(self) -> AbstractContextManager[None]:
        """Return a context manager inside which the parameters are what the run shows and exports."""
        return optimizers.averaged(self.optimizer, self.trainable, self._average)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return tensors by name and numbers for JSON."""
        tensors, numbers = optimizers.state_of(self.optimizer, self.trainable)
        found = {f"optimizer.{name}": tensor for name, tensor in tensors.items()}
        if self._average is not None:
            found |= {f"average.{name}": value.cpu().clone() for name, value in self._average.values.items()}
        return found, {"optimizer": numbers, "scaler": self.scaler.state_dict()}

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]], numbers: Mapping[str, Any]) -> None:
        """Put the result of ``state`` back; ``tensors`` by the first word of their names."""
        state, device = tensors.get("optimizer", {}), self.run.device
        optimizers.load_state(self.optimizer, self.trainable, state, numbers["optimizer"], device)
        if self._average is not None:
            self._average.load(tensors["average"])
        self.scaler.load_state_dict(numbers["scaler"])


def _save(run: Run, model: Model, learner: Learner, step: int) -> None:
    method, parts = model.method, model.parts
    tensors, numbers = learner.state()
    tensors |= {f"adapter.{name}": tensor for name, tensor in method.adapter_state(parts).items()}

    def write_adapter(folder: Path) -> None:
        with learner.averaged():
            method.write(parts, model.family, folder)

    checkpoints.save(run.out_dir, step, tensors, {**numbers, "torch": torch.__version__}, write_adapter)


def _resume(run: Run, model: Model, learner: Learner, reporter: TrainingReporter) -> int:
    """Put the newest whole checkpoint back; returns the steps done, 0 without one."""
    checkpoint = checkpoints.newest(run.out_dir)
    step = checkpoint.step if checkpoint else 0
    if checkpoint:
        by_kind: dict[str, dict[str, Tensor]] = {}
        for name, tensor in checkpoint.tensors.items():
            kind, _, rest = name.partition(".")
            by_kind.setdefault(kind, {})[rest] = tensor
        model.method.load_adapter_state(model.parts, by_kind["adapter"])
        learner.load(by_kind, checkpoint.state)
        reporter.message(f"Going on from step {step}.")
    checkpoints.rewind_metrics(run.out_dir, step, scored=step in checkpoints.read_scores(run.out_dir, step))
    return step


# ------------------------------------------------------------------------------------------------------------ export


def _measured(run: Run, row: Mapping[str, Any], reporter: TrainingReporter, load_s: float) -> Measured:
    """Return what this run took, for the plans of runs like it."""
    lines = (run.out_dir / checkpoints.METRICS_NAME).read_text(encoding="utf-8").splitlines()
    times_s = [line["step_s"] for line in map(json.loads, lines) if "step_s" in line]
    folder = checkpoints.folder_of(run.out_dir, run.steps)
    pictures = len(row["samples"]) * (1 if row["likeness"] is None else 2)
    return Measured(
        device=device_name(run.device),
        load_s=round(load_s, 3),
        step_s=statistics.median(times_s[-50:]),
        picture_s=round(reporter.evaluation_s / max(1, pictures), 3),
        peak_bytes=used_bytes(run.device),
        adapter_bytes=sum(path.stat().st_size for path in checkpoints.adapter_files(folder)),
        resume_bytes=(folder / checkpoints.RESUME_NAME).stat().st_size,
    )


def _export(
    run: Run,
    rows: Mapping[int, Mapping[str, Any]],
    reference: Reference | None,
    engine_reason: str,
    started_s: float,
) -> TrainResult:
    """Copy the best checkpoint's adapter to where ``_publish`` takes it from, describe it, and write the report."""
    config, out_dir = run.config, run.out_dir
    candidates = [
        row for step, row in rows.items() if step and checkpoints.is_whole(checkpoints.folder_of(out_dir, step))
    ]
    best_step, reason = choose_best(candidates)
    part = out_dir / _ADAPTER_PART
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
        "method": config.method.name,
        "quantization": config.quantization,
        "read_with": READ_WITH[config.method.name],
        "photos": len(run.photos),
        "device": str(run.device),
        "dtype": str(run.dtype).removeprefix("torch."),
        "ladder": ladder.read(out_dir),
        "versions": {"likeness-studio": __version__, "torch": torch.__version__},
    }
    draw_curve(out_dir / checkpoints.METRICS_NAME, out_dir / "curve.png")
    write_json(out_dir / REPORT_NAME, report)
    return result


def _publish(run: Run, result: TrainResult, threads: int | None, reporter: TrainingReporter) -> None:
    """Certify the adapter against a sample of its own checkpoint, then give it its name.

    Raises:
        TrainingError: plain diffusers does not read it back as it was trained; no ``adapter/`` is left.
    """
    part = run.out_dir / _ADAPTER_PART
    shutil.rmtree(run.out_dir / "adapter", ignore_errors=True)
    # Other methods than LoRA are read back where `export` merges them into their base.
    if run.config.certify and is_lora(part / WEIGHTS_NAME):
        reporter.stage("certifying", "Reading the adapter back in a fresh process.")
        if run.device.type == "cuda":
            torch.cuda.empty_cache()  # the other process needs the room
        spec = families.family(run.base.family).spec
        samples = checkpoints.read_scores(run.out_dir, result.best_step)[result.best_step]["samples"][:1]
        token = run.config.instance_token if (part / EMBEDS_NAME).exists() else None
        wanted = []
        for sample in samples:
            with Image.open(run.out_dir / sample["path"]) as picture:
                wanted.append(picture.convert("RGB"))
        shots = [
            TrialShot(
                prompt=sample["prompt"],
                seed=sample["seed"],
                # Not the run's: memory may have asked for smaller pictures after this checkpoint.
                size_hw=(picture.height, picture.width),
                num_inference_steps=run.config.sample_steps,
                guidance_scale=run.guidance_scale,
            )
            for sample, picture in zip(samples, wanted, strict=True)
        ]
        export = Export(
            loader="lora",
            path=part / WEIGHTS_NAME,
            base=run.base.folder,
            pipeline=spec.pipeline,
            guidance=spec.guidance,
            dtype=run.dtype,
            device=run.device,
            exact=run.dtype == torch.float32 and run.config.quantization == "none",
            embeds=part / EMBEDS_NAME if token else None,
            token=token,
            denoiser=spec.denoiser,
            quantization=quantization.arguments(run.config.quantization, run.dtype),
        )
        write_certificate(part, certify(export, shots, wanted, threads=threads, should_stop=reporter.should_stop))
    os.rename(part, run.out_dir / "adapter")


def _problem(where: str, message: str, cure: str, code: str) -> InputError:
    return InputError.of([Problem(where, message, cure, code)])
