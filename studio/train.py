"""The verb ``train``: trains an adapter on a dataset folder and measures likeness along the way.

The steps: read the dataset -> find the base -> load -> attach -> cache latents and prompts -> loop (step,
checkpoint, samples, likeness) -> choose the best -> export. Runs in a worker's child process or from a notebook::

    train(TrainConfig(steps=400), Path("dataset"), Path("run"))

One optimizer step is in ``studio.training.steps``, samples and scores are in ``studio.training.evaluate``, what
survives a kill is in ``studio.training.checkpoints``. A run that was killed goes on from its newest checkpoint as if
nothing had happened: on the CPU, with the same number of threads, bit for bit.
"""

import hashlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers.training_utils import free_memory
from PIL import Image
from torch import Tensor

from studio import __version__
from studio.bases.resolve import resolve_base
from studio.compute import quantization
from studio.compute.device import device_name, pick_device, require_compiler, require_xformers, room_bytes, used_bytes
from studio.core import fit, reach, records
from studio.core import folder as output
from studio.core.adapters import EMBEDS_NAME, WEIGHTS_NAME, AdapterInfo, write_info
from studio.core.domain import Dataset, OnEvent, ShouldStop, TrainResult, ignore_event, never_stop
from studio.core.errors import InputError, Problem, ResourceError
from studio.core.files import full_disk_in_words, read_json, sha256_of, write_json, write_text
from studio.core.fit import MeasuredRun, checkpoint_steps
from studio.core.packs import subject_phrase
from studio.core.presets import dump
from studio.core.progress import GO_ON, TrainingReporter, stopped
from studio.core.settings import load_settings
from studio.core.train_config import READ_WITH, TrainConfig
from studio.core.units import bytes_text
from studio.exporting.certificate import ExportToVerify, TrialPicture, certify, is_lora, write_certificate
from studio.families import registry as families
from studio.families.loading import tokenizers_of
from studio.families.words import add_whole_words, cut_off, keep_together, vector_names
from studio.methods import registry as methods
from studio.training import checkpoints, memory_fallback, optimizers
from studio.training.curve import draw_curve
from studio.training.data import cache
from studio.training.evaluate import (
    EARLY_LOOK_STEPS,
    LossMonitor,
    SubjectReference,
    choose_best,
    class_pictures,
    evaluate,
    find_reference,
    fingerprints,
    measure_again,
    require_movement,
    require_sane_validation,
)
from studio.training.photos import MASKS_FOLDER, fallback_after, prepare, read_dataset, settle
from studio.training.run import AdaptedModel, TrainingRun
from studio.training.start_from import StartingLora, apply_start, read_start
from studio.training.state import TrainingState
from studio.training.steps import exact_arithmetic, train_step, validation_loss

CONFIG_NAME = "config.yaml"


INPUTS_NAME = "inputs.json"


REPORT_NAME = "report.json"


_ADAPTER_PART = ".adapter.part"


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
        on_event: receives progress, metrics and sample pictures.
        should_stop: polled at every step of training and sampling.

    Raises:
        InputError: the dataset, the base or a setting cannot be used.
        NotFoundError: there is no such base.
        MissingExtraError: the base, the optimizer or an engine asked for by name is not on this machine.
        ConflictError: ``out_dir`` holds a run of other settings or photos.
        TrainingError: training failed (diverged, learned nothing, or broke the model); the message says why.
        ResourceError: out of memory or disk space.
        JobCancelled: ``should_stop`` returned True; a checkpoint is kept.
    """
    started_s = time.monotonic()
    reporter = TrainingReporter(on_event, should_stop)
    reporter.stage("validating", "Reading the dataset.")
    dataset = read_dataset(dataset_dir)
    config = config.for_subject(dataset.subject, dataset.class_noun, is_guessed=dataset.class_noun_guessed)
    if dataset.drawn is False and reach.draws_cartoons(config.base):
        reporter.warn(f"These are real photos. {reach.CARTOONS}")
    inputs = {"photos": _photos_digest(config, dataset, dataset_dir)}
    _update_inputs(out_dir)
    claimed = output.look(
        out_dir,
        inputs,
        what="a run",
        config=config,
        without={"subject"},  # the name is for people only: a run goes on after the subject was renamed
        name=INPUTS_NAME,
        scratch={CONFIG_NAME},
    )
    before = claimed or {}
    if before and output.is_finished(out_dir):
        return records.read(TrainResult, out_dir / REPORT_NAME, ignore_others=True)
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
    fallbacks = memory_fallback.read(out_dir)
    run = prepare(memory_fallback.with_changes(config, fallbacks), dataset, dataset_dir, out_dir, base, device)
    _warn_cut_captions(run, reporter)
    _report_plan(run, settings.home.expanduser(), reporter, starts=not before)
    if not before:
        out_dir.mkdir(parents=True, exist_ok=True)
        write_text(out_dir / CONFIG_NAME, dump(config))
        settings_asked = config.model_dump(mode="json", exclude={"subject"})
        write_json(out_dir / INPUTS_NAME, {**inputs, "config": settings_asked, "revision": base.revision})
    while True:
        try:
            with exact_arithmetic(device, settings.threads):
                result = _train(run, start, reporter, started_s)
            break
        except (RuntimeError, MemoryError) as error:
            fallback = fallback_after(error, run)
        # Out of the except clause, whose traceback would keep the tensors of the failed step.
        free_memory()
        fallbacks.update(fallback.changes)
        write_json(out_dir / memory_fallback.LADDER_NAME, fallbacks)
        reporter.message(f"The device ran out of memory. Continuing with {fallback.words}.", level="warning")
        run = prepare(memory_fallback.with_changes(config, fallbacks), dataset, dataset_dir, out_dir, base, device)
    _publish(run, result, settings.threads, reporter)
    output.finish(out_dir)
    return result


def _report_plan(run: TrainingRun, home: Path, reporter: TrainingReporter, *, starts: bool) -> None:
    """Report the time, memory and disk space the run will need, where known.

    Raises:
        ResourceError: the disk has no room for it.
    """
    plan = fit.plan_of(run.config, len(run.photos), fit.recall(home, run.config), room_bytes=room_bytes(run.device))
    if plan.peak_bytes is not None:
        reporter.message(f"Plan: {plan.words()}", level="warning" if plan.fits is False else "info")
    place = next(folder for folder in (run.out_dir, *run.out_dir.absolute().parents) if folder.is_dir())
    free_bytes = shutil.disk_usage(place).free
    if starts and plan.disk_bytes is not None and plan.disk_bytes > free_bytes:
        needed, free = (bytes_text(count) for count in (plan.disk_bytes, free_bytes))
        raise ResourceError(
            f"The run needs {needed} of disk space and {free} is free; free some space, or set a larger "
            "checkpoint_every_steps or a smaller method.rank."
        )


def _warn_cut_captions(run: TrainingRun, reporter: TrainingReporter) -> None:
    """Warn about words of the captions that the base cuts off, before anything is claimed or loaded.

    Raises:
        InputError: in some captions the subject itself is cut off.
    """
    spec, problems = families.family(run.base.family).spec, []
    tokenizers = tokenizers_of(run.base.folder, spec)
    if run.config.token_learning_rate is not None:
        for tokenizer in tokenizers:
            add_whole_words(tokenizer, vector_names(run.config.instance_token, run.config.token_vectors))
    keep_together(tokenizers, subject_phrase(run.config.instance_token, run.config.class_noun))
    for photo in run.photos:
        cut = cut_off(photo.caption, spec, tokenizers)
        if cut.loses(run.config.instance_token):
            cure = "name the subject earlier in the caption, or shorten it"
            message = f"its caption {cut.words()}, which includes the subject"
            problems.append(Problem(photo.name, message, cure, "subject_cut"))
        elif words := cut.words():
            reporter.message(f"The caption of {photo.name} {words}.", level="warning")
    if problems:
        raise InputError.of(problems)


def _train(run: TrainingRun, start: StartingLora | None, reporter: TrainingReporter, started_s: float) -> TrainResult:
    config = run.config
    reporter.stage("loading", f"Loading the base {config.base}.")
    begun_loading_s = time.monotonic()
    family = families.family(run.base.family)
    method = methods.method(config.method.name)
    parts = family.load(run.base.folder, dtype=run.dtype, device=run.device, quantization=run.config.quantization)
    keep_together(parts.tokenizers, subject_phrase(config.instance_token, config.class_noun))
    groups: list[Any] = method.attach(parts, family.spec, config)
    if start is not None:
        apply_start(start, family, method, parts)
    if config.gradient_checkpointing:
        parts.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]  # diffusers' ModelMixin
    load_s = time.monotonic() - begun_loading_s
    reporter.stage("caching", "Encoding photos and prompts once.")
    model = AdaptedModel(run, family, method, parts)
    if not model.prompts.learns:
        parts.text_encoders = []
    settle(run, parts)
    reference, engine_reason = find_reference(run, reporter)
    data = cache(run, model, class_pictures(run, model, reporter))
    parts.vae = None
    training_state = TrainingState(run, groups, method.trainable(parts))
    untouched = fingerprints(training_state.trainable)

    step = _resume(run, model, training_state, reporter)
    due = {0, *checkpoint_steps(config, run.steps)}
    rows = checkpoints.read_scores(run.out_dir, step)
    measure_again(run, reference, rows, reporter)
    watch = LossMonitor(checkpoints.read_losses(run.out_dir))
    reporter.stage("training", f"Training for {run.steps} steps on {len(run.photos)} photos.")
    # Buffered by lines: a kill loses none that a checkpoint relies on.
    with (run.out_dir / checkpoints.METRICS_NAME).open("a", buffering=1, encoding="utf-8") as log:
        while True:
            if step == EARLY_LOOK_STEPS or (step in due and step not in rows and step):
                require_movement(model, untouched, step)
            if step in due and step not in rows:
                with training_state.averaged():
                    val_loss = validation_loss(run, model, data)
                require_sane_validation(val_loss, rows[0]["val_loss"] if step else val_loss, step)
                if step:
                    _save(run, model, training_state, step)
                    checkpoints.prune(run.out_dir, config.keep_checkpoints, due)
                reporter.stage("sampling", f"Making sample pictures at step {step}.")
                with training_state.averaged():
                    rows[step] = evaluate(run, model, reference, step, val_loss, rows.get(0), log, reporter)
                reporter.stage("training", f"Step {step} of {run.steps}.")
            if step == run.steps:
                break
            if reporter.should_stop():
                if step not in due:
                    _save(run, model, training_state, step)
                raise stopped(GO_ON, f"at step {step} of {run.steps}")
            begun_s = time.perf_counter()
            learning_rate = training_state.set_rates(step)
            try:
                loss = train_step(model, data, training_state.optimizer, training_state.scaler, step)
            except RuntimeError as error:
                # Nothing has changed in this step: the next fallback step continues from here and repeats none.
                if memory_fallback.is_out_of_memory(error) and step and step not in due:
                    training_state.optimizer.zero_grad(set_to_none=True)
                    _save(run, model, training_state, step)
                raise
            step += 1
            training_state.moved(step)
            watch.see(loss, step)
            step_s = time.perf_counter() - begun_s
            metrics = {"step": step, "loss": loss, "learning_rate": learning_rate, "step_s": round(step_s, 4)}
            log.write(json.dumps(metrics) + "\n")
            reporter.trained(metrics, step_s, run.steps, sum(later >= step for later in due))

    if reporter.evaluation_s:  # not where a run only had its export left to do
        fit.remember(load_settings().home.expanduser(), run.config, _measured(run, rows[step], reporter, load_s))
    reporter.stage("exporting", "Choosing the best checkpoint.")
    return _export(run, rows, reference, engine_reason, started_s)


def _photos_digest(config: TrainConfig, dataset: Dataset, dataset_dir: Path) -> str:
    """Return a digest of photos, captions, crops and masks: what a run depends on beside its settings."""
    masks = dataset_dir / MASKS_FOLDER if config.background_weight is not None else Path()
    rows = [
        (photo.sha256, photo.caption, photo.bucket, *_mask_digest(masks / Path(photo.file).name))
        for photo in dataset.photos
    ]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _update_inputs(out_dir: Path) -> None:
    """Put the settings into the inputs of a run of an earlier version, which held a digest of them."""
    inputs = read_json(out_dir / INPUTS_NAME)
    if not isinstance(inputs, dict) or "config" in inputs or "settings" not in inputs:
        return
    try:
        config = yaml.safe_load((out_dir / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return  # then it is a run of other settings
    known = {name: value for name, value in inputs.items() if name != "settings"}
    write_json(out_dir / INPUTS_NAME, {**known, "config": config})


def _mask_digest(path: Path) -> tuple[str, ...]:
    return (sha256_of(path),) if path.is_file() else ()


def _save(run: TrainingRun, model: AdaptedModel, training_state: TrainingState, step: int) -> None:
    method, parts = model.method, model.parts
    tensors, numbers = training_state.state()
    tensors |= {f"adapter.{name}": tensor for name, tensor in method.adapter_state(parts).items()}

    def write_adapter(folder: Path) -> None:
        with training_state.averaged():
            method.write(parts, model.family, folder)

    checkpoints.save(run.out_dir, step, tensors, {**numbers, "torch": torch.__version__}, write_adapter)


def _resume(run: TrainingRun, model: AdaptedModel, training_state: TrainingState, reporter: TrainingReporter) -> int:
    """Restore the newest complete checkpoint; returns the steps done, 0 if there is none."""
    checkpoint = checkpoints.newest(run.out_dir)
    step = checkpoint.step if checkpoint else 0
    if checkpoint:
        by_kind: dict[str, dict[str, Tensor]] = {}
        for name, tensor in checkpoint.tensors.items():
            kind, _, rest = name.partition(".")
            by_kind.setdefault(kind, {})[rest] = tensor
        model.method.load_adapter_state(model.parts, by_kind["adapter"])
        training_state.load(by_kind, checkpoint.state)
        reporter.message(f"Continuing from step {step}.")
    checkpoints.rewind_metrics(run.out_dir, step, scored=step in checkpoints.read_scores(run.out_dir, step))
    return step


def _measured(run: TrainingRun, row: Mapping[str, Any], reporter: TrainingReporter, load_s: float) -> MeasuredRun:
    """Return the resources this run used, to plan similar runs."""
    lines = (run.out_dir / checkpoints.METRICS_NAME).read_text(encoding="utf-8").splitlines()
    times_s = [line["step_s"] for line in map(json.loads, lines) if "step_s" in line]
    folder = checkpoints.folder_of(run.out_dir, run.steps)
    pictures = len(row["samples"]) * (1 if row["likeness_summary"] is None else 2)
    return MeasuredRun(
        device=device_name(run.device),
        load_s=round(load_s, 3),
        step_s=statistics.median(times_s[-50:]),
        picture_s=round(reporter.evaluation_s / max(1, pictures), 3),
        peak_bytes=used_bytes(run.device),
        adapter_bytes=sum(path.stat().st_size for path in checkpoints.adapter_files(folder)),
        resume_bytes=(folder / checkpoints.RESUME_NAME).stat().st_size,
    )


def _export(
    run: TrainingRun,
    rows: Mapping[int, Mapping[str, Any]],
    reference: SubjectReference | None,
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
        likeness_version=reference.engine.version if reference else None,
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
        checkpoints=tuple(
            {key: row.get(key) for key in ("step", "likeness", "bleed", "val_loss", "likeness_summary")}
            for row in candidates
        ),
        likeness_version=info.likeness_version,
        likeness_summary=best.get("likeness_summary"),
        likeness_summary_before=rows[0].get("likeness_summary"),
    )
    report = {
        **records.to_dict(result),
        "likeness_engine_reason": engine_reason,
        "base": config.base,
        "revision": run.base.revision,
        "method": config.method.name,
        "quantization": config.quantization,
        "read_with": READ_WITH[config.method.name],
        "photos": len(run.photos),
        "device": str(run.device),
        "dtype": str(run.dtype).removeprefix("torch."),
        "ladder": memory_fallback.read(out_dir),
        "versions": {"likeness-studio": __version__, "torch": torch.__version__},
    }
    draw_curve(out_dir / checkpoints.METRICS_NAME, out_dir / "curve.png")
    write_json(out_dir / REPORT_NAME, report)
    return result


def _publish(run: TrainingRun, result: TrainResult, threads: int | None, reporter: TrainingReporter) -> None:
    """Certify the adapter against a sample of its own checkpoint, then move it to its final name.

    Raises:
        TrainingError: plain diffusers does not read it back as it was trained; no ``adapter/`` is left.
    """
    part = run.out_dir / _ADAPTER_PART
    shutil.rmtree(run.out_dir / "adapter", ignore_errors=True)
    # Other methods than LoRA are read back where `export` merges them into their base.
    if run.config.certify and is_lora(part / WEIGHTS_NAME):
        reporter.stage("certifying", "Checking the adapter in a fresh process.")
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
            TrialPicture(
                prompt=sample["prompt"],
                seed=sample["seed"],
                # Not the run's: memory may have asked for smaller pictures after this checkpoint.
                size_hw=(picture.height, picture.width),
                num_inference_steps=run.config.sample_steps,
                guidance_scale=run.guidance_scale,
            )
            for sample, picture in zip(samples, wanted, strict=True)
        ]
        export = ExportToVerify(
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
        certificate = certify(export, shots, wanted, threads=threads, should_stop=reporter.should_stop)
        write_certificate(part, {**certificate, "likeness": result.likeness_summary})
    os.rename(part, run.out_dir / "adapter")
